"""Values of promises (fct_slo) in words."""

from __future__ import annotations

import pandas as pd

DEADLINE = "s after the deadline"  # a unit of fct_slo, below zero before it


def promise_value(value: float | None, unit: str) -> str | None:
    """A value of fct_slo in words: on which side of the deadline it lies, or how long it took; None stays None."""
    if value is None or pd.isna(value):
        return None
    if unit == DEADLINE:
        return f"{_duration(abs(value))} {'after' if value > 0 else 'before'} the deadline"
    return _duration(value) if unit == "s" else f"{value:,.0f} {unit}"


def _duration(seconds: float) -> str:
    """Seconds as what a reader can picture."""
    for size, name, least in ((3600, "h", 7200), (60, "min", 120)):
        if seconds >= least:
            return f"{seconds / size:,.1f} {name}"
    return f"{seconds:.1f} s"
