"""What decides now: the live ruleset, a canary for some cards, and drafts that only look on.

A batch is decided by one deployment, whatever is promoted meanwhile; which of its rulesets
decided is stamped on each decision. Assessing is pure but for one thing: what terminals,
merchants and acquirers add up to is read from outside, and stored with the decision.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec

from risk.assess import CompiledRuleset
from risk.buckets import Buckets, bucket_values
from risk.facts import Facts
from risk.features import Feature
from risk.moments import Settings, service_day
from risk.record import Assessment
from risk.ruleset import Ruleset
from risk.snooze import share_of

ReadBuckets = Callable[[bytes, str, int], int | None]
"""(series, key, first minute) → what its buckets add up to, None where nobody can vouch for it."""

CANARY = "ruleset"
"""What the cards of a ruleset's canary are hashed with, so that they are not those of a rule's."""


def unknown_buckets(_series: bytes, _key: str, _first_minute: int) -> int | None:
    """Nobody follows any buckets: every one of them is unknown."""
    return None


class Assessor(Protocol):
    """What a decision needs of rules; a `CompiledRuleset` is one too."""

    @property
    def hash(self) -> str: ...

    def assess(self, facts: Facts) -> Assessment: ...

    def looked_on(self, facts: Facts) -> tuple[Assessment, ...]: ...


class InForce(NamedTuple):
    """One ruleset of a deployment: compiled, with its settings and its features of places."""

    compiled: CompiledRuleset
    settings: Settings
    places: tuple[Feature, ...]


def in_force(ruleset: Ruleset, compiled: CompiledRuleset) -> InForce:
    """A compiled ruleset with what a deployment needs of its text."""
    places = tuple(feature for feature in ruleset.features if feature.bucketed)
    return InForce(compiled, ruleset.settings, places)


class Deployment:
    """Immutable. `hash` is that of the live ruleset; `revision` tells deployments apart."""

    __slots__ = (
        "_read",
        "buckets",
        "canary",
        "canary_percent",
        "hash",
        "live",
        "revision",
        "shadows",
    )

    def __init__(
        self,
        live: InForce,
        *,
        canary: InForce | None = None,
        canary_percent: int = 0,
        shadows: tuple[InForce, ...] = (),
        revision: int = 0,
        read: ReadBuckets = unknown_buckets,
    ) -> None:
        self.live = live
        self.canary = canary
        self.canary_percent = canary_percent
        self.shadows = shadows
        self.revision = revision
        self.hash = live.compiled.hash
        self._read = read
        all_of = (live, *([canary] if canary else []), *shadows)
        self.buckets = Buckets(feature for each in all_of for feature in each.places)
        """What an event adds, for every ruleset of the deployment."""

    @property
    def settings(self) -> Settings:
        return self.live.settings

    def assess(self, facts: Facts) -> Assessment:
        """Decide by the live ruleset, or by the canary where the card is one of its."""
        return self._by(self.chosen(facts), facts)

    def chosen(self, facts: Facts) -> InForce:
        """Which ruleset decides about this card."""
        canary = self.canary
        if canary is not None and share_of(CANARY, facts) < self.canary_percent:
            return canary
        return self.live

    def looked_on(self, facts: Facts) -> tuple[Assessment, ...]:
        """What each draft in shadow would have said; call it after `assess`, on the same facts."""
        return tuple([self._by(each, facts) for each in self.shadows])

    def _by(self, each: InForce, facts: Facts) -> Assessment:
        if each.settings != self.live.settings:
            day = service_day(each.settings, facts.now_us)
            facts = msgspec.structs.replace(
                facts,
                day_start_us=day.day_start_us,
                local_second_of_day=day.local_second_of_day,
                weekday=day.weekday,
            )
        if each.places:
            facts.buckets = bucket_values(each.places, facts, self._read)
        return each.compiled.assess(facts)
