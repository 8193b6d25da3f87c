"""Point-in-time aggregates against a slow oracle that looks at every event for every row."""

import polars as pl
import pytest

from jobs.contract import FieldRule
from jobs.history import BOUGHT, SHOWN, Coder, history_columns, so_far


def oracle(counted, asked, keys):
    rows = []
    for row in asked.unique().iter_rows(named=True):
        mine = [
            event
            for event in counted.iter_rows(named=True)
            if all(event[k] == row[k] for k in keys) and event["period_no"] < row["period_no"]
        ]
        bought = [event["period_no"] for event in mine if event["n"] > 0]
        rows.append(
            row | {"n": sum(e["n"] for e in mine), "c": sum(e["c"] for e in mine), "last": max(bought, default=None)}
        )
    return pl.DataFrame(rows, schema_overrides={"last": pl.Int32, "period_no": pl.Int32})


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("keys", [["a"], ["a", "b"]])
def test_so_far_is_the_sum_over_earlier_periods_only(seed, keys):
    draw = pl.DataFrame({"i": range(120)}).select(
        pl.col("i").hash(seed).mod(4).cast(pl.Int64).alias("a"),
        pl.col("i").hash(seed + 100).mod(3).cast(pl.String).alias("b"),
        (pl.col("i").hash(seed + 200).mod(9).cast(pl.Int32) - 2).alias("period_no"),  # negative periods exist
        pl.col("i").hash(seed + 300).mod(2).cast(pl.Int64).alias("n"),
        pl.col("i").hash(seed + 400).mod(2).cast(pl.Int64).alias("c"),
    )
    by = [*keys, "period_no"]
    counted = draw.head(80).group_by(by).agg(pl.col("n").sum(), pl.col("c").sum())
    asked = draw.tail(60).select(by)
    found = so_far(counted, asked, keys).join(asked.unique(), on=by, how="semi").sort(by)
    expected = oracle(counted, asked, keys).sort(by).select(found.columns)
    assert found.to_dicts() == expected.to_dicts()


def rule(of, columns, name=None):
    measure = {"exposures": "conversion_rate", "purchases": "basket_rate"}[of]
    name = name or "_".join([of[:3], *columns])
    return FieldRule(
        name=name, side="pair", known_at="history", transform="history", columns=columns, of=of, measure=measure
    )


def shown(*rows):
    """Events of exposures: (household, family, period, exposures, conversions)."""
    return [
        {"kind": SHOWN, "household": h, "family": f, "period_no": p, "n": n, "c": c, "basket_id": None}
        for h, f, p, n, c in rows
    ]


def bought(*rows):
    """Events of purchases: (household, family, period, basket)."""
    return [
        {"kind": BOUGHT, "household": h, "family": f, "period_no": p, "n": 0, "c": 0, "basket_id": b}
        for h, f, p, b in rows
    ]


def coded(events, asked, rules, coder):
    schema = {"kind": pl.Int32, "household": pl.Int64, "family": pl.String, "period_no": pl.Int32}
    frame = pl.DataFrame(events, schema=schema | {"n": pl.Int64, "c": pl.Int64, "basket_id": pl.String})
    questions = pl.DataFrame(
        asked, schema={name: schema[name] for name in ("household", "family", "period_no")}, orient="row"
    )
    return history_columns(questions, frame, rules, coder)


RATE_1, RATE_2 = rule("exposures", ("household",)), rule("exposures", ("household", "family"))
BASKETS = rule("purchases", ("household",))
CODER = Coder(smoothing=20.0, base_rate=0.25, first=0)


def test_the_code_of_a_conversion_rate_by_hand():
    # Before period 3: 30 exposures, 15 conversions. (15 + 20 · 0.25) / (30 + 20) = 0.4, 1.6 times the base rate;
    # 2 · log2 1.6 = 1.356 rounds to 1, + 12 = 13. Evidence: log2 31 = 4.95, floor 4. Code 13 · 100 + 4.
    # Before period 1: 10 exposures, 0 conversions. 5 / 30 / 0.25 = 2/3; 2 · log2 = -1.17 rounds to -1: 11; log2 11: 3.
    events = shown((7, "a", 0, 10, 0), (7, "a", 2, 20, 15))
    found = coded(events, [(7, "a", 3), (7, "a", 1), (7, "a", 0)], [RATE_1], CODER)
    assert found[RATE_1.name].to_list() == [1304, 1103, 0]
    assert found.schema[RATE_1.name] == pl.Int32


def test_the_code_of_a_basket_rate_by_hand():
    # Before period 8: 2 baskets in 8 periods since the data began: 0.25 a period; 2 · log2 = -4: 8. The last was in
    # period 5, 3 ago: log2 4 = 2. Before period 5: 1 basket in 5, 2 · log2 0.2 = -4.64, rounds to -5: 7; 4 ago: 2.
    events = bought((7, "a", 1, "x"), (7, "a", 5, "y"))
    found = coded(events, [(7, "a", 8), (7, "a", 5), (7, "a", 1), (8, "a", 8)], [BASKETS], CODER)
    assert found[BASKETS.name].to_list() == [802, 702, 0, 0]


def test_periods_are_counted_from_the_first_with_purchases():
    # Data begins in period 3. Before 4: one basket in one period, rate 1: 12. Before 7: one in four, 2 · log2 1/4: 8;
    # the last 4 ago: log2 5 = 2.
    found = coded(bought((7, "a", 3, "x")), [(7, "a", p) for p in (3, 4, 7)], [BASKETS], Coder(20.0, 0.25, first=3))
    assert found[BASKETS.name].to_list() == [0, 1201, 802]


def test_rates_and_counts_are_capped():
    # 10^6 exposures that all convert at a base rate of 1e-6: the rate's code stops at 24, the evidence at 8.
    events = shown((7, "a", 0, 10**6, 10**6), (8, "a", 0, 10**6, 0))
    found = coded(events, [(7, "a", 1), (8, "a", 1)], [RATE_1], Coder(20.0, 1e-6, 0))
    assert found[RATE_1.name].to_list() == [2408, 8]


def test_a_late_conversion_counts_in_the_period_in_which_it_happened():
    # Shown in period 1, bought in period 3: an event of period 3 with no exposure of its own.
    events = shown((7, "a", 1, 100, 0), (7, "a", 3, 0, 25))
    asked = [(7, "a", period) for period in (2, 3, 4)]
    without = coded(events[:1], asked, [RATE_1], CODER)[RATE_1.name].to_list()
    found = coded(events, asked, [RATE_1], CODER)[RATE_1.name].to_list()
    assert found[:2] == without[:2]
    # (25 + 5) / 120 = 0.25, the base rate: code 12; evidence log2 101 = 6
    assert found[2] == 1206
    assert without[2] == without[0] != 1206


def test_a_basket_counts_once_whatever_number_of_products_it_holds():
    once = bought((7, "a", 0, "x"), (7, "a", 1, "y"))
    often = bought((7, "a", 0, "x"), (7, "a", 0, "x"), (7, "b", 0, "x"), (7, "a", 1, "y"), (7, "b", 1, "y"))
    asked = [(7, "a", period) for period in range(5)]
    assert coded(often, asked, [BASKETS], CODER).equals(coded(once, asked, [BASKETS], CODER))
    # Asked about family b alone there is one basket in each period: as often as x and y hold b.
    by_family = rule("purchases", ("household", "family"))
    found = coded(often, [(7, "b", 2)], [by_family], CODER)[by_family.name].to_list()
    assert found == [1201]  # 2 baskets in 2 periods: rate 1, code 12; one period ago: log2 2 = 1


@pytest.mark.parametrize("planted", ["exposures", "purchases"])
def test_an_event_of_the_same_or_a_later_period_reaches_no_row(planted):
    events = shown((7, "a", 0, 8, 2), (7, "b", 2, 5, 1)) + bought((7, "a", 1, "x"))
    later = (
        shown((7, "a", 4, 10**6, 10**6))
        if planted == "exposures"
        else bought(*((7, "a", 4, str(i)) for i in range(99)))
    )
    asked = [(7, family, period) for family in "ab" for period in range(7)]
    rules = [RATE_1, RATE_2, BASKETS]
    before, after = coded(events, asked, rules, CODER), coded(events + later, asked, rules, CODER)
    early = pl.col("period_no") <= 4
    assert after.filter(early).equals(before.filter(early))
    assert not after.filter(~early).equals(before.filter(~early))


def test_rows_keep_their_order_and_number():
    asked = [(7, "b", 3), (7, "a", 1), (7, "b", 3), (9, "a", 0)]
    found = coded(shown((7, "b", 0, 1, 1)), asked, [RATE_1, RATE_2, BASKETS], CODER)
    assert found.select("household", "family", "period_no").rows() == asked


def test_missing_keys_are_a_key_of_their_own():
    events = shown((None, "a", 0, 30, 15), (7, "a", 0, 1, 0))
    found = coded(events, [(None, "a", 1), (7, "a", 1)], [RATE_1], CODER)
    # 20 of 50 as above for the missing household; 5 / 21 / 0.25 = 0.95 for the other: 12, log2 2 = 1
    assert found[RATE_1.name].to_list() == [1304, 1201]
