"""What the contract's nights up to one came to: the facts `nights` and `night_stages`, from what each cycle remembers.

The lake keeps what a cycle stood on, the decision log when its scores were first readable. A release cannot know its
own publication; the next one does, and `fieldmart slo` reads the log.

A night that was run again, or resumed after a failure, is judged by its first start and costs what its stages took when
they last did the work: a result that was found and reused does not make it cheap, nor punctual.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from jobs import decision_log
from jobs.contract import Contract
from jobs.cycle import Cycle
from jobs.facts import utc
from jobs.lake import Dataset, Lake
from jobs.run_facts import STAGES
from jobs.slo import Slo, objectives, operations

KEPT = 400  # nights; more than a year of daily ones
ORDER = (*STAGES, "publish")


def write(cycle: Cycle, policy: Slo) -> None:
    """Write the facts of operation (`operations`, `nights`, `night_stages`, `slo_objectives`) as they are now, and let
    the cycle stand on them."""
    now = utc(dt.datetime.now(dt.UTC))
    history = History(cycle.warehouse, cycle.contract, policy, cycle.date)
    found = {
        "operations": operations(cycle.warehouse, policy, now),
        "nights": history.nights(cycle.date),
        "night_stages": history.stages(cycle.date),
        "slo_objectives": objectives(policy, cycle.contract, now),
    }
    cycle.write_facts(__name__, found)


class History:
    """The cycles of one contract up to a date (None: all), the oldest first."""

    def __init__(self, warehouse: Path, contract: Contract, policy: Slo, until: dt.date | None = None) -> None:
        self.contract, self.policy, self.lake = contract, policy, Lake(warehouse)
        self.states: dict[dt.date, dict[str, Any]] = {}
        for path in sorted((warehouse / "cycles" / contract.name).glob("[!.]*.json"))[-KEPT:]:
            date = dt.date.fromisoformat(path.stem)
            state = json.loads(path.read_text())
            if state["stages"] and (until is None or date <= until):
                self.states[date] = state
        self._published = _first_published(decision_log.entries(warehouse), contract.name)

    def nights(self, own: dt.date | None = None) -> list[dict[str, Any]]:
        """The rows of the fact `nights`; the cycle of `own` is published from here only if an earlier run of it was."""
        return [self._night(date, state, date == own) for date, state in self.states.items()]

    def stages(self, own: dt.date | None = None) -> list[dict[str, Any]]:
        """The rows of the fact `night_stages`; of `own` without publish, which is not over when this is written."""
        found = []
        for date, state in self.states.items():
            stages = _worked(state)
            names = sorted(stages, key=_place)
            names = [name for name in names if date != own or not name.startswith("publish")]
            found += [
                {
                    "contract": self.contract.name,
                    "cycle_date": date,
                    "seq": seq,
                    "stage": name,
                    "is_part": ":" in name,
                    **stages[name],
                    "started_at": dt.datetime.fromisoformat(stages[name]["started_at"]),
                }
                for seq, name in enumerate(names, start=1)
            ]
        return found

    def _night(self, date: dt.date, state: dict[str, Any], is_own: bool) -> dict[str, Any]:
        stages, run, ready = _worked(state), state["run"], self.policy.scores_ready
        if is_own:
            stages = {name: stage for name, stage in stages.items() if not name.startswith("publish")}
        started = dt.datetime.fromisoformat(_begun_at(state))
        aware = started.replace(tzinfo=dt.UTC)
        [scoring] = self._rows(state, "scoring") or [{}]
        judged = next((row for row in self._rows(state, "k_comparison") if row["is_verdict"]), {})
        cpu_s, peaks = self._spent(state, scoring)
        peaks += [stage["peak_rss_mib"] for stage in stages.values()]
        return {
            "contract": self.contract.name,
            "cycle_date": date,
            "is_own": is_own,
            "is_replay": ready.is_replay(date, aware, self.contract),
            "started_at": started,
            "due_at": utc(ready.due(date, aware, self.contract)),
            "published_at": self._published.get(date),
            "release_id": run.get("release_id") if is_own else run.get("published_id"),
            "wall_s": sum(stage["wall_s"] for name, stage in stages.items() if ":" not in name),
            "cpu_s": cpu_s,
            "peak_rss_mib": max(peaks),
            "verdict": run.get("verdict"),
            "k": judged.get("k"),
            "champion_model_id": run.get("serving_model_id") if run.get("score_source") == "model" else None,
            "score_source": run.get("score_source"),
            "is_degraded": scoring.get("is_degraded"),
            "logloss": judged.get("logloss"),
            "pairs": scoring.get("pairs"),
        }

    def _spent(self, state: dict[str, Any], scoring: dict[str, Any]) -> tuple[float, list[float]]:
        """CPU seconds of the workers, and their largest memories in MiB; what another cycle made cost nothing."""
        cpu_s, peaks = 0.0, []
        trained = self._find(state, "training_cost")
        if trained is not None and trained.rows and _is_done(state, "train"):
            table = trained.table()
            cpu_s += pc.sum(table["cpu_s"]).as_py()
            peaks.append(pc.max(table["peak_rss_mib"]).as_py())
        if scoring and _is_done(state, "score"):
            cpu_s += scoring["cpu_s"]
            peaks.append(scoring["peak_rss_mib"])
        return cpu_s, peaks

    def _find(self, state: dict[str, Any], name: str) -> Dataset | None:
        key = state["datasets"].get(name)
        return self.lake.find(name, key) if key else None

    def _rows(self, state: dict[str, Any], name: str) -> list[dict[str, Any]]:
        """The rows of a small fact that the cycle stands on; none if it is gone."""
        found = self._find(state, name)
        return [] if found is None else found.table().to_pylist()


def _worked(state: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Stage -> its last record that did the work; where this cycle never did (another had made it), the last one."""
    return state["stages"] | state.get("made", {})


def _begun_at(state: dict[str, Any]) -> str:
    """When the cycle's first run began; of cycles from before that was remembered, the earliest stage known."""
    return state.get("begun_at") or min(stage["started_at"] for stage in state["stages"].values())


def _is_done(state: dict[str, Any], stage: str) -> bool:
    return _worked(state).get(stage, {}).get("status") == "done"


def _place(stage: str) -> tuple[int, str]:
    """Known stages in their order, each before its parts, then all others."""
    whole = stage.split(":")[0]
    return (ORDER.index(whole) if whole in ORDER else len(ORDER), stage)


def cycle_date_of(release_id: str, contract: str) -> dt.date | None:
    """The date of the cycle that a release of `contract` is of, from its id <contract>-<date>[-n]; None for another."""
    named = re.fullmatch(rf"{re.escape(contract)}-(\d{{4}}-\d\d-\d\d)(-\d+)?", release_id)
    return dt.date.fromisoformat(named[1]) if named else None


def _first_published(log: list[decision_log.Entry], contract: str) -> dict[dt.date, dt.datetime]:
    """Cycle date -> when a release of that cycle was pointed to first (naive UTC)."""
    found: dict[dt.date, dt.datetime] = {}
    for entry in log:
        if entry.kind == "publish" and entry.payload["contract"] == contract:
            date = cycle_date_of(entry.payload["release_id"], contract)
            if date is not None:
                found.setdefault(date, utc(entry.at))
    return found
