"""What serves if nothing is promoted tonight: the champion of an earlier cycle, judged on tonight's test periods.

Its candidate and its rehearsal of the night that promoted it stand in for it, as tonight's do for tonight's model:
neither has seen a test row, and both are as much older than tonight's as a champion that is held would be. Tonight's
feature ids are translated into its own: what its vocabulary lacks is unknown to it, as it was then. (Two things are
only nearly so: buckets of history rates lie around tonight's base rate, and where the training window has a limit,
what only its own vocabulary has is lost.)
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from ffm_udf import scoring
from jobs import champions, models
from jobs.cycle import Cycle
from jobs.judged import Entrant
from jobs.lake import LakeError, sha256_json
from jobs.lineage import features


@dataclass(frozen=True)
class Incumbent:
    """A champion that can be judged tonight; `card` is that of its candidate."""

    entrant: Entrant
    card: dict[str, Any]


def find(cycle: Cycle) -> Incumbent | None:
    """The champion of the cycles before this one; None if there is none or it cannot be judged, which is then told."""
    found = champions.incumbent(cycle.warehouse, cycle.contract.name, cycle.date)
    if found is None:
        return None
    try:
        return _opened(cycle, found.model_id, found.cycle_date)
    except (LakeError, OSError, ValueError) as error:
        cycle.progress.note(f"champion {found.promotes} cannot be judged ({error}): the prior is the incumbent")
        return None


def _opened(cycle: Cycle, model_id: str, date: dt.date) -> Incumbent:
    card = models.read_card(cycle.warehouse, model_id)
    if card["lineage"]["features_sha"] != sha256_json(features(cycle.contract)):
        raise LakeError("the contract's fields are not those it was trained on")
    then = Cycle(cycle.contract, date, cycle.warehouse, cycle.progress)
    known = then.dataset("models").table().to_pylist()
    again = [row["model_id"] for row in known if (row["role"], row["candidate_id"]) == ("rehearsal", model_id)]
    if not again:
        raise LakeError(f"cycle {date} has no rehearsal of {model_id}")
    folders = [str(models.model_folder(cycle.warehouse, name).resolve()) for name in (model_id, again[0])]
    for folder in folders:
        scoring.opened(folder)  # whole, or it says what is damaged
    own = cycle.lake.get("vocabulary", card["lineage"]["vocabulary"]["key"])
    return Incumbent(Entrant(model_id, *folders, own.only_file), card)
