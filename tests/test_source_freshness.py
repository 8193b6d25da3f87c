"""jobs.source_freshness: how old facts are, by the run that put them together and by the scores themselves."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fake_facts
import pytest

from jobs import source_freshness
from jobs.lake import LakeError

HOURS = {"runs": 1, "top_scores": 24 * 9, "scoring": 40}  # that ago the run started, the scores were made


def cycle_of(given: dict[str, str]) -> Any:
    """As much of a cycle as the check looks at."""
    return SimpleNamespace(
        contract=SimpleNamespace(name="tiny"),
        date=dt.date(2017, 12, 25),
        has=given.__contains__,
        dataset=lambda name: SimpleNamespace(files=[given[name].replace("*", "part-0")]),
    )


def test_facts_are_as_old_as_their_run_and_scores_as_they_say(tmp_path: Path) -> None:
    """Warned of from 36 hours on, too old from eight days on; a cycle date of 2017 makes nothing old."""
    now = dt.datetime.now(dt.UTC).replace(tzinfo=None)
    night = fake_facts.night()
    rows = {name: night[name] for name in HOURS} | {"entities": night["entities"]}
    for name, column in (("runs", "started_at"), ("top_scores", "scored_at"), ("scoring", "scored_at")):
        made = now - dt.timedelta(hours=HOURS[name])
        rows[name] = [row | {column: made} for row in rows[name]]
    found = source_freshness.check(cycle_of(fake_facts.write(tmp_path, rows)))
    told = [(row["fact"], row["status"]) for row in found]
    assert told == [("top_scores", "error"), ("scoring", "warn"), ("entities", "pass"), ("runs", "pass")]
    ages = {row["fact"]: row["age_hours"] for row in found}
    assert ages == pytest.approx(HOURS | {"entities": HOURS["runs"]}, abs=0.2)
    assert json.loads(source_freshness.as_json(found)) == found


def test_a_cycle_that_was_not_published_has_no_age() -> None:
    with pytest.raises(LakeError, match="no run of tiny 2017-12-25 is published: run `fieldmart publish` first"):
        source_freshness.check(cycle_of({}))
