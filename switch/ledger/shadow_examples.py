"""A bounded number of authorizations that a draft in shadow would have decided otherwise.

The first ones, and then each further one with the chance that every one of them has the same
(reservoir sampling, Vitter's algorithm R): so the examples are of the whole time, not of its
first minute.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from risk.assess import Assessment
from risk.explain import explain

RULESETS_MAX = 16
"""Drafts whose examples are kept in mind; the one that was looked at longest ago goes first."""


class Example(NamedTuple):
    """One authorization. `rule_id` is the rule that makes the difference, on whichever side."""

    authorization_id: int
    at_us: int
    rule_id: str
    answered: str
    shadow: str
    amount_minor: int
    sentence: str


class ShadowExamples:
    """`choose(n)` gives a number from 0 to n - 1, each as likely as the others."""

    def __init__(self, count_max: int, choose: Callable[[int], int]) -> None:
        self._count_max = count_max
        self._choose = choose
        self._seen: dict[str, int] = {}
        self._unwritten: dict[tuple[str, int], Example] = {}

    def saw(
        self,
        authorization_id: int,
        at_us: int,
        amount_minor: int,
        answered: Assessment,
        shadow: Assessment,
    ) -> None:
        """The draft's decision differs from that of the ruleset which was answered by."""
        name = shadow.ruleset_hash
        seen = self._seen.get(name, 0)
        self._seen[name] = seen + 1
        if len(self._seen) > RULESETS_MAX:
            del self._seen[next(iter(self._seen))]
        number = seen if seen < self._count_max else self._choose(seen + 1)
        if number >= self._count_max:
            return
        self._unwritten[name, number] = Example(
            authorization_id,
            at_us,
            shadow.rule_id or answered.rule_id,
            answered.decision.value,
            shadow.decision.value,
            amount_minor,
            _sentence(shadow),
        )

    def taken(self) -> dict[tuple[str, int], Example]:
        """What is to be written, by ruleset and number; give it back where that fails."""
        taken, self._unwritten = self._unwritten, {}
        return taken

    def give_back(self, taken: dict[tuple[str, int], Example]) -> None:
        """It was not written; what came under the same number since is newer."""
        self._unwritten = {**taken, **self._unwritten}


def _sentence(assessment: Assessment) -> str:
    """What the draft says. Which card it was stands with the authorization."""
    because = assessment.because.replace(" on {card}", "").replace("{card}", "the card")
    return explain(
        Assessment(
            assessment.decision,
            assessment.ruleset_hash,
            assessment.rule_id,
            assessment.rule_version,
            assessment.reason,
            because,
            assessment.results,
        ),
        "",
        "shadow",
    )
