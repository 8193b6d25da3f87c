"""Job: a calibrated conversion rate for every entity and every candidate on offer to it in the scoring period.

The model is the champion of the decision log, whatever tonight's candidates were; without one, or if its files are
damaged, the hierarchical prior scores and every row says so. Nothing is committed unless the scores are complete.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from ffm_udf import scoring
from ffm_udf.calibration import Calibrator
from jobs import decision_log, encode, facts, models
from jobs.calibrators import calibrator_id, serving_calibrator
from jobs.cycle import Cycle
from jobs.lake import Dataset, LakeError, sha256_json
from jobs.lineage import features


class ScoreError(RuntimeError):
    """Scores that must not be seen; the message says what is wrong with how many of them."""


def run(cycle: Cycle, spark: SparkSession) -> Dataset:
    """Make the facts `scores`, `entities` and `candidates` of this cycle; returns `scores`."""
    with cycle.stage("score") as stage:
        model_id, source = serving_model(cycle)
        cycle.remember({}, run={"serving_model_id": model_id, "score_source": source})
        people, offers = cycle.dataset("entity_list"), cycle.dataset("offer_list")
        inputs = {"entities": people.content, "candidates": offers.content}
        lists = {
            "entities": lambda out: _write_one(entity_rows(cycle, spark), "entities", out),
            "candidates": lambda out: _write_one(candidate_rows(cycle, spark), "candidates", out),
        }
        for name, write in lists.items():
            cycle.make(name, __name__, inputs, cycle.contract.part("entity", "candidate", "match"), write)
        inputs |= encode.contents(cycle)
        params = {
            "model": model_id,
            "source": source,
            "date": cycle.date,
            "scoring_period": cycle.periods.scoring,
            "contract": features(cycle.contract),
            "calibrator": calibrator_of(cycle, model_id, source),
        }
        scores, reused = cycle.make(
            "scores", __name__, inputs, params, lambda out: _write_scores(cycle, spark, model_id, source, out)
        )
        stage.made(scores, reused)
        entities = cycle.dataset("entities").table()
        idle = pc.sum(pc.equal(entities["candidates"], 0)).as_py() or 0
        note = f"; {idle:,} of them have nothing on offer" if idle else ""
        cycle.progress.note(f"{entities.num_rows:,} entities by {model_id} ({source}){note}")
    return scores


def serving_model(cycle: Cycle) -> tuple[str, str]:
    """Id of the model that serves this cycle and where its scores come from (model | prior)."""
    champion = decision_log.champion(cycle.warehouse, cycle.contract.name, cycle.date)
    if champion:
        try:
            check_champion(cycle, champion)
            return champion, "model"
        except (OSError, ValueError, LakeError) as error:
            cycle.progress.note(f"champion {champion} cannot be used ({error}): the prior scores tonight")
    rows = cycle.dataset("models").table().to_pylist()
    return next(row["model_id"] for row in rows if row["algorithm"] == "prior" and row["role"] == "candidate"), "prior"


def check_champion(cycle: Cycle, model_id: str) -> None:
    """Raise OSError, ValueError or LakeError if the champion's files, vocabulary or fields do not fit this cycle."""
    scoring.opened(str(models.model_folder(cycle.warehouse, model_id).resolve()))
    trained = models.read_card(cycle.warehouse, model_id)["lineage"]
    cycle.lake.get("vocabulary", trained["vocabulary"]["key"])
    if trained["features_sha"] != sha256_json(features(cycle.contract)):
        raise ValueError("the contract's fields are not those it was trained on")


def calibrator_of(cycle: Cycle, model_id: str, source: str) -> dict[str, float]:
    """A champion brings the calibrator it was published with; the prior gets tonight's."""
    if source == "model":
        return models.read_card(cycle.warehouse, model_id)["calibrator"]
    return serving_calibrator(cycle, model_id)


def pairs(cycle: Cycle, spark: SparkSession) -> DataFrame:
    """Every entity × every candidate of its match, with the columns that the contract's fields need."""
    contract = cycle.contract
    people = spark.read.parquet(*cycle.dataset("entity_list").files)
    offers = spark.read.parquet(*cycle.dataset("offer_list").files)
    by_entity = {c for rule in contract.fields if rule.side == "entity" for c in rule.columns} | set(contract.entity)
    needed = {c for rule in contract.fields for c in rule.columns} | set(contract.candidate)
    left = sorted(by_entity - set(contract.match))
    right = sorted(needed - by_entity - set(contract.match))
    for name, table, columns in (("entities", people, left), ("candidates", offers, right)):
        missing = [c for c in (*columns, *contract.match) if c not in table.columns]
        if missing:
            raise ScoreError(f"source.{name} must have the columns {', '.join(missing)}, which fields need for scoring")
    people, offers = people.select(*left, *contract.match), offers.select(*right, *contract.match)
    joined = people.join(offers, on=list(contract.match), how="inner") if contract.match else people.crossJoin(offers)
    return joined.withColumn("period_no", F.lit(cycle.periods.scoring))


def entity_rows(cycle: Cycle, spark: SparkSession) -> DataFrame:
    """The fact `entities`: who must be scored and on how many candidates."""
    contract = cycle.contract
    people = spark.read.parquet(*cycle.dataset("entity_list").files).select(
        *encode.keys(contract, ("entity_id", "match_id"))
    )
    per_match = candidate_rows(cycle, spark).groupBy("match_id").agg(F.count("*").alias("candidates"))
    found = people.join(per_match, on="match_id", how="left").fillna(0, subset=["candidates"])
    return found.select("entity_id", "match_id", "candidates")


def candidate_rows(cycle: Cycle, spark: SparkSession) -> DataFrame:
    """The fact `candidates`: what is on offer where, with a label for people."""
    contract = cycle.contract
    offers = spark.read.parquet(*cycle.dataset("offer_list").files)
    label = F.concat_ws(" · ", *(F.col(c).cast("string") for c in reversed(contract.candidate))).alias("label")
    match = [c for c in contract.match if c in offers.columns]
    return offers.select(
        F.concat_ws("|", *contract.candidate).alias("candidate_id"), F.concat_ws("|", *match).alias("match_id"), label
    ).distinct()


def _write_one(rows: DataFrame, name: str, out: Path) -> None:
    """A small fact in one sorted file of its declared schema."""
    columns = facts.FACTS[name].names
    rows.select(*columns).coalesce(1).sortWithinPartitions(*columns).write.mode("append").parquet(str(out))


def _write_scores(cycle: Cycle, spark: SparkSession, model_id: str, source: str, out: Path) -> None:
    contract = cycle.contract
    folder = str(models.model_folder(cycle.warehouse, model_id).resolve())
    card = models.read_card(cycle.warehouse, model_id)
    # The model's own vocabulary and base rate: those of the night it was trained.
    vocabulary = cycle.lake.get("vocabulary", card["lineage"]["vocabulary"]["key"]).table()
    tables = encode.events(cycle, spark)
    keep = encode.keys(contract)
    values = encode.values(pairs(cycle, spark), contract, cycle.periods, tables, card["lineage"]["base_rate"], keep)
    coded = encode.encoded(values, vocabulary)
    calibrator = calibrator_of(cycle, model_id, source)
    scored = _scored(coded, folder, vocabulary, Calibrator(**calibrator))
    order = [F.desc("raw_score"), "candidate_id", "entity_id"]
    ranked = scored.withColumn(
        "rank_in_entity", F.row_number().over(Window.partitionBy("entity_id").orderBy(*order)).cast("int")
    ).withColumn(
        "rank_in_candidate", F.row_number().over(Window.partitionBy("candidate_id").orderBy(*order)).cast("int")
    )
    constants = {
        "model_id": F.lit(model_id),
        "calibrator_id": F.lit(calibrator_id(calibrator)),
        "score_date": F.lit(cycle.date),
        "data_through": F.lit(cycle.periods.data_through),
        "source": F.lit(source),
    }
    for name, column in constants.items():
        ranked = ranked.withColumn(name, column)
    wanted = ranked.select(*facts.FACTS["scores"].names)
    wanted.repartition(encode.FILES, "entity_id").sortWithinPartitions("entity_id", "rank_in_entity").write.mode(
        "append"
    ).parquet(str(out))
    check(spark.read.parquet(str(out)), spark.read.parquet(*cycle.dataset("entities").files))


def _scored(coded: DataFrame, folder: str, vocabulary: pa.Table, calibrator: Calibrator) -> DataFrame:
    """Keys, p, raw_score and oov_share of encoded pairs."""
    features = [name for name in coded.columns if name.startswith("f_")]
    unknown = np.array([row["feature_id"] for row in vocabulary.to_pylist() if row["value"] is None], np.int32)

    def score(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        model = scoring.opened(folder)
        for batch in batches:
            X = np.column_stack([batch.column(name).to_numpy() for name in features])
            logits = model.score(X)[0]
            share = (unknown[None, :] == X).mean(axis=1)
            columns = [batch.column(name) for name in encode.KEYS]
            columns += [pa.array(calibrator(logits)), pa.array(logits.astype(np.float64)), pa.array(share)]
            yield pa.RecordBatch.from_arrays(columns, names=[*encode.KEYS, "p", "raw_score", "oov_share"])

    schema = ", ".join(f"{key} string" for key in encode.KEYS) + ", p double, raw_score double, oov_share double"
    return coded.mapInArrow(score, schema)


def check(scores: DataFrame, entities: DataFrame) -> None:
    """Raise ScoreError unless every entity has all its candidates once and every p is a probability between 0 and 1."""
    [sums] = scores.agg(
        F.count("*").alias("rows"),
        F.countDistinct("entity_id", "candidate_id", "match_id").alias("pairs"),
        F.count_if(F.isnan("p") | F.col("p").isNull() | F.isnan("raw_score")).alias("nan"),
        F.count_if((F.col("p") <= 0) | (F.col("p") >= 1)).alias("outside"),
    ).collect()
    per_entity = scores.groupBy("entity_id").agg(F.count("*").alias("scored"))
    short = entities.join(per_entity, on="entity_id", how="left").where(
        F.coalesce("scored", F.lit(0)) != F.col("candidates")
    )
    faults = {
        "entities without all their candidates": short.count(),
        "pairs scored twice": sums["rows"] - sums["pairs"],
        "scores that are not a number": sums["nan"],
        "scores outside 0 < p < 1": sums["outside"],
    }
    found = [f"{count:,} {what}" for what, count in faults.items() if count]
    if found or not sums["rows"]:
        raise ScoreError("scores must be complete probabilities, got " + (", ".join(found) or "no scores at all"))


if __name__ == "__main__":
    import typer

    from jobs.cli import command

    typer.run(command("score"))
