"""The traffic of a demonstration: the retail acquirer and the city, second by second together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest

import msgspec

from protocols.message import Segment
from switch.demo.children import Acquirer, City, CityProgress, Progress


class Second(msgspec.Struct, frozen=True):
    """What both said of a second; `p99_ms` is by segment, where anything came."""

    second: int
    answered: int
    p99_ms: dict[str, float]
    outcomes: dict[str, int]


class Traffic:
    """Both load generators; iterate it for its seconds."""

    def __init__(self, acquirer: Acquirer, city: City) -> None:
        self.acquirer, self.city = acquirer, city

    def __iter__(self) -> Iterator[Second]:
        for number, (shops, venues) in enumerate(zip_longest(self.acquirer, self.city), 1):
            yield together(number, shops, venues)

    def stop(self) -> None:
        """Ask both for an early end."""
        self.acquirer.stop()
        self.city.stop()

    def wait(self) -> None:
        """Until both have ended. Raises ChildFailed where one left no figures."""
        self.acquirer.summary()
        self.city.summary()

    def kill(self) -> None:
        """Make sure that neither is left."""
        self.acquirer.kill()
        self.city.kill()


def together(number: int, shops: Progress | None, venues: CityProgress | None) -> Second:
    """One second of both, or of the one that still runs."""
    answered = sum(each.answered for each in (shops, venues) if each is not None)
    outcomes: Counter[str] = Counter()
    p99_ms: dict[str, float] = {}
    if venues is not None:
        outcomes.update(venues.outcomes)
        p99_ms.update(venues.p99_ms)
    if shops is not None:
        outcomes.update(shops.outcomes)
        p99_ms["retail"] = max(p99_ms.get("retail", 0.0), shops.p99_ms)
    in_order = {each.value: p99_ms[each] for each in Segment if each in p99_ms}
    return Second(number, answered, in_order, dict(outcomes))
