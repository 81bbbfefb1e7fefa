"""The words a rule may use for facts: where each is read, in which unit, and how it is said.

An officer's word and the ledger's attribute are kept apart here, so that either side can
change without the other. Anything that is not in these two tables cannot be asked about.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from protocols.message import Kind, Mode, Outcome, Segment
from protocols.money import AMOUNT_MINOR_MAX


class Unit(StrEnum):
    """What a number or a text stands for; two operands compare only in the same unit."""

    MONEY = "minor units of money"
    COUNT = "a count"
    SECONDS = "seconds"
    METRES = "metres"
    SPEED = "kilometres an hour"
    TIME_OF_DAY = "a local time"
    WEEKDAY = "a weekday"
    DAYS = "days"
    IDENTITY = "an identity number"
    TEXT = "text"


ORDERED_UNITS = frozenset(
    {
        Unit.MONEY,
        Unit.COUNT,
        Unit.SECONDS,
        Unit.METRES,
        Unit.SPEED,
        Unit.TIME_OF_DAY,
        Unit.WEEKDAY,
        Unit.DAYS,
    },
)
"""The units in which less and more mean something."""


class FactWord(msgspec.Struct, frozen=True):
    """One fact: its attribute, unit, the word in a sentence, and the closed values if any.

    `shown` is false where the value itself must not reach a sentence (identities). `low` and
    `high` bound what the fact can be; `high` None means unbounded.
    """

    attribute: str
    unit: Unit
    says: str
    values: tuple[str, ...] = ()
    shown: bool = True
    low: int | None = None
    high: int | None = None


def _words(enum: type[Kind] | type[Segment] | type[Outcome] | type[Mode]) -> tuple[str, ...]:
    return tuple(member.value for member in enum)


CURRENT_FACTS: dict[str, FactWord] = {
    "amount": FactWord("amount_minor", Unit.MONEY, "amount", low=0, high=AMOUNT_MINOR_MAX),
    "balance": FactWord("balance_minor", Unit.MONEY, "balance"),
    "kind": FactWord("kind", Unit.TEXT, "kind", values=_words(Kind)),
    "segment": FactWord("segment", Unit.TEXT, "segment", values=_words(Segment)),
    "mcc": FactWord("mcc", Unit.TEXT, "merchant category"),
    "merchant": FactWord("merchant", Unit.TEXT, "merchant"),
    "terminal": FactWord("terminal", Unit.TEXT, "terminal"),
    "acquirer": FactWord("acquirer", Unit.TEXT, "acquirer"),
    "venue": FactWord("venue", Unit.TEXT, "venue"),
    "mode": FactWord("mode", Unit.TEXT, "mode", values=_words(Mode)),
    "line": FactWord("line", Unit.TEXT, "line"),
    "stop": FactWord("stop", Unit.TEXT, "stop"),
    "vehicle": FactWord("vehicle", Unit.TEXT, "vehicle"),
    "event_age": FactWord("event_age_s", Unit.SECONDS, "event age", low=0),
    "channel": FactWord("channel", Unit.TEXT, "channel", values=("online", "advice")),
    "clock_skew": FactWord("clock_skew_s", Unit.SECONDS, "clock skew"),
    "pin": FactWord("pin", Unit.TEXT, "PIN", values=("verified", "none")),
    "entry_mode": FactWord("entry_mode", Unit.TEXT, "entry mode"),
    "medium": FactWord("medium", Unit.TEXT, "medium", shown=False),
    "card_id": FactWord("card_id", Unit.IDENTITY, "card", shown=False),
    "card_status": FactWord("card_status", Unit.TEXT, "card status"),
    "card_age": FactWord("card_age_days", Unit.DAYS, "card age", low=0),
    "holder_class": FactWord("holder_class", Unit.TEXT, "holder class"),
    "tier": FactWord("tier", Unit.TEXT, "tier"),
    "product": FactWord("product", Unit.TEXT, "product"),
    "local_time": FactWord(
        "local_second_of_day", Unit.TIME_OF_DAY, "local time", low=0, high=86_399
    ),
    "weekday": FactWord("weekday", Unit.WEEKDAY, "weekday", low=1, high=7),
}
"""What a rule may read about the request in hand; attributes are those of `Facts`."""

PAST_FACTS: dict[str, FactWord] = {
    "amount": FactWord("amount_minor", Unit.MONEY, "amount", low=0, high=AMOUNT_MINOR_MAX),
    "kind": FactWord("kind", Unit.TEXT, "kind", values=_words(Kind)),
    "outcome": FactWord("outcome", Unit.TEXT, "outcome", values=_words(Outcome)),
    "segment": FactWord("segment", Unit.TEXT, "segment", values=_words(Segment)),
    "mcc": FactWord("mcc", Unit.TEXT, "merchant category"),
    "merchant": FactWord("merchant", Unit.TEXT, "merchant"),
    "terminal": FactWord("terminal", Unit.TEXT, "terminal"),
    "venue": FactWord("venue", Unit.TEXT, "venue"),
    "stop": FactWord("stop", Unit.TEXT, "stop"),
    "vehicle": FactWord("vehicle", Unit.TEXT, "vehicle"),
    "card_id": FactWord("card_id", Unit.IDENTITY, "card", shown=False),
}
"""What a feature's `where` may read about a past event; attributes are `History` columns."""
