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

import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from ffm_udf.calibration import Calibrator
from jobs import (
    block_scores,
    decision_log,
    facts,
    models,
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

CHALLENGER = "challenger"


@dataclass(frozen=True)
class Served:
    """What readers will see: the scores, the model behind them, the audits of every attempt (rows of the fact), and why
    it is not the champion ("" if it is)."""

    scored: Scored
    model_id: str
    calibrator_id: str
    source: str  # model | stale | prior
    requested_model_id: str | None
    audits: list[dict[str, Any]]
    reason: str

    @property
    def is_degraded(self) -> bool:
        """Stale, or by the prior although there is a champion."""
        return self.source == "stale" or (self.source == "prior" and self.requested_model_id is not None)


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
        served = serve(cycle, spark, limits, stall_timeout)
        other = _shadow_id(cycle, shadow_model)
        compared = _shadowed(cycle, spark, served, other, stall_timeout) if other else []
        _make_fact(cycle, "score_audits", served.audits)
        _make_fact(cycle, "shadow_comparison", compared)
        row = _scoring(cycle, served, other if compared else None)
        found = _make_fact(cycle, "scoring", [row])
        cycle.remember({}, run={"serving_model_id": served.model_id, "score_source": served.source})
        stage.made(served.scored.datasets["scores"], served.scored.reused)
        _tell(cycle, row)
    return found


def is_degraded(scoring: Dataset) -> bool:
    """Whether the fact `scoring` says that something else is served than should be."""
    return scoring.table()["is_degraded"][0].as_py()


def make_lists(cycle: Cycle, inputs: Dataset) -> None:
    """Make the facts `entities` and `candidates`, who is scored on what, from the score_inputs."""
    root = inputs.folder / inputs.manifest["run"]
    queries = {
        "entities": """
            select entity_id, match_id, coalesce(n, 0) as candidates
            from entities
            left join (select match_id, count(*) as n from candidates group by match_id) using (match_id)
        """,
        "candidates": "select candidate_id, match_id, label from candidates",
    }
    for name, query in queries.items():

        def write(out: Path, query: str = query) -> None:
            with score_files.connection() as db:
                for view, pattern in (("entities", "block=*/entities"), ("candidates", "candidates")):
                    files = [str(file) for file in sorted(root.glob(f"{pattern}/*.parquet"))]
                    db.execute(f"create view {view} as from {score_files.scan(files)}")
                target = score_files.quoted(str(out / "part-00000.parquet"))
                db.execute(f"copy ({query} order by all) to {target} (format parquet)")

        cycle.make(name, __name__, {"score_inputs": inputs.content}, None, write)


def serve(cycle: Cycle, spark: SparkSession, limits: ScoreBands, stall_timeout: float) -> Served:
    """Score with the champion and audit; if an audit fails, the last good scores stay, or the prior scores if there are
    none. What is served is remembered in the cycle. Raises ScoreError if there is nothing that may be seen."""
    last = stale_scores.last_good(cycle)
    chosen, rows, reasons = serving.champion_or_prior(cycle), [], []
    champion = chosen.requested_model_id
    for attempt in (1, 2):
        reasons += [chosen.reason] if chosen.reason else []
        with block_scores.warmed_up(cycle, spark, chosen):
            inputs = block_scores.inputs_of(cycle, spark, chosen)
        make_lists(cycle, inputs)
        scored = block_scores.score(cycle, spark, chosen, inputs, stall_timeout)
        audits = _audit(cycle, chosen, scored, last, limits)
        rows += [audit.row(attempt, chosen.model_id, chosen.source) for audit in audits]
        failed = score_audits.failed(audits)
        if not failed:
            cycle.remember({name: dataset.key for name, dataset in scored.datasets.items()})
            vectors.make(cycle, spark, chosen, inputs, stall_timeout)
            used = calibrator_id(chosen.calibrator)
            return Served(scored, chosen.model_id, used, chosen.source, champion, rows, "; ".join(reasons))
        more = f" and {len(failed) - 1} more audits" if len(failed) > 1 else ""
        reasons.append(f"the scores of {chosen.model_id} failed {failed[0].sentence}{more}")
        cycle.progress.note(reasons[-1])
        if last is not None:
            return _stale(cycle, last, champion, rows, "; ".join(reasons))
        if chosen.source == "prior":
            break
        chosen = serving.prior(cycle, champion, "")
    raise ScoreError(f"no scores may be seen: {'; '.join(reasons)}; and no earlier release has scores to serve")


def _stale(
    cycle: Cycle, last: stale_scores.StaleSource, champion: str | None, rows: list[dict[str, Any]], reason: str
) -> Served:
    stale_scores.serve_stale(cycle, last, reason)
    scored = Scored({name: cycle.dataset(name) for name in PARTS}, False)
    old = last.scoring
    return Served(scored, old["model_id"], old["calibrator_id"], "stale", champion, rows, reason)


def _audit(
    cycle: Cycle, chosen: Serving, scored: Scored, last: stale_scores.StaleSource | None, limits: ScoreBands
) -> list[score_audits.ScoreAudit]:
    files = score_audits.ScoredFiles(
        scored.datasets["scores"].files, chosen.model_id, chosen.source, Calibrator(**chosen.calibrator)
    )
    reference = last.reference(cycle) if last else None
    return score_audits.audit(files, score_audits.expected(cycle), reference, limits)


def _shadow_id(cycle: Cycle, asked: str | None) -> str | None:
    """The model that `--shadow` names; `challenger`: that of the last decision, ScoreError if there is none."""
    if asked != CHALLENGER:
        return asked
    for entry in reversed(decision_log.entries(cycle.warehouse)):
        if entry.kind == "decision" and entry.payload["contract"] == cycle.contract.name:
            return entry.payload["model_id"]
    raise ScoreError(f"--shadow {CHALLENGER}: no model of {cycle.contract.name} was ever judged")


def _shadowed(
    cycle: Cycle, spark: SparkSession, served: Served, other: str, stall_timeout: float
) -> list[dict[str, Any]]:
    """Score with the shadow as well and keep its scores; what differs, nothing if stale scores are served."""
    if served.source == "stale":
        cycle.progress.note(f"{other} was not scored in the shadow: what is served is stale")
        return []
    try:
        chosen = serving.checked(cycle, other, served.requested_model_id)
    except (OSError, ValueError, LakeError) as error:
        raise ScoreError(f"--shadow {other} cannot be used: {error}") from None
    own_inputs = cycle.dataset("score_inputs").key
    inputs = block_scores.inputs_of(cycle, spark, chosen)
    scores = block_scores.score(cycle, spark, chosen, inputs, stall_timeout).datasets["scores"]
    cycle.remember({"score_inputs": own_inputs})  # the shadow's are not what the cycle stands on
    cycle.make(
        "shadow_scores", __name__, {"scores": scores.content}, other,
        lambda out: block_scores.link_files(scores.files, out))  # fmt: skip
    return shadow.compare(
        served.scored.datasets["scores"].files, scores.files, served.model_id, other, cycle.contract.top_n
    )


def _scoring(cycle: Cycle, served: Served, shadow_model_id: str | None) -> dict[str, Any]:
    """The row of the fact `scoring`."""
    blocks, first = served.scored.blocks, served.scored.first_row
    by_worker: Counter[str] = Counter()
    for block in blocks:
        by_worker[block["worker"]] += block["wall_s"]
    walls = [block["wall_s"] for block in blocks if block["pairs"]]
    algorithm = models.read_card(cycle.warehouse, served.model_id)["algorithm"]
    return {
        "model_id": served.model_id,
        "calibrator_id": served.calibrator_id,
        "source": served.source,
        "reason": served.reason,
        "requested_model_id": served.requested_model_id,
        "is_degraded": served.is_degraded,
        **{name: first[name] for name in ("score_date", "scored_at", "data_through")},
        "engine": "all_pairs" if algorithm == "ffm" else "rows",
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


def _make_fact(cycle: Cycle, name: str, rows: list[dict[str, Any]]) -> Dataset:
    found, _ = cycle.make(
        name,
        __name__,
        {"rows": sha256_json(rows)},
        None,
        lambda out: pq.write_table(facts.table(name, rows), out / "part-0.parquet"),
    )
    return found


def _tell(cycle: Cycle, row: dict[str, Any]) -> None:
    idle = pc.sum(pc.equal(cycle.dataset("entities").table()["candidates"], 0)).as_py() or 0
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
