"""dbt's documentation of the marts as one page that a release carries: lineage, columns with units, tests, SQL."""

from __future__ import annotations

import json
from pathlib import Path

from jobs.lake import PROJECT

PAGE = "index.html"


class DocsError(RuntimeError):
    """dbt left no page."""


def generate(database: Path, folder: Path) -> None:
    """Write `folder`/index.html, which needs nothing beside it: what dbt said of `database` when it last built it with
    `docs=True`.

    Paths of this machine, which dbt notes for each model and seed, become relative ones.
    Raises DocsError if there is no page.
    """
    target = database.resolve().parent / "dbt" / "target"
    made = target / "static_index.html"
    if not made.is_file():
        raise DocsError(f"{database} has no page of dbt docs ({made}): build it with docs first")
    page = made.read_text(encoding="utf-8")
    for path, name in ((target, "target"), (PROJECT / "dbt", "dbt")):
        page = page.replace(json.dumps(str(path))[1:-1], name)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PAGE).write_text(page, encoding="utf-8")
