"""Job: a calibrated conversion rate for every entity and every candidate on offer to it in the scoring period.

The model is the champion of the decision log, whatever tonight's candidates were; without one, or if its files are
damaged, the hierarchical prior scores and every row says so. Scores are audited before anyone can see them: if an audit
fails, the scores of the last good release stay, as stale.
"""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from ffm_udf import calibration
from jobs import (
    block_scores,
    champions,
    facts,
    score_audits,
    score_files,
    serving,
    shadow,
    stale_scores,
    vectors,
)
from jobs.block_scores import PARTS, Scored, ScoreError
from jobs.calibrators import calibrator_id
from jobs.cycle import Cycle
from jobs.lake import Dataset, LakeError, sha256_json
from jobs.score_bands import ScoreBands, load_bands
from jobs.serving import Serving
from jobs.watched_job import JobError

CHALLENGER = "challenger"


@dataclass(frozen=True)
class Served:
    """What readers will see: the scores and all data sets that go with them by name, the model behind them, the audits
    of every attempt (rows of the fact), and why it is not the champion ("" if it is)."""

    scored: Scored
    datasets: dict[str, Dataset]
    model_id: str
    calibrator_id: str
    source: str  # model | stale | prior
    requested_model_id: str | None
    is_degraded: bool  # stale, or by the prior although there is a champion
    audits: list[dict[str, Any]]
    reason: str


def run(
    cycle: Cycle,
    spark: SparkSession,
    bands: Path,
    shadow_model: str | None = None,
    stall_timeout: float = block_scores.STALL,
) -> Dataset:
    """Make the facts of scoring of this cycle; returns the one row that says what is served, the fact `scoring`.

    `bands`: the file scores.yml. `shadow_model`: id of a model, or `challenger`, that scores too and is not served.
    """
    limits = load_bands(bands)
    with cycle.stage("score") as stage:
        shadowing = _shadow(cycle, shadow_model) if shadow_model else None
        served = serve(cycle, spark, limits, stall_timeout)
        found = _remember(cycle, served, [], None)
        if shadowing:
            compared = _shadowed(cycle, spark, served, shadowing, stall_timeout)
            found = _remember(cycle, served, compared, shadowing.model_id if compared else None)
        stage.made(served.scored.datasets["scores"], served.scored.reused)
        _tell(cycle, found.table().to_pylist()[0])
    return found


def _remember(cycle: Cycle, served: Served, compared: list[dict[str, Any]], shadow_model_id: str | None) -> Dataset:
    """Make the facts that tell of the scores and let the cycle stand on all of them at once; the fact `scoring`."""
    rows = {
        "score_audits": served.audits,
        "shadow_comparison": compared,
        "scoring": [_scoring(cycle, served, shadow_model_id)],
    }
    made = served.datasets | {name: _fact(cycle, name, found) for name, found in rows.items()}
    run = {"serving_model_id": served.model_id, "score_source": served.source}
    cycle.remember({name: dataset.key for name, dataset in made.items()}, run=run)
    return made["scoring"]


def is_degraded(scoring: Dataset) -> bool:
    """Whether the fact `scoring` says that something else is served than should be."""
    return scoring.table()["is_degraded"][0].as_py()


def make_lists(cycle: Cycle, inputs: Dataset) -> dict[str, Dataset]:
    """The facts `entities` and `candidates`, who is scored on what, from the score_inputs."""
    root = inputs.root
    queries = {
        "entities": """
            select entity_id, match_id, coalesce(n, 0) as candidates
            from entities
            left join (select match_id, count(*) as n from candidates group by match_id) using (match_id)
        """,
        "candidates": "select candidate_id, match_id, label from candidates",
    }
    found = {}
    for name, query in queries.items():

        def write(out: Path, query: str = query) -> None:
            with score_files.connection() as db:
                for view, pattern in (("entities", "block=*/entities"), ("candidates", "candidates")):
                    files = [str(file) for file in sorted(root.glob(f"{pattern}/*.parquet"))]
                    db.execute(f"create view {view} as from {score_files.scan(files)}")
                target = score_files.quoted(str(out / "part-00000.parquet"))
                db.execute(f"copy ({query} order by all) to {target} (format parquet)")

        found[name], _ = cycle.prepare(name, __name__, {"score_inputs": inputs.content}, None, write)
    return found


def serve(cycle: Cycle, spark: SparkSession, limits: ScoreBands, stall_timeout: float) -> Served:
    """Score with the champion and audit; if an audit fails, the last good scores stay, or the prior scores if there are
    none. The cycle does not stand on them yet. Raises ScoreError if there is nothing that may be seen."""
    last = stale_scores.last_good(cycle)
    chosen, rows, reasons = serving.champion_or_prior(cycle), [], []
    champion = chosen.requested_model_id
    for attempt in (1, 2):
        reasons += [chosen.reason] if chosen.reason else []
        with block_scores.warmed_up(cycle, spark, chosen):
            inputs = block_scores.inputs_of(cycle, spark, chosen)
        lists = make_lists(cycle, inputs)
        scored = block_scores.score(cycle, spark, chosen, inputs, stall_timeout)
        audits = _audit(cycle, chosen, scored, lists, last, limits)
        rows += [audit.row(attempt, chosen.model_id, chosen.source) for audit in audits]
        failed = score_audits.failed(audits)
        if not failed:
            vectors.make(cycle, spark, chosen, inputs, stall_timeout)
            who = chosen.model_id, calibrator_id(chosen.calibrator), chosen.source, champion, chosen.is_degraded
            return Served(scored, scored.datasets | lists, *who, rows, "; ".join(reasons))
        more = f" and {len(failed) - 1} more audits" if len(failed) > 1 else ""
        reasons.append(f"the scores of {chosen.model_id} failed {failed[0].sentence}{more}")
        cycle.progress.note(reasons[-1])
        stale = None if last is None else _stale(cycle, last, champion, rows, "; ".join(reasons))
        if stale is not None:
            return stale
        if chosen.source == "prior":
            break
        try:
            chosen = serving.prior(cycle, champion, "")
        except LakeError as error:
            reasons.append(str(error))
            break
    raise ScoreError(f"no scores may be seen: {'; '.join(reasons)}; and no earlier release has scores to serve")


def _stale(
    cycle: Cycle, last: stale_scores.StaleSource, champion: str | None, rows: list[dict[str, Any]], reason: str
) -> Served | None:
    """The last good scores; None if they are damaged, and all before them."""
    whole = stale_scores.serve_stale(cycle, last, reason)
    if whole is None:
        return None
    made = {name: cycle.dataset(name) for name in (*stale_scores.REWRITTEN, *stale_scores.KEPT)}
    scored, old = Scored({name: made[name] for name in PARTS}, False), whole.scoring
    return Served(scored, made, old["model_id"], old["calibrator_id"], "stale", champion, True, rows, reason)


def _audit(
    cycle: Cycle,
    chosen: Serving,
    scored: Scored,
    lists: dict[str, Dataset],
    last: stale_scores.StaleSource | None,
    limits: ScoreBands,
) -> list[score_audits.ScoreAudit]:
    files = score_audits.ScoredFiles(
        scored.datasets["scores"].files, chosen.model_id, chosen.source, calibration.load(chosen.calibrator)
    )
    wanted = score_audits.expected(cycle, {name: dataset.files for name, dataset in lists.items()})
    return score_audits.audit(files, wanted, last.reference(cycle) if last else None, limits)


def _shadow(cycle: Cycle, asked: str) -> Serving:
    """The model that `--shadow` names; `challenger`: that of the last decision up to the cycle's date. ScoreError if
    there is none, or it cannot score this cycle."""
    model_id = asked
    if asked == CHALLENGER:
        judged = champions.challenger(cycle.warehouse, cycle.contract.name, cycle.date)
        if judged is None:
            raise ScoreError(f"--shadow {CHALLENGER}: no model of {cycle.contract.name} was judged up to {cycle.date}")
        model_id = judged
    try:
        return serving.checked(cycle, model_id, None)
    except (OSError, ValueError, LakeError) as error:
        raise ScoreError(f"--shadow {asked} cannot be used: {error}") from None


def _shadowed(
    cycle: Cycle, spark: SparkSession, served: Served, chosen: Serving, stall_timeout: float
) -> list[dict[str, Any]]:
    """Score with the shadow as well and keep its scores; what differs. Nothing if stale scores are served, or if the
    shadow fails, which is told and harms nobody."""
    if served.source == "stale":
        cycle.progress.note(f"{chosen.model_id} was not scored in the shadow: what is served is stale")
        return []
    own_inputs = cycle.dataset("score_inputs").key
    try:
        inputs = block_scores.inputs_of(cycle, spark, chosen)
        scores = block_scores.score(cycle, spark, chosen, inputs, stall_timeout).datasets["scores"]
    except (JobError, ScoreError) as error:
        cycle.progress.note(f"the shadow {chosen.model_id} failed, what is served does not depend on it: {error}")
        return []
    finally:
        cycle.remember({"score_inputs": own_inputs})  # the shadow's are not what the cycle stands on
    cycle.make(
        "shadow_scores", __name__, {"scores": scores.content}, chosen.model_id,
        lambda out: block_scores.link_files(scores.files, out))  # fmt: skip
    return shadow.compare(
        served.scored.datasets["scores"].files, scores.files, served.model_id, chosen.model_id, cycle.contract.top_n
    )


def _scoring(cycle: Cycle, served: Served, shadow_model_id: str | None) -> dict[str, Any]:
    """The row of the fact `scoring`."""
    blocks, first = served.scored.blocks, served.scored.first_row()
    by_worker: Counter[str] = Counter()
    for block in blocks:
        by_worker[block["worker"]] += block["wall_s"]
    walls = [block["wall_s"] for block in blocks if block["pairs"]]
    return {
        "model_id": served.model_id,
        "calibrator_id": served.calibrator_id,
        "source": served.source,
        "reason": served.reason,
        "requested_model_id": served.requested_model_id,
        "is_degraded": served.is_degraded,
        **{name: first[name] for name in ("score_date", "scored_at", "data_through")},
        "engine": served.scored.engine,
        "entities": sum(block["entities"] for block in blocks),
        "candidates": served.scored.datasets["score_candidates"].rows,
        "pairs": sum(block["pairs"] for block in blocks),
        "blocks": len(blocks),
        # A worker scores one block after the other: the busiest one took as long as the job.
        "wall_s": max(by_worker.values()),
        "cpu_s": sum(block["cpu_s"] for block in blocks),
        "peak_rss_mib": max(block["peak_rss_mib"] for block in blocks),
        "skew": max(walls) / statistics.median(walls),
        "scores_sha256": served.scored.sha256,
        "shadow_model_id": shadow_model_id,
    }


def _fact(cycle: Cycle, name: str, rows: list[dict[str, Any]]) -> Dataset:
    found, _ = cycle.prepare(
        name,
        __name__,
        {"rows": sha256_json(rows)},
        None,
        lambda out: pq.write_table(facts.table(name, rows), out / "part-0.parquet"),
    )
    return found


def _tell(cycle: Cycle, row: dict[str, Any]) -> None:
    with score_files.connection() as db:
        listed = score_files.scan(cycle.dataset("entities").files)
        [[idle]] = db.execute(f"select count(*) from {listed} where candidates = 0").fetchall()
    note = f"; {idle:,} entities have nothing on offer" if idle else ""
    rate = row["pairs"] / max(row["cpu_s"], 1e-9)
    cycle.progress.note(
        f"{row['pairs']:,} pairs of {row['entities']:,} entities by {row['model_id']} ({row['source']}), "
        f"{rate:,.0f} per CPU second{note}"
    )


if __name__ == "__main__":
    import typer

    from jobs.cli import command

    typer.run(command("score"))
