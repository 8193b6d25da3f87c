"""A generated world for scoring: households × candidates with 6 entity, 6 candidate and 9 pair fields, as a warehouse
that the score job reads: a model, and `score_inputs` with the sparse history of every household.

Pair fields and how many of a household's keys have a history are those of conf/promo.yml's nine: family (rate, bought),
category, manufacturer, department, and the products of an offer. Values are drawn with falling frequency.
"""

import datetime as dt
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from bench.report import ROOT
from ffm_udf import card as cards
from ffm_udf.model import FFM
from jobs.contract import load
from jobs.cycle import Cycle
from jobs.models import model_folder
from jobs.progress import Progress
from jobs.serving import Serving

FOLDER = ROOT / "build" / "bench" / "score_world"
K, CANDIDATES, PER_BLOCK, SEED = 8, 1000, 8000, 7
WRITTEN = 100_000  # households at most that are drawn; more of them are these again
CALIBRATOR = {"slope": 1.02, "intercept": -0.1}
SIZES = {  # features of each field, the first for unknown values
    "entity": {"household": 20_001, "store": 101, "composition": 7, "rate": 121, "rate_store": 121, "bought": 121},
    "candidate": {
        "family": 1001,
        "manufacturer": 301,
        "category": 161,
        "position": 25,
        "size": 9,
        "rate_of_family": 121,
    },
    "pair": {},
}
# Keys of each pair field among the candidates, and the share of them that a household has a history with.
KEYS = {"family": (1000, 0.05), "category": (160, 0.3), "manufacturer": (300, 0.2), "department": (20, 0.9)}
for _name in KEYS:
    SIZES["pair"] |= {f"rate_{_name}": 121, f"bought_{_name}": 121}
SIZES["pair"]["bought_offer"] = 121
KEYS["offer"] = (1000, 0.05)
FIELDS = [name for side in SIZES.values() for name in side]
FIRST = dict(zip(FIELDS, np.cumsum([0, *(size for side in SIZES.values() for size in side.values())]), strict=False))


def cycle():
    """A cycle of a contract that scores the world; its warehouse is build/bench/score_world."""
    contract = load(ROOT / "conf" / "promo.yml").model_copy(update={"name": "generated", "max_oov_share": 1.0})
    return Cycle(contract, dt.date(2017, 12, 18), FOLDER, Progress(Console(quiet=True)))


def serving():
    """A model of K latent factors with weights as training leaves them, made once."""
    folder = model_folder(FOLDER, f"ffm-k{K}-generated")
    if not (folder / cards.NAME).exists():
        rng = np.random.default_rng(SEED)
        X = np.column_stack([drawn(rng, name, 20_000) for name in FIELDS])
        model = FFM(k=K, epochs=1, patience=None, seed=SEED).fit(
            X, rng.random(len(X)) < 0.02, n_features=int(FIRST["bought_offer"] + SIZES["pair"]["bought_offer"])
        )
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        model.save(folder)
        card = {
            "model_id": folder.name,
            "algorithm": "ffm",
            "fields": FIELDS,
            "calibrator": CALIBRATOR,
            "role": "refit",
        }
        lineage = {"contract": "generated", "cycle_date": "2017-12-18", "vocabulary": {"key": "none"}}
        cards.write(folder, card | {"lineage": lineage, "files": cards.checksums(folder)})
    return Serving(folder.name, "model", CALIBRATOR, folder.name)


def drawn(rng, name, n):
    """Features of a field, the lower the more frequent, one in fifty unknown."""
    size = next(side[name] for side in SIZES.values() if name in side)
    values = np.minimum(rng.geometric(min(0.5, 12 / size), n), size - 1)
    return (np.where(rng.random(n) < 0.02, 0, values) + FIRST[name]).astype(np.int32)


def inputs(world, households):
    """The data set `score_inputs` of so many households × CANDIDATES."""
    key = f"{households}x{CANDIDATES}-{SEED}"
    found = world.lake.find("score_inputs", key)
    if found is None:
        with world.lake.writing("score_inputs", key) as out:
            if households > WRITTEN:
                _repeat(inputs(world, WRITTEN), households // WRITTEN, out)
            else:
                _write(out, households)
        found = world.lake.get("score_inputs", key)
    return found


def _write(out: Path, households):
    rng = np.random.default_rng(SEED)
    pairs = list(SIZES["pair"])
    blocks = -(-households // PER_BLOCK)
    layout = {
        "fields": FIELDS,
        **{side: list(names) for side, names in SIZES.items()},
        "default": {name: int(FIRST[name]) + 1 for name in pairs},
        "oov": {name: int(FIRST[name]) for name in FIELDS},
        "keys": {name: KEYS[name.partition("_")[2]][0] for name in pairs},
        "blocks": blocks,
        "entities": households,
        "candidates": CANDIDATES,
        "pairs": households * CANDIDATES,
    }
    (out / "layout.json").write_text(json.dumps(layout))
    ids = pa.array([f"c{number:04d}" for number in range(CANDIDATES)])
    columns = {"match_id": pa.repeat("", CANDIDATES), "candidate_id": ids}
    columns |= {f"f_{name}": drawn(rng, name, CANDIDATES) for name in SIZES["candidate"]}
    place = np.arange(CANDIDATES, dtype=np.int32)
    columns |= {f"k_{name}": place % np.int32(count) for name, count in layout["keys"].items()}
    _save(out / "candidates", columns)
    for number in range(blocks):
        n = min(PER_BLOCK, households - number * PER_BLOCK)
        first = number * PER_BLOCK
        columns = {
            "entity_id": pa.array([f"h{u:08d}" for u in range(first, first + n)]),
            "match_id": pa.repeat("", n),
        }
        columns |= {f"f_{name}": drawn(rng, name, n) for name in SIZES["entity"]}
        _save(out / f"block={number:05d}" / "entities", columns)
        _save(out / f"block={number:05d}" / "pairs", _history(rng, pairs, n))


def _repeat(once, times, out):
    """Blocks of an earlier data set, so many times over, as links: other households with the same features."""
    root = once.root
    layout = json.loads((root / "layout.json").read_text())
    for number in range(times * layout["blocks"]):
        source = root / f"block={number % layout['blocks']:05d}"
        shutil.copytree(source, out / f"block={number:05d}", copy_function=os.link)
    shutil.copytree(root / "candidates", out / "candidates", copy_function=os.link)
    names = ("blocks", "entities", "pairs")
    (out / "layout.json").write_text(json.dumps(layout | {name: times * layout[name] for name in names}))


def _history(rng, pairs, n):
    """The sparse table of a block: which keys each of n households has a history with, and which value."""
    parts = []
    for place, name in enumerate(pairs):
        count, share = KEYS[name.partition("_")[2]]
        entity, key = np.nonzero(rng.random((n, count), np.float32) < share)
        parts.append((np.full(len(entity), place), entity, key, drawn(rng, name, len(entity))))
    columns = [np.concatenate(values).astype(np.int32) for values in zip(*parts, strict=True)]
    return dict(zip(("field", "entity", "key", "feature"), columns, strict=True))


def _save(folder: Path, columns):
    folder.mkdir(parents=True)
    pq.write_table(pa.table(columns), folder / "part-00000.parquet")
