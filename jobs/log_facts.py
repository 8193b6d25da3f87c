"""The decision log as facts: decisions, their rules, approvals, openings of the test periods, changes of an alias."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

from jobs import asof, champions, pointings
from jobs.decision_log import Entry
from jobs.facts import utc


def of_decisions(
    found: list[Entry], contract: str | None = None, as_of: dt.date | None = None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of the facts `decisions` and `decision_rules`, of one contract and of cycles up to `as_of` if given.

    The champion after a decision is the one until the next: on a later cycle, or up to now. So an approval, or
    a demotion by the guard, counts that was written before a later cycle was decided on; after that it shows from the
    later decision on.
    """
    decisions, rules = [], []
    later_said = [entry for entry in found if entry.kind in ("approval", "guard")]
    counted = champions.decisions(found, contract, as_of)
    for position, entry in enumerate(counted):
        payload = entry.payload
        cycle_date = dt.date.fromisoformat(payload["cycle_date"])
        after = champions.decisions(counted[position:], payload["contract"])
        later = (e for e in after if champions.day_of(e) > cycle_date)
        end = min((e.seq for e in later), default=found[-1].seq + 1)
        given = [said for said in later_said if said.seq < end]
        best = champions.promoted([*counted[: position + 1], *given], payload["contract"], cycle_date)
        decisions.append(
            {
                "decision_id": entry.decision_id,
                "seq": entry.seq,
                "cycle_date": cycle_date,
                "decided_at": utc(entry.at),
                "decided_by": payload.get("by"),
                "verdict": payload["verdict"],
                "reason": payload["reason"],
                "next_action": payload.get("next_action") or None,
                "k": payload["k"],
                "candidate_model_id": payload["model_id"],
                "champion_model_id": best.promotes if best else None,
                "gate_sha": payload["gate_sha"],
                "evidence_sha": payload["evidence_sha"],
                "entry_hash": entry.entry_hash,
            }
        )
        for seq, rule in enumerate(payload["rules"], start=1):
            rules.append({"decision_id": entry.decision_id, "seq": seq, **_NO_NOTE, **rule})
    return decisions, rules


_NO_NOTE = {"note": None, "periods_needed": None, "days_needed": None}  # of rules that were logged without


def of_approvals(
    found: Iterable[Entry], contract: str | None = None, as_of: dt.date | None = None
) -> list[dict[str, Any]]:
    """The rows of the fact `approvals`: approvals and waivers, of one contract and of cycles up to `as_of` if given."""
    day = dt.date.fromisoformat
    return [
        {
            "entry_id": entry.decision_id,
            "seq": entry.seq,
            "kind": entry.kind,
            "cycle_date": day(entry.payload["cycle_date"]),
            "given_at": utc(entry.at),
            "given_by": entry.payload["by"],
            "why": entry.payload["why"],
            "decision_id": entry.payload.get("decision_id"),
            "promotes": entry.payload.get("promotes"),
            "rule": entry.payload.get("rule"),
            "until": day(entry.payload["until"]) if "until" in entry.payload else None,
            "gate_sha": entry.payload["gate_sha"],
            "entry_hash": entry.entry_hash,
        }
        for entry in found
        if entry.kind in ("approval", "waiver")
        and contract in (None, entry.payload["contract"])
        and (as_of is None or entry.payload["cycle_date"] <= as_of.isoformat())
    ]


def of_aliases(found: list[Entry], contract: str, building: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """The rows of the fact `alias_changes`: what champion, challenger and live named, and since when by the wall clock.

    `building` is the release that this fact becomes part of (release_id, serving_model_id, decision_id, cycle_date): it
    is logged after it is built, so it is the last change of `live`, now, without an entry.
    """
    rows: list[dict[str, Any]] = []
    last: dict[str, dict[str, Any]] = {}
    for position, entry in enumerate(found):
        if entry.payload.get("contract") != contract or entry.kind not in CHANGING:
            continue
        for alias, named in _named_after(found[: position + 1], contract).items():
            if named != last.get(alias, NOTHING):
                last[alias] = named
                seq = sum(row["alias"] == alias for row in rows) + 1
                about = {"contract": contract, "alias": alias, "seq": seq, "changed_at": utc(entry.at)}
                told = {"cause": entry.kind, "entry_id": entry.decision_id, "note": entry.text}
                rows.append(about | told | named)
    if building is not None:
        seq = sum(row["alias"] == "live" for row in rows) + 1
        now = dt.datetime.now(dt.UTC).replace(tzinfo=None)
        rows.append(
            {"contract": contract, "alias": "live", "seq": seq, "changed_at": now, "cause": "publish", "entry_id": None}
            | {"note": building["release_id"], "model_id": building["serving_model_id"]}
            | {name: building[name] for name in ("release_id", "decision_id", "cycle_date")}
        )
    return rows


NOTHING = dict.fromkeys(("model_id", "release_id", "decision_id", "cycle_date"))
CHANGING = ("decision", "approval", *pointings.POINTING)


def _named_after(known: list[Entry], contract: str) -> dict[str, dict[str, Any]]:
    """What each alias names after the last of the entries `known`; an alias that never named anything is left out."""
    entry, said = known[-1], {}
    if entry.kind in ("decision", "approval", "guard"):
        best = champions.promoted(known, contract)
        said["champion"] = _row(best.promotes, best.decision_id, best.cycle_date) if best else _row(None, None, None)
    if entry.kind == "decision":
        said["challenger"] = _row(entry.payload["model_id"], entry.decision_id, champions.day_of(entry))
    if (to := pointings.target(entry)) is not None:
        shown = asof.served(known, entry)
        day = dt.date.fromisoformat(shown["cycle_date"]) if shown.get("cycle_date") else None
        said["live"] = _row(shown.get("serving_model_id"), shown.get("decision_id"), day, to)
    return said


def _row(
    model_id: str | None, decision_id: str | None, cycle_date: dt.date | None, release_id: str | None = None
) -> dict[str, Any]:
    named = {"model_id": model_id, "release_id": release_id, "decision_id": decision_id}
    return named | {"cycle_date": cycle_date}


def of_openings(found: Iterable[Entry], contract: str, as_of: dt.date) -> list[dict[str, Any]]:
    """The rows of the fact `test_openings`: of one contract, of cycles up to `as_of`."""
    day = dt.date.fromisoformat
    return [
        {
            **{name: entry.payload[name] for name in ("contract", "models", "nth")},
            **{name: day(entry.payload[name]) for name in ("cycle_date", "test_from", "test_through")},
            "opened_at": utc(entry.at),
        }
        for entry in found
        if entry.kind == "opening"
        and entry.payload["contract"] == contract
        and entry.payload["cycle_date"] <= as_of.isoformat()
    ]
