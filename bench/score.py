"""Scoring: the all-pairs engine alone, the job from inputs to data sets in the lake by size, and the real data.

`python -m bench.score engine` (or job, real) takes one part of the measurements; all of them write the table.
"""

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from bench import score_world
from bench.published import published
from bench.report import ROOT, Measure, write
from bench.score_engine import CANDIDATES, DENSITY, ENTITIES, REPEATS, TOP, C, K, P, U, engine
from jobs import block_scores
from jobs.spark_session import session

TITLE = "Scoring all pairs"
SIZES = {1_000: True, 10_000: True, 100_000: True, 1_000_000: False}  # households, and whether all scores are written
BAR_AT = 100_000
STAGES = ("read", "prepare", "score", "rank", "write")


def main(parts=("engine", "job", "real")):
    measures = [found for part in parts for found in PARTS[part]()]
    notes = (
        f"**Engine**: {U} entity, {C} candidate and {P} pair fields, k = {K}, {ENTITIES:,} × {CANDIDATES:,} pairs, a "
        f"history for {DENSITY:.0%} of the keys (where it says so, for all). The first entity field is the entity's "
        f"own id, the others have some hundred values, as rates and stores do (where it says so, none twice). One "
        f"process per core with one thread each, median of {REPEATS}; calibrated, the {TOP} best per entity and per "
        f"candidate kept. The row kernel, modern-fm and the matrix multiply alone have the same pairs in the same run. "
        f"**Job**: the generated world of `bench/score_world.py`, {len(score_world.FIELDS)} fields, 9 of them pair "
        f"fields looked up from sparse histories, k = {score_world.K}; from the start of Spark to data sets in the "
        f"lake, files hashed. It starts from finished score_inputs, features of the entities and sparse entries of the "
        f"pairs by block: making them from history and lists, the audits of the scores and the vectors are outside "
        f"that clock, and inside that of the real data. The 10⁹ pairs are the blocks of the 10⁸ ten times over, best "
        f"pairs only. Memory: the resident peak of the driver, the JVM and all workers together. **Real data**: "
        f"`fieldmart score` on the last night's warehouse without its scores; start of Spark, lists, histories, audits "
        f"and vectors included."
    )
    write("score", TITLE, measures, notes)


def job():
    """Measures of the job by size."""
    world, found, curve = score_world.cycle(), [], []
    for households, full in SIZES.items():
        inputs = score_world.inputs(world, households)
        took = in_session(inputs.key, full)
        pairs = households * score_world.CANDIDATES
        name = f"job, 10^{len(str(pairs)) - 1} pairs, " + ("all scores written" if full else "best pairs only")
        found += [
            measure(f"{name}: wall, start of Spark included", took["wall_s"], "s", 120, households),
            Measure(f"{name}: rate", pairs / took["wall_s"] / 1e6, "M pairs/s"),
            measure(f"{name}: peak memory of all processes", took["rss_gib"], "GiB", 6, households),
            Measure(f"{name}: peak memory of a worker", took["worker_mib"], "MiB"),
            Measure(f"{name}: share of the dominating stage ({took['stage']})", 100 * took["share"], "%"),
        ]
        curve += [(pairs, took["wall_s"])] if full else []
    return [*found, *linear_fit(curve)]


def measure(name, value, unit, bar, households):
    """The bars are for 10^8 pairs."""
    return Measure.at_most(name, value, unit, bar) if households == BAR_AT else Measure(name, value, unit)


def in_session(key, full):
    """Score the inputs `key` in a program of its own; what it took, with the peak of all its processes' memory."""
    shutil.rmtree(score_world.FOLDER / "work", ignore_errors=True)
    for name in block_scores.PARTS:
        shutil.rmtree(score_world.FOLDER / "lake" / name, ignore_errors=True)
    began = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "bench.score", "one", key, str(int(full))], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    peak = watched(child)
    wall = time.perf_counter() - began
    told = json.loads(child.stdout.read().splitlines()[-1])
    return told | {"wall_s": wall, "rss_gib": peak / 2**30}


def watched(child):
    """The largest sum of resident memory, in bytes, of a program and all it started, until it ends. Memory that
    processes share, such as mapped files, counts once for each."""
    peak, parent = 0, psutil.Process(child.pid)
    while child.poll() is None:
        total = 0
        with contextlib.suppress(psutil.Error):
            for process in [parent, *parent.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    total += process.memory_info().rss
        peak = max(peak, total)
        time.sleep(0.2)
    if child.returncode:
        raise RuntimeError(f"the job ended with code {child.returncode}")
    return peak


def one(key, full):
    """What the program of `in_session` does: start Spark, score, print which stage took most of the blocks' time."""
    world, serving = score_world.cycle(), score_world.serving()
    spark = session(world.warehouse)
    found = block_scores.score(world, spark, serving, world.lake.get("score_inputs", key), full=full)
    blocks = found.blocks
    total = {stage: sum(block[f"{stage}_s"] for block in blocks) for stage in STAGES}
    stage = max(total, key=total.get)
    worker = max(block["peak_rss_mib"] for block in blocks)
    print(json.dumps({"stage": stage, "share": total[stage] / sum(total.values()), "worker_mib": worker}))


def linear_fit(curve):
    """Seconds by pairs as a straight line, and how far the sizes are off it."""
    pairs, walls = np.array(curve).T
    slope, intercept = np.polyfit(pairs, walls, 1, w=1 / walls)
    off = np.abs(slope * pairs + intercept - walls) / walls
    return [
        Measure("job, all scores written: wall as a line, seconds per 10^8 pairs", slope * 1e8, "s"),
        Measure("job, all scores written: wall as a line, seconds at no pairs", intercept, "s"),
        Measure("job, all scores written: largest distance from the line", 100 * off.max(), "%"),
    ]


def real():
    """Measures of `fieldmart score` on the real data: everything it made before is taken away."""
    found = published()
    source = found.model.parent.parent
    walls = []
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        copy = Path(folder) / "warehouse"
        shutil.copytree(source, copy, copy_function=os.link, symlinks=True)
        for _ in range(3):
            for name in (*block_scores.PARTS, "score_inputs", "entities", "candidates", "scoring", "vectors"):
                shutil.rmtree(copy / "lake" / name, ignore_errors=True)
            began = time.perf_counter()
            command = [sys.executable, "-m", "jobs.score", "--warehouse", str(copy), "--date", found.date]
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
            walls.append(time.perf_counter() - began)
    return [Measure.at_most("real data: `fieldmart score`, start of Spark included", statistics.median(walls), "s", 30)]


PARTS = {"engine": engine, "job": job, "real": real}

if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        one(sys.argv[2], bool(int(sys.argv[3])))
    else:
        main(sys.argv[1:] or tuple(PARTS))
