"""jobs.privacy: hashes in place of ids in all that a release holds, the floor of small groups, and the salt nowhere."""

from __future__ import annotations

import hashlib
import hmac
import shutil
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import fake_facts
import fake_release
import pyarrow.parquet as pq
import pytest
import yaml

from jobs import dbt_docs, privacy, releases, warehouse
from jobs.contract import Privacy

SALT = "nobody guesses this salt"
FLOOR = 100
MARTS = Path(__file__).resolve().parent.parent / "dbt" / "models" / "marts"


def contract(**asked: Any) -> Any:
    """As much of a contract as privacy looks at."""
    delay = asked.pop("delay_by", None)
    columns = {"entity": ("household",), "match": (), "candidate": ("brand",), "slices": (), "fields": ()} | {
        name: asked.pop(name) for name in ("match", "candidate", "slices", "fields") if name in asked
    }
    label, prior = SimpleNamespace(delay_by=delay), SimpleNamespace(candidate_levels=())
    return SimpleNamespace(privacy=Privacy(**asked), label=label, prior=prior, **columns)


@dataclass(frozen=True)
class Built:
    """A release folder whose marts were built with hashes and a floor."""

    folder: Path
    target: Path  # what dbt left

    @property
    def database(self) -> Path:
        return self.folder / "mart.duckdb"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Ids that occur nowhere else, one slice and one group of people below the floor."""
    root = tmp_path_factory.mktemp("hashed")
    rows = fake_facts.evidence() | fake_facts.night()
    for name in ("entities", "scores", "top_scores", "score_entities"):
        rows[name] = [row | {"entity_id": raw(row["entity_id"])} for row in rows[name]]
    rows["top_scores"] = tied(rows["top_scores"])
    rows["slice_metrics"] = split_in_two(rows["slice_metrics"])
    rows["slice_shrinkage"] = small_families(rows["slice_shrinkage"])
    rows["label_delay"] = late_groups()
    given = fake_facts.write(root / "facts", rows)
    folder = root / "release"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIELDMART_SALT", SALT)
        asked = privacy.variables(contract(hash_entities=True, k_anonymity=FLOOR))
        warehouse.build(folder / "mart.duckdb", given, variables=asked, docs=True)
    warehouse.export_marts(folder / "mart.duckdb", folder / "marts")
    dbt_docs.generate(folder / "mart.duckdb", folder / "docs")
    shutil.copytree(folder / "dbt", root / "dbt")
    releases.keep_marts_only(folder)
    return Built(folder, root / "dbt")


def raw(entity_id: str) -> str:
    return f"household-{entity_id}-raw"


def tied(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Raw scores rounded to whole numbers; equal ones of a candidate are ranked by the id, as scoring does."""
    found = [row | {"raw_score": float(round(row["raw_score"]))} for row in rows]
    groups: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for row in found:
        if row["rank_in_candidate"]:
            groups[row["candidate_id"], row["raw_score"]].append(row)
    for group in groups.values():
        ranks = sorted(row["rank_in_candidate"] for row in group)
        for row, rank in zip(sorted(group, key=lambda row: row["entity_id"]), ranks, strict=True):
            row["rank_in_candidate"] = rank
    return found


def split_in_two(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first slice of each model and type loses 250 rows of 7 entities to a slice of its own: the sums stay."""
    found, seen = [], set()
    for row in rows:
        key = (row["model_id"], row["slice_type"])
        if key not in seen and row["n"] > FLOOR:
            seen.add(key)
            few = {"n": 250, "conversions": 0, "sum_p": 0.0, "sum_logloss": 0.0, "p_adjusted": None, "entities": 7}
            found.append(row | few | {"slice_value": "seven"})
            row = row | {"n": row["n"] - 250}
        found.append(row)
    return found


FAMILIES = {"tea": (40, 120, 150, None), "never seen in training": (200, 300, None)}


def small_families(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Values below each category with so many entities and rows, the last with what is left; one of tea is small."""
    found = list(rows)
    for row in rows:
        if row["depth"] != 1:
            continue
        sizes = FAMILIES[row["value"]]
        left = row["n"] - sum(size or 0 for size in sizes)
        for place, size in enumerate(sizes):
            n = size or left
            few = {"depth": 2, "level": "family", "parent": row["value"], "value": f"{row['value']} {place}"}
            part = {"conversions": row["conversions"] * n // row["n"], "sum_p": row["sum_p"] * n / row["n"]}
            found.append(row | few | part | {"entities": n, "n": n, "is_unseen": False})
    return found


GROUPS = {"u": 30, "v": 50, "w": 400, "x": 700}  # exposures


def late_groups() -> list[dict[str, Any]]:
    """A tenth of each group converts, all on day 2 of 3."""
    sizes = {"all": sum(GROUPS.values())} | GROUPS
    shares = {"converted": 0.1, "converted_lo": 0.05, "converted_hi": 0.2, "completeness": 1.0}
    none = dict.fromkeys(shares, 0.0)
    found = []
    for grp, size in sizes.items():
        for day in range(4):
            left, came = size - (size // 10 if day > 2 else 0), size // 10 if day == 2 else 0
            row = {"grp": grp, "delay_days": day, "at_risk": left, "events": came} | (shares if day > 1 else none)
            found.append(row | {f"completeness_{end}": row["completeness"] for end in ("lo", "hi")})
    return found


def query(database: Path, sql: str) -> list[tuple]:
    with duckdb.connect(str(database), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def test_a_hash_is_the_hmac_of_the_id() -> None:
    """RFC 4231, test case 2: key `Jefe`, text `what do ya want for nothing?`."""
    full = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert privacy.hashed("what do ya want for nothing?", b"Jefe") == full[: privacy.LENGTH]
    for salt in (b"short", b"x" * 64, b"longer than a block " * 5):
        inner, outer = privacy.pads(salt)
        by_pads = hashlib.sha256(outer + hashlib.sha256(inner + b"id").digest()).hexdigest()
        assert by_pads == hmac.new(salt, b"id", hashlib.sha256).hexdigest()


def test_no_raw_ids_in_marts(built: Built) -> None:
    """Neither in any text of any mart, nor in the Parquet files, the docs or the bytes of the database."""
    ids = {raw(row["entity_id"]) for row in fake_facts.night()["entities"]}
    columns = query(
        built.database,
        "select table_name, column_name from duckdb_columns() where not internal and data_type = 'VARCHAR'",
    )
    assert len(columns) > 100
    for table, column in columns:
        found = query(built.database, f'select count(*) from "{table}" where "{column}" like \'%household-%\'')
        assert found == [(0,)], (table, column)
    for path in (built.folder / "marts").iterdir():
        text = {str(value) for column in pq.read_table(path).columns for value in column.to_pylist()}
        assert not [value for value in text if "household-" in value], path.name
    for path in [path for path in built.folder.rglob("*") if path.is_file()]:
        data = path.read_bytes()
        assert not [name for name in ids if name.encode() in data], path.name


def test_every_mart_has_the_same_hash_of_an_id(built: Built) -> None:
    expected = {privacy.hashed(raw(row["entity_id"]), SALT.encode()) for row in fake_facts.night()["entities"]}
    assert {name for (name,) in query(built.database, "select entity_id from dim_entity")} == expected
    joined = (
        "select count(*), count(dim_entity.entity_id) from fct_entity_scores left join dim_entity using (entity_id)"
    )
    [(rows, matched)] = query(built.database, joined)
    assert rows == matched > 0


@pytest.mark.parametrize("mart", ["dim_entity", "fct_entity_scores"])
def test_rows_lie_in_the_order_of_the_hash(built: Built, mart: str) -> None:
    """Facts are sorted by the id itself: beside rows in their order the sorted ids would tell whose each hash is."""
    found = [name for (name,) in query(built.database, f"select entity_id from {mart}")]
    assert found == sorted(found)
    by_place = [name for (name,) in query(built.database, f"select entity_id from {mart} order by rowid")]
    stored = pq.read_table(built.folder / "marts" / f"{mart}.parquet")["entity_id"].to_pylist()
    assert by_place == stored == found
    ids = sorted(raw(row["entity_id"]) for row in fake_facts.night()["entities"])
    met = list(dict.fromkeys(found))
    guessed = [privacy.hashed(name, SALT.encode()) for name in ids[: len(met)]]
    right = sum(a == b for a, b in zip(guessed, met, strict=True))
    # By chance one is right on average, whatever their number; as many as eight once in 100,000.
    assert len(met) > 20
    assert right < 8


def test_equal_scores_of_a_candidate_are_ranked_by_the_hash(built: Built) -> None:
    """By the id they would tell its order. Which ranks a score has stays."""
    listed = "from fct_entity_scores where rank_in_candidate is not null"
    ranked = f"select candidate_id, raw_score, entity_id {listed} order by candidate_id, rank_in_candidate"
    found = query(built.database, ranked)
    assert found == sorted(found, key=lambda row: (row[0], -row[1], row[2]))
    assert len({row[:2] for row in found}) < len(found) / 2  # most share their score with others
    expected = {
        (row["candidate_id"], row["raw_score"], row["rank_in_candidate"])
        for row in tied(fake_facts.night()["top_scores"])
    }
    of_scores = query(built.database, f"select candidate_id, raw_score, rank_in_candidate {listed}")
    assert set(of_scores) == {row for row in expected if row[2]}
    rows = query(built.database, "select count(*) from fct_entity_scores")
    assert rows == [(len(fake_facts.night()["top_scores"]),)]


def test_the_salt_is_in_no_file(built: Built) -> None:
    """Nor are the keys made of it: not in the release, not in what dbt compiled, ran or logged."""
    inner, outer = privacy.pads(SALT.encode())
    secrets = [SALT.encode(), inner, outer, inner.hex().encode(), outer.hex().encode()]
    paths = [path for root in (built.folder, built.target) for path in root.rglob("*") if path.is_file()]
    assert len(paths) > 100
    for path in paths:
        data = path.read_bytes()
        assert not [secret for secret in secrets if secret in data], path


def test_groups_below_the_floor_are_folded_everywhere(built: Built) -> None:
    """The slice of 7 entities goes with the next larger one, or their difference to the total would tell it."""
    slices = query(built.database, "select slice_value, n, p_value from fct_calibration_by_slice order by n")
    assert not [value for value, n, _ in slices if n < FLOOR or value == "seven"]
    folded = [(n, p) for value, n, p in slices if value == f"n<{FLOOR}"]
    assert folded
    assert all(n > FLOOR and p is None for n, p in folded)
    for mart in ("fct_fairness", "fct_fairness_proxy"):
        people = query(built.database, f"select group_value, entities, auc from {mart}")
        assert {auc for value, _, auc in people if value == f"n<{FLOOR}"} <= {None}
        assert not [value for value, entities, _ in people if entities < FLOOR and value != f"n<{FLOOR}"]
    said = " ".join(sentence for (sentence,) in query(built.database, "select sentence from fct_findings"))
    assert "seven" not in said


def rest(database: Path, total: str, parts: str, folded: str) -> set[int]:
    """By key: `total` less the visible `parts`, both selects of key and number. As much must be in the fold, if any."""
    sql = f"""
        select total.n - coalesce(sum(parts.n), 0), coalesce(sum(parts.n) filter (where {folded}), 0)
        from ({total}) as total (key, n)
        left join ({parts}) as parts (key, name, n) on total.key = parts.key
        group by total.key, total.n
    """
    found = query(database, sql)
    assert found
    assert {left for left, _ in found} == {0}  # nothing is lost
    return {int(hidden) for _, hidden in found}


def test_nothing_below_the_floor_follows_from_totals(built: Built) -> None:
    """Whoever takes what is visible from a total of the release is left with nothing, or with a crowd."""
    database, folded = built.database, f"parts.name = 'n<{FLOOR}'"
    judged = "select model_id from fct_calibration_by_slice"
    of_models = "select model_id, sum(n) from fct_period_metrics where split = 'test'"
    of_models += f" and model_id in ({judged}) group by model_id"
    slice_type = "select distinct slice_type from fct_calibration_by_slice"
    for (name,) in query(database, slice_type):
        parts = f"select model_id, slice_value, n from fct_calibration_by_slice where slice_type = '{name}'"
        # 250 rows of 7 entities and the smallest other slice of the type
        assert all(left >= 250 + FLOOR for left in rest(database, of_models, parts, folded))
    total = "select delay_days, at_risk from fct_label_delay where grp = 'all'"
    parts = "select delay_days, grp, at_risk from fct_label_delay where grp <> 'all'"
    # 30 + 50 are below 100, so 400 join them; a tenth of each is gone on day 3
    assert rest(database, total, parts, folded) == {480, 432}
    assert {name for (name,) in query(database, "select distinct grp from fct_label_delay")} == {"all", "x", "n<100"}
    bands = f"select converted, converted_lo, completeness from fct_label_delay where grp = 'n<{FLOOR}' order by all"
    assert query(database, bands) == [
        (pytest.approx(share), None, pytest.approx(10 * share)) for share in (0, 0, 0.1, 0.1)
    ]


def test_a_value_does_not_follow_from_its_parent(built: Built) -> None:
    """Every category less its visible families leaves nothing or 100 entities; the fold of the level is as large."""
    shown = dict(query(built.database, "select value, n from fct_slice_shrinkage where is_verdict"))
    left = {
        name: shown[name] - sum(n for value, n in shown.items() if value.startswith(f"{name} ")) for name in FAMILIES
    }
    assert left == {"tea": 160, "never seen in training": 0}  # 40 and 120
    assert "tea 2" in shown
    assert not {"tea 0", "tea 1"} & shown.keys()
    assert shown[f"n<{FLOOR}"] == sum(left.values())


def test_the_docs_of_a_release_stand_alone(built: Built) -> None:
    """One page with lineage and columns, and nothing that tells where it was made."""
    page = (built.folder / "docs" / dbt_docs.PAGE).read_text()
    assert str(built.folder) not in page
    assert str(warehouse.PROJECT.parent) not in page
    for told in (
        "model.fieldmart.fct_entity_scores",
        "source.fieldmart.fieldmart.scores",
        "Calibrated conversion rate",
    ):
        assert told in page


def test_docs_need_a_build_that_made_them(tmp_path: Path) -> None:
    with pytest.raises(dbt_docs.DocsError, match=r"mart\.duckdb has no page of dbt docs .*: build it with docs first"):
        dbt_docs.generate(tmp_path / "mart.duckdb", tmp_path / "docs")


def test_what_the_contract_asks_for_becomes_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDMART_SALT", SALT)
    assert privacy.variables(contract()) == {}
    assert privacy.variables(contract(k_anonymity=20)) == {"k_anonymity": 20}
    hashing = {"hash_entities": True, "hash_matches": False, "salt_env": "FIELDMART_SALT"}
    assert privacy.variables(contract(hash_entities=True)) == hashing
    shared = contract(hash_entities=True, match=("household", "store"))
    assert privacy.variables(shared) == hashing | {"hash_matches": True}
    assert privacy.shown("7", contract()) == "7"
    assert privacy.shown("7", contract(hash_entities=True)) == privacy.hashed("7", SALT.encode())


def test_another_salt_is_another_release(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = contract(hash_entities=True, k_anonymity=20)
    monkeypatch.setenv("FIELDMART_SALT", SALT)
    first = privacy.sign(asked)
    assert SALT not in first
    monkeypatch.setenv("FIELDMART_SALT", SALT + "!")
    assert privacy.sign(asked) != first
    assert privacy.sign(contract()) == ""


@pytest.mark.parametrize(("salt", "got"), [(None, "nothing"), ("", "nothing"), ("pepper", "6 characters")])
def test_without_a_salt_nothing_is_built(monkeypatch: pytest.MonkeyPatch, salt: str | None, got: str) -> None:
    monkeypatch.delenv("MY_SALT", raising=False)
    if salt is not None:
        monkeypatch.setenv("MY_SALT", salt)
    pattern = f"privacy.salt_env: MY_SALT must hold a secret salt of at least 16 characters, got {got}"
    with pytest.raises(privacy.PrivacyError, match=pattern):
        privacy.variables(contract(hash_entities=True, salt_env="MY_SALT"))


def test_ids_may_not_be_names_of_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDMART_SALT", SALT)
    by_household = SimpleNamespace(name="who", column="household")
    with pytest.raises(privacy.PrivacyError, match=r"slices\.who must not show ids of entities, got 'household'"):
        privacy.variables(contract(hash_entities=True, slices=(by_household,)))
    with pytest.raises(privacy.PrivacyError, match=r"label\.delay_by must not show ids of entities"):
        privacy.variables(contract(hash_entities=True, delay_by="household"))


def test_columns_say_what_they_tell_of_people() -> None:
    """`identifier`: the id of a person, or its hash; `sensitive`: what groups people; `staff`: who decided."""
    classes = {}
    for path in MARTS.glob("*.yml"):
        for model in yaml.safe_load(path.read_text())["models"]:
            for column in model["columns"]:
                found = column.get("config", {}).get("meta", {}).get("classification")
                classes[model["name"], column["name"]] = found
    assert set(classes.values()) == {None, "identifier", "sensitive", "staff"}
    for (mart, column), found in classes.items():
        if column == "entity_id":
            assert found == "identifier", mart
        if column in ("group_value", "slice_value", "grp", "match_id", "slice_a", "slice_b"):
            assert found == "sensitive", (mart, column)
        if column.endswith("_by") and column not in ("promoted_by",):
            assert found == "staff", (mart, column)
    assert {key for key, found in classes.items() if found == "identifier"} == {
        ("dim_entity", "entity_id"),
        ("fct_entity_scores", "entity_id"),
    }


def test_ids_stay_where_nobody_asked(tmp_path_factory: pytest.TempPathFactory) -> None:
    database = fake_release.build(tmp_path_factory.getbasetemp()).database
    ids = {row["entity_id"] for row in fake_facts.night()["entities"]}
    assert {name for (name,) in query(database, "select entity_id from dim_entity")} == ids
    assert query(database, "select count(*) from fct_calibration_by_slice where slice_value like 'n<%'") == [(0,)]
