"""The small files people edit: what resources cost (`conf/rates.yml`) and what a contact is worth (`conf/value.yml`).

`read_policy` loads any such file, also the gate and the audits; a fault is one line: file, place, rule and value.
"""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

# Strict, because YAML's `yes` would otherwise count as 1.0.
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
NonNegative = Annotated[Number, Field(ge=0)]
Text = Annotated[str, Field(min_length=1)]


class PolicyError(ValueError):
    """A policy file that cannot be used; the message is for the person who edits the file."""


class Policy(BaseModel):
    """A section of a policy file: unknown keys are refused, so a misspelt one cannot be ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    @property
    def meaning(self) -> str:
        """All that the section says, as JSON: comments, layout and the order of keys do not count."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), allow_nan=False)

    @property
    def sha(self) -> str:
        """SHA-256 of the meaning."""
        return hashlib.sha256(self.meaning.encode()).hexdigest()


class Rates(Policy):
    """US dollars per unit of resource; every k is priced with the same ones."""

    usd_per_cpu_hour: NonNegative
    usd_per_gib_hour: NonNegative
    usd_per_gib_month: NonNegative


class Target(Policy):
    """Who is contacted: of each candidate and period the `n` pairs ranked highest, or of each period as many as the
    budget reaches. A target without a number gets the most profitable one of the valid and calib periods."""

    kind: Literal["top_per_candidate", "budget"]
    n: Annotated[int, Field(strict=True, ge=1)] | None = None
    contacts_per_period: Annotated[int, Field(strict=True, ge=1)] | None = None
    usd_per_period: Annotated[Number, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _numbers_fit_the_kind(self) -> Target:
        given = [name for name in ("n", "contacts_per_period", "usd_per_period") if getattr(self, name) is not None]
        allowed = {"n"} if self.kind == "top_per_candidate" else {"contacts_per_period", "usd_per_period"}
        if set(given) - allowed or len(given) > 1:
            choice = " or ".join(sorted(allowed))
            raise ValueError(f"target of kind {self.kind} takes {choice} or no number, got {', '.join(given)}")
        return self

    @property
    def per(self) -> Literal["candidate", "period"]:
        """Within what pairs compete for contacts."""
        return "candidate" if self.kind == "top_per_candidate" else "period"


class Sensitivity(Policy):
    """The margins and contact costs for which profit is worked out anew."""

    margin_rate: Annotated[tuple[Annotated[NonNegative, Field(le=1)], ...], Field(min_length=1)]
    contact_cost_usd: Annotated[tuple[NonNegative, ...], Field(min_length=1)]


class Value(Policy):
    """Who is contacted and what that is assumed to cost and to earn."""

    target: Target
    margin_rate: Annotated[NonNegative, Field(le=1)]  # share of the sales value that is margin
    contact_cost_usd: NonNegative
    wrong_contact_cost_usd: NonNegative  # of a contact that does not convert, on top
    objectives: Annotated[tuple[Literal["conversions", "sales_value", "profit"], ...], Field(min_length=1)]
    sensitivity: Sensitivity
    assumptions: Text

    @model_validator(mode="after")
    def _consistent(self) -> Value:
        if len(set(self.objectives)) != len(self.objectives):
            raise ValueError(f"objectives must differ, got {list(self.objectives)}")
        if self.target.usd_per_period and not self.contact_cost_usd:
            raise ValueError("target.usd_per_period needs a contact_cost_usd above 0, got 0")
        return self

    @property
    def budget(self) -> int | None:
        """Contacts per candidate and period, or per period, as the target says; None: to be chosen. Money buys contacts
        at `contact_cost_usd`: which of them are wrong, and so cost more, is not known beforehand."""
        if self.target.usd_per_period is not None:
            # By the decimals in the file: in binary 0.7 / 0.1 is below 7.
            return int(Decimal(str(self.target.usd_per_period)) / Decimal(str(self.contact_cost_usd)))
        return self.target.n or self.target.contacts_per_period

    @property
    def budget_top_n(self) -> int:
        """Entities per candidate and period among whom conversions are counted where scores of different age are
        compared: those of the target; where it has another kind of budget, or none,
        20 as a stand-in."""
        return self.target.n or 20


def read_policy[AnyPolicy: Policy](path: Path, kind: type[AnyPolicy]) -> AnyPolicy:
    """The policy of `kind` in the YAML file `path`; PolicyError has one line per fault."""
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except OSError as error:
        raise PolicyError(f"{path}: must be a readable YAML file, got {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PolicyError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        faults = [f"{path}: {_place(raw, fault['loc'])}: {_rule(fault)}" for fault in error.errors()]
        raise PolicyError("\n".join(faults)) from None


def load_rates(path: Path) -> Rates:
    """The cost rates in the YAML file `path`."""
    return read_policy(path, Rates)


def load_value(path: Path) -> Value:
    """The value assumptions in the YAML file `path`."""
    return read_policy(path, Value)


class _UniqueKeys(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice, where plain YAML silently keeps the last (of two thresholds, say)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.MarkedYAMLError(problem=f"key {key!r} is given twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def _place(raw: Any, steps: tuple[int | str, ...]) -> str:
    """`rules[3] (size_budget).threshold`: list items go by their own name too, since nobody counts them."""
    text = ""
    here = raw
    for step in steps:
        here = _inside(here, step)
        if isinstance(step, int):
            name = here.get("name") if isinstance(here, dict) else None
            text += f"[{step}]" + (f" ({name})" if name else "")
        else:
            text += f".{step}" if text else step
    return text or "file"


def _inside(here: Any, step: int | str) -> Any:
    if isinstance(here, dict):
        return here.get(step)
    return here[step] if isinstance(here, list) and isinstance(step, int) else None


def _rule(fault: Any) -> str:
    """The broken rule and the value that broke it."""
    rule = fault["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    if fault["type"] in ("missing", "extra_forbidden", "value_error"):
        return {"missing": "must be given", "extra_forbidden": "is not a known key"}.get(fault["type"], rule)
    return f"{rule}, got {fault['input']!r}"
