"""Job: after publication, read the gate's live rules; if a hard one is broken, go back to the last good release.

The thresholds are part of the gate, whose hash was recorded before the night was evaluated. A breach is one flip of
the pointer and one entry of the decision log, AUTO_ROLLBACK: it names what was left, where readers are now, and the
decision that promoted the model, which promotes nothing any more. Aliases, links of scores and vectors follow. What is
guarded is a publication: whoever rolled back by hand has looked, and is not overruled.

    guard/<release_id>/live_rules.parquet              a row per rule: value, threshold, outcome
    guard/<release_id>/fct_release_comparison.parquet  the release against the one before (jobs/release_comparison.py)
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from jobs import champions, decision_log, operations_log, pointings, release_comparison, releases, served_links
from jobs.decision_log import Entry
from jobs.gate import LiveRule, load_gate
from jobs.mart_checks import measure, reading
from jobs.releases import MART, Release

Say = Callable[[str], None]


@dataclass(frozen=True)
class Checked:
    """One live rule and what came of it."""

    rule: str
    severity: str
    blames: str
    mart: str
    metric: str
    operator: str
    threshold: float
    value: float | None
    outcome: Literal["pass", "breach", "unknown"]
    why: str
    on_breach: str | None

    @property
    def text(self) -> str:
        value = "not known" if self.value is None else f"{self.value:.6g}"
        told = f"{self.rule}: {value}, must be {self.operator} {self.threshold:.6g}"
        return f"{told} ({self.on_breach.rstrip('.')})" if self.on_breach and self.outcome == "breach" else told


@dataclass(frozen=True)
class Outcome:
    """What the guard found of `release_id`. `entry`: its entry of the decision log, None while all is well."""

    contract: str
    release_id: str
    checked: tuple[Checked, ...]
    entry: Entry | None
    is_new: bool  # judged now; else said before, or somebody rolled back to it by hand
    moved: str | None = None  # why it was not left: somebody pointed readers elsewhere while it was judged

    @property
    def line(self) -> str:
        if self.entry is not None:
            return self.entry.text
        if self.moved is not None:
            return self.moved
        if not self.is_new:
            return f"{self.release_id} was rolled back to by hand: not guarded"
        counts = {name: sum(c.outcome == name for c in self.checked) for name in ("pass", "breach", "unknown")}
        told = f"{counts['pass']} live rules hold, {counts['unknown']} not known"
        soft = "; ".join(c.text for c in self.checked if c.outcome == "breach")
        return f"{self.release_id} stays: {told}" + (f"; told only: {soft}" if soft else "")


def run(warehouse: Path, contract: str, gate: Path, say: Say = lambda line: None) -> Outcome:
    """Guard the contract's release that was published last. Run again, it says the same and does nothing.

    `say` gets a line for each link that could not follow. Raises ReleaseError if nothing was published, MartError for a
    rule that does not fit its mart; the release stays then.
    """
    log = decision_log.entries(warehouse)
    said = [e for e in log if e.kind in pointings.POINTING and e.payload["contract"] == contract]
    if not said:
        raise releases.ReleaseError(f"nothing of {contract} was published: run `fieldmart nightly` first")
    last = said[-1]
    if last.kind == "guard":
        _follow(warehouse, last, say)  # a crash may have come in between
        return Outcome(contract, last.payload["release_id"], (), last, False)
    if last.kind == "rollback":
        return Outcome(contract, last.payload["release_id"], (), None, False)
    started = time.perf_counter()
    release = releases.named(warehouse, last.payload["release_id"])
    earlier = _earlier(warehouse, log, release)
    checked = check(warehouse, release, next(earlier, None), load_gate(gate).live)
    broken = [one for one in checked if (one.outcome, one.severity) == ("breach", "hard")]
    entry = moved = None
    try:
        entry = _leave(warehouse, log, release, broken) if broken else None
    except releases.MovedError as error:
        moved = str(error)
    outcome = Outcome(contract, release.release_id, tuple(checked), entry, True, moved)
    if entry is not None:
        _follow(warehouse, entry, say)
    seconds = time.perf_counter() - started
    operations_log.append(warehouse, "guard", ok=entry is None, seconds=seconds, detail=outcome.line)
    return outcome


def check(warehouse: Path, release: Release, before: Release | None, rules: Sequence[LiveRule]) -> list[Checked]:
    """Judge `release` by `rules`, against `before` where a rule asks for it, and keep what was found."""
    with tempfile.TemporaryDirectory() as folder:
        compared = Path(folder) / "comparison.duckdb"
        release_comparison.write(warehouse, release, before, compared)
        found = [_checked(rule, _value(rule, release.folder / MART, compared)) for rule in rules]
        _keep(warehouse / "guard" / release.release_id, release, found, compared)
    return found


def _value(rule: LiveRule, mart: Path, compared: Path) -> float | None:
    with reading(compared if rule.mart == release_comparison.TABLE else mart) as connection:
        return measure(connection, rule)


def _checked(rule: LiveRule, value: float | None) -> Checked:
    outcome = "unknown" if value is None else "pass" if rule.holds(value) else "breach"
    metric = f"{rule.metric} where {rule.where}" if rule.where else rule.metric
    named = (rule.name, rule.severity, rule.blames, rule.mart, metric, rule.operator, rule.threshold)
    return Checked(*named, value, outcome, rule.why, rule.on_breach)


def _keep(folder: Path, release: Release, found: Sequence[Checked], compared: Path) -> None:
    """Both tables as Parquet, visible at once, in place of those of an earlier run that did not end."""
    new = folder.with_name(f".{folder.name}.{os.getpid()}")
    new.mkdir(parents=True, exist_ok=True)
    now = dt.datetime.now(dt.UTC).replace(tzinfo=None)
    rows = [{"release_id": release.release_id, "checked_at": now, **asdict(one)} for one in found]
    types = {"release_id": pa.string(), "checked_at": pa.timestamp("us")}
    types |= {name: pa.string() for name in Checked.__dataclass_fields__}
    types |= {"threshold": pa.float64(), "value": pa.float64()}
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(list(types.items()))), new / "live_rules.parquet")
    with duckdb.connect(str(compared), read_only=True) as connection:
        target = str(new / f"{release_comparison.TABLE}.parquet").replace("'", "''")
        connection.execute(f"copy {release_comparison.TABLE} to '{target}' (format parquet)")
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(new, folder)


def _earlier(warehouse: Path, log: Sequence[Entry], release: Release) -> Any:
    """Whole releases of the contract that readers were pointed to before `release` and nobody took back, the last
    first."""
    for name in reversed(pointings.standing(log, release.manifest["contract"])):
        if name != release.release_id:
            with contextlib.suppress(releases.ReleaseError):  # removed since, or damaged
                found = releases.named(warehouse, name)
                if releases.damage(found) is None:
                    yield found


def _leave(warehouse: Path, log: Sequence[Entry], release: Release, broken: Sequence[Checked]) -> Entry:
    """Go back to the last good release; where a model is to blame, to the last one that another model served."""
    blames_model = any(one.blames == "model" for one in broken)
    served = release.manifest.get("serving_model_id")
    good = (r for r in _earlier(warehouse, log, release) if not blames_model or _serving(r) != served)
    to = next(good, None)
    demotes = _demoted(log, release, to)
    payload = {
        "contract": release.manifest["contract"],
        "demotes": demotes[0] if demotes else None,
        "also_demotes": demotes[1:],
        "breaches": [
            {"rule": one.rule, "value": one.value, "bound": f"{one.operator} {one.threshold:.6g}", "text": one.text}
            for one in broken
        ],
        **{name: to.manifest[name] for name in (*releases.SHOWN, "decision_id") if to and name in to.manifest},
    }
    return releases.leave(warehouse, release.release_id, to.release_id if to else None, payload)


def _demoted(log: Sequence[Entry], release: Release, to: Release | None) -> list[str]:
    """The decision that promoted the model that is left, and those after that of `to` that nothing ever served: the
    champion is then the one that was when `to` was published. None if the same model served in both: it is not the
    model then."""
    contract, served, found = release.manifest["contract"], _serving(release), []
    best = champions.promoted(log, contract)
    if best is None or best.promotes != served or (to and _serving(to) == served):
        return []
    since = to.manifest.get("cycle_date", "") if to else ""
    while best is not None and (not to or best.promotes != _serving(to)):
        found.append(best.decision_id)
        best = champions.promoted([*log, _as_if(log, found)], contract)
        if to is None or (best and best.cycle_date.isoformat() <= since):
            break  # nothing tells more about who was champion then
    return found


def _as_if(log: Sequence[Entry], demotes: list[str]) -> Entry:
    """An entry of the guard as it would be written."""
    return replace(log[-1], seq=log[-1].seq + 1, kind="guard", payload={"demotes": demotes[0], "also_demotes": demotes})


def _serving(release: Release) -> str | None:
    return release.manifest.get("serving_model_id")


def _follow(warehouse: Path, entry: Entry, say: Say) -> None:
    """Aliases, and the links of scores and vectors of the release that readers see now."""
    champions.write_aliases(warehouse)
    if entry.payload["to"] is not None:
        for line in served_links.follow_log(warehouse, entry.payload["contract"]):
            say(line)
