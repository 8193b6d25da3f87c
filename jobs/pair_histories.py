"""What every entity of a block knows of what is on offer to it: its own features and the sparse tables of pair fields.

The half of `score_inputs` without a session: polars frames of one block of entities in, Parquet files out. A pair that
is in no table has no history, so nothing here is done for every pair.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.contract import FieldRule
from jobs.encode import FieldIds
from jobs.history import ASKED, BOUGHT, SHOWN, Coder, history_columns, sets_of

CROSSED = 3  # a row of a block beside those of jobs/history.py: a pair made by Spark
PAIRS = pa.schema([("field", pa.int32()), ("entity", pa.int32()), ("key", pa.int32()), ("feature", pa.int32())])


@dataclass(frozen=True)
class PairField:
    """A pair field: its rule, which of its columns the offer list gives (`right`), and what no row in the table means.

    `is_own`: a history of the entity itself, made here; else the table's rows come with the block.
    """

    rule: FieldRule
    right: tuple[str, ...]
    default: int
    is_own: bool

    @property
    def key(self) -> str:
        return f"z_{self.rule.name}"


@dataclass(frozen=True)
class Blocks:
    """All that a task needs to make the files of any block of entities below `out`.

    `entity`: rules of the entities' fields in order; `offered`: the Parquet file of the right-hand columns and key
    numbers of every candidate; `members`: the files of each table of sets.
    """

    out: str
    entity: tuple[FieldRule, ...]
    pair: tuple[PairField, ...]
    own: frozenset[str]
    ids: Mapping[str, FieldIds]
    coder: Coder
    offered: str
    members: Mapping[str, list[str]]

    def write(self, number: int, rows: pl.DataFrame) -> None:
        """Write the files of block `number` from its entities, events and crossed pairs (`kind`)."""
        members = {name: pl.scan_parquet(paths, hive_partitioning=False) for name, paths in self.members.items()}
        people = rows.filter(pl.col("kind") == ASKED).sort("match_id", "entity_id")
        people = people.with_row_index("z_entity").with_columns(pl.col("z_entity").cast(pl.Int32))
        events = rows.filter(pl.col("kind").is_in([SHOWN, BOUGHT]))
        folder = Path(self.out) / f"block={number:05d}"
        write_file(self.features(people, events, members), folder / "entities" / "part-00000.parquet")
        tables = self.tables(people, events, rows.filter(pl.col("kind") == CROSSED), members)
        write_file(tables, folder / "pairs" / "part-00000.parquet")

    def features(self, people: pl.DataFrame, events: pl.DataFrame, members: Mapping[str, pl.LazyFrame]) -> pa.Table:
        """The entities file: entity_id, match_id and one feature id per field."""
        own = [rule for rule in self.entity if rule.name in self.own]
        coded = history_columns(people, events, own, self.coder, members)
        columns = {name: people[name].to_arrow().cast(pa.string()) for name in ("entity_id", "match_id")}
        for rule in self.entity:
            value = coded[rule.name if rule.name in self.own else f"v_{rule.name}"].to_arrow()
            columns[f"f_{rule.name}"] = self.ids[rule.name].of(value)
        return pa.table(columns)

    def tables(
        self,
        people: pl.DataFrame,
        events: pl.DataFrame,
        crossed: pl.DataFrame,
        members: Mapping[str, pl.LazyFrame],
    ) -> pa.Table:
        """The pairs file: field, entity, key and feature of every pair that is not its field's default."""
        offered, found = pl.read_parquet(self.offered), []
        for place, field in enumerate(self.pair):
            if field.is_own:
                keys = offered.select("match_id", *field.right, pl.col(field.key).alias("z_key")).unique()
                codes = own_pairs(people, keys, events, field.rule, field.right, self.coder, members)
                feature = pl.Series("feature", self.ids[field.rule.name].of(codes[field.rule.name].to_arrow()))
                table = codes.select(pl.col("z_entity").alias("entity"), pl.col("z_key").alias("key"), feature)
            else:
                mine = crossed.filter(pl.col("z_field") == place).select("entity_id", "match_id", "z_key", "z_feature")
                rows = mine.join(people.select("entity_id", "match_id", "z_entity"), on=["entity_id", "match_id"])
                table = rows.select(
                    pl.col("z_entity").alias("entity"),
                    pl.col("z_key").alias("key"),
                    pl.col("z_feature").alias("feature"),
                )
            told = table.filter(pl.col("feature") != field.default).sort("entity", "key")
            found.append(told.select(pl.lit(place, pl.Int32).alias("field"), "entity", "key", "feature"))
        if not found:
            return PAIRS.empty_table()
        return pl.concat(found).to_arrow().cast(PAIRS)


def own_pairs(
    people: pl.DataFrame,
    offered: pl.DataFrame,
    events: pl.DataFrame,
    rule: FieldRule,
    right: tuple[str, ...],
    coder: Coder,
    members: Mapping[str, pl.LazyFrame],
) -> pl.DataFrame:
    """z_entity, z_key and the code (named after the rule) of every entity and key on offer to it that has events.

    `people`: z_entity, match_id, period_no and the rule's other columns; `offered`: match_id, the columns `right` and
    z_key. All else of the pairs has code 0, which is what `history_columns` says of a key without events.
    """
    columns = list(rule.columns)
    left = [column for column in columns if column not in right]
    offered = offered.cast({column: events.schema[column] for column in right})
    mine = events.filter(pl.col("kind") == (SHOWN if rule.of == "exposures" else BOUGHT))
    if rule.members:
        *owner, set_id = columns
        wanted = offered[set_id] if set_id in right else people[set_id]
        member, sets = sets_of(wanted, mine, rule, members[rule.members])
        mine = mine.join(sets.select(member).unique(), on=member, how="semi")
        known = mine.select(*owner, member).unique().join(sets, on=member, how="inner").select(columns).unique()
    else:
        mine = mine.join(offered.select(right).unique(), on=right, how="semi", nulls_equal=True)
        known = mine.select(columns).unique()
    pairs = people.select("z_entity", "match_id", *left).join(known, on=left, how="inner", nulls_equal=True)
    pairs = pairs.join(offered, on=["match_id", *right], how="inner", nulls_equal=True)
    period = people["period_no"].head(1)
    asked = pairs.select(columns).unique().with_columns(period_no=pl.lit(period.item() if len(period) else 0, pl.Int32))
    if not rule.members:
        mine = mine.join(asked.select(columns), on=columns, how="semi", nulls_equal=True)
    coded = history_columns(asked, mine, [rule], coder, members)
    coded = pairs.join(coded.select(*columns, rule.name), on=columns, how="inner", nulls_equal=True)
    return coded.select("z_entity", "z_key", rule.name)


def write_file(table: pa.Table, path: Path) -> None:
    """Write `path` under another name first: a task that is tried again never leaves half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    pq.write_table(table, temporary)
    temporary.replace(path)
