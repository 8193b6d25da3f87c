"""Training sets from labels that are not final yet, against counts by hand."""

from __future__ import annotations

import numpy as np
import pytest

from ffm_udf import delayed_labels
from ffm_udf.delayed_labels import HIGHEST_WEIGHT

WINDOW = 10.0
# A closed window: converted, converted too late, never. An open one: converted, not yet but it will, never.
AGE = np.array([30.0, 30.0, 30.0, 4.0, 4.0, 4.0])
DELAY = np.array([9.5, 12.0, np.inf, 2.0, 6.0, np.inf])


def listed(found):
    return [tuple(column.tolist()) for column in (found.rows, found.y, found.weight)]


def test_a_conversion_is_seen_before_now_and_within_the_window():
    assert delayed_labels.seen(AGE, DELAY, WINDOW).tolist() == [True, False, False, True, False, False]
    # at the very instant, and at the very end of the window, it is not
    assert delayed_labels.seen(np.array([4.0, 30.0]), np.array([4.0, 10.0]), WINDOW).tolist() == [False, False]


def test_mature_rows_alone_leave_open_windows_out_even_those_that_have_converted():
    assert listed(delayed_labels.mature_only(AGE, DELAY, WINDOW)) == [(0, 1, 2), (1, 0, 0), (1.0, 1.0, 1.0)]


def test_naive_takes_what_has_not_converted_yet_for_a_negative_and_the_oracle_does_not():
    everything = tuple(range(6))
    assert listed(delayed_labels.naive(AGE, DELAY, WINDOW))[:2] == [everything, (1, 0, 0, 1, 0, 0)]
    assert listed(delayed_labels.oracle(AGE, DELAY, WINDOW))[:2] == [everything, (1, 0, 0, 1, 1, 0)]


def test_fake_negatives_come_once_and_again_as_positives():
    rows, y, weight = listed(delayed_labels.fake_negatives(AGE, DELAY, WINDOW))
    assert rows == (0, 1, 2, 3, 4, 5, 0, 3)
    assert y == (0, 0, 0, 0, 0, 0, 1, 1)
    assert set(weight) == {1.0}


def test_weighted_fake_negatives_have_the_true_rate():
    # 1,000 rows of which 250 converted, all windows closed, p = 0.25. As they are, 250 of 1,250 rows are positive,
    # b = 0.2 and b / (1 - b) = 0.25. Weighted: 250 · 1.25 against 1,000 · 0.75 · 1.25, a quarter of the whole.
    delay = np.where(np.arange(1000) < 250, 1.0, np.inf)
    age = np.full(1000, 30.0)
    plain = delayed_labels.fake_negatives(age, delay, WINDOW)
    assert plain.y.mean() == pytest.approx(0.2)
    assert delayed_labels.unbiased(np.array([plain.y.mean()]))[0] == pytest.approx(0.25)
    found = delayed_labels.fake_negatives(age, delay, WINDOW, np.full(1000, 0.25))
    assert set(found.weight.tolist()) == {1.25, 0.9375}
    assert found.weight[found.y == 1].sum() / found.weight.sum() == pytest.approx(0.25)


def test_a_biased_score_beyond_a_half_is_bounded():
    assert delayed_labels.unbiased(np.array([0.5, 0.9, 1.0])).tolist() == [0.99, 0.99, 0.99]


def test_importance_weights_add_up_to_the_final_labels():
    # Two groups of 1,000. In the first 40 % convert in the end and 10 % by day 4; in the second 20 % and 20 %. What is
    # seen at age 4 is 100 and 200 rows; they must stand for 400 and 200, the others for 600 and 800.
    curve = np.zeros((2, 11))
    curve[0, 4:], curve[0, -1], curve[1, 1:] = 0.1, 0.4, 0.2
    group, place = np.repeat([0, 1], 1000), np.tile(np.arange(1000), 2)
    delay = np.where(place < np.where(group == 0, 100, 200), 0.5, np.inf)
    found = delayed_labels.importance_weights(np.full(2000, 4.7), delay, WINDOW, curve, group)
    assert found.rows.tolist() == list(range(2000))
    for number, (positives, negatives) in enumerate(((400, 600), (200, 800))):
        mine = group == number
        assert found.weight[mine & (found.y == 1)].sum() == pytest.approx(positives, rel=1e-5)
        assert found.weight[mine & (found.y == 0)].sum() == pytest.approx(negatives, rel=1e-5)


def test_final_labels_weigh_one_and_very_early_conversions_are_bounded():
    curve = np.array([[0.0, 0.001, 0.4]])
    found = delayed_labels.importance_weights(
        np.array([30.0, 30.0, 0.5, 1.0]), np.array([1.0, np.inf, 0.2, 0.7]), 2.0, curve, np.zeros(4, np.int64)
    )
    # the weights would be 800 at age 0.5 and 400 at age 1
    assert found.weight.tolist() == [1.0, 1.0, HIGHEST_WEIGHT, HIGHEST_WEIGHT]


def test_within_a_day_the_curve_is_a_line():
    # 0.1 by day 1 and 0.3 by day 2: 0.15 by 1.25 days, so a conversion weighs 2 and the others 0.7 / 0.85.
    curve = np.array([[0.0, 0.1, 0.3]])
    found = delayed_labels.importance_weights(
        np.array([1.25, 1.25]), np.array([1.0, np.inf]), 2.0, curve, np.zeros(2, np.int64)
    )
    assert found.weight.tolist() == pytest.approx([2.0, 0.7 / 0.85])
