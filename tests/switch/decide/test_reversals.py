"""Reversals of every kind, by the switch itself and by clients."""

from __future__ import annotations

from datetime import date
from typing import Any

import msgspec
import pytest

from protocols.message import Kind, OriginalReference, Outcome, Reply, Request
from switch.decide import (
    decide,
)
from switch.posting import (
    Follower,
    Followers,
    HoldOpening,
    HoldPurpose,
    HoldResolution,
    HoldStatus,
    Original,
    PurseState,
    Transfer,
    purse_book,
)
from tests.simulation.model_ledger import NOON_US
from tests.switch.decide.cases import (
    ACCOUNT,
    AGENT,
    GEN,
    HOUR_US,
    PAYABLE,
    PENDING,
    TODAY,
    TRUST,
    WRONG_PIN,
    about,
    account,
    approved,
    back,
    directed,
    hold,
    late_reversal,
    leg,
    loaded,
    moment,
    original,
    posting_on,
    refused,
    reply_on,
    spending,
    terms,
)


def test_a_reversal_mirrors_the_purchase_and_gives_the_months_total_back() -> None:
    holder = account(purses={GEN: spending(700, 1, 300)})
    posting = posting_on(late_reversal(), loaded(holder, original=original()))
    assert (posting.outcome, posting.kind, posting.original_id) == (
        Outcome.APPROVED,
        Kind.REVERSAL,
        55,
    )
    assert posting.transfers == (Transfer(PAYABLE, purse_book(ACCOUNT, GEN), 300),)
    assert (posting.spent_count, posting.spent_minor) == (0, -300)
    assert holder.purses[GEN] == spending(1_000, 1, 0)
    assert holder.history.at_us == []  # a reversal is no event


def test_a_purchase_of_another_month_is_given_back_without_this_months_total() -> None:
    holder = account(purses={GEN: spending(700, 1, 300)})
    february = TODAY.replace(month=2, day=28)
    posting = posting_on(late_reversal(), loaded(holder, original=original(business_date=february)))
    assert (posting.spent_minor, posting.spent_on) == (-300, february)
    purse = holder.purses[GEN]
    assert (purse.month_minor, purse.week_minor, purse.lifetime_minor) == (300, 300, 0)


def test_a_load_is_taken_back_only_while_it_is_there() -> None:
    of_load = original(kind=Kind.LOAD, legs=(Transfer(TRUST, purse_book(ACCOUNT, GEN), 300),))
    holder = account(purses={GEN: PurseState(300, 0, 0, 0, 0)})
    posting = posting_on(late_reversal(), loaded(holder, original=of_load))
    assert posting.transfers == (Transfer(purse_book(ACCOUNT, GEN), TRUST, 300),)
    assert posting.spent_minor == 0
    spent = account(purses={GEN: PurseState(299, 0, 0, 0, 0)})
    assert (
        refused(late_reversal(), loaded(spent, original=of_load))[0] is Outcome.INSUFFICIENT_FUNDS
    )


@pytest.mark.parametrize("found", [None, original(account_id=ACCOUNT + 1)])
def test_an_original_that_is_not_this_accounts_is_not_found(found: Original | None) -> None:
    assert refused(late_reversal(), loaded(original=found))[0] is Outcome.ORIGINAL_NOT_FOUND


@pytest.mark.parametrize(
    "done",
    [
        original(followers=Followers(reversed=True)),
        original(outcome=Outcome.INSUFFICIENT_FUNDS, approved_minor=0),
    ],
)
def test_what_is_already_given_back_or_never_moved_is_given_back_no_further(
    done: Original,
) -> None:
    holder = account()
    decision = decide(directed(late_reversal()), loaded(holder, original=done), terms(), moment())
    assert decision == Reply(Outcome.APPROVED, replayed=True)
    assert holder.purses[GEN].balance_minor == 10_000


def test_an_approval_that_a_repeat_was_answered_with_is_withdrawn_and_not_reversed() -> None:
    holder = account()
    given_out = original(followers=Followers(repeats=1))
    posting = posting_on(late_reversal(), loaded(holder, original=given_out))
    assert (posting.outcome, posting.kind) == (Outcome.ANSWERED_LATE, Kind.REVERSAL)
    assert (posting.original_id, posting.transfers) == (55, ())
    assert holder.purses[GEN].balance_minor == 10_000


def test_the_last_withdrawal_is_the_reversal() -> None:
    last = original(followers=Followers(repeats=2, withdrawn=2))
    posting = posting_on(late_reversal(), loaded(original=last))
    assert posting.outcome is Outcome.APPROVED
    assert posting.approved_minor == 300


# ---- a client's ----


def reversal(replacement_minor: int = 0, **changed: Any) -> Request:
    return about(Kind.REVERSAL, 300, replacement_minor=replacement_minor, **changed)


def followed(*changes: tuple[Kind, int]) -> Followers:
    return Followers(changes=tuple(Follower(60 + n, *one) for n, one in enumerate(changes)))


def undone(kind: Kind, minor: int) -> Followers:
    return Followers(changes=(Follower(60, kind, minor, undone=True),))


@pytest.mark.parametrize(
    ("sale", "replacement_minor", "given_back_minor"),
    [
        (original(), 0, 300),
        (original(kind=Kind.OFFLINE_SALE), 0, 300),
        (original(), 100, 200),
        (original(followers=followed((Kind.REFUND, 50))), 0, 250),
        (original(followers=followed((Kind.REFUND, 50))), 100, 150),
        (original(followers=followed((Kind.ADJUSTMENT, 50))), 0, 350),
        (original(followers=followed((Kind.REVERSAL, 100))), 50, 150),
        (original(followers=undone(Kind.VOID, 300)), 0, 300),
        (original(followers=Followers(repeats=5)), 0, 300),  # however often it was given out
    ],
)
def test_a_clients_reversal_gives_back_what_stands_down_to_the_replacement(
    sale: Original, replacement_minor: int, given_back_minor: int
) -> None:
    holder = account(purses={GEN: spending(700, 1, 1_000)})
    blocked = loaded(holder, original=sale, card_status="blocked", expires_yymm="2001")
    posting = approved(reversal(replacement_minor, pin=WRONG_PIN), blocked)
    assert (posting.kind, posting.original_id) == (Kind.REVERSAL, 55)
    assert posting.transfers == (back(leg(given_back_minor)),)
    assert (posting.spent_count, posting.spent_minor) == (0, -given_back_minor)
    assert holder.purses[GEN] == spending(700 + given_back_minor, 1, 1_000 - given_back_minor)


@pytest.mark.parametrize(
    "gone",
    [
        original(followers=Followers(reversed=True)),
        original(followers=followed((Kind.VOID, 300))),
        original(followers=followed((Kind.REFUND, 200), (Kind.REVERSAL, 100))),
    ],
)
def test_nothing_is_left_to_give_back(gone: Original) -> None:
    assert reply_on(reversal(), loaded(original=gone)) == Reply(Outcome.APPROVED, replayed=True)


def test_a_replacement_of_what_stands_changes_nothing_and_of_more_is_refused() -> None:
    facts = loaded(original=original())
    assert reply_on(reversal(300), facts) == Reply(Outcome.APPROVED, replayed=True)
    assert refused(reversal(301), facts)[0] is Outcome.ABOVE_ORIGINAL


def test_a_declined_original_needs_no_giving_back() -> None:
    never = original(outcome=Outcome.COUNT_LIMIT, approved_minor=0)
    assert reply_on(reversal(), loaded(original=never)) == Reply(Outcome.APPROVED)


def test_a_reversal_before_its_original_leaves_a_tombstone() -> None:
    posting = posting_on(reversal(), loaded())
    assert (posting.outcome, posting.tombstone_key) == (Outcome.ORIGINAL_NOT_FOUND, b"o" * 16)
    assert not posting.has_effect


@pytest.mark.parametrize(
    ("request_", "found"),
    [
        (reversal(original=OriginalReference(rrn="1")), None),  # there is no key to put it under
        (late_reversal(), None),
        (reversal(), original(account_id=ACCOUNT + 1)),
        (reversal(), original(acquirer="48029999")),
        (reversal(), original(kind=Kind.TOMBSTONE, outcome=Outcome.REVERSED_BEFORE)),
    ],
)
def test_where_no_tombstone_can_or_need_be(request_: Request, found: Original | None) -> None:
    posting = posting_on(request_, loaded(original=found))
    assert (posting.outcome, posting.tombstone_key) == (Outcome.ORIGINAL_NOT_FOUND, b"")


@pytest.mark.parametrize(
    ("business_date", "spent_minor"),
    [(TODAY.replace(day=30), 0), (TODAY.replace(month=2, day=28), 300)],
)
def test_across_the_cut_only_this_months_total_is_given_back(
    business_date: date, spent_minor: int
) -> None:
    holder = account(purses={GEN: spending(700, 1, 300)})
    approved(reversal(), loaded(holder, original=original(business_date=business_date)))
    assert holder.purses[GEN].month_minor == spent_minor


@pytest.mark.parametrize("kind", [Kind.VOID, Kind.REFUND, Kind.CREDIT_ADJUSTMENT])
def test_money_given_back_is_taken_again_if_it_is_there(kind: Kind) -> None:
    gave = original(kind=kind, legs=(back(leg(300)),), spent_minor=-300)
    holder = account(purses={GEN: spending(300, 1, 0)})
    posting = approved(reversal(), loaded(holder, original=gave))
    assert posting.transfers == (leg(300),)
    assert holder.purses[GEN] == spending(0, 1, 300)
    spent = loaded(account(0, 299), original=gave)
    assert refused(reversal(), spent)[0] is Outcome.INSUFFICIENT_FUNDS


def test_a_part_of_a_refund_is_taken_again() -> None:
    gave = original(kind=Kind.REFUND, legs=(back(leg(300)),), spent_minor=-300)
    assert approved(reversal(100), loaded(original=gave)).transfers == (leg(200),)


# ---- of holds ----

HELD = PurseState(10_000, 4_000, 0, 0, 0)
AUTHORIZED = original(kind=Kind.PREAUTHORIZATION, approved_minor=4_000, legs=())


def completed(**changed: Any) -> Original:
    return original(
        kind=Kind.COMPLETION, approved_minor=2_500, authorization_id=56, original_id=55,
        **({"hold": hold()} | changed),
    )  # fmt: skip


REOPENED = HoldOpening(HoldPurpose.PREAUTHORIZATION, GEN, 4_000, NOON_US + HOUR_US, 55)


def test_a_preauthorization_reversed_is_a_hold_cancelled() -> None:
    holder = account(purses={GEN: HELD})
    posting = approved(reversal(), loaded(holder, original=AUTHORIZED, holds=(hold(),)))
    assert posting.resolves == HoldResolution(55, HoldStatus.CANCELLED)
    assert (posting.approved_minor, posting.transfers) == (4_000, ())
    assert holder.purses[GEN].held_minor == 0


def test_a_completed_preauthorization_stands_with_its_completion() -> None:
    done = original(kind=Kind.PREAUTHORIZATION, followers=followed((Kind.COMPLETION, 2_500)))
    assert refused(reversal(), loaded(original=done))[0] is Outcome.ORIGINAL_RESOLVED
    for kind in (Kind.PREAUTHORIZATION_CANCEL, Kind.HOLD_EXPIRY):
        gone = original(kind=Kind.PREAUTHORIZATION, followers=followed((kind, 300)))
        assert reply_on(reversal(), loaded(original=gone)).outcome is Outcome.APPROVED


def test_a_completion_reversed_gives_the_money_back_and_opens_its_hold_again() -> None:
    holder = account(0, 7_500)
    posting = approved(reversal(), loaded(holder, original=completed()))
    assert posting.transfers == (back(leg(2_500)),)
    assert (posting.opens, posting.approved_minor, posting.original_id) == (REOPENED, 2_500, 56)
    assert (holder.purses[GEN].balance_minor, holder.purses[GEN].held_minor) == (10_000, 4_000)


@pytest.mark.parametrize(
    ("facts", "replacement_minor"),
    [
        ({"original": completed(hold=hold(expires_at_us=NOON_US))}, 0),  # expired meanwhile
        ({"original": completed(), "account": account(0, 1_499)}, 0),  # the rest was spent
        ({"original": completed()}, 1_000),  # a part of the completion stands
        ({"original": completed(hold=None)}, 0),  # forced, without a hold
    ],
)
def test_where_a_completion_reversed_opens_no_hold(
    facts: dict[str, Any], replacement_minor: int
) -> None:
    posting = approved(reversal(replacement_minor), loaded(**facts))
    assert posting.opens is None
    assert posting.approved_minor == 2_500 - replacement_minor


def test_a_cancel_reversed_opens_its_hold_again_while_the_money_is_there() -> None:
    cancelled = original(
        kind=Kind.PREAUTHORIZATION_CANCEL, approved_minor=4_000, legs=(), hold=hold(),
        authorization_id=56, original_id=55,
    )  # fmt: skip
    holder = account(0, 4_000)
    posting = approved(reversal(), loaded(holder, original=cancelled))
    assert (posting.opens, posting.transfers, posting.original_id) == (REOPENED, (), 56)
    assert holder.purses[GEN].available_minor == 0
    poor = loaded(account(0, 3_999), original=cancelled)
    assert refused(reversal(), poor)[0] is Outcome.INSUFFICIENT_FUNDS
    late = reply_on(reversal(), loaded(original=cancelled), NOON_US + HOUR_US)
    assert late == Reply(Outcome.APPROVED, replayed=True)


def test_the_void_of_a_completion_reversed_takes_the_money_from_the_hold_again() -> None:
    voided = original(
        kind=Kind.VOID, approved_minor=2_500, legs=(back(leg(2_500)),), spent_minor=-2_500,
        authorization_id=57, original_id=56, hold=hold(hold_id=57),
    )  # fmt: skip
    holder = account(purses={GEN: PurseState(4_000, 4_000, 0, 0, 0)})
    facts = loaded(holder, original=voided, holds=(hold(hold_id=57),))
    posting = approved(reversal(), facts)
    assert posting.transfers == (leg(2_500),)
    assert posting.resolves == HoldResolution(57, HoldStatus.COMPLETED)
    assert (holder.purses[GEN].balance_minor, holder.purses[GEN].held_minor) == (1_500, 0)
    used = loaded(original=voided)
    assert refused(reversal(), used)[0] is Outcome.ORIGINAL_RESOLVED


# ---- of loads ----

WAITING = hold(500, purpose=HoldPurpose.LOAD)
TAKEN = original(kind=Kind.LOAD_PENDING, approved_minor=500, legs=(Transfer(AGENT, PENDING, 500),))


def test_a_pending_load_reversed_goes_back_to_its_agent() -> None:
    posting = approved(reversal(), loaded(original=TAKEN, holds=(WAITING,)))
    assert posting.transfers == (Transfer(PENDING, AGENT, 500),)
    assert posting.resolves == HoldResolution(55, HoldStatus.CANCELLED)


def test_a_pending_load_that_waits_no_more() -> None:
    confirmed = msgspec.structs.replace(TAKEN, followers=followed((Kind.LOAD, 500)))
    assert refused(reversal(), loaded(original=confirmed))[0] is Outcome.ORIGINAL_RESOLVED
    expired = msgspec.structs.replace(TAKEN, followers=followed((Kind.HOLD_EXPIRY, 500)))
    assert reply_on(reversal(), loaded(original=expired)) == Reply(Outcome.APPROVED, replayed=True)


def test_a_confirmed_load_reversed_waits_again() -> None:
    confirmed = original(
        kind=Kind.LOAD, approved_minor=500, authorization_id=56, original_id=55, hold=WAITING,
        legs=(Transfer(PENDING, purse_book(ACCOUNT, GEN), 500),),
    )  # fmt: skip
    holder = account(0, 500)
    posting = approved(reversal(), loaded(holder, original=confirmed))
    assert posting.transfers == (Transfer(purse_book(ACCOUNT, GEN), PENDING, 500),)
    assert posting.opens == HoldOpening(HoldPurpose.LOAD, GEN, 500, NOON_US + HOUR_US, 55)
    assert holder.purses[GEN] == PurseState(0, 0, 0, 0, 0)
    spent = loaded(account(0, 499), original=confirmed)
    assert refused(reversal(), spent)[0] is Outcome.INSUFFICIENT_FUNDS


# ---- of what has nothing to give back ----


def test_an_inquiry_moved_nothing() -> None:
    asked = original(kind=Kind.INQUIRY, approved_minor=0)
    assert reply_on(reversal(), loaded(original=asked)) == Reply(Outcome.APPROVED)


@pytest.mark.parametrize("kind", [Kind.ADJUSTMENT, Kind.REVERSAL, Kind.HOLD_EXPIRY, Kind.REPEAT])
def test_what_is_not_reversed(kind: Kind) -> None:
    assert refused(reversal(), loaded(original=original(kind=kind)))[0] is Outcome.UNSUPPORTED


@pytest.mark.parametrize("kind", [Kind.VOID, Kind.LOAD, Kind.PREAUTHORIZATION, Kind.LOAD_PENDING])
def test_what_is_not_reversed_in_part(kind: Kind) -> None:
    facts = loaded(original=original(kind=kind), holds=(hold(),))
    assert refused(reversal(100), facts)[0] is Outcome.UNSUPPORTED
