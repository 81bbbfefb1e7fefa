"""The refusals that kinds have in common: status of card and account, PIN, and the rules.

Each is asked in the order of `Outcome`, so that a stolen card is never told that its PIN
was right.
"""

from __future__ import annotations

import hmac

import msgspec

from protocols.message import Outcome
from protocols.money import display_minor
from risk.facts import Facts, Totals
from risk.record import Assessment, Effects, assessed_facts, listed_value
from switch.decide.case import Case, declined
from switch.decide.moment import ahead_s
from switch.decide.terms import PIN_TRIES_MAX
from switch.fares.pricing import class_at
from switch.posting import Account, Listing, Posting, Purse, stop_named

TIER_NAMES = {"T0": "anonymous", "T1": "named", "T2": "verified"}
"""Tiers as rules name them (domain §3.5)."""

_BY_CARD_STATUS = {
    "stolen": Outcome.CARD_STOLEN,
    "lost": Outcome.CARD_LOST,
    "blocked": Outcome.CARD_BLOCKED,
    "closed": Outcome.CARD_CLOSED,
}


def status_refusal(case: Case) -> Posting | None:
    """A card or an account that may not be used now."""
    outcome = status_outcome(case)
    return declined(case, outcome, status_words(outcome, case)) if outcome is not None else None


def status_outcome(case: Case) -> Outcome | None:
    """Why the card or its account may not be used now; the card stands before the account."""
    loaded = case.loaded
    if loaded.card_status != "active":
        return _BY_CARD_STATUS[loaded.card_status]
    if loaded.expires_yymm and loaded.expires_yymm < case.moment.local_yymm:
        return Outcome.CARD_EXPIRED
    if case.account.status == "frozen":
        return Outcome.ACCOUNT_FROZEN
    if case.account.status == "closed":
        return Outcome.ACCOUNT_CLOSED
    return None


def status_words(outcome: Outcome, case: Case) -> str:
    """The same for a person."""
    loaded = case.loaded
    if outcome is Outcome.CARD_EXPIRED:
        return f"card ••{loaded.last4} expired in {loaded.expires_yymm} (YYMM)"
    if outcome in (Outcome.ACCOUNT_FROZEN, Outcome.ACCOUNT_CLOSED):
        return f"the account of card ••{loaded.last4} is {outcome.value.removeprefix('account_')}"
    return f"card ••{loaded.last4} is {loaded.card_status}"


def pin_refusal(case: Case) -> Posting | None:
    """A PIN that was sent is verified, whether or not this payment asks for one.

    A wrong one counts; at `PIN_TRIES_MAX` in a row the right one is refused too. A right one
    ends the row. On a card that has no PIN nothing can be verified: it is as if none was sent.
    """
    reference = case.loaded.pin_reference
    if not case.request.pin or not reference:
        return None
    card_id = case.directed.card_id
    tries = case.account.pin_tries.get(card_id, case.loaded.pin_tries)
    if tries >= PIN_TRIES_MAX:
        words = f"the PIN of card ••{case.loaded.last4} was wrong {tries} times in a row"
        return declined(case, Outcome.PIN_TRIES_EXCEEDED, words)
    if hmac.compare_digest(case.request.pin, reference):
        if tries:
            case.pin_tries = case.account.pin_tries[card_id] = 0
        return None
    case.pin_tries = case.account.pin_tries[card_id] = tries + 1
    words = f"wrong PIN, {tries + 1} of {PIN_TRIES_MAX} tries"
    return declined(case, Outcome.PIN_WRONG, words)


def pin_required(case: Case, purse: Purse, amount_minor: int) -> Posting | None:
    """A payment from GEN above the limit wants a PIN, and a card that has one."""
    if amount_minor <= case.terms.pin_above_minor or purse is not Purse.GEN:
        return None
    if case.request.pin and case.loaded.pin_reference:
        return None
    limit = display_minor(case.terms.pin_above_minor)
    missing = "none was entered" if case.loaded.pin_reference else "the card has none"
    words = f"a payment of more than {limit} asks for the PIN, and {missing}"
    return declined(case, Outcome.PIN_REQUIRED, words)


def hotlist_refusal(case: Case) -> Posting | None:
    """A card that readers refuse is refused online too, from the moment it is on the list."""
    if not case.loaded.hotlisted:
        return None
    words = f"card ••{case.loaded.last4} is on the hotlist"
    return declined(case, Outcome.HOTLISTED, words)


def venue_refusal(
    case: Case, amount_minor: int, assessment: Assessment | None = None
) -> Posting | None:
    """More than one payment at the venue may be."""
    venue = case.terms.venues.get(case.request.venue)
    if venue is None or not 0 < venue.amount_max_minor < amount_minor:
        return None
    words = (
        f"{display_minor(amount_minor)} asked, and {display_minor(venue.amount_max_minor)} is "
        "the most of one payment at this venue"
    )
    return declined(case, Outcome.AMOUNT_LIMIT, words, assessment)


def assess(case: Case, balance_minor: int, amount_minor: int | None = None) -> Assessment:
    """What the rules say of the request, asked with what its purse has.

    `amount_minor` is what a tap costs, where the request only has what its reader knew.
    """
    request, account, day = case.request, case.account, case.moment.service_day
    tap = request.tap
    facts = Facts(
        now_us=case.moment.now_us,
        day_start_us=day.day_start_us,
        local_second_of_day=day.local_second_of_day,
        weekday=day.weekday,
        kind=request.kind,
        segment=request.segment,
        amount_minor=request.amount.amount_minor if amount_minor is None else amount_minor,
        mcc=request.mcc,
        merchant=request.merchant,
        terminal=request.terminal,
        acquirer=request.acquirer,
        entry_mode=request.entry_mode,
        medium=case.directed.medium.hex(),
        card_id=case.directed.card_id,
        card_status=case.loaded.card_status,
        tier=TIER_NAMES[account.tier],
        product=account.product,
        balance_minor=balance_minor,
        history=account.history,
        totals=_totals(account),
        venue=request.venue,
        line=tap.line if tap is not None else "",
        stop=stop_named(tap),
        vehicle=tap.vehicle if tap is not None else "",
        mode=tap.mode.value if tap is not None else "",
        event_age_s=_event_age_s(case),
        channel="advice" if request.advice else "online",
        pin="verified" if request.pin and case.loaded.pin_reference else "none",
        clock_skew_s=_clock_skew_s(case),
        card_age_days=case.loaded.card_age_days,
        holder_class=_holder_class(case),
    )
    rules = case.terms.rules
    assessment = rules.assess(facts)
    case.shadow = rules.looked_on(facts)
    if assessment.effects is not None and assessment.effects.additions:
        case.listings = _listings(assessment.effects, facts)
    return msgspec.structs.replace(assessment, facts=assessed_facts(facts))


def _totals(account: Account) -> Totals:
    """What all purses of the account add up to."""
    purses = account.purses.values()
    return Totals(
        sum([state.month_count for state in purses]),
        sum([state.month_minor for state in purses]),
        sum([state.week_count for state in purses]),
        sum([state.week_minor for state in purses]),
        sum([state.lifetime_count for state in purses]),
        sum([state.lifetime_minor for state in purses]),
    )


def _listings(effects: Effects, facts: Facts) -> tuple[Listing, ...]:
    """What rules put on lists, where the request has what the list holds."""
    named = [(addition, listed_value(addition, facts)) for addition in effects.additions]
    return tuple(
        Listing(
            addition.list,
            addition.field,
            str(value),
            addition.rule_id,
            facts.now_us + addition.ttl_s * 1_000_000,
        )
        for addition, value in named
        if value is not None
    )


def _clock_skew_s(case: Case) -> int | None:
    """How far the terminal's clock is ahead of ours, where the message says what it shows.

    A reader says when a tap was instead, an advice when the sale was, and who asks by the
    medium (a counter, a debit file) has no clock of its own.
    """
    request = case.request
    if request.card is None or request.tap is not None or request.advice:
        return None
    return ahead_s(case.moment, request.local_at)


def _holder_class(case: Case) -> str:
    """The fare class that the holder's rights give at this reader, where they are known."""
    tap, fares = case.request.tap, case.loaded.fares
    if tap is None or fares is None:
        return ""
    return str(class_at(tap.event_at_us, tap.mode, fares.entitlements, case.terms.fares))


def _event_age_s(case: Case) -> int:
    """How long ago a tap happened, by its reader; a message without a tap happens now."""
    tap = case.request.tap
    return 0 if tap is None else max(0, case.moment.now_us - tap.event_at_us) // 1_000_000
