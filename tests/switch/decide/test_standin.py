"""What stand-in approved is posted, from a purse or from suspense."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from protocols.message import Kind, Outcome, Request, Segment
from switch.decide import derived_key
from switch.posting import (
    Follower,
    Followers,
    PurseState,
    Stored,
    Transfer,
)
from tests.simulation.model_ledger import NOON_US, purchase
from tests.switch.decide.cases import (
    GEN,
    HOUR_US,
    PAYABLE,
    PIN,
    SHOP_SUSPENSE,
    TAP_SUSPENSE,
    TRN,
    WRONG_PIN,
    account,
    approved,
    leg,
    loaded,
    posting_on,
    reply_on,
    stored,
    stranger,
)


def told(amount_minor: int = 500, **changed: Any) -> Request:
    """The advice of a tap that stand-in approved an hour ago."""
    usual: dict[str, Any] = {
        "standin_at_us": NOON_US - HOUR_US,
        "advice": True,
        "mcc": "4111",
        "segment": Segment.TRANSIT,
    }
    return purchase(1, amount_minor, **(usual | changed))


@pytest.mark.parametrize(
    ("transit_minor", "general_minor", "purse"), [(500, 500, TRN), (499, 500, GEN)]
)
def test_the_purse_that_has_it_pays_whatever_stands_against_it(
    transit_minor: int, general_minor: int, purse: int
) -> None:
    holder = account(transit_minor, general_minor, status="frozen")
    facts = loaded(holder, card_status="blocked", expires_yymm="2001", pin_reference=PIN)
    posting = approved(told(pin=WRONG_PIN), facts)
    assert posting.transfers == (leg(500, purse),)
    assert (posting.purse, posting.spent_count, posting.spent_minor) == (purse, 1, 500)
    assert (posting.key, posting.rule_results, posting.pin_tries) == (told().key, b"", -1)
    assert posting.at_us == NOON_US
    assert holder.history.outcome == [Outcome.APPROVED]


@pytest.mark.parametrize(
    ("request_", "suspense"),
    [
        (told(), TAP_SUSPENSE),
        (told(segment=Segment.RETAIL, mcc="5411"), SHOP_SUSPENSE),
        (told(mcc="7995"), TAP_SUSPENSE),
    ],
)
def test_what_no_purse_can_pay_is_kept_in_suspense(request_: Request, suspense: int) -> None:
    holder = account(499, 499)
    posting = approved(request_, loaded(holder))
    assert posting.transfers == (Transfer(suspense, PAYABLE, 500),)
    assert (posting.purse, posting.spent_count, posting.spent_minor) == (0, 0, 0)
    assert "suspense" in posting.explanation
    assert holder.purses[GEN] == PurseState(499, 0, 0, 0, 0)


def test_also_for_a_card_that_is_not_known() -> None:
    assert approved(told(), stranger()).transfers == (Transfer(TAP_SUSPENSE, PAYABLE, 500),)


def test_where_its_key_holds_the_approval_nothing_is_posted_twice() -> None:
    claim = posting_on(told(), loaded(stored=stored()))
    assert (claim.kind, claim.original_id, claim.transfers) == (Kind.REPEAT, 55, ())
    reply = claim.reply
    assert reply is not None
    assert (reply.outcome, reply.authorization_id, reply.replayed) == (Outcome.APPROVED, 55, True)


def test_what_its_sender_took_back_meanwhile_is_not_posted_again() -> None:
    found = stored(followers=Followers(reversed=True, taken_back=True))
    reply = reply_on(told(), loaded(stored=found))
    assert (reply.outcome, reply.authorization_id, reply.replayed) == (Outcome.APPROVED, 55, True)


@pytest.mark.parametrize(
    "found",
    [
        stored(outcome=Outcome.OUTCOME_UNKNOWN, approved_minor=0),
        stored(outcome=Outcome.INSUFFICIENT_FUNDS, approved_minor=0),
        stored(followers=Followers(reversed=True)),
        stored(payload_hash=b"another!"),
    ],
)
def test_what_else_its_key_holds_does_not_undo_the_promise(found: Stored) -> None:
    posting = approved(told(), loaded(account(500), stored=found))
    assert posting.key == derived_key(told().key, b"standin")
    assert (posting.original_id, posting.approved_minor) == (55, 500)
    follower = Follower(91, Kind.PURCHASE, 500)
    followers = msgspec.structs.replace(found.followers, changes=(follower,))
    posted = msgspec.structs.replace(found, followers=followers)
    again = reply_on(told(), loaded(stored=posted))
    assert (again.outcome, again.authorization_id, again.replayed) == (Outcome.APPROVED, 91, True)
