"""Where readers were pointed and when, read from the decision log. Pure.

`publish` and `rollback` point to a release. So does `guard`, if there was an earlier release to go back to: the release
that it left is never pointed to again, unless a person rolls back to it by name.
"""

from __future__ import annotations

from collections.abc import Iterable

from jobs.decision_log import Entry

POINTING = ("publish", "rollback", "guard")


def target(entry: Entry) -> str | None:
    """The release an entry points to; None if it points to none."""
    if entry.kind in ("publish", "rollback"):
        return entry.payload["release_id"]
    return entry.payload["to"] if entry.kind == "guard" else None


def last_of(found: Iterable[Entry], contract: str) -> str | None:
    """The contract's release that was pointed to last, whatever other contracts did since."""
    pointed = [target(e) for e in found if e.kind in POINTING and e.payload["contract"] == contract]
    return next((name for name in reversed(pointed) if name is not None), None)


def last(found: Iterable[Entry]) -> str | None:
    """What the one pointer of the warehouse names. The guard only moves it from the release that it leaves: of two
    contracts in one warehouse the other may be current."""
    named: str | None = None
    for entry in found:
        to = target(entry)
        if to is not None and (entry.kind != "guard" or named == entry.payload["release_id"]):
            named = to
    return named


def left(found: Iterable[Entry]) -> dict[str, Entry]:
    """Release -> the entry of the guard that left it, for those that nobody rolled back to since."""
    gone: dict[str, Entry] = {}
    for entry in found:
        if entry.kind == "guard":
            gone[entry.payload["release_id"]] = entry
        elif entry.kind == "rollback":
            gone.pop(entry.payload["release_id"], None)
    return gone


def standing(found: Iterable[Entry], contract: str) -> list[str]:
    """Ids of the contract's releases that were not taken back, in the order in which they were pointed at.

    Going back to X, by a rollback or by the guard, takes back what was published after X, for good: the next
    publication does not bring it back. Only pointing at a release by name does.
    """
    standing: list[str] = []
    published: dict[str, int] = {}  # when each was published last, by its entry in the log
    for entry in found:
        if entry.kind not in POINTING or entry.payload["contract"] != contract:
            continue
        if entry.kind == "guard":
            standing = [other for other in standing if other != entry.payload["release_id"]]
        to = target(entry)
        if to is None:  # the guard left the first release: there is nothing to go back to
            continue
        if entry.kind == "publish":
            published[to] = entry.seq
        limit = published.get(to, entry.seq)
        standing = [other for other in standing if published.get(other, 0) < limit] + [to]
    return standing
