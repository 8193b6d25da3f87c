"""A late file through whole nights: it changes the label of its own day, and delivered again it changes nothing."""

from __future__ import annotations

import random
from pathlib import Path

import duckdb
import pytest
from test_late_data import DAYS, click, world
from typer.testing import CliRunner

from jobs import exit_codes, releases
from jobs.cli import app

pytestmark = pytest.mark.slow

OFFERS = ("tent", "stove", "lamp")
CORRECTED = 16  # a day of March whose label was final


def clicks() -> list[dict[str, str]]:
    """Twenty people, three offers a day; two in five buy what they like the next morning."""
    draw = random.Random(1)
    found = []
    for day in DAYS:
        for person in range(20):
            for number, offer in enumerate(OFFERS):
                buys = draw.random() < (0.6 if person % 3 == number else 0.1) and day < DAYS.stop - 1
                bought = f"2026-03-{day + 1:02d} 09:00:00" if buys else ""
                found.append(click(f"user-{person}", day, bought=bought, offer=offer))
    return found


def night(contract: Path) -> releases.Release:
    """The release of one night. Nothing is promoted in so small a world, so the prior serves, which the guard may not
    let stand: what the release says of the labels is the same."""
    root = contract.parent / "warehouse"
    done = CliRunner().invoke(app, ["nightly", "--contract", str(contract), "--warehouse", str(root)])
    assert done.exit_code in (0, exit_codes.ROLLED_BACK), done.output
    return releases.list_releases(root)[-1]


def mart(release: releases.Release, sql: str) -> list[tuple]:
    with duckdb.connect(str(release.folder / releases.MART), read_only=True) as opened:
        return opened.execute(sql).fetchall()


def test_a_late_file_replaces_its_own_day_and_again_nothing(spark, tmp_path: Path) -> None:
    rows = clicks()
    first = night(world(tmp_path, first=rows))
    unsold = next(row for row in rows if row["clicked_at"].startswith("2026-03-16") and not row["bought_at"])
    told = {"bought_at": "2026-03-17 09:00:00", "revenue": "5", "delivered_at": "2026-03-19 12:00:00"}
    late = night(world(tmp_path, late=[unsold | told]))
    assert late.manifest["content_sha256"] != first.manifest["content_sha256"]

    label = (
        "select period, conversions, conversions_former, is_mature, is_final from fct_label_maturity order by period"
    )
    before, after = mart(first, label), mart(late, label)
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    [(old, new)] = changed
    assert old[0].day == CORRECTED
    # Told in the last day before the cycle: known now, not one period ago, so mature and not final any more.
    assert (new[1], new[2]) == (old[1] + 1, old[1])
    assert (old[3:], new[3:]) == ((True, True), (True, False))
    quality = "select category, sum(n_rows)::int from fct_data_quality group by 1 order by 1"
    assert mart(first, quality) == [("kept", len(rows))]
    assert mart(late, quality) == [("kept", len(rows)), ("superseded", 1)]

    (tmp_path / "in" / "late.csv").touch()
    (tmp_path / "in" / "zz_again.csv").write_bytes((tmp_path / "in" / "late.csv").read_bytes())
    again = night(tmp_path / "clicks.yml")
    assert again.manifest["content_sha256"] == late.manifest["content_sha256"]
    assert (again.release_id, len(releases.list_releases(tmp_path / "warehouse"))) == (late.release_id, 2)
