"""The feature contract: what one data source means, as a YAML file that people edit and every job reads.

`load` returns a validated `Contract` or raises `ContractError` with file, place, rule and value in one line per fault.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import zoneinfo
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, NaiveDatetime, ValidationError, field_validator, model_validator

# What may be known about a row when it is scored; anything else is refused.
KNOWN_AT = ("static", "planned", "history")


# The tables of sets that adapters of ours make (`members` of a field).
ADAPTER_MEMBERS = {"promo": ("offer_products",), "coupon": ("coupon_products",)}

# Columns that jobs add themselves.
RESERVED = {"kind", "n", "c", "bucket", "period_no", "conversion_no", "split", "y", "reason", "status"}
RESERVED |= {"entity_id", "candidate_id", "match_id", "source_file", "known_no"}

# Variables of every shell, which are no place for a salt.
PUBLIC_VARIABLES = {"HOME", "HOSTNAME", "LANG", "LOGNAME", "PATH", "PWD", "SHELL", "TERM", "TZ", "USER"}


class ContractError(ValueError):
    """A contract that cannot be used; the message is for the person who edits the file."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Strict):
    """Where raw rows come from: a derivation of ours (`adapter`) or plain files (one path or glob per table)."""

    adapter: Literal["promo", "coupon", "files"]
    path: str | None = None
    exposures: str | None = None
    purchases: str | None = None
    entities: str | None = None
    candidates: str | None = None
    members: dict[str, str] = {}  # path of each table of sets that fields name

    @model_validator(mode="after")
    def _files_need_exposures(self) -> Source:
        if self.adapter == "files" and not self.exposures:
            raise ValueError("source.exposures must be a path when source.adapter is 'files', got none")
        return self


class Period(_Strict):
    """The unit of splits, blocks and intervals: `days` long, counted from `origin` on the wall clock of `timezone`."""

    days: Annotated[int, Field(ge=1)]
    origin: NaiveDatetime
    timezone: str = "UTC"

    @field_validator("timezone")
    @classmethod
    def _is_zone(cls, value: str) -> str:
        if value not in zoneinfo.available_timezones():
            raise ValueError(f"period.timezone must be a time zone name such as Europe/Berlin, got {value!r}")
        return value


class Column(_Strict):
    """One column of the exposures table and the rule its values keep; a row that breaks it is quarantined."""

    type: Literal["string", "integer", "number", "boolean", "timestamp"]
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    allowed: tuple[str, ...] | None = None


class Label(_Strict):
    """Converted = the first of `events` at `conversion_time`, within `window` of the exposure."""

    events: tuple[str, ...]
    window: Literal["end_of_period"] | Annotated[int, Field(ge=1)]  # an integer is a number of days
    deduplicated: Literal["first"] = "first"
    delay_by: str | None = None  # a column: exposures that share its value share a delay curve

    @property
    def version(self) -> str:
        window = self.window if isinstance(self.window, str) else f"{self.window}d"
        return f"{'+'.join(self.events)}:{window}:{self.deduplicated}"


class Split(_Strict):
    """Whole periods by time. Relative: the last `test` matured periods before DATE, `calib` and `valid` before them,
    at most `train` before those. Fixed: period days [from, through] of each part."""

    train: int | tuple[dt.date, dt.date] | None = None
    valid: int | tuple[dt.date, dt.date]
    calib: int | tuple[dt.date, dt.date]
    test: int | tuple[dt.date, dt.date]

    @model_validator(mode="after")
    def _one_kind(self) -> Split:
        parts = (self.train, self.valid, self.calib, self.test)
        fixed = [part for part in parts if isinstance(part, tuple)]
        if fixed and len(fixed) < len(parts):
            raise ValueError("split must give all of train, valid, calib, test as [from, through] or all as counts")
        days = [day for part in fixed for day in part]
        if days != sorted(days):
            raise ValueError("split must be in time order train < valid < calib < test")
        return self

    @property
    def is_fixed(self) -> bool:
        return isinstance(self.test, tuple)


class FieldRule(_Strict):
    """One field of the model: a column and a transform, or a point-in-time aggregate (`history`)."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    side: Literal["entity", "candidate", "pair", "context"]
    known_at: str
    transform: Literal["categorical", "log2", "hashed", "history"] = "categorical"
    columns: tuple[str, ...] = ()
    buckets: Annotated[int, Field(ge=2)] = 1024  # of a hashed field
    of: Literal["exposures", "purchases"] | None = None
    measure: Literal["conversion_rate", "basket_rate"] | None = None
    # The table of what is in the sets whose ids the last column holds: baskets count that hold any of it.
    members: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> FieldRule:
        if self.known_at not in KNOWN_AT:
            raise ValueError(
                f"field {self.name}: known_at must be one of {', '.join(KNOWN_AT)}, got {self.known_at!r}; "
                "a field that is not known at scoring time cannot be used"
            )
        if not self.columns:
            raise ValueError(f"field {self.name}: columns must name at least one column")
        if self.transform == "log2" and len(self.columns) > 1:
            raise ValueError(f"field {self.name}: transform 'log2' takes one column, got {list(self.columns)}")
        is_history = self.transform == "history"
        if is_history != (self.of is not None) or is_history != (self.measure is not None):
            raise ValueError(f"field {self.name}: of and measure belong to transform 'history', and it needs both")
        if is_history and self.known_at != "history":
            raise ValueError(f"field {self.name}: known_at must be 'history', got {self.known_at!r}")
        wanted = {"exposures": "conversion_rate", "purchases": "basket_rate"}
        if self.of and self.measure != wanted[self.of]:
            raise ValueError(f"field {self.name}: measure of {self.of} must be {wanted[self.of]!r}")
        if self.members and self.of != "purchases":
            raise ValueError(f"field {self.name}: members needs of: purchases, got {self.of or 'none'}")
        return self


class Slice(_Strict):
    """Rows grouped for reporting, declared before anyone looks at results."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    column: str | None = None  # a column of the exposures …
    known: str | None = None  # … or whether the model knows this field's value (known | new)

    @model_validator(mode="after")
    def _one_source(self) -> Slice:
        if (self.column is None) == (self.known is None):
            raise ValueError(f"slice {self.name}: exactly one of column and known must be given")
        return self


class Prior(_Strict):
    """The hierarchical prior: candidate fields from coarse to fine, each shrunk to the one before; an entity lift."""

    candidate_levels: Annotated[tuple[str, ...], Field(min_length=1)]
    entity: str
    strength: float = 20.0


class Training(_Strict):
    """The frozen block: all that is the same for every k and seed of a grid."""

    eta: Annotated[float, Field(gt=0)] = 0.1
    l2: Annotated[float, Field(ge=0)] = 2e-5
    epochs: Annotated[int, Field(ge=1)] = 15
    patience: Annotated[int, Field(ge=1)] = 2
    linear: bool = True
    bias: bool = True
    normalize: bool = True
    negative_rate: Annotated[float, Field(gt=0, le=1)] = 1.0  # share of the negatives that is trained on
    window: Annotated[int, Field(ge=1)] | None = None  # last training periods; None: all
    half_life: Annotated[float, Field(gt=0)] | None = None  # periods after which a row counts half; None: never

    def hyperparameters(self) -> dict[str, Any]:
        """What the model itself takes; window and half_life choose and weigh its rows."""
        return self.model_dump(exclude={"window", "half_life"})


class Grid(_Strict):
    """The models of one kind of night: every k with every seed."""

    k: Annotated[tuple[Annotated[int, Field(ge=1, le=128)], ...], Field(min_length=1)]
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (1,)
    baselines: tuple[Literal["lr", "lr_cross", "lightgbm", "fm"], ...] = ()  # the prior is always there

    @model_validator(mode="after")
    def _each_once(self) -> Grid:
        for name in ("k", "seeds", "baselines"):
            found = getattr(self, name)
            if len(set(found)) < len(found):
                raise ValueError(f"{name} must be named once each, got {list(found)}")
        return self


class Grids(_Strict):
    """Which models the nightly compares, and which the weekly sweep that decides k."""

    nightly: Grid
    sweep: Grid = Grid(k=(1, 2, 4, 8, 16, 32), seeds=(1, 2, 3, 4, 5), baselines=("lr", "lr_cross", "lightgbm", "fm"))

    @model_validator(mode="after")
    def _ships(self) -> Grids:
        if self.shipping_seed not in self.sweep.seeds:
            raise ValueError(f"sweep.seeds must hold the seed that ships, {self.shipping_seed} (the nightly's first)")
        return self

    @property
    def shipping_seed(self) -> int:
        """The seed that goes live, fixed before anything is trained: the nightly's first."""
        return self.nightly.seeds[0]


class Privacy(_Strict):
    """What of people the marts may show; the lake and the scores keep the ids, since jobs need them."""

    hash_entities: bool = False  # marts get salted hashes in place of entity ids
    salt_env: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")] = "FIELDMART_SALT"  # where the secret salt stands
    k_anonymity: Annotated[int, Field(ge=0)] | None = None  # groups of fewer exposures show no numbers; 0: all do

    @field_validator("salt_env")
    @classmethod
    def _names_a_variable(cls, value: str) -> str:
        # The salt itself must not stand in a file that people commit, and what anyone can guess is no secret.
        if value in PUBLIC_VARIABLES:
            raise ValueError(f"privacy.salt_env must name a variable that holds a secret of yours, got {value!r}")
        return value


class Contract(_Strict):
    """The whole file. Column roles name columns of the exposures table."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    version: int
    data_note: str
    source: Source
    default_date: dt.date | None = None  # None: today
    period: Period
    columns: dict[str, Column]
    entity: Annotated[tuple[str, ...], Field(min_length=1)]
    candidate: Annotated[tuple[str, ...], Field(min_length=1)]
    match: tuple[str, ...] = ()
    exposure_time: str
    conversion_time: str
    value: str
    delivered_at: str | None = None  # when the row came: of rows of one exposure the last delivered one counts
    cost: str | None = None  # what showing the exposure cost, in money
    eligible: str | None = None  # boolean: whether the pair may be targeted; without it every pair may
    label: Label
    split: Split
    min_count: Annotated[int, Field(ge=1)] = 10
    history_smoothing: Annotated[float, Field(gt=0)] = 20.0
    fields: tuple[FieldRule, ...]
    slices: tuple[Slice, ...] = ()
    slice_min_n: int = 1000
    fairness: tuple[str, ...] = ()  # slices whose values are groups of people, for the fairness audit
    prior: Prior
    training: Training
    grid: Grids
    top_n: Annotated[int, Field(ge=1)] = 10
    max_oov_share: Annotated[float, Field(ge=0, le=1)] = 0.5  # of a pair's fields; above it the prior scores the pair
    privacy: Privacy = Privacy()

    @model_validator(mode="after")
    def _names_exist(self) -> Contract:
        roles = {
            "entity": self.entity,
            "candidate": self.candidate,
            "match": self.match,
            "exposure_time": (self.exposure_time,),
            "conversion_time": (self.conversion_time,),
            "value": (self.value,),
            "delivered_at": (self.delivered_at,) if self.delivered_at else (),
            "cost": (self.cost,) if self.cost else (),
            "eligible": (self.eligible,) if self.eligible else (),
            "label.delay_by": (self.label.delay_by,) if self.label.delay_by else (),
        }
        for rule in self.fields:
            roles[f"field {rule.name}"] = rule.columns
        for item in self.slices:
            roles[f"slice {item.name}"] = (item.column,) if item.column else ()
        for place, names in roles.items():
            for column in names:
                if column not in self.columns:
                    raise ValueError(f"{place}: column must be declared under columns, got {column!r}")
        names = [rule.name for rule in self.fields]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"field names must be unique, got {name!r} twice")
        known = [item.known for item in self.slices if item.known]
        for name in (*self.prior.candidate_levels, self.prior.entity, *known):
            if name not in names:
                raise ValueError(f"prior and slices may only name fields, got {name!r}")
        grouped = [item.name for item in self.slices if item.column]
        for name in self.fairness:
            if name not in grouped:
                raise ValueError(f"fairness may only name slices of a column ({', '.join(grouped)}), got {name!r}")
        for column in self.columns:
            if column in RESERVED or column[:2] in ("f_", "v_", "s_", "p_", "z_"):
                raise ValueError(f"columns: {column!r} is a name that jobs use themselves; rename the column")
        counted = any(rule.of == "purchases" for rule in self.fields)
        if counted and self.source.adapter == "files" and not self.source.purchases:
            raise ValueError("source.purchases must be a path, since a field counts purchases, got none")
        self._check_delivery()
        label_columns = {self.conversion_time, self.value}
        for rule in self.fields:
            if label_columns & set(rule.columns):
                raise ValueError(
                    f"field {rule.name}: the label's columns {sorted(label_columns)} are not known at scoring"
                )
        return self

    def _check_delivery(self) -> None:
        if self.delivered_at is None:
            return
        if self.source.adapter != "files":
            raise ValueError(f"delivered_at needs source.adapter 'files', got {self.source.adapter!r}")
        column = self.columns[self.delivered_at]
        if column.type != "timestamp" or column.nullable:
            raise ValueError(f"delivered_at: column {self.delivered_at} must be a timestamp that is never empty")
        if self.delivered_at in (self.exposure_time, self.conversion_time):
            raise ValueError(f"delivered_at must be a column of its own, got {self.delivered_at!r}")
        used = [rule.name for rule in self.fields if self.delivered_at in rule.columns]
        if used:
            raise ValueError(f"field {used[0]}: the time of delivery is not known at scoring")

    @model_validator(mode="after")
    def _sets_exist(self) -> Contract:
        adapter = self.source.adapter
        made = ADAPTER_MEMBERS.get(adapter)
        for rule in self.fields:
            if rule.members is None:
                continue
            if not set(self.entity) <= set(rule.columns[:-1]):
                raise ValueError(
                    f"field {rule.name}: with members, columns must be those of the entity and, last, the id of the "
                    f"set, got {list(rule.columns)}"
                )
            if made and rule.members not in made:
                raise ValueError(
                    f"field {rule.name}: members must be a table of {adapter} ({', '.join(made)}), got {rule.members!r}"
                )
            if not made and rule.members not in self.source.members:
                raise ValueError(
                    f"source.members.{rule.members} must be a path, since field {rule.name} names it, got none"
                )
            if self.sets[rule.members] != rule.columns[-1]:
                raise ValueError(
                    f"field {rule.name}: members {rule.members} has the sets of {self.sets[rule.members]}, got "
                    f"{rule.columns[-1]}"
                )
        return self

    @property
    def sets(self) -> dict[str, str]:
        """The tables of sets that fields name, each with the column that holds the set's id."""
        return {rule.members: rule.columns[-1] for rule in reversed(self.fields) if rule.members}

    @property
    def field_names(self) -> list[str]:
        return [rule.name for rule in self.fields]

    def part(self, *names: str) -> dict[str, Any]:
        """The named sections as plain JSON, for the key of a data set that depends on nothing else."""
        return self.model_dump(mode="json", include=set(names))

    @property
    def meaning(self) -> str:
        """All that the file says, as JSON: comments and the order of keys do not count."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)

    @property
    def sha(self) -> str:
        """SHA-256 of the meaning."""
        return hashlib.sha256(self.meaning.encode()).hexdigest()


def load(path: Path, training: dict[str, Any] | None = None) -> Contract:
    """The contract in the YAML file `path`; a file that `extends` another one overrides its top-level sections.

    `training` (from the command line) overrides single values of that section.
    """
    raw = _read(path)
    if "extends" in raw:
        raw = _read(path.parent / str(raw.pop("extends"))) | raw
    if training and isinstance(raw.get("training"), dict):
        raw = raw | {"training": raw["training"] | training}
    try:
        return Contract.model_validate(raw)
    except ValidationError as error:
        faults = [
            f"{path}: {'.'.join(str(step) for step in fault['loc']) or 'contract'}: {fault['msg']}"
            for fault in error.errors()
        ]
        raise ContractError("\n".join(faults)) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ContractError(f"contract must be a readable YAML file, got {path}, which does not exist") from None
    except yaml.YAMLError as error:
        raise ContractError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise ContractError(f"{path}: a contract must be a mapping, got {type(raw).__name__}")
    return raw
