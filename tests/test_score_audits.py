"""The audits of finished scores: a good set passes, and every way to be wrong is caught by the audit made for it."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console

from ffm_udf.calibration import Calibrator, Table
from jobs import facts, score_audits, score_bands, score_files, scored_slices
from jobs.contract import Privacy, Slice, load
from jobs.cycle import Cycle
from jobs.policies import PolicyError
from jobs.progress import Progress
from jobs.score_audits import Expected, Reference, ScoreAudit, ScoredFiles

CONF = Path(__file__).resolve().parent.parent / "conf"
CALIBRATOR = Calibrator(0.9, -0.2)
BANDS = score_bands.load_bands(CONF / "scores.yml")

# 40 entities in store a, 20 in b, 5 in c, where nothing is on offer; 10 candidates in a, 4 in b, 3 in d without people.
PEOPLE = [(f"h{i:02d}", "a" if i < 40 else "b" if i < 60 else "c") for i in range(65)]
OFFERS = [(f"f{i}", "a") for i in range(10)] + [(f"f{i}", "b") for i in range(4)] + [(f"g{i}", "d") for i in range(3)]
ROWS = 40 * 10 + 20 * 4

# Both ages are in a and in b, those who have nothing on offer are of another; f4 to f9 are dry, on offer in a alone.
ASKED = [(name, match, "idle" if match == "c" else "old" if int(name[1:]) % 2 else None) for name, match in PEOPLE]
OFFERED = [(name, m, "frozen" if m == "d" else "fresh" if int(name[1:]) < 4 else "dry") for name, m in OFFERS]
SLICES = [{"name": "department", "column": "dep"}, {"name": "age", "column": "age"}, {"name": "new", "known": "family"}]
NIGHT = {"entities": ["entities.parquet"], "candidates": ["candidates.parquet"]}


def pairs() -> pl.DataFrame:
    """All pairs with raw scores between -3 and -1 that differ from pair to pair."""
    people = pl.DataFrame(PEOPLE, schema=["entity_id", "match_id"], orient="row")
    offers = pl.DataFrame(OFFERS, schema=["candidate_id", "match_id"], orient="row")
    found = people.join(offers, on="match_id").sort("entity_id", "candidate_id")
    return found.with_columns(raw_score=-3 + 2 * pl.int_range(pl.len()) / pl.len())


def scores(table: pl.DataFrame | None = None, calibrator: Calibrator = CALIBRATOR, **columns: Any) -> pl.DataFrame:
    """The fact `scores` of those pairs, with some columns replaced by expressions or constants."""
    rows = pairs() if table is None else table
    logit = pl.col("raw_score") * calibrator.slope + calibrator.intercept
    constants = {
        "p": 1 / (1 + (-logit).exp()),
        "rank_in_entity": 1,
        "oov_share": 0.05,
        "model_id": "m1",
        "calibrator_id": "logistic-1",
        "score_date": pl.date(2017, 12, 18),
        "scored_at": pl.datetime(2017, 12, 18, 6),
        "data_through": pl.datetime(2017, 12, 18, 5),
        "source": "model",
    }
    given = {name: value if isinstance(value, pl.Expr) else pl.lit(value) for name, value in constants.items()}
    rows = rows.with_columns(**{name: value for name, value in given.items() if name not in rows.columns})
    return rows.with_columns(**columns)


def written(path: Path, table: pl.DataFrame, fact: str = "scores", files: int = 2) -> list[str]:
    """The fact in several files, as the blocks write it."""
    path.mkdir(parents=True, exist_ok=True)
    size = -(-table.height // files)
    found = []
    for number in range(files):
        file = path / f"part-{number:05d}.parquet"
        part = facts.table(fact, table.slice(number * size, size).to_arrow())
        pl.DataFrame(pl.from_arrow(part)).write_parquet(file)
        found.append(str(file))
    return found


def lists(folder: Path) -> tuple[list[str], list[str]]:
    per_match = {match: sum(m == match for _, m in OFFERS) for match in "abcd"}
    people = [(entity, match, per_match[match]) for entity, match in PEOPLE]
    entities = pl.DataFrame(people, schema=facts.FACTS["entities"].names, orient="row")
    offers = [(*offer, "label") for offer in OFFERS]
    candidates = pl.DataFrame(offers, schema=facts.FACTS["candidates"].names, orient="row")
    return written(folder / "e", entities, "entities", 1), written(folder / "c", candidates, "candidates", 1)


def source(
    folder: Path, asked: list[Any], offered: list[Any], slices: list[dict[str, str]], floor: int | None = None
) -> scored_slices.Lists:
    """The lists as they come in; `floor`: the contract's k_anonymity."""
    (folder / "l").mkdir(exist_ok=True)
    files = [str(folder / "l" / f"{name}.parquet") for name in ("asked", "offered")]
    pl.DataFrame(asked, schema=["who", "shop", "age"], orient="row").write_parquet(files[0])
    pl.DataFrame(offered, schema=["what", "shop", "dep"], orient="row").write_parquet(files[1])
    roles = {"entity": ("who",), "candidate": ("what",), "match": ("shop",)}
    changes = roles | {"slices": tuple(Slice(**item) for item in slices), "privacy": Privacy(k_anonymity=floor)}
    found = load(CONF / "promo.yml").model_copy(update=changes)
    return scored_slices.Lists(files[:1], files[1:], found)


def examples(folder: Path, of: pl.DataFrame, periods: tuple[int, ...], scale: float = 1.0) -> list[str]:
    """Exposures of every pair in each of `periods` with p · scale conversions in all, whole ones in some pairs."""
    rows = of.select("entity_id", "candidate_id", "match_id", "p").with_columns(
        period_no=pl.lit(list(periods), pl.List(pl.Int32))
    )
    due = (pl.col("p").cum_sum() * scale).floor()  # a conversion whenever the expected ones pass a whole number
    rows = rows.explode("period_no").with_columns(y=(due - due.shift(1, fill_value=0)).clip(0, 1).cast(pl.Int8))
    (folder / "x").mkdir(exist_ok=True)
    rows.drop("p").write_parquet(folder / "x" / "part-0.parquet")
    return [str(folder / "x" / "part-0.parquet")]


def judge(
    folder: Path, table: pl.DataFrame, reference: Reference | None = None, **changes: Any
) -> dict[str, ScoreAudit]:
    entities, candidates = lists(folder)
    past = changes.pop("examples", None)
    # 480 pairs × 4 periods with mean p about 0.11: some 200 conversions
    past = examples(folder, scores(), (5, 6, 7, 8)) if past is None else past
    asked, offered = changes.pop("asked", ASKED), changes.pop("offered", OFFERED)
    found = source(folder, asked, offered, changes.pop("slices", SLICES), changes.pop("floor", None))
    expected = Expected(entities, candidates, past, changes.pop("last_matured", 8), found)
    bands = changes.pop("bands", BANDS)
    scored = replace(ScoredFiles(written(folder / "s", table), "m1", "model", CALIBRATOR), **changes)
    return {found.audit: found for found in score_audits.audit(scored, expected, reference, bands)}


def faults(found: dict[str, ScoreAudit]) -> list[str]:
    return [audit.audit for audit in score_audits.failed(list(found.values()))]


def test_good_scores_pass_every_audit(tmp_path: Path) -> None:
    found = judge(tmp_path, scores())
    assert faults(found) == []
    assert (found["rows"].value, found["rows"].low, found["rows"].high) == (ROWS, ROWS, ROWS)
    # The examples convert as often as p says, up to the rounding of one conversion.
    assert found["mean_p_of_comparable_pairs"].value == pytest.approx(1, abs=0.01)
    assert found["mean_p_of_comparable_pairs"].why.startswith("Over 480 pairs with 1,920 exposures and 2")
    assert found["oov_share"].value == pytest.approx(0.05)
    assert found["rows_of_the_prior"].value == 0
    assert found["calibrator_error"].value == pytest.approx(0, abs=1e-6)
    assert (found["psi"].value, found["psi"].passed) == (None, True)
    assert found["psi"].why == "not compared: there is no earlier release with scores"


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_p_by_a_table_is_judged_as_p_by_two_numbers_is(tmp_path: Path, shift: float) -> None:
    table = Table("isotonic", (-3.0, -2.0, -1.5, -1.0), (-3.2, -2.5, -2.5 + shift, -1.0))
    used = Table("isotonic", (-3.0, -2.0, -1.5, -1.0), (-3.2, -2.5, -2.5, -1.0))
    p = pl.col("raw_score").map_batches(lambda z: pl.Series(used(z.to_numpy())), pl.Float64)
    found = judge(tmp_path, scores(p=p), calibrator=table)
    assert found["calibrator_error"].passed == (shift == 0)
    assert found["calibrator_error"].value == pytest.approx(0, abs=1e-6) or shift > 0


def test_audits_are_rows_of_their_fact(tmp_path: Path) -> None:
    found = judge(tmp_path, scores())
    table = facts.table("score_audits", [audit.row(1, "m1", "model") for audit in found.values()])
    assert table.num_rows == len(found) == 15
    assert table["attempt"].to_pylist() == [1] * 15


FIRST = pl.int_range(pl.len()) == 0
SHIFTED = pairs().with_columns(pl.col("raw_score") + 2)
# name: (the scores, the audits that fail)
WRONG: dict[str, tuple[pl.DataFrame, list[str]]] = {
    # p / (1 - p) times e²: mean p of some 0.11 becomes about 0.45, four times the rate
    "weights that shift every logit by 2": (scores(SHIFTED), ["mean_p_of_comparable_pairs"]),
    "a calibrator of another model": (scores(calibrator=Calibrator(0.9, -0.3)), ["calibrator_error"]),
    "p that is not the calibrated raw score": (
        scores(p=scores(SHIFTED)["p"]),
        ["calibrator_error", "mean_p_of_comparable_pairs"],
    ),
    "one NaN": (
        scores(p=pl.when(FIRST).then(math.nan).otherwise(scores()["p"])),
        ["not_a_number", "outside_0_1", "calibrator_error", "mean_p_of_comparable_pairs"],
    ),
    "one null": (scores(p=pl.when(~FIRST).then(scores()["p"])), ["not_a_number"]),
    "an infinite raw score with a sane p": (
        scores().with_columns(raw_score=pl.when(FIRST).then(math.inf).otherwise("raw_score")),
        ["not_a_number", "calibrator_error"],
    ),
    "an entity that is missing": (
        scores().filter(pl.col("entity_id") != "h07"),
        ["rows", "entities_without_scores"],
    ),
    "a pair that is missing": (scores().slice(1), ["rows", "entities_with_scores_missing"]),
    "a pair that is there twice": (
        pl.concat([scores(), scores().head(1)]),
        ["rows", "entities_with_other_candidates"],
    ),
    "a pair twice in place of another": (
        pl.concat([scores().slice(1), scores().slice(1, 1)]),
        ["entities_with_other_candidates"],
    ),
    "an entity that nobody asked for": (
        pl.concat([scores(), scores().head(1).with_columns(entity_id=pl.lit("x"))]),
        ["rows", "entities_not_asked_for"],
    ),
    "a store without scores": (
        scores().filter(pl.col("match_id") != "b"),
        ["rows", "entities_without_scores", "matches_without_scores"],
    ),
    "a department without scores": (
        scores().filter(~pl.col("candidate_id").is_in([f"f{i}" for i in range(4, 10)])),
        ["rows", "entities_with_scores_missing", "slice_values_without_scores"],
    ),
    "rows by another model": (scores(model_id=pl.when(FIRST).then(pl.lit("m2")).otherwise(pl.lit("m1"))),
        ["rows_of_another_model"],
    ),
    "most fields unknown": (scores(oov_share=pl.lit(0.6)), ["oov_share"]),
    # 40 of 480 rows are 8 %
    "rows that fell back to the prior": (
        scores(source=pl.when(pl.int_range(pl.len()) < 40).then(pl.lit("prior")).otherwise(pl.lit("model"))),
        ["rows_of_the_prior"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(WRONG))
def test_each_fault_fails_its_audits(tmp_path: Path, name: str) -> None:
    table, failing = WRONG[name]
    assert faults(judge(tmp_path, table)) == failing


def test_every_value_of_a_slice_that_has_something_on_offer_needs_scores(tmp_path: Path) -> None:
    good = judge(tmp_path, scores())["slice_values_without_scores"]
    # age: old and none given; department: fresh and dry. Not idle, offered nothing, nor frozen, offered to nobody.
    assert (good.value, good.passed, good.why) == (0, True, "4 values of age, department have something on offer")
    # What scoring lost on its way is in none of its own lists: only the source's know of it.
    asked = [*ASKED, ("h99", "b", "teen")]
    offered = [*OFFERED, ("f10", "a", "bakery"), ("f0", "a", "bakery, too"), ("f11", "b", None), ("f12", None, "void")]
    found = judge(tmp_path, scores(), asked=asked, offered=offered)
    assert faults(found) == ["slice_values_without_scores"]
    lost = found["slice_values_without_scores"]
    # One more age, three more departments; f0 has scores.
    assert lost.value == 3
    assert lost.why == (
        "8 values of age, department have something on offer; without any score: age teen, department (missing), "
        "department bakery"
    )
    many = [*offered, ("f13", "a", "x"), ("f14", "a", "y")]
    assert judge(tmp_path, scores(), offered=many)["slice_values_without_scores"].why.endswith(
        "bakery, department x, ..."
    )


def test_under_a_floor_values_without_scores_are_counted_and_not_named(tmp_path: Path) -> None:
    """A value may be one that the marts fold: only how many of which slice have none is said."""
    asked, offered = [*ASKED, ("h99", "b", "teen")], [*OFFERED, ("f10", "a", "bakery"), ("f11", "b", None)]
    found = judge(tmp_path, scores(), asked=asked, offered=offered, floor=20)["slice_values_without_scores"]
    assert (found.value, found.passed) == (3, False)
    assert found.why == (
        "7 values of age, department have something on offer; without any score: 1 of age, 2 of department"
    )


def test_a_slice_must_have_scores_where_it_is_on_offer(tmp_path: Path) -> None:
    # Scored in a alone. To be dry is to be scored there, to be of store b is not.
    table = scores().filter(pl.col("match_id") == "a")
    slices = [*SLICES, {"name": "store", "column": "shop"}]
    found = judge(tmp_path, table, slices=slices)["slice_values_without_scores"]
    assert (found.value, found.why.rsplit(": ")[-1]) == (1, "store b")


@pytest.mark.parametrize("slices", [SLICES[2:], [{"name": "display", "column": "display"}], []])
def test_without_a_slice_in_the_lists_the_audit_says_so(tmp_path: Path, slices: list[dict[str, str]]) -> None:
    found = judge(tmp_path, scores(), slices=slices)["slice_values_without_scores"]
    why = "no declared slice has its column in the entity list or in the offer list"
    assert (found.value, found.passed, found.why) == (0, True, why)


def test_a_certain_p_is_outside(tmp_path: Path) -> None:
    found = judge(tmp_path, scores(p=pl.when(FIRST).then(1.0).otherwise(scores()["p"])))
    assert found["outside_0_1"].value == 1
    assert found["outside_0_1"].sentence == "outside_0_1: 1, must be == 0 (p not above 0 and below 1)"


def test_no_scores_at_all_fail(tmp_path: Path) -> None:
    found = judge(tmp_path, scores().clear())
    assert {"rows", "entities_without_scores", "mean_p_of_all_pairs", "oov_share"} <= set(faults(found))


def test_mean_p_is_compared_over_the_same_pairs_each_as_often_as_exposed(tmp_path: Path) -> None:
    rows = [("h00", "f0", "a", 8, 1)] * 3 + [("h00", "f0", "a", 8, 0)] + [("h00", "f1", "a", 7, 0)] * 2
    # before the window, after it, and at another store: none counts
    rows += [("h01", "f0", "a", 4, 1), ("h01", "f0", "a", 9, 1), ("h01", "f0", "b", 8, 1)]
    names = ["entity_id", "candidate_id", "match_id", "period_no", "y"]
    past = pl.DataFrame(rows, schema=names, orient="row")
    past.write_parquet(tmp_path / "past.parquet")
    bands = BANDS.model_copy(update={"comparable_min_conversions": 3, "comparable_periods": 2})
    found = judge(tmp_path, scores(), examples=[str(tmp_path / "past.parquet")], bands=bands)
    p0, p1 = scores()["p"][:2]
    # h00 × f0 four times, h00 × f1 twice, 3 conversions
    value = found["mean_p_of_comparable_pairs"]
    assert value.value == pytest.approx((4 * p0 + 2 * p1) / 3, rel=1e-6)
    assert value.why.startswith("Over 2 pairs with 6 exposures and 3 conversions in 2 periods, same pairs.")


def test_with_few_conversions_all_pairs_are_compared_in_the_wide_band(tmp_path: Path) -> None:
    bands = BANDS.model_copy(update={"comparable_min_conversions": 1_000})
    found = judge(tmp_path, scores(), bands=bands)
    assert "mean_p_of_comparable_pairs" not in found
    wide = found["mean_p_of_all_pairs"]
    # Every pair was exposed equally often, so the rate is mean p again.
    assert (wide.value, wide.low, wide.high) == (pytest.approx(1, abs=0.01), 0.33, 3)
    assert wide.why.startswith("Too few conversions to compare the same pairs (480 pairs")


def test_without_past_exposures_nothing_is_known_and_nothing_passes(tmp_path: Path) -> None:
    found = judge(tmp_path, scores(), examples=[])
    assert faults(found) == ["mean_p_of_comparable_pairs"]
    assert "run `fieldmart encode` first" in found["mean_p_of_comparable_pairs"].why
    too_old = judge(tmp_path / "old", scores(), last_matured=4)
    assert faults(too_old) == ["mean_p_of_all_pairs"]


def test_the_prior_is_judged_as_the_prior(tmp_path: Path) -> None:
    found = judge(tmp_path, scores(source=pl.lit("prior")), source="prior")
    assert faults(found) == []
    assert (found["rows_of_the_prior"].value, found["rows_of_the_prior"].high) == (1, None)


def reference(folder: Path, table: pl.DataFrame, **changes: Any) -> Reference:
    _, candidates = lists(folder)
    return replace(Reference("r1", written(folder / "s", table), candidates, False), **changes)


def test_the_same_scores_have_no_psi_and_shifted_ones_fail(tmp_path: Path) -> None:
    same = judge(tmp_path, scores(), reference(tmp_path / "r", scores()))["psi"]
    # Equal histograms: PSI 0, less the 9 (1/n + 1/n) that chance gives two samples of that size.
    assert same.value == pytest.approx(-9 * 2 / ROWS)
    assert same.why.startswith("Against release r1, 100% of the candidates the same.")
    # The raw scores are even between -3 and -1; moved by 0.4 of these 2, the two lowest of ten deciles are empty.
    moved = scores(pairs().with_columns(pl.col("raw_score") + 0.4))
    found = judge(tmp_path / "m", moved, reference(tmp_path / "r", scores()))
    assert faults(found) == ["psi"]


def test_a_damaged_earlier_release_is_no_fault_of_tonight(tmp_path: Path) -> None:
    before = reference(tmp_path / "r", scores())
    for path in before.scores:
        Path(path).write_bytes(b"\0" * Path(path).stat().st_size)
    found = judge(tmp_path, scores(), before)["psi"]
    assert (found.value, found.passed) == (None, True)
    assert found.why.startswith("not compared: the scores of release r1 cannot be read (")


def test_psi_in_frozen_deciles_is_the_textbook_sum() -> None:
    old = dict.fromkeys(range(10), 10)  # a decile each
    new = {0: 30, 5: 60, 12: 10}  # beyond the last edge counts to the last decile
    ours = [30, 0, 0, 0, 0, 60, 0, 0, 0, 10]
    a, b = [10.5 / 105] * 10, [(n + 0.5) / 105 for n in ours]
    psi = sum((y - x) * math.log(y / x) for x, y in zip(a, b, strict=True))
    assert score_files.excess_psi(old, new) == pytest.approx(psi - 9 * (1 / 100 + 1 / 100))
    assert score_files.excess_psi(old, {}) is None


def test_deciles_of_many_ties() -> None:
    # 85 of 100 scores in bin 3: it ends the deciles 1 to 8, bin 7 ends the ninth
    assert score_files.decile_edges({7: 10, 3: 85, 9: 5}) == [3] * 8 + [7]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"is_prior": True}, "not compared: release r1 was scored by the prior, tonight is not"),
        ({"candidates": "other"}, "not compared: only 18% of the candidates are those of release r1"),
    ],
)
def test_psi_is_skipped_where_the_populations_differ(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    if "candidates" in change:
        # 13 candidates tonight (f0-f9, g0-g2); the release had f0-f3 and 9 others: 4 in both of 22
        rows = [(name, "a", "label") for name in [f"f{i}" for i in range(4)] + [f"o{i}" for i in range(9)]]
        table = pl.DataFrame(rows, schema=facts.FACTS["candidates"].names, orient="row")
        change = {"candidates": written(tmp_path / "o", table, "candidates", 1)}
    found = judge(tmp_path, scores(), reference(tmp_path / "r", scores(), **change))["psi"]
    assert (found.value, found.passed, found.why) == (None, True, why)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("low: 0.5\n  high: 2\n", "low: 2\n  high: 0.5\n", "low must not exceed high, got 2.0 and 0.5"),
        ("  high: 0.05\n", "", "rows_of_the_prior: a band must have low, high or both, got neither"),
        ("comparable_periods: 4", "comparable_periods: 0", "comparable_periods: must be greater than or equal to 1"),
        ("oov_share:", "oov:", "oov_share: must be given"),
    ],
)
def test_a_wrong_policy_is_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = (CONF / "scores.yml").read_text()
    assert old in text
    (tmp_path / "scores.yml").write_text(text.replace(old, new, 1))
    with pytest.raises(PolicyError, match=message):
        score_bands.load_bands(tmp_path / "scores.yml")


def cycle_of(warehouse: Path, day: dt.date) -> Cycle:
    return Cycle(load(CONF / "promo.yml"), day, warehouse, Progress(Console(quiet=True)))


def remembered(cycle: Cycle, *names: str) -> Cycle:
    """The cycle with data sets of these names, one row each."""
    for name in names:
        key = cycle.lake.key(name, "jobs.facts", {}, str(cycle.date))
        with cycle.lake.writing(name, key) as folder:
            pl.DataFrame({"v": [1]}).write_parquet(folder / "part-0.parquet")
        cycle.remember({name: key})
    return cycle


def test_what_is_expected_comes_from_the_cycle_and_past_exposures_from_the_latest_that_has_them(
    tmp_path: Path,
) -> None:
    tonight = remembered(cycle_of(tmp_path, dt.date(2017, 12, 18)), "entity_list", "offer_list")
    assert score_audits.expected(tonight, NIGHT).examples == []
    for day in (27, 20):
        remembered(cycle_of(tmp_path, dt.date(2017, 11, day)), "examples")
    found = score_audits.expected(tonight, NIGHT)
    assert (found.entities, found.candidates) == (["entities.parquet"], ["candidates.parquet"])
    assert found.lists.entities == tonight.dataset("entity_list").files
    assert found.lists.offers == tonight.dataset("offer_list").files
    assert found.examples == cycle_of(tmp_path, dt.date(2017, 11, 27)).dataset("examples").files
    # 18 December is 50 weeks after 2 January, period 0; labels are final with the week before.
    assert found.last_matured == 49
    remembered(tonight, "examples")
    assert score_audits.expected(tonight, NIGHT).examples == tonight.dataset("examples").files
