"""The champion of an earlier night, judged on tonight's rows under its own vocabulary."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from ffm_udf import card as cards
from ffm_udf import predictions, scoring, vocabulary
from jobs import champions, cli, encode, evaluate, incumbent, ingest, judged, models, train
from jobs.progress import Progress

NEXT = "2017-03-20"  # a week after the small world's own night


def write(path: Path, rows: list[tuple[str, str | None]]) -> str:
    named = [{"field": field, "value": value, "feature_id": at} for at, (field, value) in enumerate(rows)]
    pq.write_table(pa.Table.from_pylist(named), path)
    return str(path)


def test_feature_ids_are_translated_by_field_and_value(tmp_path: Path) -> None:
    """The other vocabulary lacks brand b, knows brand c, and has the same text in two fields."""
    mine = write(
        tmp_path / "a.parquet", [("brand", None), ("brand", "a"), ("brand", "b"), ("size", None), ("size", "a")]
    )
    rows = [("brand", None), ("brand", "a"), ("brand", "c"), ("size", None), ("size", "0"), ("size", "a")]
    theirs = write(tmp_path / "b.parquet", rows)
    assert vocabulary.translation(mine, theirs).tolist() == [0, 1, 0, 3, 5]
    assert vocabulary.translation(theirs, mine).tolist() == [0, 1, 0, 3, 3, 4]


@pytest.mark.slow
def test_the_champion_scores_tonights_rows_as_its_own_vocabulary_codes_them(own_night, spark) -> None:
    """Against scoring the field values themselves under the champion's vocabulary, exposure by exposure."""
    before = champions.incumbent(own_night.cycle.warehouse, "small", own_night.cycle.date)
    assert before is None  # on its own night it is not yet what serves
    cycle = cli.cycle_of(own_night.contract, NEXT, own_night.cycle.warehouse)
    cycle.progress = Progress(Console(quiet=True))
    ingest.run(cycle, spark)
    encode.run(cycle, spark)
    train.run(cycle, spark)
    evaluate.run(cycle, spark, *(cli.policy(own_night.contract, f"{name}.yml") for name in ("gate", "rates", "value")))

    champion = champions.incumbent(cycle.warehouse, "small", cycle.date)
    found = incumbent.find(cycle)
    assert champion is not None
    assert found is not None
    [row] = cycle.dataset("incumbent_comparison").table().to_pylist()
    assert (row["incumbent_source"], row["incumbent_model_id"]) == ("champion", champion.model_id)
    assert found.entrant.model_id == champion.model_id
    rows = judged.opened(cycle, spark)
    known, said = predictions.opened(rows.task())
    card = models.read_card(cycle.warehouse, Path(found.entrant.rehearsal).name)
    own = cycle.lake.get("vocabulary", card["lineage"]["vocabulary"]["key"]).table()
    assert own.num_rows < cycle.dataset("vocabulary").rows  # a week less of it
    frame = pl.concat([pl.read_parquet(path) for path in cycle.dataset("values").under("split=test")])
    ids, tonight = encode.field_ids(own), encode.field_ids(cycle.dataset("vocabulary").table())
    columns, lost = [], 0
    for name in cycle.contract.field_names:
        values = frame[f"v_{name}"].to_arrow()
        mine, has = ids[name].of(values).to_numpy(), tonight[name].of(values).to_numpy() != tonight[name].oov
        lost += ((mine != ids[name].oov) & ~has).sum()
        # What tonight's vocabulary lacks (codes of history around another base rate, here) is lost on the way.
        columns.append(np.where(has, mine, ids[name].oov))
    assert lost < 0.01 * frame.height * len(columns)
    X = np.column_stack(columns)
    expected = scoring.opened(found.entrant.rehearsal).score(np.ascontiguousarray(X, np.int32))[0]
    test = known.splits["test"]
    mine = said.logits(rows.place_of(champion.model_id))[test]
    np.testing.assert_allclose(np.sort(mine), np.sort(expected), rtol=1e-6)
    loss = {r["model_id"]: r["sum_logloss"] / r["n"] for r in cycle.dataset("period_metrics").table().to_pylist()}
    assert champion.model_id not in loss  # tonight's table is of tonight's candidates
    assert row["n"] == test.stop - test.start


@pytest.mark.slow
def test_a_champion_that_cannot_be_judged_is_told_and_the_prior_is_the_incumbent(own_night) -> None:
    cycle = cli.cycle_of(own_night.contract, NEXT, own_night.cycle.warehouse)
    cycle.progress = Progress(Console(record=True, width=200, file=io.StringIO()))
    champion = champions.incumbent(cycle.warehouse, "small", cycle.date)
    (models.model_folder(cycle.warehouse, champion.model_id) / cards.NAME).unlink()
    assert incumbent.find(cycle) is None
    assert "cannot be judged" in cycle.progress.console.export_text()
