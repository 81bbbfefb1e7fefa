"""Facts written by a person: the request and the card's past, as JSON for a simulation.

Words and units are those of rules: amounts are minor units, `history` is in the order of time or
not. What is left out is as a plain named holder's approved purchase has it, or missing.

    {"at": "2026-03-31T21:30:00+08:00", "kind": "fare", "segment": "transit", "amount": 200,
     "stop": "K1/12", "history": [{"ago_s": 30, "kind": "fare", "amount": 200, "stop": "K1/9"}]}
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from protocols.message import Kind, Mode, Outcome, Segment
from protocols.money import AMOUNT_MINOR_MAX
from risk.conditions import Name
from risk.facts import (
    HISTORY_EVENTS_MAX,
    HISTORY_SECONDS_MAX,
    Facts,
    History,
    Totals,
    empty_history,
)
from risk.findings import holds_digit_run, key_path, one_of
from risk.moments import Settings, microseconds, service_day

FACTS_BYTES_MAX = 512 * 1024
"""512 events with every field spelt out are about half of this."""
BUCKETS_MAX = 36

_AMOUNT = "a whole number of minor units"
_WORD = "a text of at most 64 characters, without a long number"
_COUNT = "a whole number from 0 up, or null for unknown"

Amount = Annotated[int, Meta(ge=0, le=AMOUNT_MINOR_MAX, description=_AMOUNT)]
Signed = Annotated[int, Meta(ge=-AMOUNT_MINOR_MAX, le=AMOUNT_MINOR_MAX, description=_AMOUNT)]
Word = Annotated[str, Meta(max_length=64, description=_WORD)]
Card = Annotated[int, Meta(ge=1, le=2**53, description="a card's id, never its number")]
Count = Annotated[int, Meta(ge=0, le=2**53, description=_COUNT)]
Seconds = Annotated[int, Meta(ge=-(2**32), le=2**32, description="whole seconds")]
Category = Annotated[str, Meta(pattern=r"\A([0-9]{4})?\Z", description="four digits in quotes")]
Medium = Annotated[
    str,
    Meta(
        pattern=r"\A((?:[0-9a-f]{2}){16,64})?\Z",
        description="the hash of a medium, 32 small hex digits or more; never a card number",
    ),
]
Ago = Annotated[
    float,
    Meta(ge=0, le=HISTORY_SECONDS_MAX, description="seconds before `at`, at most a day"),
]
Instant = Annotated[datetime, Meta(tz=True, description="an instant with its offset, ISO 8601")]


class PastEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One event of the account's history, by how long ago it was decided."""

    ago_s: Ago
    kind: Annotated[Kind, Meta(description="a kind of message, such as purchase")] = Kind.PURCHASE
    segment: Annotated[Segment, Meta(description="transit, utility or retail")] = Segment.RETAIL
    amount: Amount = 0
    outcome: Annotated[Outcome, Meta(description="an outcome, such as approved")] = Outcome.APPROVED
    given_back: Annotated[bool, Meta(description="true or false")] = False
    card_id: Card | None = None
    mcc: Category = ""
    merchant: Word = ""
    terminal: Word = ""
    venue: Word = ""
    stop: Word = ""
    vehicle: Word = ""


class WrittenTotals(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the account spent before; null is unknown."""

    month_count: Count | None = 0
    month: Signed | None = 0
    week_count: Count | None = 0
    week: Signed | None = 0
    lifetime_count: Count | None = 0
    lifetime: Signed | None = 0


class WrittenFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One request as rules see it. `buckets` are features of places by id, null for unknown."""

    at: Instant
    kind: Annotated[Kind, Meta(description="a kind of message, such as purchase")]
    amount: Amount
    segment: Annotated[Segment, Meta(description="transit, utility or retail")] = Segment.RETAIL
    mcc: Category = ""
    merchant: Word = ""
    terminal: Word = ""
    acquirer: Word = ""
    entry_mode: Word = ""
    venue: Word = ""
    mode: Annotated[Mode | None, Meta(description="a mode, such as bus, or null")] = None
    line: Word = ""
    stop: Word = ""
    vehicle: Word = ""
    channel: Annotated[
        Literal["online", "advice", ""], Meta(description="online, advice or nothing")
    ] = "online"
    pin: Annotated[
        Literal["verified", "none", ""], Meta(description="verified, none or nothing")
    ] = "none"
    event_age: Count | None = 0
    clock_skew: Seconds | None = None
    medium: Medium = ""
    card_id: Card = 1
    card_status: Word = "active"
    card_age: Count | None = None
    holder_class: Word = ""
    tier: Word = "named"
    product: Word = "standard"
    balance: Signed | None = None
    totals: WrittenTotals = WrittenTotals()
    history: Annotated[
        tuple[PastEvent, ...],
        Meta(max_length=HISTORY_EVENTS_MAX, description=f"at most {HISTORY_EVENTS_MAX} events"),
    ] = ()
    buckets: Annotated[
        dict[Name, Signed | None],
        Meta(max_length=BUCKETS_MAX, description="numbers by feature id, null for unknown"),
    ] = {}


class FactsUnreadable(ValueError):
    """The text says no facts: where (`path`), and what was expected there."""

    def __init__(self, path: str, expected: str) -> None:
        self.path = path
        super().__init__(f"{path}: {expected}" if path else expected)


def facts_from_json(text: bytes | str, settings: Settings) -> Facts:
    """The facts that a JSON text says; their day and local time are those of the settings.

    Raises `FactsUnreadable` with the path of the faulty field, and never what stood there.
    """
    body = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(body) > FACTS_BYTES_MAX:
        raise FactsUnreadable("", f"expected at most {FACTS_BYTES_MAX // 1024} KiB")
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FactsUnreadable("", f"byte {error.start} is not UTF-8; write UTF-8") from None
    try:
        written = msgspec.json.decode(body, type=WrittenFacts)
    except msgspec.ValidationError as error:
        raise _misfit(str(error)) from None
    except msgspec.DecodeError as error:
        at = _AT_BYTE.search(str(error))
        where = f"at byte {at.group(1)}" if at is not None else "before its end"
        raise FactsUnreadable("", f"it stops being JSON {where}; write one object") from None
    except RecursionError:
        raise FactsUnreadable("", "it is nested too deeply; write one object") from None
    _refuse_long_numbers(written)
    return facts_of(written, settings)


def facts_of(written: WrittenFacts, settings: Settings) -> Facts:
    """The same of what was read already, such as the body of a request."""
    now_us = microseconds(written.at)
    day = service_day(settings, now_us)
    totals = written.totals
    return Facts(
        now_us=now_us,
        day_start_us=day.day_start_us,
        local_second_of_day=day.local_second_of_day,
        weekday=day.weekday,
        kind=written.kind,
        segment=written.segment,
        amount_minor=written.amount,
        mcc=written.mcc,
        merchant=written.merchant,
        terminal=written.terminal,
        acquirer=written.acquirer,
        entry_mode=written.entry_mode,
        medium=written.medium,
        card_id=written.card_id,
        card_status=written.card_status,
        tier=written.tier,
        product=written.product,
        balance_minor=written.balance,
        history=_history(written, now_us),
        totals=Totals(
            totals.month_count,
            totals.month,
            totals.week_count,
            totals.week,
            totals.lifetime_count,
            totals.lifetime,
        ),
        venue=written.venue,
        line=written.line,
        stop=written.stop,
        vehicle=written.vehicle,
        mode=written.mode.value if written.mode is not None else "",
        event_age_s=written.event_age,
        channel=written.channel,
        pin=written.pin,
        clock_skew_s=written.clock_skew,
        card_age_days=written.card_age,
        holder_class=written.holder_class,
        buckets=written.buckets,
    )


def _history(written: WrittenFacts, now_us: int) -> History:
    history = empty_history()
    for event in sorted(written.history, key=lambda each: -each.ago_s):
        history.append(
            at_us=now_us - round(event.ago_s * 1_000_000),
            card_id=written.card_id if event.card_id is None else event.card_id,
            kind=event.kind,
            amount_minor=event.amount,
            outcome=event.outcome,
            segment=event.segment,
            mcc=event.mcc,
            merchant=event.merchant,
            terminal=event.terminal,
            venue=event.venue,
            stop=event.stop,
            vehicle=event.vehicle,
        )
        history.given_back[-1] = event.given_back
    return history


def _refuse_long_numbers(written: WrittenFacts) -> None:
    """A card number must not travel on in a simulation's answer."""
    places: list[tuple[str, msgspec.Struct]] = [("", written)]
    places += [(f"history[{n}]", event) for n, event in enumerate(written.history)]
    for path, each in places:
        for field, value in msgspec.structs.asdict(each).items():
            if field != "medium" and isinstance(value, str) and holds_digit_run(value):
                raise FactsUnreadable(key_path(path, field), f"expected {_WORD}")


_AT = re.compile(r" - at `(?:key` in `)?\$([^`]*)`")
_AT_BYTE = re.compile(r"\(byte (\d+)\)")
_MISSING = re.compile(r"missing required field `([a-z_]+)`")
_LAST_WORD = re.compile(r"([a-z_]+)(?:\[(?:\d+|\.\.\.)\])?\Z")


def _misfit(said: str) -> FactsUnreadable:
    """The decoder's words as ours: it may quote what was written, and we do not."""
    at = _AT.search(said)
    path = at.group(1).removeprefix(".") if at is not None else ""
    missing = _MISSING.search(said)
    if missing is not None:
        path = key_path(path, missing.group(1))
        return FactsUnreadable(path, f"it is missing; expected {_EXPECTED[missing.group(1)]}")
    if "unknown field" in said:
        known = ", ".join(_fields_at(path))
        return FactsUnreadable(path, f"a field stands there that is not known; expected {known}")
    last = _LAST_WORD.search(path)
    expected = _EXPECTED.get(last.group(1) if last is not None else "", "one JSON object")
    return FactsUnreadable(path, f"expected {expected}")


def _fields_at(path: str) -> tuple[str, ...]:
    if path.startswith("history"):
        return PastEvent.__struct_fields__
    return (WrittenTotals if path.startswith("totals") else WrittenFacts).__struct_fields__


def _descriptions() -> dict[str, str]:
    """What is expected of each field, in words; a field of one name is alike wherever it is."""
    found = {"totals": "an object of totals"}
    for name, words in (("kind", Kind), ("segment", Segment), ("outcome", Outcome)):
        found[name] = one_of(word.value for word in words)
    for struct in (WrittenTotals, PastEvent, WrittenFacts):
        schema = msgspec.json.schema(struct)["$defs"]
        for name, field in schema[struct.__name__]["properties"].items():
            for each in (field, *field.get("anyOf", ())):
                if "description" in each and "$ref" not in each:
                    found[name] = each["description"]
    return found


_EXPECTED = _descriptions()
