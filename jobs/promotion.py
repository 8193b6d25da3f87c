"""When a challenger has earned the incumbent's place, by the interval of their difference in logloss. Pure."""

from __future__ import annotations


def is_earned(delta_lo: float | None, delta_hi: float | None, margin: float, is_cheaper: bool) -> bool:
    """Whether the challenger may take over.

    `delta_lo`, `delta_hi`: the two-sided interval of challenger minus incumbent logloss (None: too few periods for one,
    and nothing is earned); `margin`: the loss of accuracy that does not matter, in the same units. A cheaper challenger
    must not be worse by more than the margin, any other must be better: a swap costs work and risk, so a tie keeps
    what runs. With 95 % intervals a challenger that is no better, or a cheaper one that is worse by the margin, is
    promoted in 2.5 % of cases. What counts as cheaper is the gate's to say. `fct_incumbent_comparison` has the same
    rule in SQL. Raises ValueError for a margin below 0 or an interval the wrong way round.
    """
    if not margin >= 0:
        raise ValueError(f"margin must be at least 0, got {margin!r}")
    if delta_lo is None or delta_hi is None:
        return False
    if delta_lo > delta_hi:
        raise ValueError(f"delta_lo must be at most delta_hi, got {delta_lo!r} and {delta_hi!r}")
    return bool(delta_hi <= margin if is_cheaper else delta_hi < 0)
