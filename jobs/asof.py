"""Which model was live at a time? Answered from the decision log alone, also when the release is long gone.

Two times are kept apart. The wall clock says when something was decided, published or taken back: `at` of each entry,
which is what is asked for here. The cycle says which night it was about (`cycle_date`), and `data_through` how far the
data went: an old date run today is live today.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from jobs import champions, pointings
from jobs.decision_log import Entry


class AsOfError(ValueError):
    """A time that cannot be read, or of which nothing is known."""


@dataclass(frozen=True)
class Live:
    """What held for a contract at a time; None where there was none, or where the log did not yet say it."""

    contract: str
    at: str
    release_id: str | None
    is_current: bool  # the warehouse's one pointer named it; else another contract's release was current
    since: str | None  # when readers were pointed to it
    by: str | None  # publish, rollback or guard
    cycle_date: str | None
    data_through: str | None
    score_source: str | None
    serving_model_id: str | None
    champion_model_id: str | None
    champion_since_cycle: str | None
    k: int | None  # of the champion
    challenger_model_id: str | None
    decision_id: str | None  # the one that promoted the champion
    decided_by: str | None
    approved_by: str | None

    def record(self) -> dict[str, Any]:
        return asdict(self)


def moment(text: str) -> dt.datetime:
    """`2026-11-01` (when that day began) or `2026-11-01T12:00`, UTC unless it says otherwise; AsOfError else."""
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        raise AsOfError(f"the time must be YYYY-MM-DD or YYYY-MM-DDTHH:MM, got {text!r}") from None
    try:
        return found.replace(tzinfo=dt.UTC) if found.tzinfo is None else found.astimezone(dt.UTC)
    except OverflowError:
        raise AsOfError(f"the time must lie in the years 1 to 9999 of UTC, got {text!r}") from None


def live(log: Sequence[Entry], at: dt.datetime, contract: str | None = None) -> list[Live]:
    """One answer for each contract that was decided on or published by then, or for `contract`.

    Raises AsOfError if the log knows nothing of it at that time.
    """
    known = [entry for entry in log if dt.datetime.fromisoformat(entry.at) <= at]
    names = sorted({e.payload["contract"] for e in known if e.kind in ("decision", *pointings.POINTING)})
    wanted = [name for name in names if contract in (None, name)]
    if not wanted:
        first = next((e.at for e in log if contract in (None, e.payload.get("contract"))), None)
        told = f"the log begins at {first}" if first else "the log does not name it"
        raise AsOfError(f"nothing was live at {at.isoformat()}" + (f" of {contract}" if contract else "") + f": {told}")
    return [_of(known, name, at) for name in wanted]


def _of(known: Sequence[Entry], contract: str, at: dt.datetime) -> Live:
    mine = [e for e in known if e.kind in pointings.POINTING and e.payload["contract"] == contract]
    pointed = next((e for e in reversed(mine) if pointings.target(e) is not None), None)
    best, judged = champions.promoted(known, contract), champions.decisions(known, contract)
    release_id = pointings.target(pointed) if pointed else None
    promoting = next((e for e in known if best and e.decision_id == best.decision_id), None)
    by = champions.promotion_of(known, promoting) if promoting else None
    said = served(known, pointed) if pointed else {}
    return Live(
        contract=contract,
        at=at.isoformat(),
        release_id=release_id,
        is_current=release_id is not None and pointings.last(known) == release_id,
        since=pointed.at if pointed else None,
        by=pointed.kind if pointed else None,
        **{name: said.get(name) for name in ("cycle_date", "data_through", "score_source", "serving_model_id")},
        champion_model_id=best.promotes if best else None,
        champion_since_cycle=best.cycle_date.isoformat() if best else None,
        k=best.k if best else None,
        challenger_model_id=judged[-1].payload["model_id"] if judged else None,
        decision_id=best.decision_id if best else None,
        decided_by=promoting.payload.get("by") if promoting else None,
        approved_by=by.payload["by"] if by is not None and by.kind == "approval" else None,
    )


def served(known: Sequence[Entry], pointed: Entry) -> dict[str, Any]:
    """What the log says of the release that an entry points to: cycle, data, model. Entries of before they said so lead
    to the decision that the release was built on: its cycle, and who was champion then (which scored, if all was well).
    """
    said = dict(pointed.payload)
    if "serving_model_id" in said:
        return said
    decision = next((e for e in known if e.decision_id == said.get("decision_id")), None)
    if decision is None:
        return said
    day = champions.day_of(decision)
    best = champions.promoted([e for e in known if e.seq <= pointed.seq], said["contract"], day)
    source = {"score_source": "model", "serving_model_id": best.promotes} if best else {}
    return said | {"cycle_date": day.isoformat()} | source
