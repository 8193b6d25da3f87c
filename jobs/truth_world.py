"""A truth world: advertising exposures whose conversion rate is known, and is not of the form that FFM has.

The log-odds of a row hold what a sum of pair effects cannot: steps (a discount from 30 % on; ads that fit a user's
taste or do not), an effect of repetition that saturates and then wears off, and a three-way interaction without any
two-way part (the product of three signs). Users and campaigns are heavy-tailed, campaigns start and end, the base rate
drifts, and conversions are late by a known mixture, some beyond the label's window.

A row is a function of the seed and its number alone, whoever asks for whichever rows. Rows are in order of time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import ndtri

from ffm_udf.metrics import sigmoid

DRAWS = 12  # uniform numbers per row, a multiple of the four that one step of Philox gives
REGIONS, DEVICES, AGES, SEGMENTS, CATEGORIES, FORMATS, SLOTS = 8, 3, 6, 12, 12, 4, 6
PERIOD_DAYS, WINDOW_DAYS = 7, 3
MICROSECONDS = PERIOD_DAYS * 86_400_000_000

# The delay of a conversion: shares and mean hours of exponential parts, for campaigns that sell at once and slow ones.
DELAY_HOURS = np.array([5.0, 36.0, 240.0])
DELAY_SHARES = np.array([[0.6, 0.3, 0.1], [0.3, 0.4, 0.3]])


def in_window(hours: float) -> np.ndarray:
    """Share of the conversions that come within `hours`, of quick and of slow campaigns, float64 [2]."""
    return DELAY_SHARES @ (1.0 - np.exp(-hours / DELAY_HOURS))


@dataclass(frozen=True)
class Rows:
    """Some rows: what can be known of each (arrays [n], see COLUMNS), what came of it, and the truth.

    `cvr` is the probability that the row converts within the window, `cvr_ever` that it converts at all; `delay` hours
    (NaN: never) and `amount` are what came of it, `amount` also what a conversion would have brought where none came.
    """

    number: np.ndarray
    period: np.ndarray
    microsecond: np.ndarray  # since the start of its period
    columns: dict[str, np.ndarray]
    logit: np.ndarray
    cvr_ever: np.ndarray
    cvr: np.ndarray
    delay: np.ndarray
    amount: np.ndarray
    cost: np.ndarray
    eligible: np.ndarray

    def __len__(self) -> int:
        return len(self.number)


@dataclass(frozen=True)
class TruthWorld:
    """`rows` exposures in `periods` weeks, converting at `rate` on average (within the window, about).

    trend: change of the base log-odds over the whole time; period_sd: of its random part, which each period has anew.
    taste: times the effect of whether an ad fits a user; the higher, the more a model with too small a k loses.
    """

    rows: int
    seed: int = 1
    periods: int = 26
    rate: float = 0.05
    trend: float = -0.25
    period_sd: float = 0.1
    taste: float = 1.0

    def __post_init__(self) -> None:
        rules = (
            ("rows", self.rows >= 1000, "at least 1000"),
            ("periods", self.periods >= 1, "at least 1"),
            ("seed", self.seed >= 0, "at least 0"),
            ("rate", 0 < self.rate < 0.5, "in (0, 0.5)"),
            ("period_sd", self.period_sd >= 0, "at least 0"),
            ("taste", self.taste >= 0, "at least 0"),
        )
        for name, holds, rule in rules:
            if not holds:
                raise ValueError(f"{name} must be {rule}, got {getattr(self, name)!r}")

    @cached_property
    def first_rows(self) -> np.ndarray:
        """The first row of each period and the number of rows, int64 [periods + 1]: periods differ by up to 15 %."""
        share = self._rng("periods").uniform(0.85, 1.15, self.periods)
        return np.rint(np.concatenate([[0.0], np.cumsum(share)]) / share.sum() * self.rows).astype(np.int64)

    @cached_property
    def drift(self) -> np.ndarray:
        """What each period adds to the log-odds, float64 [periods]."""
        steps = self.trend * np.linspace(-0.5, 0.5, self.periods)
        return steps + self._rng("drift").normal(0.0, self.period_sd, self.periods)

    def take(self, first: int, count: int) -> Rows:
        """The rows number `first` to `first + count` - 1, as far as there are so many."""
        count = max(min(count, self.rows - first), 0)
        bits = np.random.Philox(key=np.random.SeedSequence([self.seed, 0]).generate_state(2, np.uint64))
        bits.advance(first * DRAWS // 4)
        u = np.random.Generator(bits).random((count, DRAWS)).T
        number = np.arange(first, first + count, dtype=np.int64)
        period = (np.searchsorted(self.first_rows, number, side="right") - 1).astype(np.int32)
        return self._made(number, period, u)

    def _made(self, number: np.ndarray, period: np.ndarray, u: np.ndarray) -> Rows:
        columns = self._columns(period, u)
        campaign, category = columns["campaign"], columns["category"]
        logit = self._score(columns) + self.drift[period] + self._intercept
        cvr_ever, slow = sigmoid(logit), category % 2
        hours = DELAY_HOURS[(u[8][:, None] > np.cumsum(DELAY_SHARES, axis=1)[slow][:, :-1]).sum(axis=1)]
        price = self._campaigns["price"][campaign]
        underage = (columns["age"] == 0) & (category == 3)
        return Rows(
            number=number,
            period=period,
            microsecond=(u[6] * MICROSECONDS).astype(np.int64),
            columns=columns,
            logit=logit,
            cvr_ever=cvr_ever,
            cvr=cvr_ever * in_window(24.0 * WINDOW_DAYS)[slow],
            delay=np.where(u[7] < cvr_ever, -np.log1p(-u[9]) * hours, np.nan),
            amount=np.round(price * np.exp(0.5 * ndtri(_open(u[10]))), 2),
            cost=np.round(self._campaigns["bid"][campaign] * np.exp(0.4 * ndtri(_open(u[11]))), 6),
            eligible=~(underage | self._users["opted_out"][columns["user"]]),
        )

    def _columns(self, period: np.ndarray, u: np.ndarray) -> dict[str, np.ndarray]:
        """What is known of each row when it is scored: every column of int64 but `discount`, of float64."""
        user = (len(self._users["region"]) * u[0] ** 2).astype(np.int64)  # the first are the busiest
        campaign = np.empty(len(user), np.int64)
        for number in np.unique(period):
            mine = period == number
            campaign[mine] = np.searchsorted(self._running[number], u[1][mine], side="right")
        busy = np.exp(0.8 * ndtri(_open(u[2]))) * self._users["activity"][user]
        return {
            "user": user,
            **{name: self._users[name][user] for name in ("region", "device", "age", "segment")},
            "campaign": campaign,
            **{name: self._campaigns[name][campaign] for name in ("category", "advertiser", "format")},
            "slot": (SLOTS * u[3]).astype(np.int64),
            "discount": np.where(u[4] < 0.4, 0.0, np.floor(60.0 * u[5])),
            "ads_seen": np.minimum(busy, 60.0).astype(np.int64),
        }

    def _score(self, columns: dict[str, np.ndarray]) -> np.ndarray:
        """The log-odds without base rate and drift."""
        user, campaign, ads = columns["user"], columns["campaign"], columns["ads_seen"]
        repetition = 0.9 * (1.0 - np.exp(-ads / 2.0)) - np.clip(0.08 * (ads - 8), 0.0, 1.2)
        discount = 0.6 * (columns["discount"] >= 30) + 0.4 * ((columns["discount"] >= 15) & (columns["age"] >= 4))
        between = self._users["angle"][user] - self._campaigns["angle"][campaign]
        taste = self.taste * (1.1 * (np.cos(between) > 0.6) + 0.3 * np.cos(between))
        signs = self._signs
        threefold = signs["region"][columns["region"]] * signs["category"][columns["category"]]
        threefold = 0.45 * threefold * signs["slot"][columns["slot"]]
        own = self._users["effect"][user] + self._campaigns["effect"][campaign]
        return repetition + discount + taste + threefold + own

    @cached_property
    def _intercept(self) -> float:
        """What makes `rate` of a sample of the rows convert within the window, by bisection."""
        u = self._rng("intercept").random((DRAWS, 20_000))
        period = (self.periods * u[DRAWS - 1]).astype(np.int32)
        columns = self._columns(period, u)
        score = self._score(columns) + self.drift[period]
        counts = in_window(24.0 * WINDOW_DAYS)[columns["category"] % 2]
        low, high = -20.0, 10.0
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (low, middle) if (sigmoid(score + middle) * counts).mean() > self.rate else (middle, high)
        return (low + high) / 2

    @cached_property
    def _signs(self) -> dict[str, np.ndarray]:
        """+1 or -1 for every value, as many of one as of the other: no two of the three signs tell anything."""
        rng = self._rng("signs")
        sizes = {"region": REGIONS, "category": CATEGORIES, "slot": SLOTS}
        return {name: rng.permutation(np.resize([1.0, -1.0], size)) for name, size in sizes.items()}

    @cached_property
    def _users(self) -> dict[str, np.ndarray]:
        n, rng = min(max(self.rows // 40, 200), 1_000_000), self._rng("users")
        segment = rng.integers(0, SEGMENTS, n)
        return {
            "region": rng.choice(REGIONS, n, p=_falling(REGIONS)),
            "device": rng.choice(DEVICES, n, p=_falling(DEVICES)),
            "age": rng.integers(0, AGES, n),
            "segment": segment,
            "angle": 2 * np.pi * segment / SEGMENTS + rng.normal(0.0, 0.4, n),
            "activity": 1.5 * np.exp(rng.normal(0.0, 0.8, n)),
            "effect": 0.35 * rng.standard_t(4, n),
            "opted_out": rng.random(n) < 0.03,
        }

    @cached_property
    def _campaigns(self) -> dict[str, np.ndarray]:
        n, rng = min(max(self.rows // 1500, 60), 3000), self._rng("campaigns")
        category = rng.integers(0, CATEGORIES, n)
        return {
            "category": category,
            "advertiser": rng.integers(0, n // 4, n),
            "format": rng.integers(0, FORMATS, n),
            "angle": 2 * np.pi * category / CATEGORIES + rng.normal(0.0, 0.4, n),
            "effect": 0.35 * rng.standard_t(4, n),
            "price": np.exp(rng.normal(3.0, 0.7, n)),
            "bid": 0.004 * np.exp(rng.normal(0.0, 0.5, n)),
        }

    @cached_property
    def _running(self) -> np.ndarray:
        """Cumulative share of the exposures of each campaign in each period, float64 [periods, campaigns].

        A tenth of the campaigns always run, the others for some periods from one on, which may be before the first.
        """
        n, rng = len(self._campaigns["category"]), self._rng("running")
        length = 2 + rng.geometric(0.12, n)
        start = rng.integers(-8, self.periods, n)
        period, always = np.arange(self.periods)[:, None], np.arange(n) % 10 == 0
        runs = always | ((start <= period) & (period < start + length))
        weight = np.where(runs, (1.0 - rng.random(n)) ** (-1 / 1.5), 0.0)  # Pareto
        share = np.cumsum(weight, axis=1)
        share /= share[:, -1:]
        # Rounding must not leave room behind the last campaign that runs.
        last = n - 1 - runs[:, ::-1].argmax(axis=1)
        share[np.arange(n) >= last[:, None]] = 1.0
        return share

    def _rng(self, purpose: str) -> np.random.Generator:
        """Draws for one purpose: more of one kind leave those of the others as they were."""
        return np.random.default_rng([self.seed, 1, *purpose.encode()])


def _open(u: np.ndarray) -> np.ndarray:
    """Uniform numbers of [0, 1) without 0, whose normal quantile is infinite."""
    return np.maximum(u, 2.0**-54)


def _falling(size: int) -> np.ndarray:
    share = 1.0 / np.arange(1, size + 1)
    return share / share.sum()
