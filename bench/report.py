"""What a benchmark found: a JSON file in build/bench and a table in BENCHMARKS.md between two markers."""

import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS, PAGE = ROOT / "build" / "bench", ROOT / "BENCHMARKS.md"


@dataclass(frozen=True)
class Measure:
    """One number; `bar` is the rule it is held against in words ("" for none), `holds` whether it does."""

    name: str
    value: float
    unit: str
    bar: str = ""
    holds: bool | None = None

    @classmethod
    def at_least(cls, name, value, unit, bar):
        return cls(name, value, unit, f"≥ {bar:g}", bool(value >= bar))

    @classmethod
    def at_most(cls, name, value, unit, bar):
        return cls(name, value, unit, f"≤ {bar:g}", bool(value <= bar))


def write(name, title, measures, notes, page=PAGE):
    """Writes build/bench/<name>.json and refreshes the part of BENCHMARKS.md, or of `page`, that belongs to `name`."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps([asdict(measure) for measure in measures], indent=1) + "\n")
    lines = [
        f"## {title}",
        "",
        notes,
        "",
        f"Machine: {_machine()}.",
        "",
        "| measure | value | bar | holds |",
        "|---|---:|---:|---|",
    ]
    for m in measures:
        verdict = {True: "yes", False: "**no**", None: ""}[m.holds]
        lines.append(f"| {m.name} | {_readable(m.value)} {m.unit} | {m.bar} | {verdict} |")
    _refresh(name, "\n".join(lines), page)


def _refresh(name, text, path):
    """Puts `text` between the markers of `name`, or at the end of the page with new markers."""
    first, last = f"<!-- bench {name}: written by `python -m bench --only {name}` -->", f"<!-- end {name} -->"
    page = (
        path.read_text() if path.exists() else "# Benchmarks\n\nEvery table is written by the command in its marker.\n"
    )
    part = f"{first}\n{text}\n{last}"
    if first in page:
        page = page[: page.index(first)] + part + page[page.index(last) + len(last) :]
    else:
        page = f"{page.rstrip()}\n\n{part}\n"
    path.write_text(page)


def _readable(value):
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.5f}"


def _machine():
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return f"{os.cpu_count()} cores of {model}, {platform.system()}, Python {platform.python_version()}"
