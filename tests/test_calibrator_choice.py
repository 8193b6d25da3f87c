"""The choice of a calibration method: on calib periods alone, Platt's unless another is surely better."""

from __future__ import annotations

import datetime as dt
import io
import json
from pathlib import Path
from typing import Any

import judged_world
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from scipy import special
from sklearn.metrics import brier_score_loss, log_loss

from ffm_udf import calibration, calibration_methods
from jobs import calibrator_choice, calibrators, facts, intervals
from jobs.calibrator_choice import Rolled
from jobs.contract import ContractError, load
from jobs.cycle import Cycle
from jobs.progress import Progress

CONTRACT = load(Path(__file__).resolve().parent.parent / "conf" / "promo.yml")
ROWS = 3000  # per period


def draw(seed: int, periods: range, bend: float) -> tuple[np.ndarray, np.ndarray, dict[int, slice]]:
    """Logits, labels and rows of the periods; below -3 the true log-odds rise with slope `bend` only."""
    rng = np.random.default_rng(seed)
    z = rng.normal(-2.5, 1.5, ROWS * len(periods)).astype(np.float32)
    y = (rng.random(len(z)) < special.expit(np.where(z < -3, -3 + bend * (z + 3), z))).astype(np.int8)
    return z, y, {number: slice(at * ROWS, (at + 1) * ROWS) for at, number in enumerate(periods)}


def rolled(*losses: float) -> Rolled:
    return Rolled(np.full(len(losses), 100.0), np.array(losses), np.zeros(len(losses)), 0.0)


def test_platts_is_the_choice_without_an_interval() -> None:
    chosen, why = calibrator_choice.choose({"platt": rolled(30.0), "isotonic": rolled(1.0)})
    assert chosen == "platt"
    assert why == "1 calib period could be predicted from earlier ones; an interval needs 2"
    assert calibrator_choice.choose({"platt": rolled()})[1].startswith("0 calib periods could be predicted")


def test_a_method_must_be_surely_better_and_by_more_than_the_tolerance() -> None:
    platt = rolled(30.0, 31.0, 29.0, 30.0)
    # 1 % better in every period; nearly always; better on average with an interval around 0.
    sure, little = rolled(29.7, 30.7, 28.7, 29.7), rolled(29.99, 30.99, 28.99, 29.99)
    wild = rolled(20.0, 35.0, 20.0, 35.0)
    assert calibrator_choice.choose({"platt": platt, "beta": wild})[0] == "platt"
    assert calibrator_choice.choose({"platt": platt, "beta": little}) == (
        "platt",
        "no method is surely better, and by more than 0.1%, on 4 calib periods",
    )
    better = rolled(29.4, 30.4, 28.4, 29.4)
    chosen, why = calibrator_choice.choose({"platt": platt, "beta": sure, "isotonic": better, "venn_abers": wild})
    assert (chosen, why) == ("isotonic", "logloss lower by 2.00% than Platt's on 4 calib periods, surely")


def test_trials_use_final_calib_periods_only() -> None:
    assert calibrator_choice.trial_windows([39, 40], 0) == {40: [39]}
    assert calibrator_choice.trial_windows([5, 6, 7, 8], 0) == {6: [5], 7: [5, 6], 8: [5, 6, 7]}
    assert calibrator_choice.trial_windows([5, 6, 7, 8], 1) == {7: [5], 8: [5, 6]}
    assert calibrator_choice.trial_windows([5], 0) == {}


def test_rolling_sums_are_scikit_learns() -> None:
    z, y, rows = draw(0, range(4), 1.0)
    found = calibrator_choice.rolled("beta", z, y, rows, {2: [0, 1], 3: [1, 2]})
    p = []
    for target, learned in ((2, slice(0, 2 * ROWS)), (3, slice(ROWS, 3 * ROWS))):
        p.append(calibration_methods.fit("beta", z[learned], y[learned])(z[rows[target]]))
    for place, target in enumerate((2, 3)):
        assert found.loss[place] / ROWS == pytest.approx(log_loss(y[rows[target]], p[place]))
        assert found.squared[place] / ROWS == pytest.approx(brier_score_loss(y[rows[target]], p[place]))


@pytest.fixture
def bent(tmp_path: Path) -> dict[str, Any]:
    """A task over 6 calib periods, 0 to 5, and 3 test periods of a bent and of a straight model."""
    z, y, _ = draw(1, range(9), 0.0)
    straight = np.where(z < -3, -3.0, z)
    splits = {"valid": (0, 0), "calib": (0, 5), "test": (6, 8)}
    folders = judged_world.write(tmp_path, {"y": y}, dict.fromkeys(range(9), ROWS), splits, [z, straight])
    windows = {6: [4, 5], 7: [5, 6], 8: [6, 7], 9: [7, 8]}
    asked = {"windows": windows, "calib": [*range(6)], "maturity": 0, "shift": 0.0}
    return folders | {"logits": str(tmp_path / "logits")} | asked


def test_a_bend_is_found_on_the_calib_periods_and_used_for_every_target(bent: dict[str, Any]) -> None:
    found = calibrators.fit_for(bent | {"place": 0})
    assert list(found) == [6, 7, 8, 9]
    methods = {calibrator.get("method", "platt") for calibrator in found.values()}
    assert methods <= {"isotonic", "venn_abers"}
    assert len(methods) == 1
    z = np.load(Path(bent["logits"]) / "z-00000.npy")
    y = np.load(Path(bent["judged"]) / "y.npy")
    learned = slice(7 * ROWS, 9 * ROWS)
    expected = calibration_methods.fit(methods.pop(), z[learned], y[learned])
    assert calibration.load(json.dumps(found[9])) == expected
    plain = calibrators.fit_for(bent | {"place": 1})
    assert all(set(calibrator) == {"slope", "intercept"} for calibrator in plain.values())


def test_with_two_calib_periods_platts_is_fitted_and_nothing_else_tried(
    bent: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    fit = calibration_methods.fit

    def seen(method: calibration_methods.Method, *rows: np.ndarray) -> calibration.AnyCalibrator:
        asked.append(method)
        return fit(method, *rows)

    monkeypatch.setattr(calibration_methods, "fit", seen)
    calibrators.fit_for(bent | {"place": 0, "calib": [4, 5]})
    assert set(asked) == {"platt"}


def test_the_comparison_tells_all_methods_on_both_parts(bent: dict[str, Any]) -> None:
    rows = calibrators.compare_for(bent | {"place": 0})
    table = facts.table("calibrator_comparison", [{"model_id": "m", **row} for row in rows])
    assert table.num_rows == 4
    by_method = {row["method"]: row for row in table.to_pylist()}
    [chosen] = [name for name, row in by_method.items() if row["is_chosen"]]
    assert chosen == calibrators.fit_for(bent | {"place": 0})[6]["method"]
    for row in by_method.values():
        # Periods 1 to 5 are predicted from those before them; the three test periods from their windows, 9 is to come.
        assert (row["calib_periods"], row["calib_n"], row["test_periods"], row["test_n"]) == (5, 5 * ROWS, 3, 3 * ROWS)
        assert row["test_delta"] == pytest.approx(row["test_logloss"] - by_method["platt"]["test_logloss"])
    assert by_method["platt"]["test_delta_lo"] == by_method["platt"]["test_delta_hi"] == 0
    assert by_method[chosen]["test_delta_hi"] < 0
    assert by_method[chosen]["test_squared_error"] < by_method["platt"]["test_squared_error"]
    # The interval on calib holds for three comparisons together: wider than the plain one of the same numbers.
    z = np.load(Path(bent["logits"]) / "z-00000.npy")
    y = np.load(Path(bent["judged"]) / "y.npy")
    spans = {number: slice(number * ROWS, (number + 1) * ROWS) for number in range(9)}
    tried = calibrator_choice.trial_windows(bent["calib"], 0)
    beta, platt = (calibrator_choice.rolled(method, z, y, spans, tried) for method in ("beta", "platt"))
    wide = beta.minus(platt, intervals.simultaneous(0.95, 3))
    assert (by_method["beta"]["calib_delta_lo"], by_method["beta"]["calib_delta_hi"]) == pytest.approx(
        (wide.lo, wide.hi)
    )


def cycle(folder: Path, splits: str, maturity: int = 0) -> Cycle:
    """A cycle of weekly periods, one letter each: t(rain), v(alid), c(alib) and s for test."""
    contract = CONTRACT
    if maturity:
        window = contract.label.model_copy(update={"window": 7 * maturity})
        contract = contract.model_copy(update={"label": window})
    found = Cycle(contract, dt.date(2017, 12, 18), folder, Progress(Console(file=io.StringIO())))
    names = {"t": "train", "v": "valid", "c": "calib", "s": "test"}
    first = found.periods.scoring - len(splits)
    rows = [{"period": found.periods.day(first + at), "split": names[letter]} for at, letter in enumerate(splits)]
    with found.lake.writing("label_rates", "tonight") as out:
        pq.write_table(pa.Table.from_pylist(rows), out / "part-0.parquet")
    found.remember({"label_rates": "tonight"})
    return found


def test_calibrator_days_disjoint(tmp_path: Path) -> None:
    """A calibrator learns neither from train nor valid, nor from the period it is used in or any later one."""
    tonight = cycle(tmp_path, "tttvvccsss")
    windows = calibrators.calibration_windows(tonight)
    first = tonight.periods.scoring - 10
    # Calib is scored by the candidate and test by its rehearsal: no calibrator learns from both.
    assert windows == {first + 7: [first + 5, first + 6], first + 8: [first + 7],
                       first + 9: [first + 7, first + 8], first + 10: [first + 8, first + 9]}  # fmt: skip
    for target, learned in windows.items():
        assert all(first + 5 <= number < target for number in learned)


def test_immature_periods_teach_no_calibrator(tmp_path: Path) -> None:
    tonight = cycle(tmp_path, "tvccss", maturity=1)
    first = tonight.periods.scoring - 6
    windows = calibrators.calibration_windows(tonight)
    assert windows == {first + 4: [first + 2], first + 5: [first + 2, first + 3], first + 6: [first + 4]}
    with pytest.raises(ContractError, match=r"split\.calib must end at least 2 periods before split\.test"):
        calibrators.calibration_windows(cycle(tmp_path / "late", "tvcs", maturity=2))


def test_ids_name_the_method_and_differ_with_every_number() -> None:
    platt = {"slope": 1.0, "intercept": 0.0}
    assert calibrators.calibrator_id(platt).startswith("logistic-")
    assert calibrators.calibrator_id(platt) != calibrators.calibrator_id(platt | {"slope": 1.1})
    table = calibration.as_dict(calibration.Table("isotonic", (0.0,), (0.0,)))
    assert calibrators.calibrator_id(table).startswith("isotonic-")
