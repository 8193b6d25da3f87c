"""Point-in-time aggregates: what was known about a key before a row's own period began.

Only events whose own time lies in an earlier period count; a conversion counts from the period in which it happened,
or was told if the contract knows deliveries, not from that of its exposure. Training rows and tonight's pairs go
through the same function, so they cannot differ.

The pure half works on polars frames of one bucket of entities; Spark brings the buckets together. (As Spark windows and
joins the same eleven aggregates took fifteen times as long: every one sorts all rows again.) Tables of sets belong to
no bucket: each task reads the sets it needs from the snapshot's files, which every worker sees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import IntegerType, StructField, StructType

from jobs.contract import Contract, FieldRule
from jobs.periods import Periods, period_number

# Buckets of a history field are half-octaves of the rate and octaves of the evidence behind it.
RATE_STEPS, RATE_LIMIT, COUNT_LIMIT = 2, 12, 8
BUCKETS = 16  # of entities; each is one task's worth of work in memory
SPAN = 1 << 20  # more than any number of periods: keeps the marks of neighbouring keys apart
ASKED, SHOWN, BOUGHT = 0, 1, 2  # what a row of the merged frame is
SLICE = 1 << 16  # (entity, member) pairs that are crossed with their sets at a time: bounds a task's memory


class Events(TypedDict):
    """What history counts: `exposures` (with `period_no`, `conversion_no` and, if deliveries are told, `known_no`),
    `purchases` if a field counts them, and for each table of sets its Parquet files."""

    exposures: DataFrame
    purchases: NotRequired[DataFrame]
    members: NotRequired[dict[str, list[str]]]


def with_history(
    rows: DataFrame,
    contract: Contract,
    periods: Periods,
    events: Events,
    base_rate: float,
) -> DataFrame:
    """`rows` (with their keys and `period_no`) plus one int column per history field, named after the field.

    `rows` may be the exposures themselves. `base_rate`: conversions per exposure of the training periods, to which
    small counts are shrunk.
    """
    rules = [rule for rule in contract.fields if rule.transform == "history"]
    own = [rule for rule in rules if set(contract.entity) <= set(rule.columns)]
    coder = coder_of(rules, contract, events, periods, base_rate)
    found = _by_bucket(rows, own, contract.entity, events, periods, coder) if own else rows
    for rule in rules:
        if rule not in own:  # keyed without the entity: few keys, so only the keys travel
            keys = list(rule.columns)
            asked = rows.select(*keys, "period_no").distinct()
            codes = _by_bucket(asked, [rule], keys, events, periods, coder, is_summed=True)
            found = found.join(codes, on=[*keys, "period_no"], how="left")
    return found


def coder_of(
    rules: Sequence[FieldRule], contract: Contract, events: Events, periods: Periods, base_rate: float
) -> Coder:
    """How the sums of `rules` become codes; looks for the oldest purchase if one of them counts purchases."""
    first = None
    if any(rule.of == "purchases" for rule in rules):
        [[first]] = events["purchases"].agg(F.min(period_number("purchase_time", periods))).collect()
    return Coder(contract.history_smoothing, base_rate, first or 0)


def _event_rows(rules: Sequence[FieldRule], events: Events, periods: Periods) -> list[DataFrame]:
    """The events the rules count: frames of `kind`, `period_no`, `n`, `c`, `basket_id` and the rules' key columns."""
    own = {kind: keys_of(rules, kind, events) for kind in ("exposures", "purchases")}
    parts, nothing = [], F.lit(0).cast("long")
    if any(rule.of == "exposures" for rule in rules):
        shown, kind, keys = events["exposures"], F.lit(SHOWN).alias("kind"), own["exposures"]
        # A conversion that was told after its period is not known before that either.
        known_no = F.col("known_no" if "known_no" in shown.columns else "conversion_no")
        same = F.coalesce(known_no == F.col("period_no"), F.lit(False)).cast("long")
        parts.append(shown.select(kind, *keys, "period_no", F.lit(1).cast("long").alias("n"), same.alias("c")))
        later = shown.where(known_no > F.col("period_no"))
        number = known_no.alias("period_no")
        parts.append(later.select(kind, *keys, number, nothing.alias("n"), F.lit(1).cast("long").alias("c")))
    if any(rule.of == "purchases" for rule in rules):
        number = period_number("purchase_time", periods).alias("period_no")
        kind, keys = F.lit(BOUGHT).alias("kind"), own["purchases"]
        counts = nothing.alias("n"), nothing.alias("c")
        parts.append(events["purchases"].select(kind, *keys, number, *counts, "basket_id"))
    return parts


def keys_of(rules: Sequence[FieldRule], kind: str, events: Events) -> list[str]:
    """The key columns of the rules that count such events: purchases need not have every column of the exposures."""
    return sorted({column for rule in rules if rule.of == kind for column in _event_keys(rule, events)})


def _event_keys(rule: FieldRule, events: Events) -> tuple[str, ...]:
    """The rule's columns as its events have them: a purchase is of a member, not of a set."""
    if rule.members is None:
        return rule.columns
    columns = pq.read_schema(events["members"][rule.members][0]).names
    return (*rule.columns[:-1], _member(rule, columns))


def _member(rule: FieldRule, columns: Sequence[str]) -> str:
    """The column of a table of sets that is not the set's id."""
    [found] = set(columns) - {rule.columns[-1]}
    return found


def _with_events(
    rows: DataFrame, rules: Sequence[FieldRule], events: Events, periods: Periods, is_summed: bool = False
) -> DataFrame:
    """`rows` (their `kind` is ASKED) and below them the events that the rules count; a key has one type in all.

    `is_summed`: events are summed before they travel, which pays if they have few keys.
    """
    merged = rows.withColumn("kind", F.lit(ASKED))
    for part in _event_rows(rules, events, periods):
        if is_summed:
            by = [column for column in part.columns if column not in ("n", "c")]
            part = part.groupBy(*by).agg(F.sum("n").alias("n"), F.sum("c").alias("c"))
        merged = merged.unionByName(part, allowMissingColumns=True)
    return merged


def _by_bucket(
    rows: DataFrame,
    rules: Sequence[FieldRule],
    keys: Sequence[str],
    events: Events,
    periods: Periods,
    coder: Coder,
    is_summed: bool = False,
) -> DataFrame:
    """Bring the rows and events of each bucket of `keys` together and add the rules' columns to the rows."""
    merged = _with_events(rows, rules, events, periods, is_summed)
    bucket = F.pmod(F.xxhash64(*keys), F.lit(BUCKETS)).cast("int")
    # The events may widen a key's type; the rows keep theirs.
    added = [StructField(rule.name, IntegerType()) for rule in rules]
    schema = StructType([*(merged.schema[name] for name in rows.columns), *added])
    types = {name: F.col(name).cast(rows.schema[name].dataType) for name in rows.columns}
    names, wanted, files = list(rows.columns), list(rules), events.get("members", {})

    def compute(table: pa.Table) -> pa.Table:
        frame, result = pl.DataFrame(table), table.filter(pc.field("kind") == ASKED).select(names)
        asked = frame.filter(pl.col("kind") == ASKED)
        members = {name: pl.scan_parquet(paths, hive_partitioning=False) for name, paths in files.items()}
        coded = history_columns(asked, frame.filter(pl.col("kind") != ASKED), wanted, coder, members)
        for rule in wanted:
            result = result.append_column(rule.name, coded[rule.name].to_arrow())
        return result

    return merged.withColumn("bucket", bucket).groupBy("bucket").applyInArrow(compute, schema).withColumns(types)


@dataclass(frozen=True)
class Coder:
    """How sums become a field's value: `smoothing` pseudo-exposures at `base_rate`; `first` period with purchases."""

    smoothing: float
    base_rate: float
    first: int

    def conversion_rate(self) -> pl.Expr:
        """Smoothed conversion rate relative to the base rate × exposures so far; 0 where there were none."""
        smoothed = (pl.col("c") + self.smoothing * self.base_rate) / (pl.col("n") + self.smoothing) / self.base_rate
        return pl.when(pl.col("n") > 0).then(_bounded(smoothed) * 100 + _octave(pl.col("n"))).otherwise(0)

    def basket_rate(self) -> pl.Expr:
        """Baskets per period since the data began × periods since the last one; 0 where there was none."""
        since = pl.max_horizontal(pl.col("period_no") - self.first, pl.lit(1))
        code = _bounded(pl.col("n") / since) * 100 + _octave(pl.col("period_no") - pl.col("last"))
        return pl.when(pl.col("n") > 0).then(code).otherwise(0)


def in_words(measure: str, code: int) -> str:
    """What a history field's code stands for; `measure` is the rule's."""
    if code == 0:
        return "none so far"
    rate, octave = divmod(code, 100)
    times = f"{2.0 ** ((rate - RATE_LIMIT) / RATE_STEPS):.2g}"
    low, high = 2**octave - 1, 2 ** (octave + 1) - 2
    count = f"{low} or more" if octave == COUNT_LIMIT else f"{low}" if low == high else f"{low} to {high}"
    if measure == "conversion_rate":
        return f"{times} × the base rate in {count} exposures"
    return f"{times} baskets a period, the last {count} periods ago"


def _octave(count: pl.Expr) -> pl.Expr:
    """0 for 0, 1 for 1 and 2, 2 for 3 to 6, …, capped."""
    return (count + 1).log(2).floor().clip(0, COUNT_LIMIT).cast(pl.Int32)


def _bounded(rate: pl.Expr) -> pl.Expr:
    return (rate.log(2) * RATE_STEPS).round().clip(-RATE_LIMIT, RATE_LIMIT).cast(pl.Int32) + RATE_LIMIT


def history_columns(
    asked: pl.DataFrame,
    events: pl.DataFrame,
    rules: Sequence[FieldRule],
    coder: Coder,
    members: Mapping[str, pl.LazyFrame],
) -> pl.DataFrame:
    """`asked` plus one Int32 column per rule.

    `events`: kind, period_no, n, c, basket_id and the rules' key columns. `members`: of each table of sets one row per
    set and member, (the set's id, the member).
    """
    for rule in rules:
        keys = [*rule.columns, "period_no"]
        if rule.of == "exposures":
            mine = events.filter(pl.col("kind") == SHOWN)
            counted = mine.group_by(keys).agg(pl.col("n").sum(), pl.col("c").sum())
            code = coder.conversion_rate()
        else:
            mine = events.filter(pl.col("kind") == BOUGHT)
            if rule.members:
                mine = baskets_of_sets(mine, asked, rule, members[rule.members])
            counted = mine.unique([*keys, "basket_id"]).group_by(keys).agg(pl.len().cast(pl.Int64).alias("n"))
            counted = counted.with_columns(pl.lit(0, pl.Int64).alias("c"))
            code = coder.basket_rate()
        found = so_far(counted, asked, list(rule.columns)).select(*keys, code.cast(pl.Int32).alias(rule.name))
        asked = asked.join(found, on=keys, how="left", nulls_equal=True, maintain_order="left")
    return asked


def baskets_of_sets(
    purchases: pl.DataFrame, asked: pl.DataFrame, rule: FieldRule, members: pl.LazyFrame
) -> pl.DataFrame:
    """One row per asked key of `rule` and basket with a member of the key's set: rule.columns, period_no, basket_id.

    A basket may come more than once. What an entity has bought is crossed with the sets it is in, then narrowed to
    those asked about: on promo less than half the rows of the other way, from what is asked to its members.
    """
    keys = list(rule.columns)
    *owner, set_id = keys
    wanted = asked.select(keys).unique()
    member, sets = sets_of(wanted[set_id], purchases, rule, members)
    lines = purchases.select(*owner, member, "period_no", "basket_id").unique()
    held = lines.select(*owner, member).unique()
    found = []
    for start in range(0, max(len(held), 1), SLICE):
        crossed = held.slice(start, SLICE).join(sets, on=member, how="inner")
        found.append(crossed.join(wanted, on=keys, how="semi", nulls_equal=True))
    baskets = pl.concat(found).join(lines, on=[*owner, member], how="inner", nulls_equal=True)
    return baskets.select(*keys, "period_no", "basket_id")


def sets_of(
    wanted: pl.Series, purchases: pl.DataFrame, rule: FieldRule, members: pl.LazyFrame
) -> tuple[str, pl.DataFrame]:
    """The column of the members of the rule's sets, and one row per `wanted` set and member."""
    set_id = rule.columns[-1]
    member = _member(rule, members.collect_schema().names())
    # The snapshot's types may be wider than the frames': an id that does not fit becomes null and joins nothing.
    types = pl.Schema({set_id: wanted.dtype, member: purchases.schema[member]})
    asked_about = wanted.alias(set_id).unique().to_frame().lazy()
    return member, members.cast(types, strict=False).join(asked_about, on=set_id, how="semi").collect()


def so_far(counted: pl.DataFrame, asked: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """For every asked (key, period): `n` and `c` summed over earlier periods, and `last`, the latest with n > 0.

    `counted` holds keys, period_no (int), n and c (Int64), one row per key and period.
    """
    by = [*keys, "period_no"]
    questions = asked.select(by).unique().join(counted, on=by, how="anti", nulls_equal=True)
    zeros = questions.with_columns(pl.lit(0, pl.Int64).alias("n"), pl.lit(0, pl.Int64).alias("c"))
    rows = pl.concat([counted.select(*by, "n", "c"), zeros]).sort(by)
    starts = pl.any_horizontal(pl.col(key).ne_missing(pl.col(key).shift(1)) for key in keys)
    rows = rows.with_columns((starts | (pl.int_range(pl.len()) == 0)).alias("starts")).with_columns(
        pl.col("starts").cum_sum().cast(pl.Int64).alias("group")
    )
    # One pass over the sorted rows: running sums, less what they were when the row's key began.
    before = {name: pl.col(name).cum_sum() - pl.col(name) for name in ("n", "c")}
    rows = rows.with_columns(
        *(
            (total - pl.when(pl.col("starts")).then(total).forward_fill()).alias(f"{name}_before")
            for name, total in before.items()
        ),
        pl.when(pl.col("n") > 0)
        .then(pl.col("group") * SPAN + pl.col("period_no"))
        .cum_max()
        .forward_fill()
        .shift(1)
        .alias("mark"),
    )
    last = pl.when(pl.col("n_before") > 0).then(pl.col("mark") - pl.col("group") * SPAN).cast(pl.Int32)
    return rows.with_columns(last.alias("last")).select(
        *by, pl.col("n_before").alias("n"), pl.col("c_before").alias("c"), "last"
    )
