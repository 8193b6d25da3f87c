"""The epochs of the baselines that are trained by passes over the rows, with FFM's row orders and early stopping."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Epochs:
    """How long to train: at most `epochs` passes, the rows in an order that follows from `seed`; `patience` passes
    without a better validation logloss end it, None never does."""

    epochs: int
    patience: int | None
    seed: int

    def __post_init__(self):
        rules = (
            ("epochs", self.epochs >= 1, "at least 1"),
            ("patience", self.patience is None or self.patience >= 1, "None or at least 1"),
            ("seed", self.seed >= 0, "at least 0"),
        )
        for name, holds, rule in rules:
            if not holds:
                raise ValueError(f"{name} must be {rule}, got {getattr(self, name)!r}")

    def run(
        self,
        n_rows: int,
        one_pass: Callable[[np.ndarray], float],
        valid_logloss: Callable[[], float] | None,
        snapshot: Callable[[], Any],
    ) -> tuple[Any, list[dict[str, Any]], int]:
        """The snapshot after the best epoch (the last one without validation or patience), the curve as `FFM.history_`
        and the number of that epoch.

        one_pass: trains on the rows in the given order and returns the mean logloss before each row's own step.
        Raises FloatingPointError if a loss is not finite.
        """
        numbers = np.arange(n_rows, dtype=np.int32)
        history, best, best_epoch, kept = [], math.inf, 0, None
        for epoch in range(1, self.epochs + 1):
            began = time.perf_counter()
            loss = one_pass(np.random.default_rng([self.seed, epoch]).permutation(numbers))
            seconds = time.perf_counter() - began
            found = valid_logloss() if valid_logloss else None
            if not math.isfinite(loss if found is None else loss + found):
                raise FloatingPointError(f"training diverged in epoch {epoch}; use a smaller eta")
            entry = {"epoch": epoch, "train_logloss": loss, "valid_logloss": found, "seconds": seconds}
            history.append(entry | {"rows_per_s": n_rows / seconds})
            if self.patience is None or found is None:
                continue
            if found < best:
                best, best_epoch, kept = found, epoch, snapshot()
            elif epoch - best_epoch >= self.patience:
                break
        return (kept, history, best_epoch) if best_epoch else (snapshot(), history, self.epochs)
