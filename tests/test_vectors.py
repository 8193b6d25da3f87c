"""The exported vectors: p of any pair from them, in SQL and NumPy, is that of the row kernel and that of the scores."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import duckdb
import jinja2
import numpy as np
import pair_rows
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Night
from rich.console import Console
from test_allpairs import VALUES, World

from ffm_udf import scoring
from ffm_udf import vectors as steps
from ffm_udf.pair_features import MISSING
from ffm_udf.prior import HierarchicalPrior
from jobs import cli, facts, models, serving, vectors
from jobs.lake import Dataset, sha256_json
from jobs.progress import Progress

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = (ROOT / "examples" / "pair_score.sql").read_text()
KEYS = ["entity_id", "match_id", "candidate_id"]


def macro(folder: str, pairs: str) -> str:
    """What dbt makes of the macro; `folder` is an SQL expression."""
    source = (ROOT / "dbt" / "macros" / "cvr_from_vectors.sql").read_text()
    return jinja2.Environment().from_string(source).module.cvr_from_vectors(folder, pairs)


# ---- one block after the other, from arrays ----


def write_inputs(world: World, root: Path, blocks: int = 2) -> None:
    """The world as score_inputs of one match, with entities in equal parts and names for its numbers."""
    places = dict(zip(("entity", "candidate", "pair"), (s for s in vars(world.sides).values()), strict=True))
    layout = {side: [f"f{f}" for f in fields] for side, fields in places.items()}
    layout |= {"fields": [f"f{f}" for f in range(world.sides.n_fields)]}
    layout["default"] = {name: int(x) for name, x in zip(layout["pair"], world.pairs.default, strict=True)}
    layout["keys"] = dict(zip(layout["pair"], world.pairs.keys, strict=True))
    layout["oov"] = dict.fromkeys(layout["fields"], 0)
    write(root / "layout.json", json.dumps(layout))
    columns = {f"f_{name}": world.X_c[:, i] for i, name in enumerate(layout["candidate"])}
    columns |= {f"k_{name}": world.pairs.of_candidate[:, i] for i, name in enumerate(layout["pair"])}
    table = {"match_id": ["m"] * len(world.X_c), "candidate_id": [f"c{c}" for c in range(len(world.X_c))]}
    write(root / "candidates" / "part-00000.parquet", table | columns)
    for number, rows in enumerate(np.array_split(np.arange(len(world.X_u)), blocks)):
        table = {"entity_id": [f"u{u}" for u in rows], "match_id": ["m"] * len(rows)}
        columns = {f"f_{name}": world.X_u[rows, i] for i, name in enumerate(layout["entity"])}
        folder = root / f"block={number:05d}"
        write(folder / "entities" / "part-00000.parquet", table | columns)
        entries = [
            (p, u - rows[0], int(world.pairs.key[e]), int(world.pairs.feature[e]))
            for p in range(len(layout["pair"]))
            for u in rows
            for e in range(world.pairs.indptr[p, u], world.pairs.indptr[p, u + 1])
        ]
        found = np.array(entries, np.int32).reshape(-1, 4).T
        named = dict(zip(("field", "entity", "key", "feature"), found, strict=True))
        write(folder / "pairs" / "part-00000.parquet", named)


def write(path: Path, content: str | dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str):
        path.write_text(content)
    else:
        pq.write_table(pa.table(content), path)


@pytest.fixture
def take_apart(tmp_path, monkeypatch):
    """Takes a world's model apart into vectors; the folder."""

    def run(world: World) -> Path:
        monkeypatch.setattr(scoring, "opened", lambda folder: SimpleNamespace(model=world.model))
        write_inputs(world, tmp_path / "inputs")
        rows = {"field": [], "feature_id": [], "value": []}
        for field, first in enumerate(world.first):
            for at in range(VALUES):
                rows["field"].append(f"f{field}")
                rows["feature_id"].append(int(first) + at)
                rows["value"].append(str(at))
        write(tmp_path / "vocabulary.parquet", rows)
        task = {"inputs": str(tmp_path / "inputs"), "model": "", "out": str(tmp_path / "out")}
        task |= {"vocabulary": [str(tmp_path / "vocabulary.parquet")], "heartbeat": str(tmp_path / "beat")}
        for block in (None, 0, 1):
            steps.write_step(task | {"block": block})
        write(tmp_path / "out" / "calibrator" / "part-00000.parquet", {"slope": [0.5], "intercept": [-1.0]})
        return tmp_path / "out"

    return run


def from_sql(folder: Path, pairs: str) -> pl.DataFrame:
    with duckdb.connect() as connection:
        connection.execute("create table pairs (entity_id varchar, match_id varchar, candidate_id varchar)")
        connection.execute(f"insert into pairs {pairs}")
        return connection.sql(macro(f"'{folder}'", "pairs")).pl().sort(*KEYS)


EVERY_PAIR = "select 'u' || u, 'm', 'c' || c from range(9) as _(u) cross join range(7) as _(c)"


@pytest.mark.parametrize(
    ("sides", "options"),
    [
        (((0, 3), (1, 5), (2, 4, 6)), {"k": 3}),
        (((0, 3), (1, 5), (2, 4, 6)), {"k": 3, "normalize": False}),
        (((6,), (0, 1), (5, 2, 4, 3)), {"k": 1, "linear": False, "bias": False}),
        (((0, 1, 2), (3, 4), ()), {"k": 4}),  # no pair fields
        (((), (0,), (1, 2)), {"k": 2}),  # nothing of the entity's own
    ],
)
def test_every_pair_has_the_logit_of_the_row_kernel(sides, options, take_apart) -> None:
    world = World(sides, seed=1, **options)
    found = from_sql(take_apart(world), EVERY_PAIR)
    expected = world.by_row()  # entities u0..u8, each with candidates c0..c6
    assert found["entity_id"].to_list() == [f"u{u}" for u in range(9) for _ in range(7)]
    np.testing.assert_allclose(found["raw_score"].to_numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(found["p"].to_numpy(), 1 / (1 + np.exp(1.0 - 0.5 * expected)), atol=1e-6)


def test_defaults_of_the_pair_fields_change_nothing(take_apart) -> None:
    world = World(((0,), (1,), (2, 3)), seed=2)
    table = pl.read_parquet(take_apart(world) / "feature_vectors" / "*.parquet")
    assert len(table) == 2 * VALUES
    defaults = table.filter("is_default")
    assert defaults.select("field", "feature").rows() == [(p, d) for p, d in enumerate(world.pairs.default)]
    for name in ("constant", "to_entity", "to_candidate", "to_pair"):
        values = defaults[name].explode() if name != "constant" else defaults[name]
        assert values.abs().max() == 0.0


def test_pairs_that_the_vectors_do_not_have_are_left_out(take_apart) -> None:
    folder = take_apart(World(((0,), (1,), (2,)), seed=3))
    found = from_sql(folder, "values ('u1', 'm', 'c2'), ('u1', 'other', 'c2'), ('u99', 'm', 'c2'), ('u1', 'm', 'c99')")
    assert found.select(KEYS).rows() == [("u1", "m", "c2")]


def test_rows_without_a_feature_are_refused(take_apart) -> None:
    world = World(((0,), (1,), (2,)), seed=4)
    world.X_c[3, 0] = MISSING
    with pytest.raises(ValueError, match="candidate features must be there for every field to make vectors, got -1"):
        take_apart(world)


def test_other_models_are_refused(take_apart) -> None:
    world = World(((0,), (1,), (2,)), seed=5, model=HierarchicalPrior([1, 2], 0))
    with pytest.raises(ValueError, match="model must be an FFM to be taken apart into vectors, got HierarchicalPrior"):
        take_apart(world)


# ---- of a night ----


@pytest.fixture(scope="module")
def served(night, spark, tmp_path_factory):
    """A copy of the night with its vectors made and published."""
    warehouse = tmp_path_factory.mktemp("vectors") / "warehouse"
    shutil.copytree(night.cycle.warehouse, warehouse, symlinks=True)
    cycle = cli.cycle_of(night.contract, None, warehouse)
    cycle.progress = Progress(Console(quiet=True))
    assert made(cycle, spark) is not None
    assert pointed(cycle) == warehouse / "vectors" / "small"
    return Night(cycle, night.release, night.contract)


def made(cycle, spark) -> Dataset | None:
    return vectors.make(cycle, spark, serving.champion_or_prior(cycle), cycle.dataset("score_inputs"))


def pointed(cycle) -> Path | None:
    """Point the link at what the cycle has; returns it."""
    [row] = cycle.dataset("scoring").table().to_pylist()
    made = cycle.dataset("vectors") if cycle.has("vectors") else None
    return vectors.point(cycle.warehouse, cycle.contract.name, row, [None, made])


def link(night: Night) -> Path:
    return night.cycle.warehouse / "vectors" / "small"


@pytest.fixture(scope="module")
def published(served) -> pl.DataFrame:
    """The scores by the model itself."""
    return pl.read_parquet(served.cycle.dataset("scores").files).filter(source="model").sort(*KEYS)


def test_every_published_score_follows_from_the_vectors(served, published) -> None:
    files = served.cycle.dataset("scores").files
    found = from_sql(link(served), f"select entity_id, match_id, candidate_id from read_parquet({files})")
    both = published.join(found, on=KEYS, suffix="_found", validate="1:1")
    assert len(both) == len(published) > 5000
    assert (both["p"] - both["p_found"]).abs().max() < 1e-5
    assert (both["raw_score"] - both["raw_score_found"]).abs().max() < 1e-5


def test_the_example_is_the_macro_and_scores_an_entity(served, published) -> None:
    assert macro("getvariable('vectors')", "pairs") in EXAMPLE
    with duckdb.connect() as connection:
        connection.execute(f"set variable vectors = '{link(served)}'; set variable entity = '1025'")
        found = connection.sql(EXAMPLE).pl()
    mine = published.filter(entity_id="1025").sort("rank_in_entity")
    assert found["candidate_id"].to_list() == mine["candidate_id"].to_list()
    np.testing.assert_allclose(found["p"].to_numpy(), mine["p"].to_numpy(), atol=1e-5)


def test_the_vectors_say_what_they_are(served) -> None:
    about = json.loads((link(served) / "vectors.json").read_text())
    [scoring_row] = served.cycle.dataset("scoring").table().to_pylist()
    for name in ("model_id", "calibrator_id", "entities", "pairs"):
        assert about[name] == scoring_row[name]
    assert about["data_through"] == scoring_row["data_through"].isoformat()
    contract = served.cycle.contract
    assert sorted(name for side in about["fields"].values() for name in side) == sorted(contract.field_names)
    rows = {folder: pl.scan_parquet(link(served) / folder / "*.parquet") for folder in steps.SCHEMAS}
    counts = {folder: found.select(pl.len()).collect().item() for folder, found in rows.items()}
    assert (counts["entity_vectors"], counts["candidate_vectors"]) == (about["entities"], about["candidates"])
    assert counts["feature_vectors"] == about["features"]
    U, C, P, k = *(len(about["fields"][side]) for side in ("entity", "candidate", "pair")), about["k"]
    lengths = {
        "entity_vectors": {"vector": U * C * k, "to_pairs": P * U * k},
        "candidate_vectors": {"vector": U * C * k, "to_pairs": P * C * k, "keys": P},
        "feature_vectors": {"to_entity": U * k, "to_candidate": C * k, "to_pair": P * k},
    }
    for folder, columns in lengths.items():
        found = rows[folder].select(pl.col(name).list.len().unique() for name in columns).collect()
        assert found.rows() == [tuple(columns.values())]


def test_features_have_the_words_of_the_vocabulary(served) -> None:
    card = models.read_card(served.cycle.warehouse, serving.champion_or_prior(served.cycle).model_id)
    table = pl.DataFrame(served.cycle.lake.get("vocabulary", card["lineage"]["vocabulary"]["key"]).table())
    pair = json.loads((link(served) / "vectors.json").read_text())["fields"]["pair"]
    expected = table.filter(pl.col("field").is_in(pair)).select("feature_id", "value").sort("feature_id")
    found = pl.read_parquet(link(served) / "feature_vectors" / "*.parquet").select("feature", "value").sort("feature")
    assert found.rows() == expected.rows()


def test_the_same_inputs_give_the_same_bytes(served, spark) -> None:
    old = served.cycle.dataset("vectors")
    again = made(served.cycle, spark)
    assert again is not None
    assert again.manifest == old.manifest  # found, not made
    (old.folder / "manifest.json").unlink()
    shutil.rmtree(old.root)
    remade = made(served.cycle, spark)
    assert remade is not None
    assert remade.manifest["run"] != old.manifest["run"]
    assert remade.content == old.content
    assert pointed(served.cycle) == link(served)
    assert link(served).resolve() == remade.root


def test_a_model_that_is_no_ffm_has_no_vectors(served, spark) -> None:
    prior = serving.prior(served.cycle, None, "")
    assert vectors.make(served.cycle, spark, prior, served.cycle.dataset("score_inputs")) is None


def serve(night: Night, **changes) -> None:
    """Say in the fact `scoring` that something else is served."""
    row = night.cycle.dataset("scoring").table().to_pylist()[0] | changes
    night.cycle.lake.write_fact("scoring", sha256_json(row)[:16], facts.table("scoring", [row]))
    night.cycle.remember({"scoring": sha256_json(row)[:16]})


@pytest.fixture
def own_served(served, tmp_path):
    """A copy of `served` that a test may change; its links go to the copy."""
    warehouse = tmp_path / "warehouse"
    shutil.copytree(served.cycle.warehouse, warehouse, symlinks=True)
    cycle = cli.cycle_of(served.contract, None, warehouse)
    return Night(cycle, served.release, served.contract)


def test_there_is_no_link_to_the_vectors_of_a_model_that_is_not_served(own_served) -> None:
    assert link(own_served).is_dir()
    serve(own_served, model_id="prior-1", source="prior")
    assert pointed(own_served.cycle) is None
    assert not link(own_served).is_symlink()
    assert own_served.cycle.has("vectors")  # they were not lost: another night may find them


def test_stale_scores_keep_the_vectors_of_the_night_that_made_them(own_served) -> None:
    """The cycle that serves them has vectors of a newer model, whose scores failed."""
    before = link(own_served).resolve()
    newer = own_served.cycle.lake.key("vectors", "jobs.vectors", {}, "another model")
    with own_served.cycle.lake.writing("vectors", newer) as out:
        (out / "vectors.json").write_text(json.dumps({"model_id": "ffm-newer"}))
    own_served.cycle.remember({"vectors": newer})
    serve(own_served, source="stale")
    assert pointed(own_served.cycle) == link(own_served)
    assert link(own_served).resolve() == before


# ---- examples and documentation ----


def rerank(night: Night, *arguments: str) -> list[tuple[int, int, float, float, str]]:
    """Rank, rank before, p, p before and candidate, as the example prints them."""
    command = [sys.executable, str(ROOT / "examples" / "rerank.py"), *arguments, "--vectors", str(link(night))]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert told[0].split() == ["rank", "before", "p", "before", "candidate"]
    cut = [line.split(maxsplit=4) for line in told[1:]]
    return [(int(a), int(b), float(p), float(q), name) for a, b, p, q, name in cut]


def test_ranking_again_without_news_is_the_published_ranking(served, published) -> None:
    mine = published.filter(entity_id="1025").sort("rank_in_entity").head(5)
    found = rerank(served, "1025", "--top", "5")
    assert [(row[0], row[1], row[4]) for row in found] == [
        (rank, rank, name) for rank, name in mine.select("rank_in_entity", "candidate_id").iter_rows()
    ]
    # printed with 6 decimals
    np.testing.assert_allclose([row[2] for row in found], mine["p"].to_numpy(), atol=1e-6)
    assert [row[2] for row in found] == [row[3] for row in found]


def test_ranking_again_knows_what_happened_since(served, published) -> None:
    """A candidate is gone and a pair field has another value: p is that of the row kernel on the changed rows."""
    cycle, [first, second] = served.cycle, published.filter(entity_id="1025").sort("rank_in_entity")["candidate_id"][:2]
    news = ("--without", first, "--about", second, "--set", "bought_household_category=1301", "--top", "99")
    found = rerank(served, "1025", *news)

    category = second.partition("|")[2]
    rows = pair_rows.expanded(cycle, cycle.dataset("score_inputs")).filter(entity_id="1025")
    assert all("|" in name for name in rows["candidate_id"])  # manufacturer | category
    features = pl.read_parquet(link(served) / "feature_vectors" / "*.parquet")
    place = json.loads((link(served) / "vectors.json").read_text())["fields"]["pair"].index("bought_household_category")
    bought = features.filter(field=place, value="1301")["feature"].item()
    is_same = pl.col("candidate_id").str.ends_with(f"|{category}")
    name = "f_bought_household_category"
    changed = rows.with_columns(pl.when(is_same).then(bought).otherwise(name).cast(pl.Int32).alias(name))
    assert changed.filter(is_same)[name].to_list() != rows.filter(is_same)[name].to_list()

    folder = models.model_folder(cycle.warehouse, serving.champion_or_prior(cycle).model_id)
    model, columns = scoring.opened(str(folder)), [f"f_{field}" for field in cycle.contract.field_names]
    p = model.score(np.ascontiguousarray(changed.select(columns).to_numpy(), np.int32))[1]
    expected = dict(zip(changed["candidate_id"], p, strict=True))
    del expected[first]
    assert {row[4] for row in found} == set(expected)
    np.testing.assert_allclose([row[2] for row in found], [expected[row[4]] for row in found], atol=1e-5)
    assert [row[2] for row in found] == sorted((row[2] for row in found), reverse=True)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["nobody"], "ENTITY must be one that the vectors have, got 'nobody'"),
        (["1025", "--about", "x", "--set", "bought_household=0"], "--about must be one that the vectors have, got 'x'"),
        (["1025", "--about", "1208|SOFT DRINKS", "--set", "store=286"], "field of --set must be one that"),
        (["1025", "--about", "1208|SOFT DRINKS", "--set", "bought_household_family=x"], "in --set must be one that"),
    ],
)
def test_ranking_again_refuses_what_the_vectors_do_not_have(arguments, match, served) -> None:
    with pytest.raises(subprocess.CalledProcessError) as told:
        rerank(served, *arguments)
    assert match in re.sub(r"[│\s]+", " ", told.value.stderr)


def commands() -> list[str]:
    """Every line of the shell blocks of docs/vectors.md."""
    text = (ROOT / "docs" / "vectors.md").read_text(encoding="utf-8")
    return [
        line
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]


@pytest.fixture(scope="module")
def checkout(served, tmp_path_factory) -> Path:
    """A folder in which the documentation's commands run as they stand, on the vectors of the small world."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "dbt", folder / "dbt", ignore=shutil.ignore_patterns("target", "logs"))
    (folder / "warehouse" / "vectors").mkdir(parents=True)
    links = {"examples": ROOT / "examples", ".venv": Path(sys.prefix), "warehouse/vectors/promo": link(served)}
    for name, target in links.items():
        (folder / name).symlink_to(target)
    return folder


@pytest.fixture(scope="module")
def told(checkout) -> dict[str, str]:
    """What each command of the documentation prints."""
    found = {}
    for command in commands():
        done = subprocess.run(command, shell=True, cwd=checkout, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        found[command] = done.stdout
    return found


def test_the_documented_commands_show_the_best_candidates(told, published) -> None:
    best = published.filter(entity_id="1025").sort("rank_in_entity")["candidate_id"][0]
    [sql] = [out for command, out in told.items() if "pair_score.sql" in command]
    assert best in sql
    shown = [out for command, out in told.items() if "rerank.py" in command]
    assert [out.splitlines()[1].split(maxsplit=4)[4] == best for out in shown] == [True, False, True]


def test_the_compiled_analysis_scores_the_pairs_of_the_mart(told, checkout, served, monkeypatch) -> None:
    compiled = checkout / "dbt" / "target" / "compiled" / "fieldmart" / "analyses" / "pair_score.sql"
    monkeypatch.chdir(checkout)
    with duckdb.connect(str(served.cycle.warehouse / "current" / "mart.duckdb"), read_only=True) as connection:
        found = connection.sql(compiled.read_text()).pl()
        mart = connection.sql("select * from fct_entity_scores where score_source = 'model'").pl()
    both = mart.join(found, on=KEYS, suffix="_found", validate="1:1")
    assert len(both) == len(mart) > 100
    assert (both["p"] - both["p_found"]).abs().max() < 1e-5
