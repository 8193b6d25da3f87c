"""What finished scores may look like: `conf/scores.yml`, read by the audits of scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from jobs.policies import Number, Policy, Text, read_policy

Whole = Annotated[int, Field(strict=True, ge=1)]


class Band(Policy):
    """low ≤ value ≤ high; an end that is not given is open."""

    low: Number | None = None
    high: Number | None = None
    why: Text

    @model_validator(mode="after")
    def _is_a_band(self) -> Band:
        if self.low is None and self.high is None:
            raise ValueError("a band must have low, high or both, got neither")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low must not exceed high, got {self.low} and {self.high}")
        return self


class ScoreBands(Policy):
    """The whole file `conf/scores.yml`."""

    comparable_periods: Whole
    comparable_min_conversions: Whole
    psi_min_candidate_overlap: Annotated[Number, Field(ge=0, le=1)]
    mean_p_of_comparable_pairs: Band
    mean_p_of_all_pairs: Band
    calibrator_error: Band
    psi: Band
    rows_of_the_prior: Band
    oov_share: Band


def load_bands(path: Path) -> ScoreBands:
    """The bands in the YAML file `path`; PolicyError names file, place, rule and value of each fault."""
    return read_policy(path, ScoreBands)
