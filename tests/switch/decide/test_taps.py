"""Taps: every refusal of their ladder in its order, what each moves, and how journeys end."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from protocols.message import Balance, Fare, Kind, Mode, Outcome, Reply
from protocols.money import Money
from switch.posting import (
    Follower,
    Followers,
    Hold,
    HoldOpening,
    HoldPurpose,
    HoldResolution,
    HoldStatus,
    Posting,
    PurseState,
    Transfer,
    purse_book,
)
from tests.simulation.model_ledger import NOON_US, purchase
from tests.switch.decide.cases import (
    ACCOUNT,
    GEN,
    HOUR_US,
    MINUTE_US,
    PAYABLE,
    TAP_SUSPENSE,
    TODAY,
    TRN,
    about,
    account,
    back,
    late_reversal,
    leg,
    original,
    reply_on,
    spending,
    stored,
)
from tests.switch.decide.rides import (
    decided,
    event,
    facts,
    facts_after,
    holder_of,
    journey,
    posted,
    ride,
)

YESTERDAY = TODAY - timedelta(days=1)


def test_a_single_tap_is_charged_what_the_tables_say() -> None:
    """Domain §6.4 F1, paid by the operator: nominal 200, half fare."""
    holder = holder_of(3_000)
    posting = posted(ride(nominal_minor=999), facts(holder=holder, rights=(1,)))
    fare = Fare(200, concession_minor=-100, fare_class=1, fare_version=1)
    assert posting.transfers == (leg(100, TRN),)
    assert (posting.kind, posting.purse, posting.spent_count) == (Kind.FARE, TRN, 1)
    assert posting.explanation == "fare 2.00, concession -1.00"
    assert posting.tap is not None
    assert (posting.tap.fare, posting.tap.fare_date) == (fare, TODAY)
    assert posting.reply is not None
    assert (posting.reply.fare, posting.reply.approved_minor) == (fare, 100)
    assert posting.reply.balances == (Balance("TRN", 2_900, 2_900),)
    assert holder.history.amount_minor == [100]


def test_a_free_ride_is_a_ride_without_a_transfer() -> None:
    holder = holder_of(0)
    posting = posted(ride(), facts(holder=holder, rights=(2,)))
    assert (posting.outcome, posting.transfers, posting.purse) == (Outcome.APPROVED, (), TRN)
    assert posting.has_effect


@pytest.mark.parametrize("kind", [Kind.FARE, Kind.TAP_ON, Kind.TAP_OFF, Kind.INSPECT])
@pytest.mark.parametrize(
    ("changed", "outcome"),
    [
        ({"card_status": "stolen", "hotlisted": True}, Outcome.CARD_STOLEN),
        ({"expires_yymm": "2602"}, Outcome.CARD_EXPIRED),
        ({"holder": account(status="frozen")}, Outcome.ACCOUNT_FROZEN),
        ({"hotlisted": True}, Outcome.HOTLISTED),
    ],
)
def test_a_card_that_may_not_pass(kind: Kind, changed: dict[str, Any], outcome: Outcome) -> None:
    request = ride(kind, mode=Mode.METRO, stop="S01")
    assert posted(request, facts(**changed)).outcome is outcome


def test_the_rungs_after_the_card_in_their_order() -> None:
    """No purse, hotlist, rules, the venue's limit, and last the money."""
    only_general = account(purses={GEN: PurseState(9_999, 0, 0, 0, 0)})
    assert posted(ride(), facts(holder=only_general, hotlisted=True)).outcome is (
        Outcome.PURSE_NOT_ALLOWED
    )
    poor = holder_of(199, 0)
    taxi = ride(mode=Mode.TAXI, mcc="4121", nominal_minor=100_001)
    assert posted(taxi, facts(holder=poor, hotlisted=True)).outcome is Outcome.HOTLISTED
    limited = posted(taxi, facts(holder=poor))
    assert limited.outcome is Outcome.AMOUNT_LIMIT
    assert limited.rule_results
    short = posted(ride(), facts(holder=poor))
    assert (short.outcome, short.explanation) == (
        Outcome.INSUFFICIENT_FUNDS,
        "Declined 51: 2.00 asked, 1.99 available in TRN.",
    )


def test_the_rules_are_asked_with_the_fare_and_not_with_what_the_reader_knew() -> None:
    """A limit of the shipped rules for one payment is above any fare, and below this lie."""
    posting = posted(ride(nominal_minor=99_999_999), facts())
    assert (posting.outcome, posting.approved_minor) == (Outcome.APPROVED, 200)


def test_transit_goes_to_its_floor() -> None:
    negative = account(purses={TRN: PurseState(0, 0, -200, 0, 0)})
    assert posted(ride(), facts(holder=negative)).outcome.approved
    assert negative.purses[TRN].balance_minor == -200
    assert posted(ride(number=2), facts(holder=negative)).outcome is Outcome.INSUFFICIENT_FUNDS


def test_a_venue_limits_every_kind_of_payment() -> None:
    fuel = purchase(1, 40_001, mcc="5542", venue="fuel")
    rich = holder_of(0, 100_000)
    for kind in (Kind.PURCHASE, Kind.PREAUTHORIZATION):
        request = msgspec.structs.replace(fuel, kind=kind)
        assert posted(request, facts(holder=rich)).outcome is Outcome.AMOUNT_LIMIT
        request = msgspec.structs.replace(request, amount=Money(40_000, "156"))
        assert posted(request, facts(holder=holder_of(0, 100_000))).outcome.approved


@pytest.mark.parametrize("kind", [Kind.PURCHASE, Kind.PREAUTHORIZATION, Kind.LOAD, Kind.BILL])
def test_a_card_on_the_hotlist_is_refused_everywhere(kind: Kind) -> None:
    request = purchase(1, 500, kind=kind, purse="GEN")
    assert posted(request, facts(hotlisted=True)).outcome is Outcome.HOTLISTED


# ---- journeys -------------------------------------------------------------------------------


def test_a_tap_on_sets_the_maximum_aside_and_charges_nothing() -> None:
    holder = holder_of(3_000)
    posting = posted(ride(Kind.TAP_ON, mode=Mode.METRO, stop="S01"), facts(holder=holder))
    expires_at_us = NOON_US + 240 * MINUTE_US
    assert posting.opens == HoldOpening(HoldPurpose.JOURNEY, TRN, 700, expires_at_us)
    assert (posting.approved_minor, posting.transfers, posting.spent_count) == (0, (), 0)
    assert holder.purses[TRN].available_minor == 2_300
    assert posting.reply is not None
    assert posting.reply.balances == (Balance("TRN", 3_000, 2_300),)


def test_who_cannot_pay_the_maximum_does_not_get_in_and_who_pays_half_needs_half() -> None:
    request = ride(Kind.TAP_ON, mode=Mode.METRO, stop="S01")
    outcomes = [
        posted(request, facts(holder=holder_of(350, 0), rights=rights)).outcome
        for rights in ((), (1,))
    ]
    assert outcomes == [Outcome.INSUFFICIENT_FUNDS, Outcome.APPROVED]
    free = posted(request, facts(holder=holder_of(0, 0), rights=(2,)))
    assert (free.outcome, free.opens) == (Outcome.APPROVED, None)


def test_a_journey_needs_a_tariff_and_there_is_an_end_to_open_ones() -> None:
    request = ride(Kind.TAP_ON, mode=Mode.TAXI)
    assert posted(request, facts()).outcome is Outcome.UNSUPPORTED
    eight = tuple(journey(hold_id=number, authorization_id=number) for number in range(8))
    many = posted(ride(Kind.TAP_ON, mode=Mode.METRO), facts(holds=eight))
    assert many.outcome is Outcome.COUNT_LIMIT


def _inside(*, amount_minor: int = 700, **changed: Any) -> tuple[Any, Hold]:
    """A holder with an open journey from S01 an hour ago, and its hold."""
    open_hold = journey(amount_minor)
    holder = account(
        purses={
            TRN: PurseState(700, amount_minor, 0, 0, 0),
            GEN: PurseState(0, 0, 0, 0, 0),
        }
    )
    entry = event(Kind.TAP_ON, NOON_US - HOUR_US, stop="S01")
    return facts(entry, holder=holder, holds=(open_hold,), **changed), open_hold


def test_a_tap_off_settles_the_journey_whatever_became_of_the_card() -> None:
    known, _ = _inside(card_status="stolen", hotlisted=True)
    posting = posted(ride(Kind.TAP_OFF, mode=Mode.METRO, stop="S03"), known)
    assert posting.transfers == (leg(300, TRN),)
    assert posting.resolves == HoldResolution(55, HoldStatus.COMPLETED)
    assert (posting.original_id, posting.tap and posting.tap.journey_id) == (55, 55)
    assert known.account is not None
    assert known.account.purses[TRN] == spending(400, 1, 300)


def test_a_tap_off_where_one_tapped_on_costs_nothing_and_frees_everything() -> None:
    open_hold = journey()
    entry = event(Kind.TAP_ON, NOON_US - MINUTE_US, stop="S01")
    known = facts(entry, holds=(open_hold,))
    posting = posted(ride(Kind.TAP_OFF, mode=Mode.METRO, stop="S01"), known)
    assert (posting.transfers, posting.approved_minor) == ((), 0)
    assert posting.resolves == HoldResolution(55, HoldStatus.COMPLETED)


def test_a_tap_off_takes_no_more_than_was_set_aside() -> None:
    known, open_hold = _inside()
    # The day was charged 900 less than it costs: a correction that the hold cannot pay whole.
    owed = event(Kind.FARE, NOON_US - 3 * HOUR_US, -700, mode=Mode.BUS, authorization_id=54)
    known = msgspec.structs.replace(
        known, fares=msgspec.structs.replace(known.fares, taps=(owed, *known.fares.taps))
    )
    posting = posted(ride(Kind.TAP_OFF, mode=Mode.METRO, stop="S03"), known)
    assert posting.approved_minor == open_hold.amount_minor
    assert posting.tap is not None
    assert posting.tap.fare.nominal_minor == 300


def test_a_tap_off_without_a_journey_is_decided_like_a_single_tap_at_the_maximum() -> None:
    request = ride(Kind.TAP_OFF, mode=Mode.METRO, stop="S03")
    posting = posted(request, facts())
    assert (posting.approved_minor, posting.resolves) == (700, None)
    assert posted(request, facts(holder=holder_of(699, 699))).outcome is (
        Outcome.INSUFFICIENT_FUNDS
    )


def test_nobody_tapped_off_and_the_maximum_is_charged() -> None:
    known, open_hold = _inside()
    due_us = NOON_US + 3 * HOUR_US
    expiry = purchase(9, kind=Kind.HOLD_EXPIRY, original_id=55)
    due = msgspec.structs.replace(open_hold, expires_at_us=due_us)
    known = msgspec.structs.replace(known, holds=(due,))
    assert decided(expiry, known, now_us=due_us - 1) == Reply(Outcome.APPROVED, replayed=True)
    posting = posted(expiry, known, now_us=due_us)
    assert (posting.kind, posting.approved_minor) == (Kind.INCOMPLETE_FARE, 700)
    assert posting.resolves == HoldResolution(55, HoldStatus.EXPIRED)
    assert posting.tap is not None
    assert (posting.tap.journey_id, posting.tap.event_at_us) == (55, NOON_US - HOUR_US)
    assert posting.auth_code == ""
    # And then somebody did, late: what was too much goes back.
    after = msgspec.structs.replace(facts_after(known, posting, 56), holds=())
    late = posted(ride(Kind.TAP_OFF, 10, mode=Mode.METRO, stop="S03"), after, now_us=due_us + 1)
    assert (late.kind, late.approved_minor) == (Kind.FARE_CREDIT, 400)
    assert late.transfers == (back(leg(400, TRN)),)
    assert late.reply is not None
    assert late.reply.approved_minor == -400


def test_the_expiry_of_a_journey_that_is_not_known_any_more_frees_it() -> None:
    due = journey(expires_at_us=NOON_US)
    expiry = purchase(9, kind=Kind.HOLD_EXPIRY, original_id=55)
    posting = posted(expiry, facts(holds=(due,)))
    assert (posting.kind, posting.transfers) == (Kind.HOLD_EXPIRY, ())
    assert posting.resolves == HoldResolution(55, HoldStatus.EXPIRED)


def test_a_tap_on_that_comes_after_its_tap_off_gives_the_difference_back() -> None:
    exit_ = event(Kind.TAP_OFF, NOON_US, 700, stop="S03")
    entry = ride(Kind.TAP_ON, mode=Mode.METRO, stop="S01", event_at_us=NOON_US - HOUR_US)
    posting = posted(entry, facts(exit_, card_status="stolen"))
    assert (posting.kind, posting.approved_minor, posting.opens) == (Kind.FARE_CREDIT, 400, None)


def test_parking_by_the_time_between() -> None:
    open_hold = journey(5_000, mcc="7523")
    entry = event(Kind.TAP_ON, NOON_US - 150 * MINUTE_US, mode=Mode.PARKING)
    holder = account(
        purses={TRN: PurseState(0, 0, 0, 0, 0), GEN: PurseState(5_000, 5_000, 0, 0, 0)}
    )
    known = facts(entry, holder=holder, holds=(msgspec.structs.replace(open_hold, purse=GEN),))
    posting = posted(ride(Kind.TAP_OFF, mode=Mode.PARKING), known)
    assert posting.transfers == (leg(1_500, GEN),)


# ---- money back, inspection, repeats --------------------------------------------------------


def test_a_late_tap_that_makes_its_day_cheaper_is_money_back() -> None:
    bus = event(Kind.FARE, NOON_US, 300, line="K2", mode=Mode.BUS)
    ferry = ride(mode=Mode.FERRY, mcc="4111", event_at_us=NOON_US - MINUTE_US)
    free = facts(bus, rights=(2,))
    posting = posted(ferry, free)
    # With the right that he has, the whole day was free: what the bus took goes back.
    assert (posting.kind, posting.approved_minor) == (Kind.FARE_CREDIT, 300)
    assert posting.transfers == (Transfer(PAYABLE, purse_book(ACCOUNT, TRN), 300),)
    assert (posting.spent_minor, posting.spent_on) == (-300, None)
    assert free.account is not None
    assert free.account.history.at_us == []


def test_money_back_of_an_earlier_fare_day_counts_there() -> None:
    yesterday_us = NOON_US - 24 * HOUR_US
    bus = event(Kind.FARE, yesterday_us, 300, line="K2", mode=Mode.BUS, fare_date=YESTERDAY)
    ferry = ride(mode=Mode.FERRY, mcc="4111", event_at_us=yesterday_us - MINUTE_US)
    posting = posted(ferry, facts(bus, rights=(2,)))
    assert posting.tap is not None
    assert (posting.kind, posting.spent_minor) == (Kind.FARE_CREDIT, -300)
    assert posting.spent_on == posting.tap.fare_date == YESTERDAY


def test_an_inspection_tells_the_class_and_moves_nothing() -> None:
    posting = posted(ride(Kind.INSPECT), facts(rights=(1,)))
    assert (posting.outcome, posting.has_effect) == (Outcome.APPROVED, False)
    assert posting.reply is not None
    assert posting.reply.fare == Fare(0, fare_class=1, fare_version=1)
    door = ride(Kind.INSPECT, mode=Mode.COMMUNITY, mcc="6513")
    assert posted(door, facts()).outcome.approved


def test_a_repeat_is_told_what_it_was_charged() -> None:
    request = ride()
    was = stored(payload_hash=request.payload_hash, kind=Kind.FARE_CREDIT, approved_minor=150)
    posting = posted(request, facts(stored=was))
    assert posting.kind is Kind.REPEAT
    assert posting.reply is not None
    assert (posting.reply.approved_minor, posting.reply.replayed) == (-150, True)


def test_a_repeat_is_told_how_it_was_priced() -> None:
    request = ride(rrn="609012000001")
    first = posted(request, facts(rights=(1,)))
    was = stored(payload_hash=request.payload_hash, kind=Kind.FARE, approved_minor=100)
    again = posted(request, msgspec.structs.replace(
        facts_after(facts(rights=(1,)), first, 55), stored=was
    ))  # fmt: skip
    assert first.reply is not None
    assert again.reply is not None
    assert (again.kind, again.reply.fare) == (Kind.REPEAT, first.reply.fare)
    look = ride(Kind.INSPECT)
    told = posted(look, facts(rights=(1,))).reply
    was = stored(payload_hash=look.payload_hash, kind=Kind.INSPECT, approved_minor=0)
    once_more = posted(look, facts(rights=(1,), stored=was)).reply
    assert told is not None
    assert once_more is not None
    assert once_more.fare == told.fare


@pytest.mark.parametrize("kind", [Kind.FARE, Kind.TAP_ON, Kind.TAP_OFF])
def test_a_frame_that_comes_again_after_days_is_the_same_tap(kind: Kind) -> None:
    """Its key is looked for on two business days only, its day has it for good."""
    request = ride(kind, mode=Mode.METRO, stop="S01", line="1")
    first = posted(request, facts())
    later_us = NOON_US + 24 * HOUR_US
    again = decided(request, facts_after(facts(), first, 55), now_us=later_us)
    assert first.tap is not None
    charged = first.tap.fare.charged_minor
    assert again == Reply(
        Outcome.APPROVED, charged, authorization_id=55, replayed=True, fare=first.tap.fare
    )
    elsewhere = ride(kind, mode=Mode.METRO, stop="S02", line="1")
    for other, now_us in ((elsewhere, later_us), (request, later_us - 1)):
        fresh = decided(other, facts_after(facts(), first, 55), now_us=now_us)
        assert isinstance(fresh, Posting), "another stop; and another sequence on the same day"


# ---- taken back -----------------------------------------------------------------------------


def test_a_gate_that_did_not_open_takes_the_fare_back() -> None:
    holder = holder_of(2_800)
    fare = original(
        kind=Kind.FARE, approved_minor=200, purse=TRN, legs=(leg(200, TRN),), spent_minor=200
    )
    posting = posted(about(Kind.REVERSAL), facts(holder=holder, original=fare))
    assert (posting.kind, posting.transfers) == (Kind.REVERSAL, (back(leg(200, TRN)),))
    assert posting.spent_minor == -200
    free = original(kind=Kind.FARE, approved_minor=0, purse=TRN)
    assert posted(about(Kind.REVERSAL), facts(original=free)).outcome.approved


def test_a_tap_off_that_came_too_late_opens_its_journey_again() -> None:
    resolved = journey(hold_id=50, authorization_id=50)
    exit_ = original(
        kind=Kind.TAP_OFF, approved_minor=300, purse=TRN, legs=(leg(300, TRN),), hold=resolved
    )
    posting = posted(late_reversal(), facts(original=exit_))
    again = HoldOpening(HoldPurpose.JOURNEY, TRN, 700, resolved.expires_at_us, 50)
    assert (posting.transfers, posting.opens) == ((back(leg(300, TRN)),), again)


@pytest.mark.parametrize(("transit_minor", "opens"), [(1_100, True), (1_099, False)])
def test_money_back_that_is_taken_again_leaves_a_journey_only_what_is_left(
    transit_minor: int, opens: bool
) -> None:
    """A tap-off that gave 400 back is reversed: 400 are taken, and 700 set aside beside them."""
    credit = original(
        kind=Kind.FARE_CREDIT, approved_minor=400, purse=TRN, legs=(back(leg(400, TRN)),),
        hold=journey(700, expires_at_us=NOON_US + HOUR_US), original_id=55,
    )  # fmt: skip
    posting = posted(about(Kind.REVERSAL), facts(holder=holder_of(transit_minor), original=credit))
    assert posting.transfers == (leg(400, TRN),)
    assert (posting.opens is not None) is opens


def test_a_tap_on_that_is_reversed_frees_what_it_set_aside() -> None:
    entry = original(kind=Kind.TAP_ON, approved_minor=0, purse=TRN)
    known = facts(original=entry, holds=(journey(),))
    posting = posted(late_reversal(), known)
    assert posting.resolves == HoldResolution(55, HoldStatus.CANCELLED)
    assert (posting.kind, posting.approved_minor) == (Kind.REVERSAL, 0)
    ended = Followers(changes=(Follower(56, Kind.TAP_OFF, 300),))
    gone = msgspec.structs.replace(entry, followers=ended)
    assert posted(late_reversal(), facts(original=gone)).outcome is Outcome.ORIGINAL_RESOLVED


def test_money_back_that_is_reversed_must_still_be_there() -> None:
    credit = original(
        kind=Kind.FARE_CREDIT, approved_minor=300, purse=TRN, legs=(back(leg(300, TRN)),)
    )
    assert posted(late_reversal(), facts(original=credit)).transfers == (leg(300, TRN),)
    poor = facts(holder=holder_of(299), original=credit)
    assert posted(late_reversal(), poor).outcome is Outcome.INSUFFICIENT_FUNDS


@pytest.mark.parametrize("kind", [Kind.INSPECT, Kind.BILL_INQUIRY])
def test_what_moved_nothing_needs_no_reversal(kind: Kind) -> None:
    known = facts(original=original(kind=kind, approved_minor=0))
    assert reply_on(about(Kind.REVERSAL), known) == Reply(Outcome.APPROVED)


# ---- bills and stand-in ---------------------------------------------------------------------


def test_a_bill_inquiry_moves_nothing_and_is_counted() -> None:
    holder = holder_of()
    request = purchase(1, 0, kind=Kind.BILL_INQUIRY, venue="water", mcc="4900")
    posting = posted(request, facts(holder=holder))
    assert (posting.outcome, posting.has_effect) == (Outcome.APPROVED, False)
    assert holder.history.kind == [Kind.BILL_INQUIRY]
    assert posted(request, facts(card_status="lost")).outcome is Outcome.CARD_LOST


def test_a_mandated_bill_asks_for_no_pin_where_a_purchase_does() -> None:
    bill = purchase(1, 100_001, kind=Kind.BILL, venue="water", mcc="4900")
    rich = holder_of(0, 400_000)
    sale = msgspec.structs.replace(bill, kind=Kind.PURCHASE)
    assert posted(sale, facts(holder=rich)).outcome is Outcome.PIN_REQUIRED
    assert posted(bill, facts(holder=holder_of(0, 100_000))).outcome is not Outcome.PIN_REQUIRED
    small = msgspec.structs.replace(bill, amount=Money(8_320, "156"))
    posting = posted(small, facts())
    assert posting.transfers == (leg(8_320, GEN),)


def test_a_tap_of_standin_is_posted_with_what_the_tables_say() -> None:
    request = ride(nominal_minor=300, standin_at_us=NOON_US - HOUR_US, advice=True)
    posting = posted(request, facts(card_status="lost", rights=(1,)))
    assert (posting.approved_minor, posting.purse) == (100, TRN)
    assert posting.kind is Kind.FARE
    assert not posting.in_suspense
    poor = posted(request, facts(holder=holder_of(0, 0)))
    assert poor.transfers == (Transfer(TAP_SUSPENSE, PAYABLE, 200),)
    assert poor.in_suspense
    assert poor.tap is not None
    assert poor.tap.fare == Fare(200, fare_version=1)


def test_a_tap_without_a_table_or_facts_costs_what_the_reader_said() -> None:
    bare = facts()
    nothing = msgspec.structs.replace(bare, fares=None)
    taxi = ride(mode=Mode.TAXI, mcc="4121", nominal_minor=2_350)
    assert posted(taxi, nothing).approved_minor == 2_350
