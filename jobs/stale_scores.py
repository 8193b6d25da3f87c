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

from jobs import decision_log, models, pointings, releases, score_files
from jobs.cycle import Cycle
from jobs.lake import Dataset, LakeError
from jobs.score_audits import Reference

REWRITTEN = ("scores", "top_scores")
KEPT = ("score_entities", "score_candidates", "score_blocks", "entities", "candidates")
NEEDED = (*REWRITTEN, *KEPT, "scoring")
# Bounds memory while writing, and lets a reader of one entity skip the other groups.
ROW_GROUP = 122_880


@dataclass(frozen=True)
class StaleSource:
    """Data sets of a good release, of full length, and what they say of themselves."""

    release_id: str
    datasets: dict[str, Dataset]
    scoring: dict[str, Any]  # the row of that release's fact `scoring`: by which model, when, on data through when

    def reference(self, cycle: Cycle) -> Reference:
        """What tonight's scores are compared with for drift."""
        files = {name: self.datasets[name].files for name in ("scores", "candidates")}
        return Reference(self.release_id, files["scores"], files["candidates"], self.is_prior(cycle))

    @property
    def is_stale(self) -> bool:
        """Whether that release served stale scores itself."""
        return self.scoring["source"] == "stale"

    def is_prior(self, cycle: Cycle) -> bool:
        """Whether the hierarchical prior made them; False if the model's card is gone."""
        try:
            return models.read_card(cycle.warehouse, self.scoring["model_id"])["algorithm"] == "prior"
        except LakeError:
            return False


def last_good(cycle: Cycle) -> StaleSource | None:
    """The scores served last by the contract, or None if no release up to the cycle's date has them all.

    A release that was rolled back from is not good, nor one that knows more than this cycle may. That the large files
    have their hashes is checked by `serve_stale`, on the rare night that needs them.
    """
    return next(_good(cycle), None)


def serve_stale(cycle: Cycle, source: StaleSource, reason: str) -> StaleSource | None:
    """Make the scores of `source` those of `cycle`, marked as stale; returns whose they are now.

    If a file of it was changed after writing, those of the release before that are taken, and so on; None if no release
    is whole. Nothing is remembered before all of it is written, so a crash leaves the cycle as it was.
    """
    whole = next((good for good in _good(cycle, source.release_id) if _is_whole(cycle, good)), None)
    if whole is None:
        return None
    keys = {name: whole.datasets[name].key for name in KEPT}
    for name in REWRITTEN:
        keys[name] = whole.datasets[name].key if whole.is_stale else _rewritten(cycle, whole.datasets[name]).key
    cycle.remember(keys)
    day = whole.scoring["score_date"]
    cycle.progress.note(f"{reason}: the scores of {day} (release {whole.release_id}) are served, stale")
    return whole


def _rewritten(cycle: Cycle, old: Dataset) -> Dataset:
    """`old` with source = 'stale', found or made."""
    inputs = {old.name: old.content}
    return cycle.prepare(old.name, __name__, inputs, {"source": "stale"}, lambda out: rewrite(old, out))[0]


def rewrite(old: Dataset, folder: Path) -> None:
    """Copy each file of `old` to `folder` in its order of rows, with source = 'stale'."""
    with score_files.connection() as db:
        for number, file in enumerate(old.files):
            target = score_files.quoted(str(folder / f"part-{number:05d}.parquet"))
            db.execute(
                f"copy (select * replace ('stale' as source) from {score_files.scan([file])})"
                f" to {target} (format parquet, compression snappy, row_group_size {ROW_GROUP})"
            )


def _good(cycle: Cycle, since: str | None = None) -> Iterator[StaleSource]:
    """What may be served again, the last served first; with `since`, from that release on."""
    for release in _served(cycle):
        if since not in (None, release.release_id):
            continue
        since = None
        found = _datasets(cycle, release)
        if found is not None and found["scores"].rows:
            [scoring] = found["scoring"].table().to_pylist()
            yield StaleSource(release.release_id, found, scoring)


def _served(cycle: Cycle) -> Iterator[releases.Release]:
    """Releases of the contract that were not rolled back from, the last served first."""
    name = cycle.contract.name
    known = {release.release_id: release for release in releases.list_releases(cycle.warehouse)}
    for release_id in reversed(pointings.standing(decision_log.entries(cycle.warehouse), name)):
        release = known.get(release_id)  # old ones are removed, damaged ones have no manifest
        if release is None or release.manifest["contract"] != name:
            continue
        if dt.datetime.fromisoformat(release.manifest["data_through"]) <= cycle.periods.data_through:
            yield release


def _datasets(cycle: Cycle, release: releases.Release) -> dict[str, Dataset] | None:
    """The release's data sets of scores if all are there in full length; None for a release of before these."""
    keys = json.loads(release.manifest["datasets"])
    found: dict[str, Dataset] = {}
    for name in NEEDED:
        dataset = cycle.lake.find(name, keys[name]) if name in keys else None
        if dataset is None:
            return None
        found[name] = dataset
    # Read on every night, and only one row.
    return found if _is_unchanged(cycle, release.release_id, found["scoring"]) else None


def _is_whole(cycle: Cycle, source: StaleSource) -> bool:
    """Whether every file still has its hash; reads all of them."""
    return all(_is_unchanged(cycle, source.release_id, dataset) for dataset in source.datasets.values())


def _is_unchanged(cycle: Cycle, release_id: str, dataset: Dataset) -> bool:
    try:
        dataset.verify()
    except LakeError as error:
        cycle.progress.note(f"release {release_id} cannot be served again: {error}")
        return False
    return True
