"""Every path of the console."""

from __future__ import annotations

from switch.console import authorizations, backtests, life, lists, people, reviews, rulesets, trial
from switch.console.endpoint import Endpoint

ENDPOINTS: tuple[Endpoint, ...] = (
    *people.ENDPOINTS,
    *rulesets.ENDPOINTS,
    *trial.ENDPOINTS,
    *life.ENDPOINTS,
    *lists.ENDPOINTS,
    *reviews.ENDPOINTS,
    *backtests.ENDPOINTS,
    *authorizations.ENDPOINTS,
)
