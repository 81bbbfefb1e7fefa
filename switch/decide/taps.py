"""Taps that are priced: single, on, off, and the journey that nobody ended.

What a tap is charged is what its fare day costs with it, less what the day was charged
before (see switch/fares/pricing.py). A tap that makes its day cheaper gives money back, as
FARE_CREDIT, from the acquirer of that tap.

    tap_on ──▶ journey open ── tap_off ─▶ completed   the fare is charged, the rest is free
                        └── no tap_off ─▶ expired     the maximum is charged (INCOMPLETE_FARE)

A second tap_on leaves the first journey to its expiry and opens one of its own; a tap_off
ends the newest. Who is inside must get out: the end of an open journey asks neither status,
hotlist, rules nor funds, for its money is set aside. A tap_off without a journey is decided
like a single tap, at the maximum. What the hold could not pay of a correction stays owed to
the day and comes with its next tap. A tap that comes after more than a day is looked for among
the taps of its day, for its key is looked for no further back.
"""

from __future__ import annotations

from datetime import date

import msgspec

from protocols.message import Balance, Fare, Kind, Outcome, Reply, Tap
from protocols.money import display_minor
from risk.assess import Assessment
from switch.decide.case import Case, approved, declined, declined_by_rule
from switch.decide.moment import MINUTE_US
from switch.decide.purses import (
    Chosen,
    able_purse,
    eligible_purses,
    no_purse,
    suspense_legs,
    too_little,
)
from switch.decide.refusals import assess, hotlist_refusal, status_refusal, venue_refusal
from switch.decide.standing import other_day
from switch.fares.book import fare_date
from switch.fares.pricing import (
    charge_of,
    class_at,
    incomplete_minutes,
    maximum_of,
    partner_of,
)
from switch.posting import (
    Decision,
    FareFacts,
    Hold,
    HoldOpening,
    HoldPurpose,
    HoldStatus,
    Posting,
    Purse,
    TapEvent,
    Transfer,
    purse_book,
)

_NO_FACTS = FareFacts()
DAY_US = 24 * 60 * MINUTE_US
"""A message is found by its key on its business day and the next: for a day at the least."""


def priced_tap(case: Case) -> Decision:
    """A tap that costs something; one that comes again after days is told what it was charged."""
    event = event_of(case)
    before = _same_tap(case, event)
    if before is not None:
        return Reply(
            Outcome.APPROVED,
            before.fare.charged_minor,
            before.authorization_id,
            replayed=True,
            fare=before.fare,
        )
    match event.kind:
        case Kind.FARE:
            return fare(case)
        case Kind.TAP_ON:
            return tap_on(case)
        case _:
            return tap_off(case)


def _same_tap(case: Case, event: TapEvent) -> TapEvent | None:
    """The stored tap that says the same, where this one is too old to be found by its key."""
    if case.moment.now_us - event.event_at_us < DAY_US:
        return None
    for tap in facts_of(case).taps:
        if _what_it_says(tap) == _what_it_says(event):
            return tap
    return None


def _what_it_says(tap: TapEvent) -> tuple[object, ...]:
    place = (tap.mode, tap.line, tap.stop, tap.vehicle)
    return (tap.kind, tap.event_at_us, tap.acquirer, *place)


def fare(case: Case) -> Posting:
    """A single tap: the whole ladder, asked with what the tables say it costs."""
    event = event_of(case)
    return _charged_anew(case, event, charge_of(event, facts_of(case), case.terms.fares))


def tap_on(case: Case) -> Posting:
    """Sets the maximum fare aside; where the tap-off came first, settles with it at once."""
    book, facts = case.terms.fares, facts_of(case)
    event = event_of(case)
    if partner_of(event, facts.taps, book) is not None:
        return _settled_late(case, event, charge_of(event, facts, book))
    refused = status_refusal(case)
    if refused is not None:
        return refused
    maximum_minor = maximum_of(event, facts, book)
    if maximum_minor is None:
        words = "no fare table prices journeys of this mode"
        return declined(case, Outcome.UNSUPPORTED, words)
    agreed = _agree(case, maximum_minor)
    if isinstance(agreed, Posting):
        return agreed
    paying, assessment = agreed
    opened = [hold for hold in case.loaded.holds if hold.purpose is HoldPurpose.JOURNEY]
    if len(opened) >= case.terms.holds_open_max:
        words = f"{case.terms.holds_open_max} journeys are open on the account already"
        return declined(case, Outcome.COUNT_LIMIT, words, assessment)
    # An open journey changes nothing of its day yet, so what the day still owes waits too.
    priced = msgspec.structs.replace(charge_of(event, facts, book), recomputed_minor=0)
    expires_at_us = case.moment.now_us + incomplete_minutes(event, book) * MINUTE_US
    opens = HoldOpening(HoldPurpose.JOURNEY, paying.purse, maximum_minor, expires_at_us)
    posting = approved(
        case,
        purse=paying.purse,
        # A journey that can cost nothing has nothing to set aside.
        opens=opens if maximum_minor else None,
        assessment=assessment,
        explanation=f"{display_minor(maximum_minor)} are set aside for the journey",
        tap=msgspec.structs.replace(event, fare=priced),
    )
    return answered(case, posting, priced)


def tap_off(case: Case) -> Posting:
    """Ends the newest open journey of its acquirer and mode."""
    book, facts = case.terms.fares, facts_of(case)
    event = event_of(case)
    on = partner_of(event, facts.taps, book)
    if on is None:
        return _charged_anew(case, event, charge_of(event, facts, book))
    event = msgspec.structs.replace(event, journey_id=on.authorization_id)
    priced = charge_of(event, facts, book)
    hold = journey_hold(case, on.authorization_id)
    if hold is None:
        return _settled_late(case, event, priced)
    return _settled(case, event, priced, hold, HoldStatus.COMPLETED)


def incomplete(case: Case, hold: Hold) -> Posting:
    """The expiry of a journey's hold: the maximum is charged, whatever became of the card.

    Without its tap-on among the facts nothing tells what to charge it for, and the money is
    free again.
    """
    ons = [tap for tap in facts_of(case).taps if tap.authorization_id == hold.authorization_id]
    if not ons:
        return approved(
            case,
            purse=hold.purse,
            closes=hold,
            closed_as=HoldStatus.EXPIRED,
            explanation="its tap-on is not known any more: free again",
            auth_code="",
        )
    event = msgspec.structs.replace(
        ons[0], kind=Kind.INCOMPLETE_FARE, authorization_id=0, journey_id=hold.authorization_id
    )
    priced = charge_of(event, facts_of(case), case.terms.fares)
    if priced.charged_minor < 0:
        priced = corrected(priced, 0)
    return _settled(case, event, priced, hold, HoldStatus.EXPIRED)


def inspect(case: Case) -> Posting:
    """May the card pass: a door, a stadium's entry, an inspector's reader. No money moves.

    The answer has the fare class that holds here and now, which never says why.
    """
    refused = status_refusal(case) or hotlist_refusal(case)
    if refused is not None:
        return refused
    assessment = assess(case, 0, 0)
    if not assessment.decision.approved:
        return declined_by_rule(case, assessment)
    posting = approved(case, assessment=assessment, auth_code="")
    reply = Reply(Outcome.APPROVED, rrn=posting.rrn, fare=_class_told(case))
    return msgspec.structs.replace(posting, reply=reply)


def _class_told(case: Case) -> Fare:
    tap, book = tap_of(case), case.terms.fares
    number = class_at(tap.event_at_us, tap.mode, facts_of(case).entitlements, book)
    return Fare(0, fare_class=number, fare_version=book.table_at(tap.event_at_us).version)


def fare_told(case: Case, authorization_id: int) -> Fare | None:
    """How the stored tap was priced whose answer is given once more; None where nothing tells."""
    if case.request.tap is None:
        return None
    if case.request.kind is Kind.INSPECT:
        return _class_told(case)
    for tap in facts_of(case).taps:
        if tap.authorization_id == authorization_id:
            return tap.fare
    return None


def standin_fare(case: Case, key: bytes, original_id: int) -> Posting:
    """A single tap that stand-in approved: priced like any other, asked for nothing.

    What no purse can pay is in SUSPENSE, and still a ride of its day.
    """
    event = event_of(case)
    priced = charge_of(event, facts_of(case), case.terms.fares)
    charged_minor = priced.charged_minor
    eligible = eligible_purses(case)
    paying = able_purse(eligible, max(charged_minor, 0))
    if paying is None and charged_minor <= 0 and eligible:
        paying = eligible[0]
    if paying is None:
        priced = corrected(priced, max(charged_minor, 0))
        return approved(
            case,
            key=key,
            original_id=original_id,
            transfers=suspense_legs(case, priced.charged_minor),
            explanation=f"approved in stand-in; no purse can pay, in suspense: {words_of(priced)}",
            tap=msgspec.structs.replace(event, fare=priced),
        )
    return approved(
        case,
        key=key,
        kind=Kind.FARE_CREDIT if charged_minor < 0 else Kind.FARE,
        original_id=original_id,
        purse=paying.purse,
        transfers=charge_legs(case, event.acquirer, paying.purse, charged_minor),
        explanation=f"approved in stand-in; posted without rules: {words_of(priced)}",
        spent_count=1,
        spent_minor=charged_minor,
        spent_on=credited_on(case, event, charged_minor),
        tap=msgspec.structs.replace(event, fare=priced),
    )


def event_of(case: Case) -> TapEvent:
    """The tap in hand as an event, with the fare that its reader knew until it is priced."""
    tap, request = tap_of(case), case.request
    return TapEvent(
        kind=request.kind,
        event_at_us=tap.event_at_us,
        mode=tap.mode,
        line=tap.line,
        stop=tap.stop,
        vehicle=tap.vehicle,
        acquirer=request.acquirer,
        fare=Fare(request.amount.amount_minor),
        fare_date=fare_date(case.terms.fares, tap.event_at_us),
    )


def tap_of(case: Case) -> Tap:
    assert case.request.tap is not None, "a reader's dialect gives every tap its words"
    return case.request.tap


def facts_of(case: Case) -> FareFacts:
    return case.loaded.fares or _NO_FACTS


def journey_hold(case: Case, authorization_id: int) -> Hold | None:
    """The open hold of the journey that a tap-on began."""
    for hold in case.loaded.holds:
        if hold.purpose is HoldPurpose.JOURNEY and hold.authorization_id == authorization_id:
            return hold
    return None


def corrected(fare: Fare, charged_minor: int) -> Fare:
    """The same fare charged as something else; the difference stays owed to its day."""
    recomputed_minor = fare.recomputed_minor + charged_minor - fare.charged_minor
    return msgspec.structs.replace(fare, recomputed_minor=recomputed_minor)


def charge_legs(case: Case, acquirer: str, purse: int, charged_minor: int) -> tuple[Transfer, ...]:
    """A charge from the purse to the acquirer, or below zero the other way; of nothing, none."""
    book = purse_book(case.account.account_id, purse)
    payable = case.settlement_account("ACQ", acquirer)
    if charged_minor < 0:
        return (Transfer(payable, book, -charged_minor),)
    return (Transfer(book, payable, charged_minor),) if charged_minor else ()


def credited_on(case: Case, event: TapEvent, charged_minor: int) -> date | None:
    """The day that money back is given back of: its fare day, where the dearer taps are.

    A charge counts on the day of its posting, however old the tap is. A fare day that begins
    before its business day does counts no earlier than that.
    """
    if charged_minor >= 0:
        return None
    return other_day(case, min(event.fare_date, case.moment.business_date))


def answered(case: Case, posting: Posting, fare: Fare) -> Posting:
    """The posting with what a gate is told: the fare, and what its purse has left."""
    state = case.account.purses[posting.purse]
    balance = Balance(Purse(posting.purse).name, state.balance_minor, state.available_minor)
    reply = Reply(
        Outcome.APPROVED,
        approved_minor=fare.charged_minor,
        auth_code=posting.auth_code,
        rrn=posting.rrn,
        balances=(balance,),
        fare=fare,
    )
    return msgspec.structs.replace(posting, reply=reply)


def _charged_anew(case: Case, event: TapEvent, fare: Fare) -> Posting:
    """A tap that stands for itself: the whole ladder."""
    agreed = _agree(case, max(fare.charged_minor, 0))
    if isinstance(agreed, Posting):
        return agreed
    paying, assessment = agreed
    return _posted(case, event, fare, paying.purse, assessment)


def _agree(case: Case, amount_minor: int) -> tuple[Chosen, Assessment] | Posting:
    """The ladder of a tap that costs this; a posting is the refusal.

    Gates ask for no PIN: what a tap may cost is bounded by its venue.
    """
    refused = status_refusal(case)
    if refused is not None:
        return refused
    eligible = eligible_purses(case)
    if not eligible:
        return no_purse(case)
    refused = hotlist_refusal(case)
    if refused is not None:
        return refused
    able = able_purse(eligible, amount_minor) if amount_minor else eligible[0]
    paying = able or eligible[-1]
    assessment = assess(case, paying.state.available_minor, amount_minor)
    if not assessment.decision.approved:
        return declined_by_rule(case, assessment)
    refused = venue_refusal(case, amount_minor, assessment)
    if refused is not None:
        return refused
    if able is None:
        return too_little(case, amount_minor, paying, assessment)
    return paying, assessment


def _settled(case: Case, event: TapEvent, fare: Fare, hold: Hold, closed_as: HoldStatus) -> Posting:
    """A journey's end, paid from what was set aside: never more than that."""
    most_minor = hold.amount_minor
    charged_minor = max(-most_minor, min(fare.charged_minor, most_minor))
    return _posted(
        case, event, corrected(fare, charged_minor), hold.purse, closes=hold, closed_as=closed_as
    )


def _settled_late(case: Case, event: TapEvent, fare: Fare) -> Posting:
    """A ride that was charged already, and whose other end has come: the difference.

    Mostly money back. Where it costs more after all, as much as the purses have.
    """
    eligible = eligible_purses(case)
    if not eligible:
        return no_purse(case)
    paying = able_purse(eligible, fare.charged_minor) if fare.charged_minor > 0 else eligible[0]
    if paying is None:
        paying, fare = eligible[0], corrected(fare, 0)
    return _posted(case, event, fare, paying.purse)


def _posted(
    case: Case,
    event: TapEvent,
    fare: Fare,
    purse: int,
    assessment: Assessment | None = None,
    *,
    closes: Hold | None = None,
    closed_as: HoldStatus = HoldStatus.COMPLETED,
) -> Posting:
    """The approval of a priced tap, with its money whichever way that goes."""
    charged_minor = fare.charged_minor
    kind = Kind.FARE_CREDIT if charged_minor < 0 else event.kind
    posting = approved(
        case,
        kind=kind,
        purse=purse,
        transfers=charge_legs(case, event.acquirer, purse, charged_minor),
        closes=closes,
        closed_as=closed_as,
        original_id=event.journey_id or None,
        assessment=assessment,
        explanation=words_of(fare),
        spent_count=1,
        spent_minor=charged_minor,
        spent_on=credited_on(case, event, charged_minor),
        tap=msgspec.structs.replace(event, fare=fare),
        auth_code="" if event.kind is Kind.INCOMPLETE_FARE else None,
    )
    return answered(case, posting, fare)


def words_of(fare: Fare) -> str:
    """How it was priced, for a statement: nominal fare and each adjustment that is not zero."""
    adjustments = (
        ("concession", fare.concession_minor),
        ("transfer", fare.transfer_minor),
        ("cap", fare.cap_minor),
        ("earlier taps", fare.recomputed_minor),
    )
    said = [f"{name} {_signed(minor)}" for name, minor in adjustments if minor]
    return ", ".join([f"fare {display_minor(fare.nominal_minor)}", *said])


def _signed(amount_minor: int) -> str:
    return f"{'-' if amount_minor < 0 else '+'}{display_minor(abs(amount_minor))}"
