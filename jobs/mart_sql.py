"""A mart's SQL over tables at hand, without dbt and without a release: what is asked between two releases gets the same
formulas as what is published.

Only models whose Jinja is `ref` and `source` can be run so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

MODELS = Path(__file__).resolve().parent.parent / "dbt" / "models"
REFERENCE = re.compile(r"\{\{\s*(?:ref\('(\w+)'\)|source\('fieldmart', '(\w+)'\))\s*\}\}")


def rows(model: str, facts: Mapping[str, pa.Table], order_by: str | None = None) -> list[dict[str, Any]]:
    """The rows of dbt model `model` over `facts` (name of the fact -> table); KeyError names a fact that is missing,
    ValueError a model that needs dbt."""
    with duckdb.connect() as db:
        _make(db, model, facts, set())
        found = db.execute(f'select * from "{model}"' + (f" order by {order_by}" if order_by else ""))
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def _make(db: duckdb.DuckDBPyConnection, model: str, facts: Mapping[str, pa.Table], made: set[str]) -> None:
    """Create a view of `model`, those it reads first."""
    if model in made:
        return
    [path] = MODELS.rglob(f"{model}.sql")
    text = path.read_text(encoding="utf-8")
    for wanted, fact in REFERENCE.findall(text):
        if wanted:
            _make(db, wanted, facts, made)
        elif fact not in made:
            if fact not in facts:
                raise KeyError(f"{model} needs the fact {fact!r}, got {sorted(facts)}")
            db.register(fact, facts[fact])
            made.add(fact)
    sql = REFERENCE.sub(lambda match: f'"{match[1] or match[2]}"', text)
    if "{{" in sql or "{%" in sql:
        raise ValueError(f"{model} must use no Jinja but ref and source to be run without dbt")
    db.execute(f'create view "{model}" as {sql}')
    made.add(model)
