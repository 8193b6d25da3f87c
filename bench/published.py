"""The published release that some benchmarks read, and the data sets behind it."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import duckdb

from bench.report import ROOT
from jobs import cli, nightly, releases
from jobs.lake import Lake
from jobs.models import model_folder

CONTRACT = ROOT / "conf" / "promo.yml"


@dataclass(frozen=True)
class Published:
    """Mart and cycle of a release, files of its full scores, folder and card of the model that made them."""

    mart: str
    contract: str
    date: str
    scores: list[str]
    model: Path
    card: dict


def published():
    """The current release of FIELDMART_WAREHOUSE, by default `warehouse`; if there is none, a night makes it."""
    warehouse = Path(os.environ.get("FIELDMART_WAREHOUSE", ROOT / "warehouse")).resolve()
    release = releases.current(warehouse)
    if release is None:
        cycle = cli.cycle_of(CONTRACT, None, warehouse)
        release = nightly.run(cycle, lambda name: cli.policy(CONTRACT, name))
    mart = str(release.folder / releases.MART)
    with duckdb.connect(mart, read_only=True) as con:
        [(contract, date)] = con.execute("select contract, cycle_date from dim_release").fetchall()
        [(model_id,)] = con.execute("select distinct model_id from fct_entity_scores").fetchall()
    known = json.loads((warehouse / "cycles" / contract / f"{date}.json").read_text())["datasets"]
    scores = Lake(warehouse).get("scores", known["scores"]).files
    model = model_folder(warehouse, model_id)
    return Published(mart, contract, str(date), scores, model, json.loads((model / "card.json").read_text()))


def examples(found):
    """Files of the rows that the model of the release learned from, in its feature ids (`f_<field>`)."""
    warehouse = found.model.parent.parent
    return Lake(warehouse).get("examples", found.card["lineage"]["examples"]["key"]).under("split=train")
