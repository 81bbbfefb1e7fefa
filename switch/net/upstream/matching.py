"""Which answer of a host belongs to which message that was sent to it.

An answer comes when it likes, late, twice or never, and says what it answers by repeating
some of its elements. Those are named here and nowhere else.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Generic, TypeVar

from protocols.iso8583 import Message
from protocols.iso8583.client import Dialect

MATCHED_BY: Mapping[Dialect, tuple[int, ...]] = {
    "iso87_ascii": (11, 7, 41),
    "unionpay_pos": (11, 41),
}
"""What an answer repeats of its message besides the class of its MTI: STAN, transmission time,
terminal (ISO 8583:1987; UnionPay POS hosts do not repeat DE7)."""

ENDED_MAX = 4_096
"""Messages whose end is remembered, so that a late answer is known for what it is."""

MatchKey = tuple[str, ...]
E = TypeVar("E")


def match_key(dialect: Dialect, message: Message) -> MatchKey:
    """The key of a message and of its answer: version and class, then what is matched by."""
    texts = (message.text(number).rstrip() for number in MATCHED_BY[dialect])
    return (message.mti[:2], *texts)


class InFlight(Generic[E]):
    """What was sent and is not answered, bounded; and what lately was. Never overwrites."""

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._waiting: dict[MatchKey, E] = {}
        self._ended: OrderedDict[MatchKey, E] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        return len(self._waiting) >= self._count_max

    def __contains__(self, key: MatchKey) -> bool:
        return key in self._waiting

    def add(self, key: MatchKey, exchange: E) -> bool:
        """Wait for the answer with this key; False, and nothing changes, where one waits."""
        if key in self._waiting:
            return False
        self._waiting[key] = exchange
        return True

    def end(self, key: MatchKey) -> E | None:
        """Wait no more; who waited, None where nobody did. Remembered for late answers."""
        exchange = self._waiting.pop(key, None)
        if exchange is not None:
            self._ended.pop(key, None)
            self._ended[key] = exchange
            if len(self._ended) > ENDED_MAX:
                self._ended.popitem(last=False)
        return exchange

    def ended(self, key: MatchKey) -> E | None:
        """Who waited for this answer lately, and does no more."""
        return self._ended.get(key)

    def all(self) -> list[E]:
        """Everything that waits."""
        return list(self._waiting.values())
