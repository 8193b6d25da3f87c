"""The feature contract: the committed ones load, every fault is refused in words, and the sha follows the meaning."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.contract import ContractError, load

CONF = Path(__file__).parent.parent / "conf"
PROMO, BENCHMARK = CONF / "promo.yml", CONF / "promo_benchmark.yml"


def edited(folder: Path, *edits: tuple[str, Any]) -> Path:
    """A copy of promo.yml with the values at dotted places replaced, or removed where the value is `...`."""
    raw = yaml.safe_load(PROMO.read_text())
    for place, value in edits:
        *steps, last = [int(step) if step.isdigit() else step for step in place.split(".")]
        here = raw
        for step in steps:
            here = here[step]
        if value is ...:
            del here[last]
        else:
            here[last] = value
    path = folder / "contract.yml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return path


def test_promo_says_what_it_is_about() -> None:
    contract = load(PROMO)
    assert (contract.entity, contract.candidate) == (("household_id",), ("manufacturer_id", "product_category"))
    assert contract.label.version == "purchase:end_of_period:first"
    assert contract.grid.nightly.k == (1, 2, 4, 8)
    assert (contract.grid.sweep.k, contract.grid.sweep.seeds) == ((1, 2, 4, 8, 16, 32), (1, 2, 3, 4, 5))
    assert contract.grid.shipping_seed == 1
    assert not contract.split.is_fixed
    assert len(contract.field_names) == len(set(contract.field_names)) == 21
    # YAML's merge keys: the fields written with <<: *rate take all of it but their own name, side and columns.
    merged = next(rule for rule in contract.fields if rule.name == "rate_household_department")
    assert (merged.of, merged.measure, merged.columns) == (
        "exposures",
        "conversion_rate",
        ("household_id", "department"),
    )
    assert contract.sets == {"offer_products": "offer_id"}


def test_the_note_says_that_exposures_are_derived() -> None:
    assert "exposures are derived" in load(PROMO).data_note


def test_benchmark_differs_from_promo_in_name_date_and_split_only() -> None:
    promo, benchmark = load(PROMO).model_dump(), load(BENCHMARK).model_dump()
    assert {name for name in promo if promo[name] != benchmark[name]} == {"name", "default_date", "split"}
    assert load(BENCHMARK).split.test == (dt.date(2017, 10, 30), dt.date(2017, 12, 25))


def test_a_window_in_days_is_part_of_the_label_version(tmp_path: Path) -> None:
    assert load(edited(tmp_path, ("label.window", 14))).label.version == "purchase:14d:first"


def test_extends_overrides_whole_sections(tmp_path: Path) -> None:
    (tmp_path / "base.yml").write_text(PROMO.read_text())
    (tmp_path / "own.yml").write_text("extends: base.yml\nsplit: {valid: 1, calib: 1, test: 3}\ntop_n: 5\n")
    contract = load(tmp_path / "own.yml")
    assert (contract.split.test, contract.top_n, contract.name) == (3, 5, "promo")
    assert contract.split.train is None


def test_extends_goes_one_level_deep(tmp_path: Path) -> None:
    (tmp_path / "base.yml").write_text("extends: promo.yml\n")
    (tmp_path / "own.yml").write_text("extends: base.yml\n")
    with pytest.raises(ContractError, match="extends: Extra inputs are not permitted"):
        load(tmp_path / "own.yml")


# place and value of the edit -> what the refusal says
REFUSED: dict[str, tuple[str, Any, str]] = {
    "unknown section": ("budget", 3, r"budget: Extra inputs are not permitted"),
    "unknown key": ("training.dropout", 0.1, r"training\.dropout: Extra inputs are not permitted"),
    "missing section": ("label", ..., r"label: Field required"),
    "name": ("name", "Promo 2017", r"name: String should match pattern"),
    "adapter": ("source.adapter", "kafka", r"source\.adapter: Input should be 'promo', 'coupon' or 'files'"),
    "files without exposures": ("source", {"adapter": "files"}, r"source\.exposures must be a path .* got none"),
    "files without purchases": (
        "source",
        {"adapter": "files", "exposures": "rows.parquet"},
        r"source\.purchases must be a path, since a field counts purchases, got none",
    ),
    "time zone": ("period.timezone", "New York", r"period\.timezone must be a time zone name .* got 'New York'"),
    "period of no days": ("period.days", 0, r"period\.days: Input should be greater than or equal to 1"),
    "origin with an offset": (
        "period.origin",
        "2017-01-02T00:00:00Z",
        r"period\.origin: Input should not have timezone",
    ),
    "column type": ("columns.age.type", "text", r"columns\.age\.type: Input should be 'string', 'integer'"),
    "no entity": ("entity", [], r"entity: Tuple should have at least 1 item"),
    "no candidate": ("candidate", [], r"candidate: Tuple should have at least 1 item"),
    "entity column": ("entity", ["customer"], r"entity: column must be declared under columns, got 'customer'"),
    "candidate column": ("candidate", ["sku"], r"candidate: column must be declared under columns, got 'sku'"),
    "match column": ("match", ["shop"], r"match: column must be declared under columns, got 'shop'"),
    "exposure column": ("exposure_time", "seen", r"exposure_time: column must be declared .* got 'seen'"),
    "conversion column": ("conversion_time", "bought", r"conversion_time: column must be declared .* got 'bought'"),
    "value column": ("value", "price", r"value: column must be declared .* got 'price'"),
    "field column": ("fields.0.columns", ["hh"], r"field household: column must be declared .* got 'hh'"),
    "slice column": ("slices.0.column", "aisle", r"slice department: column must be declared .* got 'aisle'"),
    "slice of nothing": ("slices.0.column", None, r"slice department: exactly one of column and known must be given"),
    "slice of two": ("slices.0.known", "family", r"slice department: exactly one of column and known must be given"),
    "slice name": ("slices.0.name", "Department!", r"slices\.0\.name: String should match pattern"),
    "unknown slice field": ("slices.6.known", "colour", r"prior and slices may only name fields, got 'colour'"),
    "prior level": ("prior.candidate_levels", ["brand"], r"prior and slices may only name fields, got 'brand'"),
    "no prior level": ("prior.candidate_levels", [], r"prior\.candidate_levels: Tuple should have at least 1 item"),
    "prior entity": ("prior.entity", "person", r"prior and slices may only name fields, got 'person'"),
    "label events of a window": ("label.window", 0, r"label\.window\.constrained-int: Input should be greater than"),
    "label window": ("label.window", "month", r"label\.window\.literal.*: Input should be 'end_of_period'"),
    "deduplication": ("label.deduplicated", "last", r"label\.deduplicated: Input should be 'first'"),
    "k of nothing": ("grid.nightly.k", [], r"grid\.nightly\.k: Tuple should have at least 1 item"),
    "k too large": ("grid.nightly.k", [4, 129], r"grid\.nightly\.k\.1: Input should be less than or equal to 128"),
    "k twice": ("grid.nightly.k", [4, 2, 4], r"k must be named once each, got \[4, 2, 4\]"),
    "seed twice": ("grid.sweep.seeds", [1, 1], r"seeds must be named once each, got \[1, 1\]"),
    "shipping seed not swept": ("grid.sweep.seeds", [2, 3], r"sweep\.seeds must hold the seed that ships, 1"),
    "k in the frozen block": ("training.k", [1], r"training\.k: Extra inputs are not permitted"),
    "rate of nothing": ("training.negative_rate", 0, r"training\.negative_rate: Input should be greater than 0"),
    "unknown baseline": ("grid.sweep.baselines", ["svm"], r"grid\.sweep\.baselines\.0: Input should be"),
    "no epochs": ("training.epochs", 0, r"training\.epochs: Input should be greater than or equal to 1"),
    "no patience": ("training.patience", 0, r"training\.patience: Input should be greater than or equal to 1"),
    "min_count": ("min_count", 0, r"min_count: Input should be greater than or equal to 1"),
    "smoothing": ("history_smoothing", 0, r"history_smoothing: Input should be greater than 0"),
    "top_n": ("top_n", 0, r"top_n: Input should be greater than or equal to 1"),
    "field name": ("fields.0.name", "House-hold", r"fields\.0\.name: String should match pattern"),
    "field twice": ("fields.1.name", "household", r"field names must be unique, got 'household' twice"),
    "field without columns": ("fields.0.columns", [], r"field household: columns must name at least one column"),
    "outcome": ("fields.0.known_at", "outcome", r"field household: known_at must be one of .* got 'outcome'"),
    "the label as a field": ("fields.0.columns", ["sales_value"], r"field household: the label's columns .* not known"),
    "log2 of two": ("fields.7.columns", ["advertised_products", "store_id"], r"'log2' takes one column"),
    "history without of": ("fields.8.of", None, r"of and measure belong to transform 'history', and it needs both"),
    "of without history": (
        "fields.0.of",
        "exposures",
        r"field household: of and measure belong to transform 'history'",
    ),
    "history known_at": ("fields.8.known_at", "static", r"rate_household: known_at must be 'history', got 'static'"),
    "measure of": ("fields.8.measure", "basket_rate", r"measure of exposures must be 'conversion_rate'"),
    "members of exposures": (
        "fields.8.members",
        "offer_products",
        r"rate_household: members needs of: purchases, got e",
    ),
    "members of no history": (
        "fields.0.members",
        "offer_products",
        r"household: members needs of: purchases, got none",
    ),
    "members without a set": (
        "fields.20.columns",
        ["household_id"],
        r"with members, columns must be those of the entity and, last, the id of the set, got \['household_id'\]",
    ),
    "members of another entity": (
        "fields.20.columns",
        ["store_id", "offer_id"],
        r"columns must be those of the entity",
    ),
    "members that promo has not": (
        "fields.20.members",
        "ad_products",
        r"bought_household_offer: members must be a table of promo \(offer_products\), got 'ad_products'",
    ),
    "members as a path": ("fields.20.members", "../sets", r"fields\.20\.members: String should match pattern"),
    "files without members": (
        "source",
        {"adapter": "files", "exposures": "rows.parquet", "purchases": "lines.parquet"},
        r"source\.members\.offer_products must be a path, since field bought_household_offer names it, got none",
    ),
    "buckets": ("fields.0.buckets", 1, r"fields\.0\.buckets: Input should be greater than or equal to 2"),
    "split of both kinds": ("split.test", ["2017-10-30", "2017-12-25"], r"split must give all of train, valid, calib"),
    "privacy key": ("privacy", {"salt": "pepper"}, r"privacy\.salt: Extra inputs are not permitted"),
    "floor below nothing": (
        "privacy",
        {"k_anonymity": -1},
        r"privacy\.k_anonymity.*: Input should be greater than or eq",
    ),
    "a salt in the file": (
        "privacy",
        {"salt_env": "s3cr3t"},
        r"privacy\.salt_env: String should match pattern",
    ),
    "a salt that all know": (
        "privacy",
        {"salt_env": "HOME"},
        r"salt_env must name a variable that holds a secret .*'HOME'",
    ),
    "a fixed train alone": ("split.train", ["2017-01-02", "2017-03-06"], r"split must give all of train, valid, calib"),
}


@pytest.mark.parametrize(("place", "value", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(tmp_path: Path, place: str, value: Any, message: str) -> None:
    path = edited(tmp_path, (place, value))
    with pytest.raises(ContractError, match=message) as caught:
        load(path)
    assert all(line.startswith(f"{path}: ") for line in str(caught.value).splitlines())


def test_a_table_of_sets_has_ids_of_one_kind(tmp_path: Path) -> None:
    again = yaml.safe_load(PROMO.read_text())["fields"][20] | {"name": "again", "columns": ["household_id", "store_id"]}
    path = edited(tmp_path, ("fields.0", again), ("prior.entity", "store"), ("slices.6.known", "store"))
    message = "field bought_household_offer: members offer_products has the sets of store_id, got offer_id"
    with pytest.raises(ContractError, match=message):
        load(path)


def test_a_fixed_split_must_be_in_time_order(tmp_path: Path) -> None:
    days = {"train": ["2017-01-02", "2017-05-01"], "valid": ["2017-04-03", "2017-06-05"]}
    days |= {"calib": ["2017-06-12", "2017-06-19"], "test": ["2017-06-26", "2017-07-03"]}
    with pytest.raises(ContractError, match="split must be in time order train < valid < calib < test"):
        load(edited(tmp_path, ("split", days)))


def test_every_fault_has_a_line(tmp_path: Path) -> None:
    with pytest.raises(ContractError) as caught:
        load(edited(tmp_path, ("top_n", 0), ("min_count", 0), ("version", "one")))
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == ["version", "min_count", "top_n"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [1, 2", "not YAML: while parsing a flow sequence"),
        ("- a list", "a contract must be a mapping, got list"),
        ("", "a contract must be a mapping, got NoneType"),
        ("extends: nowhere.yml", r"must be a readable YAML file, got .*nowhere\.yml, which does not exist"),
        ("extends: bad.yml", r"bad\.yml: a contract must be a mapping, got str"),
    ],
)
def test_a_file_that_is_no_contract(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "bad.yml").write_text("words")
    path = tmp_path / "contract.yml"
    path.write_text(text)
    with pytest.raises(ContractError, match=message):
        load(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"got .*none\.yml, which does not exist"):
        load(tmp_path / "none.yml")


def test_sha_follows_meaning_not_text(tmp_path: Path) -> None:
    first = load(PROMO)
    reordered = dict(reversed(yaml.safe_load(PROMO.read_text()).items()))
    path = tmp_path / "contract.yml"
    path.write_text("# another comment\n" + yaml.safe_dump(reordered, sort_keys=False))
    assert load(path).sha == first.sha
    assert load(edited(tmp_path, ("training.eta", 0.05))).sha != first.sha


def test_part_is_what_a_data_set_depends_on(tmp_path: Path) -> None:
    part = load(PROMO).part("label", "top_n")
    assert part == {
        "label": {"events": ["purchase"], "window": "end_of_period", "deduplicated": "first", "delay_by": None},
        "top_n": 10,
    }
    assert load(edited(tmp_path, ("min_count", 99))).part("label", "top_n") == part


def test_privacy_is_off_unless_asked_for(tmp_path: Path) -> None:
    assert load(PROMO).privacy.model_dump() == {
        "hash_entities": False,
        "salt_env": "FIELDMART_SALT",
        "k_anonymity": None,
    }
    path = edited(tmp_path, ("privacy", {"hash_entities": True, "k_anonymity": 20}))
    found = load(path).privacy
    assert (found.hash_entities, found.salt_env, found.k_anonymity) == (True, "FIELDMART_SALT", 20)


def test_a_loaded_contract_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(PROMO).top_n = 3


@pytest.mark.parametrize("name", ["split", "reason", "f_price"])
def test_a_column_may_not_have_a_name_that_jobs_use(tmp_path, name):
    raw = yaml.safe_load((CONF / "promo.yml").read_text())
    raw["columns"][name] = {"type": "string"}
    path = tmp_path / "named.yml"
    path.write_text(yaml.safe_dump(raw))
    with pytest.raises(ContractError, match=rf"columns: '{name}' is a name that jobs use themselves"):
        load(path)
