"""The questions of examples/bi.sql and the code of docs/bi.md, as tests and benchmarks run them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILE, VIEWS, PAGE = ROOT / "examples" / "bi.sql", ROOT / "examples" / "bi_views.sql", ROOT / "docs" / "bi.md"


def questions() -> dict[str, str]:
    """Name -> statement, in the order of the file."""
    parts = re.split(r"^-- name: (\w+)\n", FILE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return {name: text.strip().removesuffix(";") for name, text in zip(parts[::2], parts[1::2], strict=True)}


def marts_asked(statement: str) -> set[str]:
    """The marts that a statement reads."""
    return set(re.findall(r"\b(?:from|join) ((?:fct|dim)_\w+)", statement))


def blocks(language: str) -> list[str]:
    """The code of docs/bi.md in one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
