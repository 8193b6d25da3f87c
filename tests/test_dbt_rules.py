"""The rules of dbt-project-evaluator, checked on dbt's manifest; the package itself needs a hub to install from.

Each test is one rule of the package, under the package's name for it. Where the project breaks one on purpose, the
exception stands here with its reason; an exception that no longer applies fails as well.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import fake_release
import pytest

Node = dict[str, Any]

LAYERS = {"staging": "stg_", "intermediate": "int_", "findings": "finding_", "marts": ("fct_", "dim_")}

# The package's own thresholds, but for fanout: three leaves under a parent are few where facts join dimensions.
TOO_MANY_JOINS = 7
LONGEST_CHAIN_OF_VIEWS = 4
FANOUT = 3

# A dimension, or what judges a night, is named by many facts; each of these is one more leaf, none a copy of another.
MANY_LEAVES = {
    "dim_model": "star schema: facts of models take label, k and role from it",
    "stg_fieldmart__k_comparison": "says which model is the verdict, which every mart of models marks",
}

# Each brings together what one reader asks for in one row.
MANY_PARENTS = {
    "dim_model_version": "a union of every fact that names a model",
    "fct_findings": "a union of all findings",
}

# (in between, child): the model in between is read by that child alone, which also reads what it is built of.
REJOINED = {
    ("fct_approvals", "fct_decisions"): "a mart that people read, so no step of its child",
    ("fct_decision_rules", "finding_decision"): "likewise",
    ("int_slo_observations", "fct_slo"): "a formula with a unit test of its own; the child tells promises without any",
}

# Models without a test of their own key.
NO_KEY = {
    "stg_fieldmart__scores": "up to 1e9 rows, which no model reads; scoring audits doubled pairs itself",
    "stg_fieldmart__operations": "a log of events, two of which may be alike",
    "int_slo_observations": "made of that log",
}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    database = fake_release.build(tmp_path_factory.getbasetemp()).database
    return json.loads((database.parent / "dbt" / "target" / "manifest.json").read_text())


@pytest.fixture(scope="module")
def models(manifest: dict[str, Any]) -> dict[str, Node]:
    return {key: node for key, node in manifest["nodes"].items() if node["resource_type"] == "model"}


@pytest.fixture(scope="module")
def sources(manifest: dict[str, Any]) -> dict[str, Node]:
    return manifest["sources"]


@pytest.fixture(scope="module")
def tests(manifest: dict[str, Any]) -> list[Node]:
    return [node for node in manifest["nodes"].values() if node["resource_type"] == "test"]


def layer(node: Node) -> str:
    return node["fqn"][1]


def parents(node: Node, kind: str | tuple[str, ...] = ("model.", "source.", "seed.")) -> set[str]:
    return {name for name in node["depends_on"]["nodes"] if name.startswith(kind)}


def children(models: dict[str, Node]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for key, node in models.items():
        for parent in parents(node):
            found[parent].add(key)
    return found


def names(keys: Any) -> set[str]:
    return {key.split(".")[2] for key in keys}


# ---- modeling ----


def test_fct_direct_join_to_source(models: dict[str, Node]) -> None:
    """No model joins a source and a model."""
    assert [n["name"] for n in models.values() if parents(n, "source.") and parents(n, ("model.", "seed."))] == []


def test_fct_marts_or_intermediate_dependent_on_source(models: dict[str, Node]) -> None:
    assert [n["name"] for n in models.values() if layer(n) != "staging" and parents(n, "source.")] == []


def test_fct_duplicate_sources(sources: dict[str, Node]) -> None:
    """No table of the database is two sources."""
    tables = [source["relation_name"] for source in sources.values()]
    assert len(set(tables)) == len(tables)


def test_fct_hard_coded_references(models: dict[str, Node]) -> None:
    """All that a model reads is named by ref and source, not by schema or file."""
    # "is not distinct from a.b" compares
    read = re.compile(r"(?<!distinct )\b(?:from|join)\s+(?:\"?\w+\"?\.\"?\w+|'[^']*'|read_\w+)", re.IGNORECASE)
    assert {n["name"]: read.findall(n["raw_code"]) for n in models.values() if read.search(n["raw_code"])} == {}


def test_fct_model_fanout(models: dict[str, Node]) -> None:
    """Few leaves hang on one parent: what each of them would do again belongs into the parent."""
    below = children(models)
    fans = {key for key, kids in below.items() if len({kid for kid in kids if not below.get(kid)}) > FANOUT}
    assert names(fans) == set(MANY_LEAVES)


def test_fct_multiple_sources_joined(models: dict[str, Node]) -> None:
    assert [n["name"] for n in models.values() if len(parents(n, "source.")) > 1] == []


def test_fct_rejoining_of_upstream_concepts(models: dict[str, Node]) -> None:
    """A model between a parent and a child that nobody else reads, while the child reads the parent as well."""
    below = children(models)
    loops = {
        (models[between]["name"], models[child]["name"])
        for parent, kids in below.items()
        for between in kids
        for child in kids
        if child in below.get(between, ()) and below[between] == {child} and parent in models
    }
    assert loops == set(REJOINED)


def test_fct_root_models(models: dict[str, Node]) -> None:
    """Every model is traced back to a source."""
    assert [n["name"] for n in models.values() if not parents(n)] == []


def test_fct_source_fanout(models: dict[str, Node], sources: dict[str, Node]) -> None:
    """One staging model stands before each source; none is unused (fct_unused_sources)."""
    below = children(models)
    assert {key for key in sources if len(below.get(key, ())) != 1} == set()


def test_fct_staging_dependent_on_marts_or_intermediate(models: dict[str, Node]) -> None:
    """Nor on staging (fct_staging_dependent_on_staging)."""
    assert [n["name"] for n in models.values() if layer(n) == "staging" and parents(n, "model.")] == []


def test_fct_too_many_joins(models: dict[str, Node]) -> None:
    many = {n["name"] for n in models.values() if len(parents(n)) >= TOO_MANY_JOINS}
    assert many == set(MANY_PARENTS)


def test_layers_depend_on_those_below(models: dict[str, Node]) -> None:
    """Beside the package's rules: staging, then intermediate and marts, then findings, which one mart gathers."""
    upward = {
        (models[parent]["name"], node["name"])
        for node in models.values()
        for parent in parents(node, "model.")
        if layer(models[parent]) == "findings" and node["name"] != "fct_findings"
    }
    assert upward == set()


# ---- testing ----


def having(tests: list[Node], kind: str) -> set[str]:
    return {node.get("attached_node", "") for node in tests if (node.get("test_metadata") or {}).get("name") == kind}


def test_fct_missing_primary_key_tests(models: dict[str, Node], tests: list[Node]) -> None:
    """The package's default knows two other tests; `primary_key` is both in one, `unique_key` the one for keys with
    nulls (dbt/tests/generic). A finding is one row, and the key of fct_findings, their union, says so."""
    tested = having(tests, "primary_key") | having(tests, "unique_key")
    assert names(key for key in set(models) - tested if layer(models[key]) != "findings") == set(NO_KEY)


def test_fct_sources_without_freshness(sources: dict[str, Node]) -> None:
    for source in sources.values():
        assert source["freshness"]["warn_after"]["count"], source["name"]
        assert source["loaded_at_field"] or source["loaded_at_query"], source["name"]


def test_fct_test_coverage(models: dict[str, Node], tests: list[Node]) -> None:
    """All of the models, as the package asks, but those above; findings by their union."""
    tested = {parent for node in tests for parent in node["depends_on"]["nodes"]}
    assert names(key for key in set(models) - tested if layer(models[key]) != "findings") <= set(NO_KEY)


# ---- documentation ----


def test_fct_undocumented_models(models: dict[str, Node]) -> None:
    """All of them are, which is fct_documentation_coverage."""
    assert [n["name"] for n in models.values() if not n["description"].strip()] == []


def test_fct_undocumented_source_tables(sources: dict[str, Node]) -> None:
    """Tables and the sources they belong to (fct_undocumented_sources)."""
    for source in sources.values():
        assert source["description"].strip(), source["name"]
        assert source["source_description"].strip()


# ---- structure ----


def test_fct_model_naming_conventions(models: dict[str, Node]) -> None:
    assert [n["name"] for n in models.values() if not n["name"].startswith(LAYERS[layer(n)])] == []


def test_fct_model_directories(models: dict[str, Node], sources: dict[str, Node]) -> None:
    """Models lie in the folder of their layer. There is one source, so staging has no folder for each; sources are
    declared there (fct_source_directories)."""
    for node in models.values():
        assert Path(node["original_file_path"]).parent == Path("models") / layer(node)
    assert {Path(source["original_file_path"]).parent for source in sources.values()} == {Path("models/staging")}
    assert len({source["source_name"] for source in sources.values()}) == 1


def test_fct_test_directories(models: dict[str, Node], tests: list[Node]) -> None:
    """Tests of a model stand beside it."""
    for node in tests:
        if node.get("attached_node") in models:
            beside = Path(models[node["attached_node"]]["original_file_path"]).parent
            assert Path(node["original_file_path"]).parent == beside, node["name"]


# ---- performance ----


def test_fct_chained_views_dependencies(models: dict[str, Node]) -> None:
    def views_above(key: str) -> int:
        above = [parent for parent in parents(models[key], "model.") if is_view(models[parent])]
        return max((1 + views_above(parent) for parent in above), default=0)

    def is_view(node: Node) -> bool:
        return node["config"]["materialized"] in ("view", "ephemeral")

    long = {models[key]["name"]: views_above(key) for key in models if views_above(key) > LONGEST_CHAIN_OF_VIEWS}
    assert long == {}


def test_fct_exposure_parents_materializations(manifest: dict[str, Any], models: dict[str, Node]) -> None:
    for exposure in manifest["exposures"].values():
        for parent in exposure["depends_on"]["nodes"]:
            assert models[parent]["config"]["materialized"] == "table", (exposure["name"], parent)


# ---- governance ----


def test_fct_public_models_without_contracts(models: dict[str, Node]) -> None:
    """Marts, and only marts, are public; each has an enforced contract."""
    public = {key: node for key, node in models.items() if node["access"] == "public"}
    assert {layer(node) for node in public.values()} == {"marts"}
    assert [n["name"] for n in models.values() if layer(n) == "marts" and n["access"] != "public"] == []
    assert [n["name"] for n in public.values() if not n["contract"]["enforced"]] == []


def test_fct_undocumented_public_models(models: dict[str, Node]) -> None:
    """Down to each column."""
    for node in models.values():
        if node["access"] == "public":
            silent = [column["name"] for column in node["columns"].values() if not column["description"].strip()]
            assert (node["name"], silent) == (node["name"], [])


def test_fct_exposures_dependent_on_private_models(manifest: dict[str, Any], models: dict[str, Node]) -> None:
    for exposure in manifest["exposures"].values():
        assert {models[parent]["access"] for parent in exposure["depends_on"]["nodes"]} == {"public"}


def test_every_mart_has_an_owner(manifest: dict[str, Any], models: dict[str, Node]) -> None:
    """Beside the package's rules: a group of dbt, which names who answers for it (dbt/models/groups.yml)."""
    owners = {group["name"]: group["owner"] for group in manifest["groups"].values()}
    for owner in owners.values():
        assert owner["name"]
        assert re.fullmatch(r"\S+@\S+", owner["email"])
    without = [n["name"] for n in models.values() if layer(n) == "marts" and n["group"] not in owners]
    assert without == []
    assert set(owners) == {n["group"] for n in models.values() if n["group"]}


# What a column's name or type says of its unit, and how its description says it.
UNITS = [
    (r"(^|_)s$", r"second"),
    (r"(^|_)usd(_|$)", r"USD|dollar"),
    (r"_mib(_|$)", r"MiB"),
    (r"(^|_)bytes(_|$)", r"byte"),
    (r"(^|_)days(_|$)", r"day"),
    (r"_hours(_|$)|_h$", r"hour"),
    (r"logloss", r"nats|share|%|logloss"),
    (r"^timestamp$", r"UTC"),
]


@pytest.mark.parametrize(("name", "unit"), UNITS, ids=[unit for _, unit in UNITS])
def test_every_column_with_a_unit_says_it(models: dict[str, Node], name: str, unit: str) -> None:
    columns = [
        (f"{mart['name']}.{column['name']}", column)
        for mart in models.values()
        if layer(mart) == "marts"
        for column in mart["columns"].values()
        if column["data_type"] not in ("boolean", "varchar")
    ]
    asked = [c for c in columns if re.search(name, c[1]["name"]) or re.search(name, c[1]["data_type"])]
    assert asked
    assert [said for said, column in asked if not re.search(unit, column["description"], re.IGNORECASE)] == []
