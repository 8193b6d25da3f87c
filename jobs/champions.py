"""Who is champion and who challenger: what follows from the decision log. Pure, but for the aliases' file.

A model is promoted by a decision GO, or by the approval of a decision HOLD (jobs/approvals.py). On every cycle only
the decision in force counts, the last one written: decided again with another outcome, a cycle promotes nothing any
more. Both count for the cycle that was decided on, whenever they were written: an old date run again sees what was
promoted by its time. The guard (jobs/guard.py) demotes: what a demoted decision promoted is champion on no cycle,
unless somebody approves the decision afterwards.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jobs.decision_log import Entry, entries, refuse_gone
from jobs.lake import write_json


@dataclass(frozen=True)
class Champion:
    """A promoted model: what serves, and the candidate that was judged."""

    promotes: str  # the refit
    model_id: str  # the candidate
    k: int | None
    cycle_date: dt.date
    decision_id: str


def promoted(found: Iterable[Entry], contract: str, as_of: dt.date | None = None) -> Champion | None:
    """What was promoted on the latest cycle (up to `as_of`) whose decision in force is a GO or an approved HOLD, and
    was not demoted since.

    Running an old date again must not demote the champion of a later one."""
    found = list(found)
    demoted = demotions(found)
    in_force: dict[dt.date, Entry] = {}  # the last one written of each cycle, but for those that were demoted
    for entry in decisions(found, contract, as_of):
        if entry.decision_id not in demoted or promotion_of(found, entry, demoted) is not None:
            in_force[day_of(entry)] = entry
    for day, entry in sorted(in_force.items(), reverse=True):
        by = promotion_of(found, entry, demoted)
        if by is not None:
            said = entry.payload
            return Champion(by.payload["promotes"], said["model_id"], said["k"], day, entry.decision_id)
    return None


def fallback(found: Sequence[Entry], contract: str) -> Champion | None:
    """Who would be champion if the guard demoted the one that is: the last of another model. None if there is none."""
    best = last = promoted(found, contract)
    demotes: list[str] = []
    while best is not None and last is not None and last.promotes == best.promotes:
        demotes.append(last.decision_id)
        payload = {"demotes": demotes[0], "also_demotes": demotes[1:]}
        as_if = replace(found[-1], seq=found[-1].seq + 1, kind="guard", payload=payload)
        last = promoted([*found, as_if], contract)
    return last


def promotion_of(found: Sequence[Entry], decision: Entry, demoted: dict[str, int] | None = None) -> Entry | None:
    """What promotes the model of `decision`: itself if it is a GO, else its approval; None where there is neither, or
    only from before the guard demoted it. `demoted`: the demotions of `found`, where they are known."""
    since = (demotions(found) if demoted is None else demoted).get(decision.decision_id, 0)
    if decision.payload["verdict"] == "GO" and not since:
        return decision
    if decision.payload["verdict"] == "NO-GO":
        return None
    approval = approval_of(found, decision.decision_id)
    return approval if approval is not None and approval.seq > since else None


def demotions(found: Iterable[Entry]) -> dict[str, int]:
    """Decision -> place in the log where the guard demoted it last."""
    return {name: entry.seq for entry in found if entry.kind == "guard" for name in demoted_by(entry)}


def demoted_by(guard: Entry) -> list[str]:
    """Ids of the decisions that an entry of the guard demotes."""
    first = guard.payload["demotes"]
    return [first, *guard.payload.get("also_demotes", ())] if first else []


def champion(warehouse: Path, contract: str, as_of: dt.date | None = None) -> str | None:
    """The model of `contract` that was promoted on the latest cycle, None before the first; HOLD and NO-GO on a later
    cycle leave it as it is.

    With `as_of`, decisions on later cycles do not count: an old date run again sees the champion of its time.
    """
    found = promoted(entries(warehouse), contract, as_of)
    return found.promotes if found else None


def incumbent(warehouse: Path, contract: str, date: dt.date) -> Champion | None:
    """The champion that the cycle of `date` found: promoted on a cycle before it. None if there was none."""
    return promoted(entries(warehouse), contract, date - dt.timedelta(days=1))


def challenger(warehouse: Path, contract: str, as_of: dt.date) -> str | None:
    """The model judged last on a cycle up to `as_of`, whatever came of it; None before the first."""
    found = decisions(entries(warehouse), contract, as_of)
    return found[-1].payload["model_id"] if found else None


def last_decision(warehouse: Path, contract: str, cycle_date: dt.date) -> Entry | None:
    """The decision in force on a cycle: the last one written; None if there is none."""
    found = [e for e in decisions(entries(warehouse), contract) if day_of(e) == cycle_date]
    return found[-1] if found else None


def approval_of(found: Iterable[Entry], decision_id: str) -> Entry | None:
    """The last approval of a decision, None if nobody approved it."""
    given = [e for e in found if e.kind == "approval" and e.payload["decision_id"] == decision_id]
    return given[-1] if given else None


def latest_by_cycle(found: Iterable[Entry], contract: str, before: dt.date) -> list[Entry]:
    """The decision in force on each cycle of `contract` before `before`, the latest cycle last."""
    by_cycle = {day_of(e): e for e in decisions(found, contract)}
    return [by_cycle[day] for day in sorted(by_cycle) if day < before]


def decisions(found: Iterable[Entry], contract: str | None = None, as_of: dt.date | None = None) -> list[Entry]:
    """The decisions of one contract and of cycles up to `as_of` if given, as written."""
    return [
        entry
        for entry in found
        if entry.kind == "decision"
        and contract in (None, entry.payload["contract"])
        and (as_of is None or day_of(entry) <= as_of)
    ]


def day_of(decision: Entry) -> dt.date:
    """The cycle decided on."""
    return dt.date.fromisoformat(decision.payload["cycle_date"])


def aliases(found: Sequence[Entry]) -> dict[str, Any]:
    """alias -> contract -> {model_id, decision_id, cycle_date}."""
    champions, challengers = {}, {}
    for contract in sorted({entry.payload["contract"] for entry in decisions(found)}):
        best, last = promoted(found, contract), decisions(found, contract)[-1]
        if best:
            champions[contract] = _alias(best.promotes, best.decision_id, best.cycle_date)
        challengers[contract] = _alias(last.payload["model_id"], last.decision_id, day_of(last))
    return {"champion": champions, "challenger": challengers}


def _alias(model_id: str | None, decision_id: str, cycle_date: dt.date) -> dict[str, str | None]:
    return {"model_id": model_id, "decision_id": decision_id, "cycle_date": cycle_date.isoformat()}


def aliases_path(warehouse: Path) -> Path:
    return warehouse / "models" / "aliases.json"


def write_aliases(warehouse: Path) -> dict[str, Any]:
    """Rebuild <warehouse>/models/aliases.json from the log and return what it holds; LogError if the log is gone."""
    refuse_gone(warehouse)
    found = aliases(entries(warehouse))
    write_json(aliases_path(warehouse), found)
    return found
