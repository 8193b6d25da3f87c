"""dbt's documentation of the marts as one page that a release carries: lineage, columns with units, tests, SQL.

As a program it is what runs inside dbt's process: one dbt command, then `dbt docs generate` on what that has parsed
already, which takes half a second where a process of its own would take several.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

PAGE = "index.html"


class DocsError(RuntimeError):
    """dbt left no page."""


def generate(database: Path, folder: Path) -> None:
    """Write `folder`/index.html, which needs nothing beside it: what dbt said of `database` when it last built it with
    `docs=True`.

    Paths of this machine, which dbt notes for each model, become relative ones.
    Raises DocsError if there is no page.
    """
    target = database.resolve().parent / "dbt" / "target"
    made = target / "static_index.html"
    if not made.is_file():
        raise DocsError(f"{database} has no page of dbt docs ({made}): build it with docs first")
    page = made.read_text(encoding="utf-8").replace(json.dumps(str(target))[1:-1], "target")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PAGE).write_text(page, encoding="utf-8")


def main(arguments: list[str]) -> int:
    """Run dbt with `arguments`, a `dbt build`, then generate the page; the exit code of what failed."""
    from dbt.cli.main import dbtRunner

    dbt = dbtRunner()
    paths = [
        part
        for name in ("--project-dir", "--profiles-dir", "--target-path", "--log-path", "--vars")
        if name in arguments
        for part in (name, arguments[arguments.index(name) + 1])
    ]
    # What was built has its compiled SQL in the page; compiling the rest again would take longer than all of it.
    for command in (arguments, ["--quiet", "docs", "generate", "--no-compile", "--static", *paths]):
        done = dbt.invoke(command)
        if done.exception:
            print(done.exception, file=sys.stderr)
        if not done.success:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
