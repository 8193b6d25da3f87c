"""Job: write a truth world as Parquet tables with a contract beside them: `fieldmart simulate`, then `nightly`.

    DIR/truth.yml               the contract; written last, so that a folder without it is unfinished
    DIR/exposures/part-*.parquet    what the pipeline reads
    DIR/truth/part-*.parquet        exposure number and its true conversion rates, which no job reads

The rows are the same whatever the size of a chunk, and memory grows with a chunk, not with the rows.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer
import yaml

from jobs.contract import ContractError
from jobs.progress import Progress
from jobs.truth_world import PERIOD_DAYS, WINDOW_DAYS, Rows, TruthWorld

ORIGIN = dt.datetime(2026, 1, 5)
CHUNK = 1_000_000
HOLDOUT = {"valid": 2, "calib": 2, "test": 9}
# Whole periods that the contract needs: those of the split, as long between two parts and before DATE, one to train on.
LEAST_PERIODS = sum(HOLDOUT.values()) + 4 + 1
# Categorical columns with the side each belongs to. A slot is booked with the campaign.
FIELDS = {
    **dict.fromkeys(("user", "region", "device", "age", "segment"), "entity"),
    **dict.fromkeys(("campaign", "category", "advertiser", "format", "slot"), "candidate"),
}
RATES = (("user",), ("campaign",), ("user", "category"), ("segment", "category"))
SLICED = ("region", "device", "age", "category", "format", "slot")


def chunks(world: TruthWorld, size: int = CHUNK) -> Iterator[Rows]:
    """All rows, `size` at a time."""
    for first in range(0, world.rows, size):
        yield world.take(first, size)


def exposures(rows: Rows) -> pa.Table:
    """The table of exposures as a shop would log it; a row that never converts has no time and nothing bought."""
    shown = rows.period * np.int64(PERIOD_DAYS * 86_400_000_000) + rows.microsecond + np.int64(_microseconds(ORIGIN))
    converts = np.isfinite(rows.delay)
    late = np.where(converts, rows.delay, 0.0) * 3_600_000_000.0
    moment = pa.timestamp("us", tz="UTC")
    return pa.table(
        {
            "exposure": rows.number,
            **rows.columns,
            "shown_at": pa.array(shown, moment),
            "converted_at": pa.array(shown + late.astype(np.int64), moment, mask=~converts),
            "amount": np.where(converts, rows.amount, 0.0),
            "media_cost": rows.cost,
            "may_be_shown": rows.eligible,
        }
    )


def truth(rows: Rows) -> pa.Table:
    """The true conversion rates by exposure: `cvr` within the contract's window, `cvr_ever` without an end."""
    return pa.table({"exposure": rows.number, "period": rows.period, "cvr": rows.cvr, "cvr_ever": rows.cvr_ever})


def write(world: TruthWorld, folder: Path, chunk: int = CHUNK, progress: Progress | None = None) -> Path:
    """Write tables and contract into `folder`, which must be new or empty; returns the contract's path.

    Raises ContractError if the folder has something in it or the world is too short for the contract's split.
    """
    if world.periods < LEAST_PERIODS:
        raise ContractError(f"periods must be at least {LEAST_PERIODS}, for train to have one, got {world.periods}")
    if folder.exists() and any(folder.iterdir()):
        raise ContractError(f"--out must be a new or empty folder, got {folder}")
    for name in ("exposures", "truth"):
        (folder / name).mkdir(parents=True)
    for place, rows in enumerate(chunks(world, chunk)):
        for name, table in (("exposures", exposures(rows)), ("truth", truth(rows))):
            pq.write_table(table, folder / name / f"part-{place:05d}.parquet", compression="zstd")
        if progress is not None:
            progress.note(f"{rows.number[-1] + 1:>12,} of {world.rows:,} exposures")
    path = folder / "truth.yml"
    path.write_text(yaml.safe_dump(contract(world, folder.resolve()), sort_keys=False, width=120))
    return path


def contract(world: TruthWorld, folder: Path) -> dict[str, Any]:
    """The contract over the tables in `folder`, scored for the period after the last."""
    number = {"type": "integer", "minimum": 0}
    amount = {"type": "number", "minimum": 0}
    names = [*FIELDS, "discount", "ads_seen"]
    return {
        "name": "truth",
        "version": 1,
        "data_note": "Invented exposures with a known conversion rate (fieldmart simulate). Nobody saw these ads.",
        "source": {"adapter": "files", "exposures": str(folder / "exposures")},
        "default_date": (ORIGIN + dt.timedelta(days=PERIOD_DAYS * world.periods)).date(),
        "period": {"days": PERIOD_DAYS, "origin": ORIGIN.isoformat()},
        "columns": {
            **dict.fromkeys(FIELDS, number),
            "discount": amount,
            "ads_seen": number,
            "shown_at": {"type": "timestamp"},
            "converted_at": {"type": "timestamp", "nullable": True},
            "amount": amount,
            "media_cost": amount,
            "may_be_shown": {"type": "boolean"},
        },
        "entity": ["user"],
        "candidate": ["campaign"],
        "exposure_time": "shown_at",
        "conversion_time": "converted_at",
        "value": "amount",
        "cost": "media_cost",
        "eligible": "may_be_shown",
        "label": {"events": ["purchase"], "window": WINDOW_DAYS},
        "split": HOLDOUT,
        "fields": [_field(name) for name in names] + [_rate(*columns) for columns in RATES],
        "slices": [
            *({"name": name, "column": name} for name in SLICED),
            {"name": "user_seen", "known": "user"},
            {"name": "campaign_seen", "known": "campaign"},
        ],
        "prior": {"candidate_levels": ["category", "campaign"], "entity": "user"},
        "training": {"eta": 0.1, "epochs": 10},
        "grid": {"nightly": {"k": [1, 2, 4]}},
    }


def _field(name: str) -> dict[str, Any]:
    side = FIELDS.get(name, "candidate" if name == "discount" else "entity")
    known = "static" if side == "entity" else "planned"
    transform = {} if name in FIELDS else {"transform": "log2"}
    return {"name": name, "side": side, "known_at": known, **transform, "columns": [name]}


def _rate(*columns: str) -> dict[str, Any]:
    side = "pair" if len(columns) > 1 else FIELDS[columns[0]]
    kind = {"transform": "history", "of": "exposures", "measure": "conversion_rate"}
    return {"name": f"rate_{'_'.join(columns)}", "side": side, "known_at": "history", **kind, "columns": list(columns)}


def _microseconds(moment: dt.datetime) -> int:
    return (moment - dt.datetime(1970, 1, 1)) // dt.timedelta(microseconds=1)


def command(
    out: Annotated[Path, typer.Option(help="New folder for tables, truth and contract.")],
    rows: Annotated[float, typer.Option(min=1000, help="Exposures, for example 1e6.")] = 1e6,
    seed: Annotated[int, typer.Option(min=0, help="Another seed is another world.")] = 1,
    periods: Annotated[int, typer.Option(min=LEAST_PERIODS, help="Weeks.")] = TruthWorld.periods,
    rate: Annotated[float, typer.Option(help="Share of the exposures that convert within the window.")] = 0.05,
) -> None:
    """Write exposures with known conversion rates and a contract for them, to check what a night says."""
    progress = Progress()
    try:
        path = write(TruthWorld(int(rows), seed, periods, rate), out, CHUNK, progress)
    except ValueError as error:
        typer.echo(f"fieldmart: {error}", err=True)
        raise typer.Exit(1) from None
    progress.console.print(f"fieldmart nightly --contract {path} --warehouse {out / 'warehouse'}", soft_wrap=True)
