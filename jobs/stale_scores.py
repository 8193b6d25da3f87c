"""Yesterday's scores in place of scores that must not be seen: what was served last, told apart by `source = stale`.

Only the source is rewritten. Dates, ranks and p stay those of the night that made them, so a reader sees how old they
are.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs import decision_log, models, releases, score_files
from jobs.cycle import Cycle
from jobs.lake import Dataset, LakeError
from jobs.score_audits import Reference

REWRITTEN = ("scores", "top_scores")
KEPT = ("score_entities", "score_candidates", "score_blocks", "entities", "candidates")
# Bounds memory while writing, and lets a reader of one entity skip the other groups.
ROW_GROUP = 122_880


@dataclass(frozen=True)
class StaleSource:
    """Whole data sets of the last good release, and what they say of themselves."""

    release_id: str
    datasets: dict[str, Dataset]
    scoring: dict[str, Any]  # the row of that release's fact `scoring`: by which model, when, on data through when

    def reference(self, cycle: Cycle) -> Reference:
        """What tonight's scores are compared with for drift."""
        files = {name: self.datasets[name].files for name in ("scores", "candidates")}
        return Reference(self.release_id, files["scores"], files["candidates"], self.is_prior(cycle))

    def is_prior(self, cycle: Cycle) -> bool:
        """Whether the hierarchical prior made them; False if the model's card is gone."""
        try:
            return models.read_card(cycle.warehouse, self.scoring["model_id"])["algorithm"] == "prior"
        except LakeError:
            return False


def last_good(cycle: Cycle) -> StaleSource | None:
    """The scores served last by the contract, or None if no release up to the cycle's date has them whole.

    What the log says was published or rolled back to last comes first, then what was published before that: a release
    that was rolled back from is not good. A release that knows more than this cycle may is passed over.
    """
    for release in _served(cycle):
        found = _datasets(cycle, release)
        if found is not None and found["scores"].rows:
            [scoring] = found.pop("scoring").table().to_pylist()
            return StaleSource(release.release_id, found, scoring)
    return None


def serve_stale(cycle: Cycle, source: StaleSource, reason: str) -> dict[str, Dataset]:
    """Make the scores of `source` those of `cycle`, marked as stale; returns every data set that was replaced.

    Nothing is remembered before all of it is written, so a crash leaves the cycle as it was.
    """
    keys = {name: source.datasets[name].key for name in KEPT}
    for name in REWRITTEN:
        old = source.datasets[name]
        key = cycle.lake.key(name, __name__, {name: old.content}, {"source": "stale"})
        if cycle.lake.find(name, key) is None:
            with cycle.lake.writing(name, key, {name: old.content}, {"source": "stale"}) as folder:
                rewrite(old, folder)
        keys[name] = key
    cycle.remember(keys)
    day = source.scoring["score_date"]
    cycle.progress.note(f"{reason}: the scores of {day} (release {source.release_id}) are served, stale")
    return {name: cycle.lake.get(name, key) for name, key in keys.items()}


def rewrite(old: Dataset, folder: Path) -> None:
    """Copy each file of `old` to `folder` in its order of rows, with source = 'stale'."""
    with score_files.connection() as db:
        for number, file in enumerate(old.files):
            target = score_files.quoted(str(folder / f"part-{number:05d}.parquet"))
            db.execute(
                f"copy (select * replace ('stale' as source) from {score_files.scan([file])})"
                f" to {target} (format parquet, compression snappy, row_group_size {ROW_GROUP})"
            )


def _served(cycle: Cycle) -> Iterator[releases.Release]:
    """Releases of the contract that were not rolled back from, the last served first."""
    name = cycle.contract.name
    known = [release for release in releases.list_releases(cycle.warehouse) if release.manifest["contract"] == name]
    by_id = {release.release_id: place for place, release in enumerate(known)}
    pointed = [
        entry.payload["release_id"]
        for entry in decision_log.entries(cycle.warehouse)
        if entry.kind in ("publish", "rollback") and entry.payload["contract"] == name
    ]
    last = by_id.get(pointed[-1]) if pointed else None
    for release in reversed(known[: last + 1] if last is not None else []):
        through = dt.datetime.fromisoformat(release.manifest["data_through"])
        if through <= cycle.periods.data_through:
            yield release


def _datasets(cycle: Cycle, release: releases.Release) -> dict[str, Dataset] | None:
    """The release's data sets of scores if all are there and unchanged; None for a release of before these."""
    keys = json.loads(release.manifest["datasets"])
    found: dict[str, Dataset] = {}
    for name in (*REWRITTEN, *KEPT, "scoring"):
        dataset = cycle.lake.find(name, keys[name]) if name in keys else None
        if dataset is None:
            return None
        try:
            dataset.verify()
        except LakeError as error:
            cycle.progress.note(f"release {release.release_id} cannot be served again: {error}")
            return None
        found[name] = dataset
    return found
