"""The snapshot's events brought together by block of entities, read from their files by the tasks themselves.

What travels is one compressed stream per file and block. As rows of a Spark shuffle the same events take twice as long
to move as all the work on them takes: the JVM takes every row apart and builds it again. Which events count, and for
which period, is what `_event_rows` in jobs/history.py says of the same events as Spark's rows.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import to_arrow_schema

from jobs.history import BOUGHT
from jobs.periods import Periods, period_expression

BLOCK, ROWS = "z_block", "z_rows"
PACKED = f"{BLOCK} int, {ROWS} binary"


@dataclass(frozen=True)
class EventFile:
    """A file of the snapshot: what it holds (SHOWN or BOUGHT) and the key columns that count."""

    path: str
    kind: int
    keys: tuple[str, ...]


def read(
    file: EventFile, exposure_time: str, conversion_time: str, periods: Periods, delivered_at: str | None = None
) -> pl.DataFrame:
    """The file's events: kind, its keys, period_no, n and c, and of purchases basket_id.

    A conversion counts from the period in which it happened, or was delivered if that was later.
    """
    counts = pl.lit(file.kind, pl.Int32).alias("kind"), *file.keys
    one, none = pl.lit(1, pl.Int64), pl.lit(0, pl.Int64)
    if file.kind == BOUGHT:
        rows = pl.read_parquet(file.path, columns=[*dict.fromkeys([*file.keys, "basket_id", "purchase_time"])])
        number = period_expression("purchase_time", periods).alias("period_no")
        return rows.select(*counts, number, none.alias("n"), none.alias("c"), "basket_id")
    wanted = dict.fromkeys([*file.keys, exposure_time, conversion_time, *([delivered_at] if delivered_at else [])])
    known = period_expression(conversion_time, periods)
    if delivered_at:
        known = pl.when(known.is_not_null()).then(pl.max_horizontal(known, period_expression(delivered_at, periods)))
    rows = pl.read_parquet(file.path, columns=list(wanted), hive_partitioning=False).with_columns(
        period_expression(exposure_time, periods).alias("period_no"), known.alias("z_converted")
    )
    same = (pl.col("z_converted") == pl.col("period_no")).fill_null(False).cast(pl.Int64)
    shown = rows.select(*counts, "period_no", one.alias("n"), same.alias("c"))
    late = rows.filter(pl.col("z_converted") > pl.col("period_no"))
    later = late.select(*counts, pl.col("z_converted").alias("period_no"), none.alias("n"), one.alias("c"))
    return pl.concat([shown, later])


def with_block(frame: pl.DataFrame, keys: Sequence[str], blocks: int) -> pl.DataFrame:
    """`frame` with the block of each row's entity, z_block: the CRC-32 of its key's text modulo `blocks`.

    A hash of the data frame's own may change with its version, and files made before would not fit those made after.
    It is computed once per distinct key, of which there are far fewer than rows.
    """
    distinct = frame.select(keys).unique()
    text = pl.concat_str([pl.col(name).cast(pl.String).fill_null("(missing)") for name in keys], separator="|")
    numbers = [zlib.crc32(key.encode()) % blocks for key in distinct.select(text.alias(BLOCK))[BLOCK]]
    known = distinct.with_columns(pl.Series(BLOCK, numbers, pl.Int32))
    return frame.join(known, on=list(keys), how="left", nulls_equal=True, maintain_order="left")


def by_block(
    spark: SparkSession,
    rows: DataFrame,
    files: Sequence[EventFile],
    load: Callable[[EventFile], pl.DataFrame],
    entity: Sequence[str],
    blocks: int,
    work: Callable[[int, pl.DataFrame], None],
) -> None:
    """Let `work` do each block, given its number and the rows and events of its entities in no particular order.

    The block of an entity follows from its key. `rows` are few and come with `kind`; a block without any has an empty
    frame. A column that only some of them have is null in the others.
    """
    keys, sources = list(entity), list(files)
    # The first of each kind opens every block, so that a block without such events knows their columns too.
    opening = {number for number, file in enumerate(sources) if file.kind not in [f.kind for f in sources[:number]]}

    def pack(frame: pl.DataFrame, everywhere: bool) -> pa.RecordBatch:
        numbered = with_block(frame, keys, blocks)
        parts = {number: part for (number,), part in numbered.partition_by(BLOCK, as_dict=True).items()}
        if everywhere:
            parts = dict.fromkeys(range(blocks), numbered.clear()) | parts
        streams = {number: io.BytesIO() for number in parts}
        for number, part in parts.items():
            part.drop(BLOCK).write_ipc_stream(streams[number], compression="lz4")
        packed = {BLOCK: pa.array(streams, pa.int32()), ROWS: pa.array(s.getvalue() for s in streams.values())}
        return pa.RecordBatch.from_pydict(packed)

    def pack_rows(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        held = list(batches)
        if held:
            yield pack(pl.DataFrame(pa.Table.from_batches(held)), False)

    def pack_files(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column(0).to_pylist():
                yield pack(load(sources[number]), number in opening)

    def unpack(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        waiting: dict[int, list[pl.DataFrame]] = {}
        for batch in batches:
            for number, packed in zip(batch[BLOCK].to_pylist(), batch[ROWS].to_pylist(), strict=True):
                waiting.setdefault(number, []).append(pl.read_ipc_stream(io.BytesIO(packed)))
        for number in sorted(waiting):
            work(number, pl.concat(waiting.pop(number), how="diagonal_relaxed"))
            yield pa.RecordBatch.from_pydict({"done": pa.array([number], pa.int32())})

    nothing = io.BytesIO()
    pl.DataFrame(to_arrow_schema(rows.schema).empty_table()).write_ipc_stream(nothing)
    opened = spark.createDataFrame([(number, bytearray(nothing.getvalue())) for number in range(blocks)], PACKED)
    every = spark.range(0, len(sources), 1, max(1, len(sources))).mapInArrow(pack_files, PACKED)
    packed = rows.mapInArrow(pack_rows, PACKED).union(every).union(opened)
    packed.repartitionById(blocks, BLOCK).mapInArrow(unpack, "done int").collect()
