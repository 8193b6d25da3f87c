"""Inputs of scoring against the slow oracle that encodes every pair as a row, on real and on invented worlds."""

from __future__ import annotations

import datetime as dt
import json
import random
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pair_rows import expanded, root_of, row_features, row_values
from polars.testing import assert_frame_equal
from rich.console import Console

from jobs import encode, score_inputs
from jobs.contract import Contract
from jobs.cycle import Cycle
from jobs.event_files import with_block
from jobs.progress import Progress
from jobs.score_inputs import InputsError, block_count, sides

START, DATE = dt.datetime(2026, 3, 1), dt.date(2026, 3, 9)
TEXT, WHOLE = {"type": "string", "nullable": True}, {"type": "integer", "nullable": True}
COLUMNS = {
    **dict.fromkeys(("user", "age", "region", "brand", "device"), TEXT),
    **dict.fromkeys(("item", "size", "bundle"), WHOLE),
    "shown_at": {"type": "timestamp"},
    "bought_at": {"type": "timestamp", "nullable": True},
    "revenue": {"type": "number"},
}


def field(name: str, side: str, *columns: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "side": side, "known_at": "planned", "columns": columns} | more


def rate(name: str, side: str, *columns: str) -> dict[str, Any]:
    more = {"transform": "history", "of": "exposures", "measure": "conversion_rate", "known_at": "history"}
    return field(name, side, *columns, **more)


def baskets(name: str, side: str, *columns: str, members: str | None = None) -> dict[str, Any]:
    more = {"transform": "history", "of": "purchases", "measure": "basket_rate", "known_at": "history"}
    return field(name, side, *columns, members=members, **more)


BASIC = [
    field("user", "entity", "user"),
    field("item", "candidate", "item"),
    rate("rate_user", "entity", "user"),
    rate("rate_user_brand", "pair", "user", "brand"),
]
# Fields whose sides are not what they say, or whose histories are not the entity's.
ODD = [
    *BASIC,
    field("device", "context", "device"),
    field("age_and_brand", "context", "age", "brand"),
    field("hashed", "pair", "brand", "user", transform="hashed", buckets=5),
    rate("rate_age", "entity", "age"),
    rate("rate_age_brand", "pair", "age", "brand"),
    rate("rate_region_item", "candidate", "item", "region"),
]
BOUGHT = [
    *BASIC,
    field("size", "candidate", "size", transform="log2"),
    rate("rate_user_region", "entity", "region", "user"),
    rate("rate_region_user_item", "pair", "item", "region", "user"),
    baskets("bought_user", "entity", "user"),
    baskets("bought_brand", "candidate", "brand"),
    baskets("bought_user_brand", "pair", "brand", "user"),
    baskets("bought_user_bundle", "pair", "user", "bundle", members="contents"),
    baskets("bought_user_brand_bundle", "pair", "user", "brand", "bundle", members="contents"),
]


def contract_of(fields: list[dict[str, Any]], **more: Any) -> Contract:
    raw = {
        "name": "world",
        "version": 1,
        "data_note": "Invented, for tests.",
        "source": {"adapter": "files", "exposures": "x", "purchases": "x", "members": {"contents": "x"}},
        "period": {"days": 1, "origin": START},
        "columns": COLUMNS,
        "entity": ["user"],
        "candidate": ["item"],
        "match": ["region"],
        "exposure_time": "shown_at",
        "conversion_time": "bought_at",
        "value": "revenue",
        "label": {"events": ["purchase"], "window": 2},
        "split": {"valid": 1, "calib": 1, "test": 1},
        "history_smoothing": 2,
        "fields": fields,
        "prior": {"candidate_levels": ["item"], "entity": "user"},
        "training": {},
        "grid": {"nightly": {"k": [1]}},
    }
    return Contract.model_validate(raw | more)


def put(cycle: Cycle, name: str, frames: dict[str, pl.DataFrame]) -> None:
    with cycle.lake.writing(name, "world") as folder:
        for path, frame in frames.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            frame.write_parquet(folder / path)
    cycle.remember({name: "world"})


def world(folder: Path, contract: Contract, seed: int) -> Cycle:
    """A cycle with an invented snapshot: few values each, so that keys meet; some are null, some never seen before."""
    draw = random.Random(seed)
    users, ages, regions = [None, *"abcdefgh"], [None, "young", "old"], ["north", "south"]
    brands, devices, items = [None, "x", "y", "z"], ["tv", "phone"], [None, *range(1, 12)]
    bundles, products = [None, *range(1, 6)], range(10)
    age = {user: draw.choice(ages) for user in [*users, "new"]}
    brand = {item: draw.choice(brands) for item in [*items, 99]}

    def moment() -> dt.datetime:
        return START + dt.timedelta(hours=draw.uniform(0, 24 * 8))

    shown = []
    for _ in range(400):
        user, item, at = draw.choice(users[:-1]), draw.choice(items), moment()
        late = at + dt.timedelta(hours=draw.expovariate(1 / 20))
        converted = draw.random() < 0.4 and late < START + dt.timedelta(days=8)
        who, what = (user, age[user], draw.choice(regions)), (item, draw.randrange(20), draw.choice(bundles))
        shown.append((*who, brand[item], draw.choice(devices), *what, at, late if converted else None, 1.0))
    kinds = {"shown_at": pl.Datetime("us", "UTC"), "bought_at": pl.Datetime("us", "UTC"), "revenue": pl.Float64}
    kinds = {name: kinds.get(name, pl.String if COLUMNS[name] is TEXT else pl.Int64) for name in COLUMNS}
    bought = [
        (draw.choice(users[:-1]), draw.choice(brands), draw.choice(products), draw.randrange(40), moment())
        for _ in range(250)
    ]
    bought_kinds = {"user": pl.String, "brand": pl.String, "product": pl.Int64, "basket_id": pl.Int64}
    # "new" has done nothing yet, "west" has no offers, and what has no region is on offer to nobody.
    people = [(user, age[user], draw.choice(regions), draw.choice(devices)) for user in [*users, "new"]]
    people = [*people, ("away", "old", "west", "tv"), ("nowhere", "old", None, "tv")]
    offers = {(region, item) for region in regions for item in draw.sample([*items, 99], 7)} | {(None, 1)}
    if not contract.match:
        offers = {(draw.choice(regions), item) for _, item in sorted(offers, key=str) if item != 1} | {(None, 1)}
        offers = {item: (region, item) for region, item in sorted(offers, key=str)}.values()
    offered = [
        (region, item, brand[item], draw.randrange(20), draw.choice([*bundles, 77]))
        for region, item in sorted(offers, key=str)
    ]
    # A narrower type of the same values must not matter.
    offer_kinds = {"region": pl.String, "item": pl.Int32, "brand": pl.String, "size": pl.Int64, "bundle": pl.Int32}
    cycle = Cycle(contract, DATE, folder, Progress(Console(quiet=True)))
    put(cycle, "exposures", {"status=kept/a.parquet": pl.DataFrame(shown, schema=kinds, orient="row")})
    purchases = pl.DataFrame(bought, schema=bought_kinds | {"purchase_time": pl.Datetime("us", "UTC")}, orient="row")
    put(cycle, "purchases", {"a.parquet": purchases})
    sets = pl.DataFrame(sorted({(draw.randrange(1, 6), draw.choice(products)) for _ in range(12)}), orient="row")
    put(cycle, "members", {"contents/a.parquet": sets.rename({"column_0": "bundle", "column_1": "product"})})
    names = ["user", "age", "region", "device"]
    put(cycle, "entity_list", {"a.parquet": pl.DataFrame(people, schema=dict.fromkeys(names, pl.String), orient="row")})
    put(cycle, "offer_list", {"a.parquet": pl.DataFrame(offered, schema=offer_kinds, orient="row")})
    return cycle


def vocabulary_of(contract: Contract, values: pl.DataFrame, seed: int) -> pa.Table:
    """Two thirds of the values that the pairs have; the others are unknown."""
    draw = random.Random(seed)
    counts = [
        {"field": name, "value": value, "n": 1}
        for name in contract.field_names
        for value in values[f"v_{name}"].unique().sort()
        if draw.random() < 0.67
    ]
    return encode.numbered(pl.DataFrame(counts), contract.field_names)


WORLDS = {
    "sides that are not what they say": (ODD, {"match": []}),
    "purchases and sets": (BOUGHT, {}),
    "an offer list of its own for every region and item": (
        [*BASIC, rate("rate_region", "candidate", "region"), field("age_and_item", "pair", "age", "item")],
        {"entity": ["user", "region"], "candidate": ["region", "item"]},
    ),
}


@pytest.mark.parametrize("name", WORLDS)
def test_every_pair_has_the_features_of_its_row(
    name: str, spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields, more = WORLDS[name]
    cycle = world(tmp_path, contract_of(fields, **more), seed=len(name))
    values = row_values(cycle, spark, 0.3)
    vocabulary = vocabulary_of(cycle.contract, values, seed=3)
    expected = row_features(cycle, values, vocabulary)
    assert len(expected) > 50
    monkeypatch.setattr(score_inputs, "PAIRS_PER_BLOCK", 30)
    made, reused = score_inputs.make(cycle, spark, vocabulary, 0.3)
    assert not reused
    found = expanded(cycle, made)
    assert_frame_equal(found, expected)
    layout = json.loads((root_of(made) / "layout.json").read_text())
    assert layout["pairs"] == len(expected)
    assert layout["blocks"] == -(-len(expected) // 30)
    for pair in layout["pair"]:  # the tables say something
        assert found[f"f_{pair}"].n_unique() > 1


def test_the_same_input_gives_the_same_bytes_and_is_made_once(
    spark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(score_inputs, "PAIRS_PER_BLOCK", 30)
    contract = contract_of(BASIC)
    vocabulary = encode.numbered(
        pl.DataFrame({"field": ["user", "rate_user_brand"], "value": ["a", "0"], "n": [9, 9]}), contract.field_names
    )
    cycles = [world(tmp_path / name, contract, seed=1) for name in ("one", "two")]
    found = [score_inputs.make(cycle, spark, vocabulary, 0.3)[0] for cycle in cycles]
    assert found[0].content == found[1].content
    assert {entry["path"].split("/")[-1] for entry in found[0].manifest["files"]} == {
        "layout.json",
        "part-00000.parquet",
    }
    assert score_inputs.make(cycles[0], spark, vocabulary, 0.3)[1]
    layout = json.loads((root_of(found[0]) / "layout.json").read_text())
    # Ids by field: user 0 is OOV and 1 "a", item 2, rate_user 3, rate_user_brand 4 and 5, its "no history".
    assert layout["oov"] == {"user": 0, "item": 2, "rate_user": 3, "rate_user_brand": 4}
    assert (layout["default"], layout["pair"]) == ({"rate_user_brand": 5}, ["rate_user_brand"])
    entities = pl.concat([pl.read_parquet(file) for file in found[0].files if "entities" in file])
    assert layout["entities"] == len(entities) == 12  # those who have nothing on offer too


def test_the_small_night(own_night: Any, spark: Any) -> None:
    cycle = own_night.cycle
    vocabulary, rate_ = cycle.dataset("vocabulary").table(), encode.base_rate(cycle.dataset("label_rates").table())
    made, _ = score_inputs.make(cycle, spark, vocabulary, rate_)
    expected = row_features(cycle, row_values(cycle, spark, rate_), vocabulary)
    assert len(expected) > 1000
    assert_frame_equal(expanded(cycle, made), expected)


ENTITY_LIST, OFFER_LIST = {"user", "age", "region"}, {"region", "item", "brand", "device"}


def test_the_side_of_a_field_is_where_its_columns_come_from() -> None:
    fields = [*BASIC, field("slot", "context", "device", "age"), field("where", "candidate", "region")]
    found = sides(contract_of(fields), ENTITY_LIST, OFFER_LIST)
    assert found.of == {
        "user": "entity", "item": "candidate", "rate_user": "entity", "rate_user_brand": "pair", "slot": "pair",
        "where": "entity",
    }  # fmt: skip
    assert found.left == {"rate_user_brand": ("user",), "slot": ("age",)}
    assert found.right == {"rate_user_brand": ("brand",), "slot": ("device",)}
    assert (found.entity_columns, found.offer_columns) == (
        ["age", "region", "user"],
        ["brand", "device", "item", "region"],
    )


@pytest.mark.parametrize(
    ("fields", "entity_list", "offer_list", "told"),
    [
        (
            BASIC,
            ENTITY_LIST - {"user"},
            OFFER_LIST,
            r"source.entities must have the columns user, which .* got age, region",
        ),
        (
            BASIC,
            ENTITY_LIST,
            OFFER_LIST - {"brand"},
            r"source.candidates must have the columns brand, which .* got device,",
        ),
        (BASIC, ENTITY_LIST, OFFER_LIST - {"region"}, r"source.candidates must have the columns region"),
        (
            [*BASIC, field("bought", "entity", "item", "age")],
            ENTITY_LIST | {"item"},
            OFFER_LIST,
            "candidate must be columns of the offer list, got item of the entity list",
        ),
    ],
)
def test_lists_without_a_column_are_refused(
    fields: list[dict[str, Any]], entity_list: set[str], offer_list: set[str], told: str
) -> None:
    with pytest.raises(InputsError, match=told):
        sides(contract_of(fields), entity_list, offer_list)


def test_lists_that_cannot_be_scored_are_refused(spark: Any, tmp_path: Path) -> None:
    contract = contract_of(BASIC)
    cycle = world(tmp_path, contract, seed=1)
    none = pl.DataFrame(schema={"field": pl.String, "value": pl.String, "n": pl.Int64})
    vocabulary = encode.numbered(none, contract.field_names)
    with pytest.raises(InputsError, match="vocabulary must have every field of the contract, item missing"):
        score_inputs.make(cycle, spark, vocabulary.filter(pc.not_equal(vocabulary["field"], "item")), 0.3)
    people, offers = (pl.read_parquet(cycle.dataset(name).files) for name in ("entity_list", "offer_list"))
    for name, frame, column, other, rule in (
        ("entities", people, "user", "age", "each entity once, got '{}' 2 times"),
        ("entities", people, "user", "region", "each entity once, got '{}' with matches {}, q"),
        ("candidates", offers, "item", "brand", "each row once per match, got '{}' twice"),
    ):
        dataset = {"entities": "entity_list", "candidates": "offer_list"}[name]
        first = frame.drop_nulls([column, "region"]).head(1)
        twice = first.with_columns(pl.lit("q").alias(other))
        replace(cycle, dataset, pl.concat([frame, twice]))
        told = f"source.{name} must have {rule.format(first[column].item(), first['region'].item())}"
        with pytest.raises(InputsError, match=told):
            score_inputs.make(cycle, spark, vocabulary, 0.3)
        replace(cycle, dataset, frame.clear())
        with pytest.raises(InputsError, match=f"source.{name} must have at least one row to score, got none"):
            score_inputs.make(cycle, spark, vocabulary, 0.3)
        replace(cycle, dataset, frame)


@pytest.mark.parametrize(
    ("match", "rows", "told"),
    [
        (["region"], [("e1", "a"), ("e1", "b"), ("e2", "b")], "got 'e1' with matches a, b"),
        (["region"], [("e2", "b"), ("e1", "b"), ("e1", None)], r"got 'e1' with matches \(none\), b"),
        (["region"], [("e1", "b"), ("e2", "b"), ("e2", "b")], "got 'e2' 2 times"),
        ([], [("e1", "a"), ("e1", "b"), ("e1", "c")], "got 'e1' 3 times"),
        (["region"], [("", "a"), (None, "b")], "got '' with matches a, b"),  # as text they are the same
    ],
)
def test_an_entity_must_be_on_the_list_once(match: list[str], rows: list[Any], told: str, tmp_path: Path) -> None:
    pl.DataFrame(rows, schema=["user", "region"], orient="row").write_parquet(tmp_path / "a.parquet")
    with pytest.raises(InputsError, match=f"source.entities must have each entity once, {told}$"):
        score_inputs.refuse_twice(contract_of(BASIC, match=match), [str(tmp_path / "a.parquet")])


def replace(cycle: Cycle, name: str, frame: pl.DataFrame) -> None:
    key = f"{name}-{frame.hash_rows().sum()}"
    with cycle.lake.writing(name, key) as folder:
        frame.write_parquet(folder / "a.parquet")
    cycle.remember({name: key})


def test_who_has_no_match_does_not_meet_offers_whose_match_is_empty(spark: Any, tmp_path: Path) -> None:
    cycle = world(tmp_path, contract_of([*BASIC, rate("rate_age_brand", "pair", "age", "brand")]), seed=1)
    people, offers = (pl.read_parquet(cycle.dataset(name).files) for name in ("entity_list", "offer_list"))
    # Offers of the region "" in place of south's: for "away", who has that region now, and not for "nowhere" with none.
    is_away = pl.col("user").eq_missing(pl.lit("away"))
    replace(cycle, "entity_list", people.with_columns(region=pl.when(is_away).then(pl.lit("")).otherwise("region")))
    replace(cycle, "offer_list", offers.with_columns(region=pl.col("region").replace("south", "")))
    values = row_values(cycle, spark, 0.3)
    vocabulary = vocabulary_of(cycle.contract, values, seed=3)
    made, _ = score_inputs.make(cycle, spark, vocabulary, 0.3)
    found = expanded(cycle, made)
    assert_frame_equal(found, row_features(cycle, values, vocabulary))
    # `world` has 7 items on offer in each region.
    assert dict(found.filter(match_id="").group_by("entity_id").len().iter_rows()) == {"away": 7}
    layout = json.loads((root_of(made) / "layout.json").read_text())
    assert layout["pairs"] == len(found)
    entities = pl.concat([pl.read_parquet(file) for file in made.files if "entities" in file])
    assert entities.filter(pl.col("match_id").is_null())["entity_id"].to_list() == ["nowhere"]


def test_the_block_of_an_entity_is_the_crc_of_its_key() -> None:
    # python -c "import zlib; print([zlib.crc32(key) for key in (b'1', b'b7|north', b'(missing)|south')])":
    # 2212294583, 4240501014, 3561313918; modulo 1000
    rows = pl.DataFrame({"user": ["b7", None, "b7"], "region": ["north", "south", "north"], "n": [1, 2, 3]})
    assert with_block(rows, ["user", "region"], 1000).rows() == [
        ("b7", "north", 1, 14),
        (None, "south", 2, 918),
        ("b7", "north", 3, 14),
    ]
    for kind in (pl.Int8, pl.Int64, pl.String):  # whatever type a list or a file has for it
        numbers = pl.DataFrame({"user": [1]}).cast({"user": kind})
        assert with_block(numbers, ["user"], 1000)["z_block"].to_list() == [583]


def test_the_number_of_blocks_follows_from_the_data() -> None:
    # 100M pairs in blocks of 8M, 5M events in blocks of 4M, and no more blocks than entities.
    assert block_count(entities=100_000, pairs=100_000_000, events=5_000_000) == 13
    assert block_count(entities=2_467, pairs=81_647, events=4_671_361) == 2
    assert block_count(entities=3, pairs=100_000_000, events=0) == 3
    assert block_count(entities=3, pairs=0, events=0) == 1
