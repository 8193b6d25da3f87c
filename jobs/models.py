"""The reading side of the model folders of a warehouse. Nothing here trains: the scoring job stands on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ffm_udf import card as cards
from jobs.lake import LakeError


def model_folder(warehouse: Path, model_id: str) -> Path:
    """Where a model lies or will lie."""
    return warehouse / "models" / model_id


def read_card(warehouse: Path, model_id: str) -> dict[str, Any]:
    """The card of a finished model; LakeError if there is none."""
    folder = model_folder(warehouse, model_id)
    try:
        card = cards.read(folder)
    except FileNotFoundError:
        raise LakeError(f"no model {model_id} in {folder.parent}") from None
    except ValueError as error:
        raise LakeError(f"model {model_id} is damaged: {cards.NAME} is not JSON ({error})") from None
    if not isinstance(card, dict) or not isinstance(card.get("files"), dict):
        raise LakeError(f"model {model_id} is damaged: {cards.NAME} is no card")
    return card


def is_finished(task: dict[str, Any]) -> bool:
    """Whether the task's model was trained to its end before; its card is written last."""
    return (Path(task["folder"]) / cards.NAME).exists()
