"""Preauthorizations: what a hold takes, who resolves it, and what is left when it is gone."""

from __future__ import annotations

from typing import Any

import pytest

from protocols.message import Kind, OriginalReference, Outcome, Reply, Request
from switch.decide import auth_code_of
from switch.posting import (
    Account,
    Follower,
    Followers,
    Hold,
    HoldPurpose,
    HoldResolution,
    HoldStatus,
    Original,
    PurseState,
    Transfer,
)
from tests.simulation.model_ledger import NOON_US, purchase
from tests.switch.decide.cases import (
    AGENT,
    GEN,
    MINUTE_US,
    PENDING,
    PIN,
    WRONG_PIN,
    about,
    account,
    approved,
    hold,
    leg,
    loaded,
    original,
    posting_on,
    refused,
    reply_on,
    spending,
    terms,
)


def asking(amount_minor: int = 4_000, number: int = 1, **changed: Any) -> Request:
    return purchase(number, amount_minor, **({"kind": Kind.PREAUTHORIZATION} | changed))


def holding(held_minor: int = 4_000, balance_minor: int = 10_000) -> Account:
    return account(purses={GEN: PurseState(balance_minor, held_minor, 0, 0, 0)})


def followed(*changes: tuple[Kind, int]) -> Followers:
    return Followers(changes=tuple(Follower(60 + n, *one) for n, one in enumerate(changes)))


def authorized(**changed: Any) -> Original:
    return original(
        **({"kind": Kind.PREAUTHORIZATION, "approved_minor": 4_000, "legs": ()} | changed)
    )


def test_a_preauthorization_sets_money_aside_and_moves_none() -> None:
    holder = account()
    posting = approved(asking(), loaded(holder))
    assert posting.transfers == ()
    assert posting.opens is not None
    assert (posting.opens.purpose, posting.opens.purse) == (HoldPurpose.PREAUTHORIZATION, GEN)
    assert (posting.opens.amount_minor, posting.opens.authorization_id) == (4_000, 0)
    assert (posting.spent_count, posting.spent_minor) == (0, 0)
    assert posting.auth_code == auth_code_of(posting.key)
    assert holder.purses[GEN] == PurseState(10_000, 4_000, 0, 0, 0)
    assert holder.history.kind == [Kind.PREAUTHORIZATION]


@pytest.mark.parametrize(("mcc", "minutes"), [("5542", 120), ("5411", 43_200)])
def test_how_long_it_is_set_aside_depends_on_the_trade(mcc: str, minutes: int) -> None:
    opens = approved(asking(mcc=mcc), loaded()).opens
    assert opens is not None
    assert opens.expires_at_us == NOON_US + minutes * MINUTE_US


@pytest.mark.parametrize(
    ("request_", "facts", "outcome"),
    [
        (asking(), {"card_status": "lost"}, Outcome.CARD_LOST),
        (asking(mcc="7995"), {}, Outcome.PURSE_NOT_ALLOWED),
        (asking(pin=WRONG_PIN), {"pin_reference": PIN}, Outcome.PIN_WRONG),
        (asking(100_001), {"account": account(0, 200_000)}, Outcome.PIN_REQUIRED),
        (asking(60_000), {"account": account(0, 90_000, tier="T0")}, Outcome.AMOUNT_LIMIT),
        (asking(10_001), {}, Outcome.INSUFFICIENT_FUNDS),
        (asking(9_999, partial_allowed=True), {"account": account()}, None),
        (asking(10_001, partial_allowed=True), {}, Outcome.INSUFFICIENT_FUNDS),  # whole or not
    ],
)
def test_a_preauthorization_climbs_the_ladder_of_a_sale(
    request_: Request, facts: dict[str, Any], outcome: Outcome | None
) -> None:
    assert posting_on(request_, loaded(**facts)).outcome is (outcome or Outcome.APPROVED)


def test_only_so_many_are_open_at_once_also_within_a_batch() -> None:
    most = terms().holds_open_max
    holder = account()
    open_ = tuple(hold(1, hold_id=n, authorization_id=n) for n in range(most - 1))
    pending = hold(1, purpose=HoldPurpose.LOAD)
    facts = loaded(holder, holds=(*open_, pending))
    assert approved(asking(100, 1), facts).opens is not None
    assert refused(asking(100, 2), facts)[0] is Outcome.COUNT_LIMIT


def test_holds_of_a_batch_see_each_other() -> None:
    facts = loaded(account())
    outcomes = [posting_on(asking(4_000, n), facts).outcome for n in range(3)]
    assert outcomes == [Outcome.APPROVED, Outcome.APPROVED, Outcome.INSUFFICIENT_FUNDS]


# ---- completions ----


@pytest.mark.parametrize("amount_minor", [1, 2_745, 4_000])
def test_a_completion_takes_its_amount_and_frees_the_rest(amount_minor: int) -> None:
    holder = holding()
    holder.status = "closed"
    facts = loaded(holder, original=authorized(), holds=(hold(),), card_status="stolen")
    posting = approved(about(Kind.COMPLETION, amount_minor), facts)
    assert posting.transfers == (leg(amount_minor),)
    assert posting.resolves == HoldResolution(55, HoldStatus.COMPLETED)
    assert (posting.original_id, posting.spent_count) == (55, 1)
    assert holder.purses[GEN] == spending(10_000 - amount_minor, 1, amount_minor)
    assert posting.rule_results == b""


def test_a_completion_of_more_than_the_hold() -> None:
    facts = loaded(holding(), original=authorized(), holds=(hold(),))
    assert refused(about(Kind.COMPLETION, 4_001), facts)[0] is Outcome.ABOVE_ORIGINAL


def test_a_completion_of_nothing_is_a_cancel_and_is_answered_as_nothing() -> None:
    holder = holding()
    facts = loaded(holder, original=authorized(), holds=(hold(),))
    posting = approved(about(Kind.COMPLETION, 0), facts)
    assert (posting.kind, posting.approved_minor) == (Kind.PREAUTHORIZATION_CANCEL, 4_000)
    assert posting.resolves == HoldResolution(55, HoldStatus.CANCELLED)
    assert posting.reply is not None
    assert (posting.reply.outcome, posting.reply.approved_minor) == (Outcome.APPROVED, 0)
    assert holder.purses[GEN].held_minor == 0


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        (OriginalReference(rrn="609012000001"), True),
        (OriginalReference(auth_code="ABC234"), True),
        (OriginalReference(rrn="609012000001", auth_code="ABC234"), True),
        (OriginalReference(rrn="609012000001", auth_code="XYZ999"), False),
        (OriginalReference(key=b"o" * 16), False),
    ],
)
@pytest.mark.parametrize("kind", [Kind.COMPLETION, Kind.PREAUTHORIZATION_CANCEL])
def test_a_hold_is_found_by_its_reference_where_the_original_is_not(
    kind: Kind, reference: OriginalReference, found: bool
) -> None:
    posting = posting_on(about(kind, 300, original=reference), loaded(holding(), holds=(hold(),)))
    assert posting.outcome is (Outcome.APPROVED if found else Outcome.ORIGINAL_NOT_FOUND)


def test_a_hold_opened_again_is_completed_like_the_first() -> None:
    again = hold(hold_id=77)
    facts = loaded(holding(), original=authorized(), holds=(again,))
    posting = approved(about(Kind.COMPLETION, 300), facts)
    assert posting.resolves == HoldResolution(77, HoldStatus.COMPLETED)
    assert posting.original_id == 55


@pytest.mark.parametrize("kind", [Kind.COMPLETION, Kind.PREAUTHORIZATION_CANCEL])
@pytest.mark.parametrize(
    ("facts", "outcome"),
    [
        ({}, Outcome.ORIGINAL_NOT_FOUND),
        ({"original": original()}, Outcome.ORIGINAL_NOT_FOUND),
        ({"holds": (hold(acquirer="48029999"),)}, Outcome.ORIGINAL_NOT_FOUND),
        ({"original": authorized(acquirer="48029999")}, Outcome.ORIGINAL_NOT_FOUND),
        (
            {"original": authorized(outcome=Outcome.COUNT_LIMIT, approved_minor=0)},
            Outcome.ORIGINAL_NOT_FOUND,
        ),
        # another hold with the same numbers is not meant where the original is known
        (
            {
                "original": authorized(followers=followed((Kind.COMPLETION, 300))),
                "holds": (hold(hold_id=77, authorization_id=77),),
            },
            Outcome.ORIGINAL_RESOLVED,
        ),
        (
            {"original": authorized(followers=followed((Kind.COMPLETION, 300)))},
            Outcome.ORIGINAL_RESOLVED,
        ),
        (
            {"original": authorized(followers=followed((Kind.PREAUTHORIZATION_CANCEL, 4_000)))},
            Outcome.ORIGINAL_RESOLVED,
        ),
        ({"original": authorized(followers=Followers(reversed=True))}, Outcome.ORIGINAL_RESOLVED),
    ],
)
def test_what_cannot_be_completed_or_cancelled(
    kind: Kind, facts: dict[str, Any], outcome: Outcome
) -> None:
    assert refused(about(kind, 300), loaded(**facts))[0] is outcome


EXPIRED = authorized(followers=followed((Kind.HOLD_EXPIRY, 4_000)))


def test_a_completion_after_the_hold_expired_is_forced_if_the_purse_has_it() -> None:
    holder = account(0, 2_745, tier="T0")
    posting = approved(about(Kind.COMPLETION, 2_745), loaded(holder, original=EXPIRED))
    assert posting.transfers == (leg(2_745),)
    assert (posting.resolves, posting.spent_count, posting.original_id) == (None, 1, 55)
    assert posting.explanation.startswith("forced: ")
    poor = loaded(account(0, 2_744), original=EXPIRED)
    assert refused(about(Kind.COMPLETION, 2_745), poor)[0] is Outcome.INSUFFICIENT_FUNDS
    rich = loaded(account(), original=EXPIRED)
    assert refused(about(Kind.COMPLETION, 4_001), rich)[0] is Outcome.ABOVE_ORIGINAL


def test_an_expired_hold_needs_no_cancel() -> None:
    said, _ = refused(about(Kind.PREAUTHORIZATION_CANCEL), loaded(original=EXPIRED))
    assert said is Outcome.ORIGINAL_RESOLVED


# ---- cancels and expiries ----


def test_a_cancel_frees_the_whole_hold_and_its_event() -> None:
    holder = account()
    approved(asking(), loaded(holder))
    holder.event_ids[0] = 55
    facts = loaded(holder, original=authorized(), holds=(hold(),))
    posting = approved(about(Kind.PREAUTHORIZATION_CANCEL, 1), facts)
    assert posting.resolves == HoldResolution(55, HoldStatus.CANCELLED)
    assert (posting.approved_minor, posting.transfers, posting.spent_minor) == (4_000, (), 0)
    assert holder.purses[GEN] == PurseState(10_000, 0, 0, 0, 0)
    assert holder.history.given_back == [True]


def expiring(original_id: int = 55) -> Request:
    return purchase(9, kind=Kind.HOLD_EXPIRY, original_id=original_id)


def test_a_hold_expires_when_its_time_is_over_and_not_before() -> None:
    holder = holding()
    facts = loaded(holder, original=authorized(), holds=(hold(expires_at_us=NOON_US + 1),))
    early = reply_on(expiring(), facts)
    assert early == Reply(Outcome.APPROVED, replayed=True)
    posting = approved(expiring(), facts, NOON_US + 1)
    assert posting.resolves == HoldResolution(55, HoldStatus.EXPIRED)
    assert (posting.approved_minor, posting.auth_code) == (4_000, "")
    assert holder.purses[GEN].held_minor == 0


@pytest.mark.parametrize("holds", [(), (hold(authorization_id=77, expires_at_us=0),)])
def test_a_hold_that_is_not_open_any_more_does_not_expire(holds: tuple[Hold, ...]) -> None:
    reply = reply_on(expiring(), loaded(original=authorized(), holds=holds))
    assert reply == Reply(Outcome.APPROVED, replayed=True)


def test_a_pending_load_that_expires_goes_back_to_its_agent() -> None:
    waiting = hold(500, purpose=HoldPurpose.LOAD, expires_at_us=NOON_US)
    holder = account()
    posting = approved(expiring(), loaded(holder, holds=(waiting,)))
    assert posting.transfers == (Transfer(PENDING, AGENT, 500),)
    assert posting.resolves == HoldResolution(55, HoldStatus.EXPIRED)
    assert holder.purses[GEN] == PurseState(10_000, 0, 0, 0, 0)
