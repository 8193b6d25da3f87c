"""The truth world and its tables: the same whatever the chunk, true rates that are true, and not of FFM's form."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from jobs import cli, encode, ingest, nightly, simulate
from jobs.contract import ContractError, load
from jobs.progress import Progress
from jobs.truth_world import MICROSECONDS, TruthWorld, in_window

SMALL = TruthWorld(3000, seed=5, periods=18)


@pytest.fixture(scope="module")
def rows():
    return TruthWorld(150_000, seed=3).take(0, 150_000)


def table(folder: Path, name: str) -> pl.DataFrame:
    return pl.concat([pl.read_parquet(path) for path in sorted((folder / name).glob("*.parquet"))])


def test_the_tables_are_the_same_whatever_the_chunk(tmp_path) -> None:
    for size in (700, 100_000):
        simulate.write(SMALL, tmp_path / str(size), size)
    for name in ("exposures", "truth"):
        parts, whole = table(tmp_path / "700", name), table(tmp_path / "100000", name)
        assert len(whole) == 3000
        assert parts.equals(whole)
    assert len(list((tmp_path / "700" / "exposures").iterdir())) == 5  # 3000 rows, 700 at a time


def test_another_seed_is_another_world() -> None:
    one, same, other = (TruthWorld(3000, seed).take(0, 3000) for seed in (1, 1, 2))
    assert (one.cvr == same.cvr).all()
    assert (one.cvr != other.cvr).mean() > 0.99


def test_rows_beyond_the_last_are_not_there() -> None:
    assert len(SMALL.take(2900, 500)) == 100
    assert len(SMALL.take(3000, 500)) == 0


def test_as_many_convert_as_the_true_rates_say(rows) -> None:
    # In every tenth of the rates and in all: the count within four standard deviations of a sum of Bernoulli draws.
    y = rows.delay < 72
    for part in [*np.array_split(np.argsort(rows.cvr), 10), np.arange(len(rows))]:
        cvr = rows.cvr[part]
        assert abs(y[part].sum() - cvr.sum()) < 4 * np.sqrt((cvr * (1 - cvr)).sum())
    assert rows.cvr.mean() == pytest.approx(0.05, rel=0.1)


def test_conversions_are_as_late_as_the_mixture_says(rows) -> None:
    # Quick: 1 - .6 exp(-72/5) - .3 exp(-72/36) - .1 exp(-72/240) = 1 - 3e-7 - .0406 - .0741 = .8853.
    # Slow:  1 - .3 exp(-72/5) - .4 exp(-72/36) - .3 exp(-72/240) = 1 - 2e-7 - .0541 - .2222 = .7236.
    assert in_window(72) == pytest.approx([0.8853, 0.7236], abs=1e-4)
    slow = rows.columns["category"] % 2
    for kind, share in enumerate((0.8853, 0.7236)):
        late = rows.delay[(slow == kind) & np.isfinite(rows.delay)]
        assert abs((late < 72).mean() - share) < 4 * np.sqrt(share * (1 - share) / len(late))
        assert (late > 24 * 7).any()  # some in a later period
    assert np.allclose(rows.cvr, rows.cvr_ever * np.array([0.8853, 0.7236])[slow], rtol=1e-3)


def test_effects_that_no_sum_of_pair_effects_has() -> None:
    world = TruthWorld(10_000, seed=4)
    row = {name: values[:1] for name, values in world.take(0, 1).columns.items()}

    def score(**changes: float) -> float:
        return float(world._score(row | {name: np.array([value]) for name, value in changes.items()})[0])

    # Steps: nothing happens from 20 to 29 %, then .6 at once.
    assert score(discount=29, age=0) == score(discount=20, age=0)
    assert score(discount=30, age=0) - score(discount=29, age=0) == pytest.approx(0.6)
    # Repetition: .9 (1 - exp(-n / 2)), so ever less, and .08 less for each ad after the eighth.
    assert score(ads_seen=2) - score(ads_seen=0) == pytest.approx(0.9 * (1 - np.exp(-1)))
    assert score(ads_seen=20) < score(ads_seen=8)
    # Three ways: an eighth of the alternating sum over both signs of each of three columns is .45, and no two columns
    # have a common effect when the third is averaged over its signs.
    signs = world._signs
    values = {name: [int(np.argmax(signs[name] == sign)) for sign in (1, -1)] for name in signs}
    scores = np.array(
        [
            [[score(region=r, category=c, slot=s) for s in values["slot"]] for c in values["category"]]
            for r in values["region"]
        ]
    )
    sign = np.array([1, -1])
    assert (scores * sign[:, None, None] * sign[:, None] * sign).sum() / 8 == pytest.approx(0.45)
    for axis in range(3):
        assert (scores.mean(axis=axis) * sign[:, None] * sign).sum() == pytest.approx(0.0, abs=1e-9)


def test_users_and_campaigns_are_heavy_tailed_and_campaigns_come_and_go(rows) -> None:
    for name, share in (("user", 0.05), ("campaign", 0.1)):
        counts = np.sort(np.bincount(rows.columns[name]))[::-1]
        top = counts[: max(len(counts) // 100, 1)]  # the busiest hundredth has far more than a hundredth
        assert top.sum() / counts.sum() > share
    early, late = (set(rows.columns["campaign"][mask]) for mask in (rows.period < 9, rows.period >= 17))
    assert len(late - early) > 10
    assert len(early - late) > 10


def test_the_base_rate_drifts() -> None:
    steady = TruthWorld(60_000, seed=6, trend=-1.0, period_sd=0.0)
    assert np.diff(steady.drift) == pytest.approx(-1.0 / 25)
    rows = steady.take(0, 60_000)
    assert rows.cvr[rows.period >= 20].mean() < 0.75 * rows.cvr[rows.period < 6].mean()


def test_rows_are_in_order_of_time_and_within_their_period() -> None:
    rows = SMALL.take(0, 3000)
    assert (np.diff(rows.period) >= 0).all()
    assert ((rows.microsecond >= 0) & (rows.microsecond < MICROSECONDS)).all()
    assert set(rows.period) == set(range(18))


def test_the_contract_names_the_exposures_and_not_the_truth(tmp_path) -> None:
    path = simulate.write(SMALL, tmp_path / "world")
    contract = load(path)
    assert contract.source.exposures == str(tmp_path / "world" / "exposures")
    assert "truth/" not in path.read_text()
    assert {"cvr", "cvr_ever"}.isdisjoint(table(tmp_path / "world", "exposures").columns)
    assert contract.default_date == dt.date(2026, 1, 5) + dt.timedelta(weeks=18)
    truth = table(tmp_path / "world", "truth")
    assert truth["exposure"].to_list() == list(range(3000))
    assert truth["cvr"].to_numpy() == pytest.approx(SMALL.take(0, 3000).cvr)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rows": 999}, "rows must be at least 1000, got 999"),
        ({"rate": 0.5}, r"rate must be in \(0, 0.5\), got 0.5"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"period_sd": -0.1}, r"period_sd must be at least 0, got -0\.1"),
        ({"taste": -1.0}, r"taste must be at least 0, got -1\.0"),
    ],
)
def test_a_world_that_cannot_be(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TruthWorld(**({"rows": 1000} | wrong))


def test_a_folder_with_something_in_it_and_too_few_periods(tmp_path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(ContractError, match="--out must be a new or empty folder"):
        simulate.write(SMALL, tmp_path)
    with pytest.raises(ContractError, match="periods must be at least 18, for train to have one, got 17"):
        simulate.write(TruthWorld(3000, periods=17), tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_command(tmp_path) -> None:
    options = ["simulate", "--rows", "2e3", "--periods", "18", "--seed", "9", "--out", str(tmp_path / "world")]
    first = CliRunner().invoke(cli.app, options)
    assert first.exit_code == 0
    assert f"fieldmart nightly --contract {tmp_path / 'world' / 'truth.yml'}" in first.output
    assert len(table(tmp_path / "world", "exposures")) == 2000
    again = CliRunner().invoke(cli.app, options)
    assert again.exit_code == 1
    assert "fieldmart: --out must be a new or empty folder" in again.output


def test_the_pipeline_reads_the_tables_and_labels_what_converts_within_the_window(spark, tmp_path) -> None:
    world = TruthWorld(6000, seed=8, periods=18)
    cycle = cli.cycle_of(simulate.write(world, tmp_path / "world"), None, tmp_path / "warehouse")
    cycle.progress = Progress(Console(quiet=True))
    snapshot = ingest.run(cycle, spark)
    assert not snapshot.under("status=quarantined")
    encode.run(cycle, spark)
    rates = {row["period"]: row for row in cycle.dataset("label_rates").table().to_pylist()}
    rows = world.take(0, 6000)
    converts = rows.delay < 72
    for number in range(16):  # the last period is not matured
        found = rates[dt.date(2026, 1, 5) + dt.timedelta(weeks=number)]
        mine = rows.period == number
        assert (found["exposures"], found["conversions"]) == (mine.sum(), converts[mine].sum())


@pytest.mark.slow
def test_a_night_in_a_truth_world(spark, tmp_path) -> None:
    world = TruthWorld(40_000, seed=2, periods=24)
    contract = simulate.write(world, tmp_path / "world")
    said = yaml.safe_load(contract.read_text())
    contract.write_text(yaml.safe_dump(said | {"grid": {"nightly": {"k": [1, 2]}}}))
    cycle = cli.cycle_of(contract, None, tmp_path / "warehouse")
    cycle.progress = Progress(Console(quiet=True))
    nightly.run(cycle, lambda name: cli.policy(contract, name))
    rows = world.take(0, 40_000)
    cvr = rows.cvr[(rows.period >= 24 - 1 - 9) & (rows.period < 23)]  # the test periods, before the unmatured one

    def loss(p: np.ndarray | float) -> float:
        return float(-(cvr * np.log(p) + (1 - cvr) * np.log1p(-p)).mean())

    found = [r for r in cycle.dataset("model_metrics").table().to_pylist() if r["split"] == "test"]
    for row in found:
        if row["model_id"].startswith("ffm"):
            # Not better than the truth, but for chance, and better than knowing the base rate.
            assert loss(cvr) * 0.97 < row["sum_logloss"] / row["n"] < loss(float(cvr.mean()))
