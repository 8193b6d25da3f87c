"""The sets of advertised products that the adapter promo derives, against a second derivation from the raw tables."""

from __future__ import annotations

import datetime as dt
import shutil
from collections import defaultdict
from functools import reduce
from operator import xor

import polars as pl
import pytest
from small_world import CONF, WEEKS

from jobs.adapters import promo
from jobs.contract import Source, load
from jobs.periods import Periods

FAMILY = ["store_id", "manufacturer_id", "product_category"]


def derived(spark, folder) -> dict[str, pl.DataFrame]:
    """The adapter's ads on offer and sets, as seen at the start of week 12."""
    periods = Periods(load(CONF / "promo.yml"), dt.date(2017, 3, 13))
    tables = promo.tables(spark, Source(adapter="promo", path=str(folder)), periods)
    names = {"candidates": [*FAMILY, "advertised_products", "offer_id"], "members.offer_products": None}
    return {
        name: pl.DataFrame(tables[name].select(*(columns or ["*"])).toArrow()).sort(pl.all())
        for name, columns in names.items()
    }


@pytest.fixture(scope="module")
def found(spark, small_tables):
    return derived(spark, small_tables)


@pytest.fixture(scope="module")
def advertised(small_tables):
    """Every ad of weeks 1 to 12 (week, store, manufacturer, category) with the set of its products."""
    products = pl.read_parquet(small_tables / "products.parquet").filter(pl.col("product_category").is_not_null())
    shown = pl.read_parquet(small_tables / "promotions.parquet").filter(pl.col("mailer_location").is_in(["D", "H"]))
    ads = defaultdict(set)
    for row in shown.join(products, on="product_id").select("week", *FAMILY, "product_id").iter_rows():
        ads[row[:-1]].add(row[-1])
    return ads


def sets_of(tables) -> dict[int, set[int]]:
    sets = defaultdict(set)
    for offer, product in tables["members.offer_products"].select("offer_id", "product_id").iter_rows():
        sets[offer].add(product)
    return sets


def test_an_ad_on_offer_has_the_set_of_its_products(found, advertised):
    sets = sets_of(found)
    on_offer = {tuple(row[:3]): (sets[row[4]], row[3]) for row in found["candidates"].iter_rows()}
    expected = {ad[1:]: (products, len(products)) for ad, products in advertised.items() if ad[0] == WEEKS}
    assert on_offer == expected


def test_the_table_holds_every_set_of_all_ads_so_far_once(found, advertised):
    sets = sets_of(found)
    assert len(found["members.offer_products"]) == sum(len(products) for products in sets.values())
    distinct = {frozenset(products) for products in advertised.values()}
    assert len(sets) == len(distinct)
    assert {frozenset(products) for products in sets.values()} == distinct


def xxh64(value: int, seed: int = 42) -> int:
    """XXH64 of eight bytes, as its specification has it; Spark's seed is 42."""
    p1, p2, p3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
    p4, p5, full = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5, (1 << 64) - 1

    def turned(x: int, by: int) -> int:
        return (x << by | x >> (64 - by)) & full

    h = (seed + p5 + 8) & full
    h ^= turned(value * p2 & full, 31) * p1 & full
    h = (turned(h, 27) * p1 + p4) & full
    h = (h ^ h >> 33) * p2 & full
    h = (h ^ h >> 29) * p3 & full
    return h ^ h >> 32


def test_the_id_of_a_set_is_the_same_on_every_machine(found):
    for offer, products in sets_of(found).items():
        assert offer % 2**64 == reduce(xor, map(xxh64, products))


def test_the_order_of_the_promotions_says_nothing(found, small_tables, spark, tmp_path):
    shutil.copytree(small_tables, tmp_path / "tables")
    path = tmp_path / "tables" / "promotions.parquet"
    shuffled = pl.read_parquet(path).sample(fraction=1.0, shuffle=True, seed=1)
    shuffled.write_parquet(path)
    again = derived(spark, tmp_path / "tables")
    assert all(again[name].equals(found[name]) for name in found)
