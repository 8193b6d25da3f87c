"""What scoring reads: the features of the candidates, and of the entities by block with sparse tables of pair fields.

Nothing is done for every entity × candidate pair. The features of one side are those of its rows; a pair field's table
holds only the pairs that have history. `layout.json` says what the files mean.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import encode, score_files
from jobs.contract import Contract, FieldRule
from jobs.cycle import Cycle
from jobs.event_files import EventFile, by_block, read
from jobs.history import ASKED, BOUGHT, SHOWN, Events, coder_of, keys_of
from jobs.lake import Dataset, sha256_json, write_json
from jobs.lineage import features
from jobs.pair_histories import CROSSED, Blocks, PairField, write_file

# A block is one task's work in memory: it scores at most so many pairs and reads at most so many events.
PAIRS_PER_BLOCK, EVENTS_PER_BLOCK = 8_000_000, 4_000_000


class InputsError(RuntimeError):
    """Lists of entities or candidates that cannot be scored; the message says which column or row is at fault."""


@dataclass(frozen=True)
class Sides:
    """Which side each field is scored on, and the columns that each list gives (`match` is on both).

    `left` and `right`: the columns of each pair field that come from the entity list and from the offer list.
    """

    of: dict[str, str]
    left: dict[str, tuple[str, ...]]
    right: dict[str, tuple[str, ...]]
    entity_columns: list[str]
    offer_columns: list[str]

    def rules(self, contract: Contract, side: str) -> tuple[FieldRule, ...]:
        return tuple(rule for rule in contract.fields if self.of[rule.name] == side)


def sides(contract: Contract, entity_columns: Collection[str], offer_columns: Collection[str]) -> Sides:
    """The side of every field by where its columns come from; InputsError if a list lacks a column.

    The entity list gives the entity's key and the columns of entity fields; the offer list all others, or if it lacks
    one, the entity list. A field whose columns are all of one list (or of `match`) is of that side, whatever it says.
    """
    match = set(contract.match)
    declared = {c for rule in contract.fields if rule.side == "entity" for c in rule.columns} | set(contract.entity)
    needed = {c for rule in contract.fields for c in rule.columns} | set(contract.candidate)
    spare = (needed - set(contract.candidate) - set(offer_columns)) & set(entity_columns)
    left = (declared | spare) - match
    right = needed - left - match
    for name, wanted, have in (("entities", left, entity_columns), ("candidates", right, offer_columns)):
        missing = sorted((wanted | match) - set(have))
        if missing:
            raise InputsError(
                f"source.{name} must have the columns {', '.join(missing)}, which fields need for scoring, got "
                f"{', '.join(sorted(have))}"
            )
    taken = sorted(set(contract.candidate) & left)
    if taken:
        raise InputsError(f"candidate must be columns of the offer list, got {', '.join(taken)} of the entity list")
    of = {}
    for rule in contract.fields:
        columns = set(rule.columns)
        of[rule.name] = "entity" if not columns & right else "pair" if columns & left else "candidate"
    pairs = {rule.name: rule.columns for rule in contract.fields if of[rule.name] == "pair"}
    return Sides(
        of,
        {name: tuple(c for c in columns if c not in right) for name, columns in pairs.items()},
        {name: tuple(c for c in columns if c in right) for name, columns in pairs.items()},
        sorted(left | match),
        sorted(right | match),
    )


def make(cycle: Cycle, spark: SparkSession, vocabulary: pa.Table, base_rate: float) -> tuple[Dataset, bool]:
    """The data set `score_inputs` of a model's `vocabulary` and `base_rate`; also whether it was there already.

    Raises InputsError if a list lacks a column, is empty, or has an entity, or a candidate of one match, twice.
    """
    inputs = encode.contents(cycle) | {name: cycle.dataset(name).content for name in ("entity_list", "offer_list")}
    inputs["vocabulary"] = sha256_json(vocabulary.select(["field", "value", "feature_id"]).to_pydict())
    params = {
        "features": features(cycle.contract),
        "scoring_period": cycle.periods.scoring,
        "base_rate": base_rate,
    }
    return cycle.make(
        "score_inputs", __name__, inputs, params, lambda out: _Maker(cycle, spark, vocabulary, base_rate).write(out)
    )


@dataclass(frozen=True)
class _Maker:
    """One making of the data set: reads the cycle's lists and events, writes below a folder."""

    cycle: Cycle
    spark: SparkSession
    vocabulary: pa.Table
    base_rate: float

    def write(self, out: Path) -> None:
        contract, read = self.cycle.contract, self.spark.read
        people = read.parquet(*self.cycle.dataset("entity_list").files)
        offers = read.parquet(*self.cycle.dataset("offer_list").files)
        found = sides(contract, people.columns, offers.columns)
        refuse_twice(contract, self.cycle.dataset("entity_list").files)
        people = self._asked(people.select(*found.entity_columns))
        offers = self._asked(offers.select(*found.offer_columns).distinct())
        for column in contract.match:  # what has no match is on offer to nobody
            offers = offers.where(F.col(column).isNotNull())
        sizes = self._sizes(found.offer_columns)
        blocks = block_count(sizes["entities"], sizes["pairs"], self._event_rows(found))
        tables = encode.events(self.cycle, self.spark)
        ids = self._ids()
        pair = pair_fields(contract, found, ids)
        offered = out / "offered.parquet"
        keys = self._write_candidates(offers, tables, found, pair, offered, out)
        self._write_blocks(people, offers, tables, found, pair, ids, offered, blocks, out)
        offered.unlink()
        for left in out.rglob("*.tmp"):  # of tasks that died
            left.unlink()
        layout = {
            "fields": contract.field_names,
            **{side: [rule.name for rule in found.rules(contract, side)] for side in ("entity", "candidate", "pair")},
            "default": {field.rule.name: field.default for field in pair},
            "oov": {name: ids[name].oov for name in contract.field_names},
            "keys": keys,
            "blocks": blocks,
            **sizes,
        }
        write_json(out / "layout.json", layout)

    def _asked(self, rows: DataFrame) -> DataFrame:
        return rows.withColumn("period_no", F.lit(self.cycle.periods.scoring))

    def _ids(self) -> dict[str, encode.FieldIds]:
        ids = encode.field_ids(self.vocabulary)
        missing = [name for name in self.cycle.contract.field_names if name not in ids]
        if missing:
            raise InputsError(f"vocabulary must have every field of the contract, {', '.join(missing)} missing")
        return ids

    def _sizes(self, offer_columns: Sequence[str]) -> dict[str, int]:
        """How many entities, candidates and pairs there are."""
        match = ", ".join(self.cycle.contract.match)
        lists = {name: score_files.scan(self.cycle.dataset(f"{name}_list").files) for name in ("entity", "offer")}
        by, on = (f"group by {match}", f"using ({match})") if match else ("", "on true")
        selected = f"{match}, count(*) as n" if match else "count(*) as n"
        with score_files.connection() as db:
            [counts] = db.execute(f"""
                with
                    entities as (select {selected} from {lists["entity"]} {by}),
                    offers as (select distinct {", ".join(offer_columns)} from {lists["offer"]}),
                    candidates as (select {selected} from offers {_known(self.cycle.contract.match)} {by})
                select
                    (select sum(n)::bigint from entities),
                    (select sum(n)::bigint from candidates),
                    (select sum(entities.n * candidates.n)::bigint from entities inner join candidates {on})
            """).fetchall()
        sizes = {name: count or 0 for name, count in zip(("entities", "candidates", "pairs"), counts, strict=True)}
        for name in ("entities", "candidates"):
            if not sizes[name]:
                raise InputsError(f"source.{name} must have at least one row to score, got none")
        return sizes

    def _event_rows(self, found: Sides) -> int:
        kinds = {rule.of for rule in own_histories(self.cycle.contract, found)}
        rows = 0
        if "exposures" in kinds:
            files = self.cycle.dataset("exposures").manifest["files"]
            rows += sum(entry["rows"] for entry in files if entry["path"].startswith("status=kept/"))
        if "purchases" in kinds:
            rows += self.cycle.dataset("purchases").rows
        return rows

    def _write_candidates(
        self, offers: DataFrame, tables: Events, found: Sides, pair: Sequence[PairField], offered: Path, out: Path
    ) -> dict[str, int]:
        """Write the candidates file and, for the blocks' tasks, what is `offered`; returns the keys of each field."""
        cycle = self.cycle
        rules = found.rules(cycle.contract, "candidate")
        right = sorted({column for field in pair for column in field.right})
        label = F.concat_ws(" · ", *(F.col(c).cast("string") for c in reversed(cycle.contract.candidate)))
        keep = [*encode.keys(cycle.contract, ("match_id", "candidate_id")), label.alias("z_label"), *right]
        only = cycle.contract.model_copy(update={"fields": rules})
        values = encode.values(offers, only, cycle.periods, tables, self.base_rate, keep)
        coded = encode.encoded(values, self.vocabulary)
        fields, path = [f"f_{rule.name}" for rule in rules], out / "candidates" / "part-00000.parquet"

        def number(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            rows = pl.DataFrame(pa.Table.from_batches(list(batches))).sort("match_id", "candidate_id")
            twice = rows.filter(pl.struct("match_id", "candidate_id").is_duplicated())["candidate_id"]
            rows = with_keys(rows, pair)
            names = {field.key: f"k_{field.rule.name}" for field in pair}
            renamed = names | {"z_label": "label"}
            table = rows.select("match_id", "candidate_id", "z_label", *fields, *names).rename(renamed).to_arrow()
            texts = [pa.field(name, pa.string()) for name in ("match_id", "candidate_id", "label")]
            write_file(table.cast(pa.schema([*texts, *list(table.schema)[3:]])), path)
            write_file(rows.select("match_id", *right, *names).unique(maintain_order=True).to_arrow(), offered)
            keys = {field.rule.name: rows[field.key].n_unique() for field in pair}
            told = json.dumps({"twice": twice.head(1).to_list(), "keys": keys})
            yield pa.RecordBatch.from_pydict({"told": [told]})

        [[told]] = coded.repartition(1).mapInArrow(number, "told string").collect()
        report = json.loads(told)
        for twice in report["twice"]:
            raise InputsError(f"source.candidates must have each row once per match, got {twice!r} twice")
        return report["keys"]

    def _write_blocks(
        self,
        people: DataFrame,
        offers: DataFrame,
        tables: Events,
        found: Sides,
        pair: Sequence[PairField],
        ids: dict[str, encode.FieldIds],
        offered: Path,
        blocks: int,
        out: Path,
    ) -> None:
        """Bring the entities and events of each block together; a task writes its block's files itself."""
        cycle, contract = self.cycle, self.cycle.contract
        entity, own = found.rules(contract, "entity"), own_histories(contract, found)
        only = contract.model_copy(update={"fields": tuple(rule for rule in entity if rule not in own)})
        columns = {c for rule in own for c in rule.columns}
        left = sorted((columns & set(found.entity_columns)) | set(contract.entity))
        keep = [*asker_keys(contract), *left, "period_no"]
        asked = encode.values(people, only, cycle.periods, tables, self.base_rate, keep)
        for column in sorted(columns - set(left)):
            asked = asked.withColumn(column, F.lit(None).cast(offers.schema[column].dataType))
        rows = asked.withColumn("kind", F.lit(ASKED))
        for place, field in enumerate(pair):
            if not field.is_own:
                crossed = self._crossed(people, tables, found.left[field.rule.name], place, field, offered)
                rows = rows.unionByName(crossed, allowMissingColumns=True)
        task = Blocks(
            str(out),
            entity,
            tuple(pair),
            frozenset(rule.name for rule in own),
            ids,
            coder_of(own, contract, tables, cycle.periods, self.base_rate),
            str(offered),
            tables.get("members", {}),
        )

        times, periods = (contract.exposure_time, contract.conversion_time), cycle.periods
        delivered_at = contract.delivered_at
        by_block(
            self.spark,
            rows,
            self._event_files(own, tables),
            lambda file: read(file, *times, periods, delivered_at),
            contract.entity,
            blocks,
            task.write,
        )

    def _event_files(self, own: Sequence[FieldRule], tables: Events) -> list[EventFile]:
        """The snapshot's files that the rules count, each with the keys of its own rules."""
        paths = {"exposures": self.cycle.dataset("exposures").under("status=kept")}
        if any(rule.of == "purchases" for rule in own):
            paths["purchases"] = self.cycle.dataset("purchases").files
        kinds = {"exposures": SHOWN, "purchases": BOUGHT}
        keys = {name: tuple(keys_of(own, name, tables)) for name in paths if any(rule.of == name for rule in own)}
        return [EventFile(str(Path(path).resolve()), kinds[name], keys[name]) for name in keys for path in paths[name]]

    def _crossed(
        self, people: DataFrame, tables: Events, left: Sequence[str], place: int, field: PairField, offered: Path
    ) -> DataFrame:
        """The pairs of a field that is no history of the entity itself: each of its distinct `left` values with each
        key on offer there, encoded like any row, for all entities with these values."""
        cycle, contract = self.cycle, self.cycle.contract
        mine = people.select(*asker_keys(contract), *sorted({*left, *contract.entity}))
        key = F.col(field.key).alias("z_key")
        keys = self.spark.read.parquet(str(offered)).select("match_id", *field.right, key).distinct()
        rows = self._asked(mine.select("match_id", *left).distinct().join(keys, on="match_id", how="inner"))
        only = contract.model_copy(update={"fields": (field.rule,)})
        keep = ["match_id", *left, "z_key"]
        values = encode.values(rows, only, cycle.periods, tables, self.base_rate, keep)
        coded = encode.encoded(values, self.vocabulary).withColumnRenamed(f"f_{field.rule.name}", "z_feature")
        coded = coded.where(F.col("z_feature") != field.default)
        names = {name: f"z_left_{name}" for name in ("match_id", *left)}  # a null value is a value here
        same = [F.col(name).eqNullSafe(F.col(other)) for name, other in names.items()]
        both = mine.join(coded.withColumnsRenamed(names), on=same, how="inner")
        made = both.withColumn("kind", F.lit(CROSSED)).withColumn("z_field", F.lit(place))
        return made.select("entity_id", "match_id", *contract.entity, "kind", "z_field", "z_key", "z_feature")


def asker_keys(contract: Contract) -> list[Column]:
    """entity_id and match_id of the entity list as text. Null among the columns of `match` is no match at all: as text
    it would be the match of offers whose own is empty."""
    entity_id, match_id = encode.keys(contract, ("entity_id", "match_id"))
    for column in contract.match:
        match_id = F.when(F.col(column).isNotNull(), match_id)
    return [entity_id, match_id.alias("match_id")]


def _known(match: Sequence[str]) -> str:
    """SQL: what has no match is on offer to nobody."""
    return "where " + " and ".join(f"{column} is not null" for column in match) if match else ""


def block_count(entities: int, pairs: int, events: int) -> int:
    """How many blocks keep each within its limits on average; from the data alone, so that every cluster makes them."""
    return min(max(-(-pairs // PAIRS_PER_BLOCK), -(-events // EVENTS_PER_BLOCK), 1), entities)


def own_histories(contract: Contract, found: Sides) -> list[FieldRule]:
    """History fields of the entity's own events, which a block has; others are made of all entities' events."""
    return [
        rule
        for rule in contract.fields
        if rule.transform == "history"
        and set(contract.entity) <= set(rule.columns)
        and found.of[rule.name] != "candidate"
    ]


def pair_fields(contract: Contract, found: Sides, ids: dict[str, encode.FieldIds]) -> list[PairField]:
    """The pair fields in order. A pair without a row has no history (code 0) or, of any other field, no known value."""
    own = own_histories(contract, found)
    fields = []
    for rule in found.rules(contract, "pair"):
        default = ids[rule.name].oov
        if rule.transform == "history":
            default = ids[rule.name].of(pa.array([0], pa.int32()))[0].as_py()
        fields.append(PairField(rule, found.right[rule.name], default, rule in own))
    return fields


def with_keys(rows: pl.DataFrame, pair: Sequence[PairField]) -> pl.DataFrame:
    """`rows` with the number of every pair field's key: the place of its values among the sorted ones on offer."""
    for field in pair:
        columns = list(field.right)
        keys = rows.select(columns).unique().sort(columns).with_row_index(field.key)
        keys = keys.with_columns(pl.col(field.key).cast(pl.Int32))
        rows = rows.join(keys, on=columns, how="left", nulls_equal=True, maintain_order="left")
    return rows


def refuse_twice(contract: Contract, files: Sequence[str]) -> None:
    """InputsError if an entity is on the list more than once, with whatever matches: the marts have one row for each
    entity and candidate, which could be on offer in several of them."""
    match = f"coalesce(nullif(concat_ws('|', {', '.join(contract.match)}), ''), '(none)')" if contract.match else "''"
    with score_files.connection() as db:
        found = db.execute(f"""
            select concat_ws('|', {", ".join(contract.entity)}) as entity_id, count(*), min({match}), max({match})
            from {score_files.scan(files)}
            group by entity_id
            having count(*) > 1
            order by entity_id
            limit 1
        """).fetchall()
    for entity_id, n, first, last in found:
        told = f"{n} times" if first == last else f"with matches {first}, {last}"
        raise InputsError(f"source.entities must have each entity once, got {entity_id!r} {told}")
