"""A bad model on a real night: promoted, let through by audits that are too wide, published, and left by the guard."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
import yaml
from rich.console import Console
from small_world import GATE, write_contract

from ffm_udf import card as cards
from ffm_udf import scoring
from ffm_udf.model import FFM
from jobs import champions, cli, decide, decision_log, model_lineage, models, nightly, releases
from jobs.progress import Progress

NEXT = "2017-03-20"  # a week after the small world's own night


def garble(warehouse: Path, model_id: str) -> None:
    """Give every value of a field the weights of another value of it, and the card the checksums of that."""
    folder = models.model_folder(warehouse, model_id)
    card = json.loads((folder / cards.NAME).read_text())
    [path] = (warehouse / "lake" / "vocabulary" / card["lineage"]["vocabulary"]["key"]).glob("*/*.parquet")
    fields = pl.read_parquet(path).sort("feature_id")["field_no"].to_numpy()
    swapped, rng = np.arange(len(fields)), np.random.default_rng(1)
    for field in np.unique(fields):
        swapped[fields == field] = rng.permutation(np.flatnonzero(fields == field))
    FFM.load(folder).renumbered(swapped).save(folder)
    cards.write(folder, card | {"files": cards.checksums(folder)})
    scoring.opened.cache_clear()


def served(warehouse: Path, date: str) -> pl.DataFrame:
    """What a reader of the tree by date finds."""
    link = warehouse / "scores" / "small" / f"score_date={date}"
    return pl.read_parquet(sorted(link.glob("*.parquet")))


@pytest.mark.slow
def test_a_bad_model_is_left_within_the_night_that_published_it(
    own_night: Any, small_tables: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse, good = own_night.cycle.warehouse, own_night.release.release_id
    before = champions.champion(warehouse, "small")
    folder = tmp_path / "conf"
    folder.mkdir()
    contract = write_contract(folder, small_tables)
    live = yaml.safe_load((cli.PROJECT / "conf" / "gate.yml").read_text())["live"]
    (folder / "gate.yml").write_text(yaml.safe_dump(GATE | {"live": live}))
    # The audits of scores and release would stop it (PSI 5.8, mean 3.07 times the rate); here somebody widened them.
    bands = yaml.safe_load((cli.PROJECT / "conf" / "scores.yml").read_text())
    bands["psi"]["high"] = 50.0
    for name in ("mean_p_of_comparable_pairs", "mean_p_of_all_pairs"):
        bands[name] |= {"low": 0.02, "high": 50.0}
    (folder / "scores.yml").write_text(yaml.safe_dump(bands))
    audits = yaml.safe_load((cli.PROJECT / "conf" / "audits.yml").read_text())
    for audit in audits["checks"]:
        audit["threshold"] = 50.0 if audit["name"] == "mean_p_not_high" else audit["threshold"]
    (folder / "audits.yml").write_text(yaml.safe_dump(audits))
    cycle = cli.cycle_of(contract, NEXT, warehouse)
    cycle.progress = Progress(Console(record=True, width=250, file=io.StringIO()))
    decided, bad = decide.run, []

    def tampered(*given: Any, **options: Any) -> decision_log.Entry:
        entry = decided(*given, **options)
        if not bad:
            bad.append(entry.payload["promotes"])
            garble(warehouse, bad[0])
        return entry

    monkeypatch.setattr(decide, "run", tampered)
    release = nightly.run(cycle, lambda name: cli.policy(contract, name))

    # It was promoted, scored, passed every audit and was published: the manifest says so.
    assert cycle.state()["run"]["verdict"] == "GO"
    assert (release.manifest["score_source"], release.manifest["serving_model_id"]) == ("model", bad[0])
    assert all(audit["passed"] for audit in release.manifest["audits"])
    # And it was left, in the same run.
    current = releases.current(warehouse)
    assert current is not None
    assert current.release_id == good
    assert champions.champion(warehouse, "small") == before
    entry = decision_log.entries(warehouse)[-1]
    assert (entry.kind, entry.payload["to"], entry.payload["release_id"]) == ("guard", good, release.release_id)
    assert {breach["rule"] for breach in entry.payload["breaches"]} >= {"live_rank_agreement"}
    assert "AUTO_ROLLBACK" in cycle.progress.console.export_text()
    assert served(warehouse, NEXT).equals(served(warehouse, "2017-03-13"))
    broken = [link.name for link in model_lineage.trace(warehouse, bad[0], verify=True) if link.fault]
    assert broken == ["card"]  # the log knows the card that was promoted

    # The same night once more, now a good one: the champion that was scores it, and readers go forward.
    again = nightly.run(cycle, lambda name: cli.policy(contract, name))
    assert again.is_current
    assert again.release_id != release.release_id
    assert again.manifest["serving_model_id"] == before
    assert set(served(warehouse, NEXT)["model_id"]) == {before}
    assert decision_log.entries(warehouse)[-1].kind == "publish"
    mart = duckdb_rows(again.folder / "mart.duckdb")
    assert [row[:3] for row in mart if row[0] == "live"] == [
        ("live", "publish", before),
        ("live", "publish", bad[0]),
        ("live", "guard", before),
        ("live", "publish", before),
    ]
    assert [row[:3] for row in mart if row[0] == "champion"] == [
        ("champion", "decision", before),
        ("champion", "decision", bad[0]),
        ("champion", "guard", before),
    ]
    assert any(row[3].startswith("AUTO_ROLLBACK") for row in mart)


def duckdb_rows(mart: Path) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(mart), read_only=True) as connection:
        return connection.execute(
            "select alias, cause, model_id, note from fct_alias_history order by alias, seq"
        ).fetchall()
