"""When a rule pauses itself: it declines far more than its shadow said it would.

A rule that is wrong declines thousands before a person looks. Shadow has told what share of
requests it would decline; live, or as a canary, it may exceed that by a margin and no more.
Shares are parts per million, so that a verdict never depends on rounding.
"""

from __future__ import annotations

from typing import NamedTuple

MILLION = 1_000_000


class PausePolicy(NamedTuple):
    """`evaluations_min` is the least sample that says anything.

    The share may be `factor_percent` of the forecast, and `slack_ppm` above that: a rule that
    was forecast to decline nobody may still meet a few.
    """

    evaluations_min: int = 1_000
    factor_percent: int = 200
    slack_ppm: int = 1_000


class Declines(NamedTuple):
    """Of so many requests within its scope, cards in its canary only, the rule declined some."""

    evaluations: int
    declines: int

    @property
    def share_ppm(self) -> int:
        return self.declines * MILLION // max(1, self.evaluations)


PAUSE_POLICY = PausePolicy()


def limit_ppm(forecast_ppm: int, policy: PausePolicy = PAUSE_POLICY) -> int:
    """The greatest share of declines at which a rule goes on."""
    return forecast_ppm * policy.factor_percent // 100 + policy.slack_ppm


def must_pause(seen: Declines, forecast_ppm: int, policy: PausePolicy = PAUSE_POLICY) -> bool:
    """Whether a rule is to be paused, and alarmed about, for what it did since its promotion."""
    if seen.evaluations < max(1, policy.evaluations_min):
        return False
    return seen.declines * MILLION > limit_ppm(forecast_ppm, policy) * seen.evaluations
