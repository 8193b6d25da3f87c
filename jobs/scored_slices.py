"""Whether every declared slice has scores: values of the lists as they came in, against the ids in the finished files.

The lists are read here once more, past everything that scoring made of them: a department that was lost on the way is
missing from the inputs of scoring, and from all that is counted by them, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from jobs.contract import Contract
from jobs.cycle import Cycle
from jobs.score_files import quoted, scan

SHOWN = 3  # so many values without scores are named, where values may be


@dataclass(frozen=True)
class Lists:
    """Files of the entity list and of the offer list, and the contract that says what their columns are."""

    entities: Sequence[str]
    offers: Sequence[str]
    contract: Contract


def lists(cycle: Cycle) -> Lists:
    return Lists(cycle.dataset("entity_list").files, cycle.dataset("offer_list").files, cycle.contract)


def unscored(db: duckdb.DuckDBPyConnection, found: Lists, scores: Sequence[str]) -> tuple[int, str]:
    """How many values of slices have something on offer (or somebody to be offered to) and no score; and in words,
    which under a floor of k-anonymity name no value.

    `db` has the table per_entity of the entities scored. Slices whose column is in neither list are left out. The
    `scores` are read once, two columns of them, if a slice is of the offer list.
    """
    contract, slices = found.contract, {}
    keys = {"asked": (found.entities, contract.entity), "offered": (found.offers, contract.candidate)}
    for side, (files, key) in keys.items():
        db.execute(f"create temp view {side} as select *, {_id(key)} as z_id, {_match(contract)} as z_match "
                   f"from {scan(files)}")  # fmt: skip
        columns = {name for name, *_ in db.execute(f"describe {side}").fetchall()}
        slices[side] = [item for item in contract.slices if item.column in columns]
    names = dict.fromkeys(item.name for side in slices.values() for item in side)
    if not names:
        return 0, "no declared slice has its column in the entity list or in the offer list"
    scored = {
        "asked": "select entity_id, match_id from per_entity",
        "offered": f"select distinct candidate_id, match_id from {scan(scores)}",
    }
    values = []
    for side, other in (("asked", "offered"), ("offered", "asked")):
        if slices[side]:
            db.execute(f"create temp table scored_{side} as from ({scored[side]}) as scored (z_id, z_match)")
        values += [_values(item.name, item.column, side, other) for item in slices[side]]
    rows = db.execute(f"""
        select slice, value, bool_and(is_scored) from ({" union all ".join(values)}) group by all order by all
    """).fetchall()
    silent = [(name, value) for name, value, is_scored in rows if not is_scored]
    told = f"{len(rows):,} values of {', '.join(names)} have something on offer"
    if not silent:
        return 0, told
    return len(silent), f"{told}; without any score: {_named(silent, is_hidden=bool(contract.privacy.k_anonymity))}"


def _named(silent: Sequence[tuple[str, str]], *, is_hidden: bool) -> str:
    """The first of these slices and values in words; hidden: how many there are of each slice. Under a floor of
    k-anonymity a value may be one that the marts fold."""
    if is_hidden:
        return ", ".join(f"{count:,} of {name}" for name, count in Counter(name for name, _ in silent).items())
    return ", ".join(f"{name} {value}" for name, value in silent[:SHOWN]) + (", ..." if len(silent) > SHOWN else "")


def _values(name: str, column: str | None, side: str, other: str) -> str:
    """SQL: the values of a slice in the list `side` among what meets anything in the `other`, and whether scored."""
    return f"""
        select
            {quoted(name)} as slice,
            coalesce({column}::varchar, '(missing)') as value,
            bool_or(scored_{side}.z_id is not null) as is_scored
        from {side}
        left join scored_{side} using (z_id, z_match)
        where z_match in (select z_match from {other})
        group by value
    """


def _id(columns: Sequence[str]) -> str:
    """SQL: a key as the text that the scores have for it."""
    return f"concat_ws('|', {', '.join(columns)})"


def _match(contract: Contract) -> str:
    """SQL: the match as text, null if any of its columns is: that meets nothing."""
    if not contract.match:
        return "''"
    known = " and ".join(f"{column} is not null" for column in contract.match)
    return f"case when {known} then {_id(contract.match)} end"
