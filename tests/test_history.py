"""Point-in-time aggregates against a slow oracle that looks at every event for every row."""

import math
import random

import polars as pl
import pytest

from jobs import history
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


def rule(of, columns, members=None):
    measure = {"exposures": "conversion_rate", "purchases": "basket_rate"}[of]
    shared = {"side": "pair", "known_at": "history", "transform": "history"}
    name = "_".join([of[:3], *columns])
    return FieldRule(name=name, columns=columns, of=of, measure=measure, members=members, **shared)


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
    return history_columns(questions, frame, rules, coder, {})


def of_sets(purchases, asked, sets, coder):
    """The codes of a history over sets. `purchases`: (household, product, period, basket); `asked`: (household, offer,
    period); `sets`: (offer, product)."""
    events = pl.DataFrame(
        [(BOUGHT, h, None, product, p, 0, 0, b) for h, product, p, b in purchases],
        schema={
            "kind": pl.Int32, "household": pl.Int64, "offer": pl.Int64, "product": pl.Int64, "period_no": pl.Int32,
            "n": pl.Int64, "c": pl.Int64, "basket_id": pl.String,
        },
        orient="row",
    )  # fmt: skip
    questions = pl.DataFrame(
        asked, schema={"household": pl.Int64, "offer": pl.Int64, "period_no": pl.Int32}, orient="row"
    )
    members = pl.LazyFrame(sets, schema={"offer": pl.Int64, "product": pl.Int64}, orient="row")
    found = history_columns(questions, events, [OFFERS], coder, {"offer_products": members})
    assert found.drop(OFFERS.name).equals(questions)
    return found[OFFERS.name].to_list()


RATE_1, RATE_2 = rule("exposures", ("household",)), rule("exposures", ("household", "family"))
BASKETS = rule("purchases", ("household",))
OFFERS = rule("purchases", ("household", "offer"), "offer_products")
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


def naive_of_sets(purchases, asked, sets, coder):
    """The definition in docs/contract.md, looking at every purchase for every row."""
    codes = []
    for household, offer, period in asked:
        held = {product for one, product in sets if one == offer and offer is not None}
        mine = {(p, basket) for h, product, p, basket in purchases if h == household and p < period and product in held}
        if not mine:
            codes.append(0)
            continue
        rate = len(mine) / max(period - coder.first, 1)
        half_octaves = min(max(round(2 * math.log2(rate)), -12), 12)
        since = period - max(p for p, _ in mine)
        codes.append((half_octaves + 12) * 100 + min(math.floor(math.log2(since + 1)), 8))
    return codes


@pytest.mark.parametrize("slice_rows", [1, 3, 1 << 16])
@pytest.mark.parametrize("seed", range(5))
def test_a_history_over_sets_is_what_the_definition_says(seed, slice_rows, monkeypatch):
    monkeypatch.setattr(history, "SLICE", slice_rows)

    draw = random.Random(seed)
    households, offers = [None, 1, 2, 3], [None, 1, 2, 3, 4]  # nothing is in offer 4, and product 5 in no offer
    purchases = [
        (draw.choice(households), draw.randrange(6), draw.randrange(-2, 7), f"b{draw.randrange(12)}") for _ in range(70)
    ]
    asked = [(draw.choice(households), draw.choice(offers), draw.randrange(-2, 8)) for _ in range(90)]
    sets = sorted({(draw.randrange(1, 4), draw.randrange(5)) for _ in range(9)})
    coder = Coder(20.0, 0.25, first=-2)
    expected = naive_of_sets(purchases, asked, sets, coder)
    assert len(set(expected)) > 5
    assert of_sets(purchases, asked, sets, coder) == expected
    assert of_sets(purchases[::-1], asked, sets[::-1], coder) == expected  # the order of rows says nothing


def test_the_code_of_a_history_over_sets_by_hand():
    # Set 1 is products 10 and 11, set 2 is 11 and 12. Household 7: basket x of period 1 holds 10 and 11, y of period 5
    # holds 12. Before period 8 set 1 has one basket, 2 * log2(1/8) = -6: 6; 7 ago, log2 8 = 3. Set 2 has two baskets,
    # 2 * log2(2/8) = -4: 8; the last 3 ago, log2 4 = 2. Household 8 has bought 10 only: one in 8, 1 ago; of set 2 none.
    purchases = [(7, 10, 1, "x"), (7, 11, 1, "x"), (7, 12, 5, "y"), (8, 10, 7, "z")]
    sets = [(1, 10), (1, 11), (2, 11), (2, 12)]
    asked = [(7, 1, 8), (7, 2, 8), (8, 1, 8), (8, 2, 8), (7, 3, 8), (9, 1, 8)]
    assert of_sets(purchases, asked, sets, CODER) == [603, 802, 601, 0, 0, 0]


def test_a_purchase_of_the_same_or_a_later_period_reaches_no_set():
    sets = [(1, 10), (1, 11)]
    asked = [(7, 1, period) for period in range(7)]
    before = of_sets([(7, 10, 1, "x")], asked, sets, CODER)
    after = of_sets([(7, 10, 1, "x"), *((7, 11, 4, f"b{i}") for i in range(99))], asked, sets, CODER)
    assert before[:2] == [0, 0]
    assert after[:5] == before[:5]  # periods 0 to 4: baskets of period 4 itself do not count
    assert all(a != b for a, b in zip(after[5:], before[5:], strict=True))


def test_sets_of_wider_types_than_the_rows_are_matched():
    asked = pl.DataFrame({"household": [7], "offer": [1], "period_no": [1]}, schema_overrides={"offer": pl.Int32})
    events = pl.DataFrame({"kind": [BOUGHT], "household": [7], "product": [10], "period_no": [0], "basket_id": ["x"]})
    events = events.with_columns(pl.col("product").cast(pl.Int32))
    members = pl.LazyFrame({"offer": [1, 2**40], "product": [2**40, 10]})
    none = history_columns(asked, events, [OFFERS], CODER, {"offer_products": members})
    assert none[OFFERS.name].to_list() == [0]
    members = pl.LazyFrame({"offer": [1, 2**40], "product": [10, 10]})
    found = history_columns(asked, events, [OFFERS], CODER, {"offer_products": members})
    assert found[OFFERS.name].to_list() == [1201]  # one basket in one period, one period ago
