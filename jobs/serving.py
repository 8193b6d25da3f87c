"""Which model serves a cycle, and with which calibrator: the champion of the decision log, else the prior."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ffm_udf import calibration, scoring
from ffm_udf.card import NAME
from jobs import champions, models
from jobs.calibrators import serving_calibrator
from jobs.cycle import Cycle
from jobs.lake import LakeError, sha256_json
from jobs.lineage import features

CHAMPION = "champion"  # the alias: what the last GO of the decision log promoted


@dataclass(frozen=True)
class Serving:
    """A model that scores a cycle. `source`: model | prior. `reason` says why it is not the champion, "" if it is.

    requested_model_id: the champion, None if there is none yet.
    """

    model_id: str
    source: str
    calibrator: dict[str, Any]
    requested_model_id: str | None
    reason: str = ""

    @property
    def is_degraded(self) -> bool:
        """The prior serves although there is a champion."""
        return self.source != "model" and self.requested_model_id is not None


def champion_or_prior(cycle: Cycle) -> Serving:
    """The model that serves; LakeError if there is neither a champion that can be used nor a prior."""
    champion = champions.champion(cycle.warehouse, cycle.contract.name, cycle.date)
    if champion is None:
        return prior(cycle, None, "there is no champion yet")
    try:
        return checked(cycle, champion, champion)
    except (OSError, ValueError, LakeError) as error:
        reason = f"champion {champion} cannot be used ({error})"
        cycle.progress.note(f"{reason}: the prior scores tonight")
        return prior(cycle, champion, reason)


def checked(cycle: Cycle, model_id: str, champion: str | None) -> Serving:
    """Model `model_id` with tonight's calibrator if it was judged tonight, else the one it was promoted with.

    Raises OSError, ValueError or LakeError if its files, vocabulary or fields do not fit this cycle.
    """
    scoring.opened(str(models.model_folder(cycle.warehouse, model_id).resolve()))
    card = models.read_card(cycle.warehouse, model_id)
    cycle.lake.get("vocabulary", card["lineage"]["vocabulary"]["key"])
    if card["lineage"]["features_sha"] != sha256_json(features(cycle.contract)):
        raise ValueError("the contract's fields are not those it was trained on")
    return Serving(model_id, "model", _calibrator(cycle, card), champion)


def _candidates(cycle: Cycle, model_id: str) -> dict[str, Any]:
    """The calibrator for the scoring period of candidate `model_id` itself: that of its rehearsal, without the shift of
    their levels."""
    params = cycle.dataset("calibrators").manifest["params"] or {}
    shifts = dict(zip(params.get("ids", ()), params.get("shifts", ()), strict=True))
    own = calibration.load(serving_calibrator(cycle, model_id))
    return calibration.as_dict(own.shifted(-shifts.get(model_id, 0.0)))


def _calibrator(cycle: Cycle, card: dict[str, Any]) -> dict[str, Any]:
    """The calibrator for the cycle's scoring period: a champion that is held is calibrated anew every night, as every
    period has the calibrator learned just before it. That is its rehearsal's, so it gets the same shift to the model's
    own level as the one it was promoted with."""
    judged = cycle.dataset("calibrators").table().to_pylist() if cycle.has("calibrators") else []
    wanted = (card["task"]["candidate_id"], cycle.periods.day(cycle.periods.scoring))
    found = [json.loads(row["calibrator"]) for row in judged if (row["model_id"], row["period"]) == wanted]
    learned = card["task"]["calibrator"]
    if not found or found[0] == learned:
        return card["calibrator"]
    shift = _level(card["calibrator"]) - _level(learned) if learned else 0.0
    return calibration.as_dict(calibration.load(found[0]).shifted(shift))


def _level(calibrator: dict[str, Any]) -> float:
    return float(calibration.load(calibrator).logit(np.zeros(1))[0])


def prior(cycle: Cycle, champion: str | None, reason: str) -> Serving:
    """Tonight's prior with tonight's calibrator; if there is none, or it is damaged, the last one with its own.

    Raises LakeError if no prior up to the cycle's date fits the contract's fields.
    """
    if cycle.has("models") and cycle.has("calibrators"):
        rows = cycle.dataset("models").table().to_pylist()
        mine = [row["model_id"] for row in rows if row["algorithm"] == "prior" and row["role"] == "candidate"]
        for own in mine:
            if _is_whole(cycle, own):
                return Serving(own, "prior", _candidates(cycle, own), champion, reason)
    sha = sha256_json(features(cycle.contract))
    card = _last_prior(cycle, lambda lineage: lineage["features_sha"] == sha)
    if card is None:
        raise LakeError(f"no model can score {cycle.contract.name} {cycle.date}: run `fieldmart train` first")
    return Serving(card["model_id"], "prior", card["calibrator"], champion, reason)


def fallback(cycle: Cycle, serving: Serving) -> dict[str, Any] | None:
    """What scores pairs that the model knows too little of: the prior of the same vocabulary, as part of a task.

    None where the prior serves anyway, or where there is no whole one with the model's vocabulary up to the cycle.
    """
    if serving.source == "prior":
        return None
    key = models.read_card(cycle.warehouse, serving.model_id)["lineage"]["vocabulary"]["key"]
    card = _last_prior(cycle, lambda lineage: lineage["vocabulary"]["key"] == key)
    return card and {
        "model": str(models.model_folder(cycle.warehouse, card["model_id"]).resolve()),
        "model_id": card["model_id"],
        "calibrator": card["calibrator"],
        "max_oov_share": cycle.contract.max_oov_share,
    }


def _last_prior(cycle: Cycle, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
    """Card of the contract's newest whole prior whose lineage `fits`; none of a later cycle, which knows more."""
    found = []
    for path in sorted((cycle.warehouse / "models").glob(f"*/{NAME}")):
        card = _card(path)
        if card.get("algorithm") == "prior":
            lineage = card["lineage"]
            is_ours = lineage["contract"] == cycle.contract.name and lineage["cycle_date"] <= str(cycle.date)
            found += [card] if is_ours and fits(lineage) else []
    newest = sorted(found, key=lambda card: (card["lineage"]["cycle_date"], card["role"] == "candidate"), reverse=True)
    return next((card for card in newest if _is_whole(cycle, card["model_id"])), None)


def _is_whole(cycle: Cycle, model_id: str) -> bool:
    """Whether a model's files are those that were written; a damaged one is told and passed over."""
    try:
        scoring.opened(str(models.model_folder(cycle.warehouse, model_id).resolve()))
    except (OSError, ValueError) as error:
        cycle.progress.note(f"prior {model_id} is passed over: {error}")
        return False
    return True


def _card(path: Path) -> dict[str, Any]:
    """A card, or nothing where it is damaged: another prior may be whole."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
