"""`facts.table`: the declared schema or a refusal."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pytest

from jobs import facts

RATE = {"period": dt.date(2017, 1, 2), "split": "train", "exposures": 10, "conversions": 3}
RATE |= {"conversions_first": 1, "conversions_former": 2, "is_mature": True}


def test_rows_get_the_declared_types_whatever_order_their_keys_have() -> None:
    made = facts.table("label_rates", [dict(reversed(RATE.items()))])
    assert made.schema == facts.FACTS["label_rates"]
    assert made.to_pylist() == [RATE]


def test_a_table_is_put_into_order_and_cast() -> None:
    loose = pa.Table.from_pylist([dict(reversed(RATE.items()))]).set_column(3, "conversions", pa.array([3], pa.int8()))
    made = facts.table("label_rates", loose)
    assert made.schema == facts.FACTS["label_rates"]
    assert made.to_pylist() == [RATE]


@pytest.mark.parametrize("name", sorted(facts.FACTS))
def test_no_rows_are_an_empty_table_of_the_schema(name: str) -> None:
    made = facts.table(name, [])
    assert (made.num_rows, made.schema) == (0, facts.FACTS[name])


def test_null_is_allowed_where_a_value_is_missing() -> None:
    assert facts.table("ingest_counts", [{"source": "exposures", "reason": None, "rows": 4}]).num_rows == 1


def test_an_unknown_fact() -> None:
    with pytest.raises(ValueError, match=r"fact must be one of \['alias_changes', .* got 'clicks'"):
        facts.table("clicks", [])


@pytest.mark.parametrize("as_table", [False, True])
def test_missing_and_extra_columns_are_named(as_table: bool) -> None:
    rows = [{name: value for name, value in RATE.items() if name != "split"} | {"clicks": 1}]
    message = r"fact label_rates: missing columns \['split'\], extra columns \['clicks'\]"
    with pytest.raises(ValueError, match=message):
        facts.table("label_rates", pa.Table.from_pylist(rows) if as_table else rows)


@pytest.mark.parametrize(("column", "value"), [("exposures", "many"), ("period", "Monday"), ("exposures", 1.5)])
def test_a_value_of_the_wrong_type(column: str, value: object) -> None:
    with pytest.raises(ValueError, match="fact label_rates: "):
        facts.table("label_rates", [RATE | {column: value}])
    with pytest.raises(ValueError, match="fact label_rates: "):
        facts.table("label_rates", pa.Table.from_pylist([RATE | {column: value}]))


def test_one_incomplete_row_among_good_ones() -> None:
    # Arrow would fill the hole with null.
    rows = [RATE, {name: value for name, value in RATE.items() if name != "split"}]
    with pytest.raises(ValueError, match=r"fact label_rates: missing columns \['split'\]"):
        facts.table("label_rates", rows)
