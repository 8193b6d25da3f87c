"""May tonight's scores be served? Checks on the finished files, before anything is visible.

Complete (every entity has each candidate of its match once, no declared slice is without), numbers (no NaN,
0 < p < 1), right (p follows the calibrator from the raw score; mean p of pairs seen before is near their own rate) and
like the last release's (PSI). Whatever cannot be measured fails, except where the audit says why there is nothing to
compare with.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa
from duckdb.func import PythonUDFType

from ffm_udf.calibration import AnyCalibrator, Calibrator
from jobs import score_files, scored_slices
from jobs.cycle import Cycle
from jobs.score_bands import Band, ScoreBands
from jobs.score_files import scan


@dataclass(frozen=True)
class ScoredFiles:
    """The full scores to be judged, and by what they were made."""

    scores: Sequence[str]
    model_id: str
    source: str  # model | prior
    calibrator: AnyCalibrator


@dataclass(frozen=True)
class Expected:
    """What the scores must cover and what happened to such pairs before."""

    entities: Sequence[str]  # files of the fact `entities`
    candidates: Sequence[str]  # files of the fact `candidates`
    examples: Sequence[str]  # past exposures: keys, period_no and y; empty if there are none
    last_matured: int  # the last period whose labels are final
    lists: scored_slices.Lists  # who and what the source wants scored, with the columns of slices


@dataclass(frozen=True)
class Reference:
    """The scores of the last release of the same contract."""

    release_id: str
    scores: Sequence[str]
    candidates: Sequence[str]
    is_prior: bool  # by the hierarchical prior, whose scores are distributed in another way


@dataclass(frozen=True)
class ScoreAudit:
    """One audit and what came of it."""

    audit: str
    value: float | None  # None: there was nothing to measure
    low: float | None
    high: float | None
    passed: bool
    why: str

    def row(self, attempt: int, model_id: str, source: str) -> dict[str, Any]:
        """A row of the fact `score_audits`."""
        return {"attempt": attempt, "model_id": model_id, "source": source, **vars(self)}

    @property
    def sentence(self) -> str:
        ends = [f"{sign} {_text(end)}" for sign, end in ((">=", self.low), ("<=", self.high)) if end is not None]
        if self.low is not None and self.low == self.high:
            ends = [f"== {_text(self.low)}"]
        value = "no value" if self.value is None else _text(self.value)
        return f"{self.audit}: {value}" + (f", must be {' and '.join(ends)}" if ends else "") + f" ({self.why})"


def expected(cycle: Cycle, lists: Mapping[str, Sequence[str]]) -> Expected:
    """What the scores of `cycle` must cover; past exposures are its own, or else another cycle's of the contract.

    `lists`: files of the facts `entities` and `candidates` that go with the scores.

    Another cycle may know later periods: `audit` reads none after the last matured one of this cycle.
    """
    days = [cycle.date]
    others = sorted(
        (path.stem for path in (cycle.warehouse / "cycles" / cycle.contract.name).glob("[!.]*.json")), reverse=True
    )
    days += [cycle.date.fromisoformat(day) for day in others if day != str(cycle.date)]
    cycles = (Cycle(cycle.contract, day, cycle.warehouse, cycle.progress) for day in days)
    known = next((found.dataset("examples").files for found in cycles if found.has("examples")), [])
    asked = scored_slices.lists(cycle)
    return Expected(lists["entities"], lists["candidates"], known, cycle.periods.last_matured, asked)


def audit(scored: ScoredFiles, expected: Expected, reference: Reference | None, bands: ScoreBands) -> list[ScoreAudit]:
    """All audits of finished scores, failed ones too; the scores are read three times, once more for a reference."""
    with score_files.connection() as db:
        _summarise(db, scored, expected)
        return [
            *_complete(db, scored),
            _none("slice_values_without_scores", *scored_slices.unscored(db, expected.lists, scored.scores)),
            *_numbers(db, scored, bands),
            _calibrated(db, scored, expected, bands),
            _stable(db, scored, expected, reference, bands),
        ]


def failed(audits: Sequence[ScoreAudit]) -> list[ScoreAudit]:
    return [found for found in audits if not found.passed]


def _text(value: float) -> str:
    """A count in full, anything else to six digits."""
    return f"{value:,.0f}" if value == round(value) else f"{value:.6g}"


def _judged(name: str, value: float | None, band: Band, why: str = "") -> ScoreAudit:
    """An audit against a band of the policy; no value, or one that is not finite, fails."""
    known = value is not None and math.isfinite(value)
    low, high = (-math.inf if band.low is None else band.low), (math.inf if band.high is None else band.high)
    passed = value is not None and known and low <= value <= high
    told = " ".join(f"{why} {band.why}".split())
    return ScoreAudit(name, value if known else None, band.low, band.high, passed, told)


def _none(name: str, count: int, why: str) -> ScoreAudit:
    """An audit that counts faults and passes without any."""
    return ScoreAudit(name, float(count), 0.0, 0.0, count == 0, why)


def _summarise(db: duckdb.DuckDBPyConnection, scored: ScoredFiles, expected: Expected) -> None:
    """One pass over the scores into `per_entity`; `wanted` is what each entity must have.

    A set of candidates is compared by its size and the sum of the hashes of its members: equal sums of 64-bit hashes
    of different sets are a matter of 1 in 2^64, and a pair that is there twice in place of another shows.
    """
    offers = f"(select distinct match_id, candidate_id from {scan(expected.candidates)})"
    db.execute(f"""
        create temp table per_match as
        select match_id, count(*) as n, sum(hash(candidate_id)) as fingerprint from {offers} group by match_id
    """)
    db.execute(f"""
        create temp table wanted as
        select people.entity_id, people.match_id, coalesce(per_match.n, 0) as n, per_match.fingerprint
        from {scan(expected.entities)} as people
        left join per_match on people.match_id is not distinct from per_match.match_id
    """)
    by_calibrator = _by_calibrator(db, scored.calibrator)
    own = "model_id = $model_id and source = $source"
    sql = f"""
        create temp table per_entity as
        select
            entity_id,
            match_id,
            count(*) as n,
            sum(hash(candidate_id)) as fingerprint,
            count(*) filter (
                where p is null or raw_score is null or not isfinite(p) or not isfinite(raw_score)
            ) as not_numbers,
            count(*) filter (where not (p > 0 and p < 1)) as outside,
            sum(p::double) as sum_p,
            sum(oov_share::double) as sum_oov_share,
            count(*) filter (where source = 'prior') as by_prior,
            count(*) filter (where not ({own} or source = 'prior')) as foreign_rows,
            max(abs(p::double - {by_calibrator}) / {by_calibrator}) filter (where {own}) as calibrator_error
        from {scan(scored.scores)}
        group by entity_id, match_id
    """
    db.execute(sql, {"model_id": scored.model_id, "source": scored.source})


def _by_calibrator(db: duckdb.DuckDBPyConnection, calibrator: AnyCalibrator) -> str:
    """SQL of p from the column raw_score: a formula for slope and intercept, a function for the rest."""
    if isinstance(calibrator, Calibrator):
        slope, intercept = calibrator.slope, calibrator.intercept
        return f"(1 / (1 + exp(-({slope!r}::double * raw_score + ({intercept!r}::double)))))"

    def calibrated(raw_score: pa.ChunkedArray) -> pa.Array:
        return pa.array(calibrator(raw_score.to_numpy()), pa.float64())

    db.create_function("by_calibrator", calibrated, ["DOUBLE"], "DOUBLE", type=PythonUDFType.ARROW)
    return "by_calibrator(raw_score::double)"


def _complete(db: duckdb.DuckDBPyConnection, scored: ScoredFiles) -> list[ScoreAudit]:
    """Every entity × every candidate of its match, once, and nothing else."""
    joined = """
        from wanted
        full outer join per_entity
            on wanted.entity_id = per_entity.entity_id and wanted.match_id is not distinct from per_entity.match_id
    """
    [[rows, missing, short, unasked, others, silent]] = db.execute(f"""
        select
            coalesce(sum(wanted.n), 0)::bigint,
            count(*) filter (where wanted.n > 0 and per_entity.n is null),
            count(*) filter (where wanted.n > per_entity.n),
            count(*) filter (where per_entity.n is not null and coalesce(wanted.n, 0) = 0),
            count(*) filter (where wanted.n <= per_entity.n and wanted.n > 0 and (
                wanted.n <> per_entity.n or wanted.fingerprint is distinct from per_entity.fingerprint
            )),
            count(distinct wanted.match_id) filter (where wanted.n > 0)
            - count(distinct wanted.match_id) filter (where wanted.n > 0 and per_entity.n > 0)
        {joined}
    """).fetchall()
    found = float(score_files.rows(db, scored.scores))
    listed = "entities × candidates of their match, against the rows of the files"
    return [
        ScoreAudit("rows", found, float(rows), float(rows), found == rows and found > 0, listed),
        _none("entities_without_scores", missing, "entities with candidates on offer and no score at all"),
        _none("entities_with_scores_missing", short, "entities with fewer scores than candidates on offer"),
        _none("entities_not_asked_for", unasked, "scored, but not on the entity list or with nothing on offer"),
        _none("entities_with_other_candidates", others, "pairs scored twice, or candidates that are not on offer"),
        _none("matches_without_scores", silent, "values of match with entities and offers, and no score"),
    ]


def _numbers(db: duckdb.DuckDBPyConnection, scored: ScoredFiles, bands: ScoreBands) -> list[ScoreAudit]:
    """Probabilities, of one model, through its calibrator, of features that it knows."""
    [[n, wrong, outside, by_prior, foreign_rows, error, oov]] = db.execute("""
        select
            sum(n), coalesce(sum(not_numbers), 0), coalesce(sum(outside), 0), sum(by_prior),
            coalesce(sum(foreign_rows), 0), max(calibrator_error), sum(sum_oov_share) / sum(n)
        from per_entity
    """).fetchall()
    share = by_prior / n if n else None
    if scored.source == "prior":
        whole = "all of tonight's scores are the prior's, so no row fell back"
        fallen = ScoreAudit("rows_of_the_prior", share, None, None, share is not None, whole)
    else:
        fallen = _judged("rows_of_the_prior", share, bands.rows_of_the_prior)
    return [
        _none("not_a_number", wrong, "p or raw_score null, NaN or infinite"),
        _none("outside_0_1", outside, "p not above 0 and below 1"),
        _none("rows_of_another_model", foreign_rows, f"rows neither by {scored.model_id} nor by the prior"),
        _judged("calibrator_error", error, bands.calibrator_error),
        fallen,
        _judged("oov_share", oov, bands.oov_share),
    ]


def _calibrated(
    db: duckdb.DuckDBPyConnection, scored: ScoredFiles, expected: Expected, bands: ScoreBands
) -> ScoreAudit:
    """Mean p of the pairs that were exposed before, over their own rate; of all pairs if those are too few."""
    name = "mean_p_of_comparable_pairs"
    if not expected.examples:
        why = "no past exposures to compare with: run `fieldmart encode` first."
        return _judged(name, None, bands.mean_p_of_comparable_pairs, why)
    past = scan(expected.examples)
    periods = [
        number
        for (number,) in db.execute(
            f"select distinct period_no from {past} where period_no <= ? order by 1 desc limit ?",
            [expected.last_matured, bands.comparable_periods],
        ).fetchall()
    ]
    known = [int(number) for number in periods] or [-1]
    # Each pair counts as often as it was exposed: then mean p and rate are means over the same exposures.
    [[pairs, exposures, conversions, sum_p]] = db.execute(f"""
        with past as (
            select entity_id, candidate_id, match_id, count(*) as n, sum(y) as y
            from {past}
            where period_no in ({", ".join(map(str, known))})
            group by entity_id, candidate_id, match_id
        )
        select count(*), coalesce(sum(past.n), 0), coalesce(sum(past.y), 0), sum(past.n * scores.p::double)
        from {scan(scored.scores)} as scores
        inner join past using (entity_id, candidate_id, match_id)
    """).fetchall()
    about = f"{pairs:,} pairs with {exposures:,} exposures and {conversions:,} conversions in {len(periods)} periods"
    if conversions >= bands.comparable_min_conversions:
        return _judged(name, sum_p / conversions, bands.mean_p_of_comparable_pairs, f"Over {about}, same pairs.")
    [[rate]] = db.execute(f"select avg(y) from {past} where period_no in ({', '.join(map(str, known))})").fetchall()
    [[mean]] = db.execute("select sum(sum_p) / sum(n) from per_entity").fetchall()
    value = mean / rate if rate and mean is not None else None
    why = f"Too few conversions to compare the same pairs ({about}): all pairs against the rate of those periods."
    return _judged("mean_p_of_all_pairs", value, bands.mean_p_of_all_pairs, why)


def _stable(
    db: duckdb.DuckDBPyConnection,
    scored: ScoredFiles,
    expected: Expected,
    reference: Reference | None,
    bands: ScoreBands,
) -> ScoreAudit:
    """PSI against the last release above what chance gives, in deciles frozen from its scores."""
    if reference is None:
        return _skipped("psi", bands.psi, "there is no earlier release with scores")
    if reference.is_prior != (scored.source == "prior"):
        kinds = "the prior" if reference.is_prior else "a model"
        return _skipped("psi", bands.psi, f"release {reference.release_id} was scored by {kinds}, tonight is not")
    [[shared, either]] = db.execute(f"""
        select count(*) filter (where old.candidate_id = new.candidate_id), count(*)
        from (select distinct candidate_id from {scan(reference.candidates)}) as old
        full outer join (select distinct candidate_id from {scan(expected.candidates)}) as new
            on old.candidate_id = new.candidate_id
    """).fetchall()
    overlap = shared / either if either else 0.0
    if overlap < bands.psi_min_candidate_overlap:
        why = f"only {overlap:.0%} of the candidates are those of release {reference.release_id}"
        return _skipped("psi", bands.psi, why)
    try:
        old = score_files.histogram(db, reference.scores)
    except duckdb.Error as error:  # an old night's damage must not stop this one
        [reason, *_] = str(error).splitlines()
        return _skipped("psi", bands.psi, f"the scores of release {reference.release_id} cannot be read ({reason})")
    new = score_files.histogram(db, scored.scores)
    why = f"Against release {reference.release_id}, {overlap:.0%} of the candidates the same."
    return _judged("psi", score_files.excess_psi(old, new), bands.psi, why)


def _skipped(name: str, band: Band, why: str) -> ScoreAudit:
    return ScoreAudit(name, None, band.low, band.high, True, f"not compared: {why}")
