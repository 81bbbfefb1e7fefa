"""One request with everything its decision rests on, and the two ways a decision ends.

A decline moves nothing. An approval is built here only, so that what it approves is what it
moves, by the rule of `Posting`, and so that the loaded account shows it to the next request
of the batch.
"""

from __future__ import annotations

from datetime import date

import msgspec

from protocols.message import TAP_KINDS, Kind, Outcome, Reply, Request, response_code
from risk.assess import Assessment, encode_results
from risk.explain import explain
from risk.facts import empty_history
from switch.decide.keys import auth_code_of
from switch.decide.moment import Moment, rrn_of
from switch.decide.terms import Terms
from switch.posting import (
    PURSE_BOOKS_FROM,
    Account,
    ChipChange,
    Directed,
    Hold,
    HoldOpening,
    HoldPurpose,
    HoldResolution,
    HoldStatus,
    Listing,
    Loaded,
    Posting,
    PurseState,
    TapEvent,
    Transfer,
    stop_named,
)

REMEMBERED_KINDS = TAP_KINDS | {
    Kind.PURCHASE,
    Kind.PREAUTHORIZATION,
    Kind.OFFLINE_SALE,
    Kind.LOAD,
    Kind.BILL_INQUIRY,
    Kind.BILL,
}
"""Kinds that are events of an account's history, which rules count."""


def nobody() -> Account:
    """The account of a card that is not of this ledger: no purse, no history."""
    return Account(0, 0, "active", "T0", "standard", {}, empty_history(), [])


class Case(msgspec.Struct, gc=False):
    """One request and all that its decision may look at.

    `pin_tries` is what the posting says of the card's wrong PINs, -1 where nothing changes.
    `shadow` and `listings` are what drafts said and what rules put on lists, once rules were
    asked.
    """

    directed: Directed
    loaded: Loaded
    account: Account
    terms: Terms
    moment: Moment
    pin_tries: int = -1
    shadow: tuple[Assessment, ...] = ()
    listings: tuple[Listing, ...] = ()

    @property
    def request(self) -> Request:
        return self.directed.request

    @property
    def original_id(self) -> int:
        """The authorization it is about, as far as that is known."""
        if self.directed.request.original_id:
            return self.directed.request.original_id
        original = self.loaded.original
        if original is None or original.account_id != self.account.account_id:
            return 0
        return original.authorization_id

    def settlement_account(self, chart_code: str, owner: str) -> int:
        """The account id of one of the operator's own. Raises KeyError: it was never opened."""
        return self.terms.settlement_accounts[chart_code, owner]


def declined(
    case: Case,
    outcome: Outcome,
    words: str,
    assessment: Assessment | None = None,
    *,
    key: bytes = b"",
) -> Posting:
    """A refusal, with the words that a person reads; it moves nothing."""
    return refusal(
        case.directed,
        case.moment,
        outcome,
        words,
        assessment,
        original_id=case.original_id,
        pin_tries=case.pin_tries,
        key=key,
        shadow=case.shadow,
        listings=case.listings,
    )


def refusal(
    directed: Directed,
    moment: Moment,
    outcome: Outcome,
    words: str,
    assessment: Assessment | None = None,
    *,
    original_id: int = 0,
    pin_tries: int = -1,
    key: bytes = b"",
    shadow: tuple[Assessment, ...] = (),
    listings: tuple[Listing, ...] = (),
) -> Posting:
    """The same where there is no case: for a card that is not known, and for a doubt."""
    request = directed.request
    return Posting(
        directed,
        moment.now_us,
        outcome,
        rrn=rrn_of(request, moment),
        original_id=original_id or request.original_id,
        rule_results=encode_results(assessment) if assessment is not None else b"",
        explanation=f"Declined {response_code(outcome)}: {words}.",
        key=key or request.key,
        kind=request.kind,
        pin_tries=pin_tries,
        assessment=assessment,
        shadow=shadow,
        listings=listings,
    )


def declined_by_rule(case: Case, assessment: Assessment) -> Posting:
    """A refusal by a rule, in the rule's own words."""
    request = case.request
    return Posting(
        case.directed,
        case.moment.now_us,
        assessment.decision,
        rrn=rrn_of(request, case.moment),
        original_id=case.original_id,
        rule_results=encode_results(assessment),
        explanation=explain(assessment, case.loaded.last4),
        key=request.key,
        kind=request.kind,
        pin_tries=case.pin_tries,
        assessment=assessment,
        shadow=case.shadow,
        listings=case.listings,
    )


def approved(
    case: Case,
    *,
    purse: int = 0,
    transfers: tuple[Transfer, ...] = (),
    opens: HoldOpening | None = None,
    closes: Hold | None = None,
    closed_as: HoldStatus = HoldStatus.COMPLETED,
    kind: Kind | None = None,
    original_id: int | None = None,
    assessment: Assessment | None = None,
    explanation: str = "",
    spent_count: int = 0,
    spent_minor: int = 0,
    spent_on: date | None = None,
    auth_code: str | None = None,
    rrn: str | None = None,
    key: bytes = b"",
    reply: Reply | None = None,
    tap: TapEvent | None = None,
    chip: ChipChange | None = None,
) -> Posting:
    """An approval with its effect, which the loaded account shows from now on.

    `closes` is the open hold that it resolves, as `closed_as`. Kind, key, auth code, RRN and
    original are the request's own where they are not given.
    """
    request = case.request
    if assessment is not None and kind is not None and kind is not request.kind:
        assessment = _of_another_kind(assessment, request.kind)
    posting = Posting(
        case.directed,
        case.moment.now_us,
        Outcome.APPROVED,
        approved_minor=_approved_minor(transfers, opens, closes),
        purse=purse,
        auth_code=auth_code_of(request.key) if auth_code is None else auth_code,
        rrn=rrn_of(request, case.moment) if rrn is None else rrn,
        original_id=case.original_id if original_id is None else original_id,
        rule_results=encode_results(assessment) if assessment is not None else b"",
        explanation=explanation,
        spent_count=spent_count,
        spent_minor=spent_minor,
        spent_on=spent_on if spent_count or spent_minor else None,
        transfers=transfers,
        key=key or request.key,
        kind=kind or request.kind,
        reply=reply,
        opens=opens,
        resolves=HoldResolution(closes.hold_id, closed_as) if closes is not None else None,
        pin_tries=case.pin_tries,
        tap=tap,
        chip=chip,
        assessment=assessment,
        shadow=case.shadow,
        listings=case.listings,
    )
    _leave_mark(case, posting, closes)
    return posting


def _of_another_kind(assessment: Assessment, asked: Kind) -> Assessment:
    """The row has the kind of the posting, and rules were asked about that of the request."""
    if assessment.facts is None:
        return assessment
    facts = msgspec.structs.replace(assessment.facts, kind=asked)
    return msgspec.structs.replace(assessment, facts=facts)


def _approved_minor(
    transfers: tuple[Transfer, ...], opens: HoldOpening | None, closes: Hold | None
) -> int:
    """What a posting approves: what it moves, else the hold it opens, else the one it closes.

    A journey's hold is nobody's approval: its taps approve what they are charged.
    """
    if transfers:
        return sum([transfer.amount_minor for transfer in transfers])
    held = opens or closes
    if held is None or held.purpose is HoldPurpose.JOURNEY:
        return 0
    return held.amount_minor


def _leave_mark(case: Case, posting: Posting, closes: Hold | None) -> None:
    account = case.account
    for transfer in posting.transfers:
        debit, credit = transfer.debit_account_id, transfer.credit_account_id
        if debit >= PURSE_BOOKS_FROM:
            account.purses[debit % 16].balance_minor -= transfer.amount_minor
        if credit >= PURSE_BOOKS_FROM:
            account.purses[credit % 16].balance_minor += transfer.amount_minor
    if posting.spent_count or posting.spent_minor:
        _count_spending(account.purses[posting.purse], posting, case.moment.business_date)
    if closes is not None and closes.purpose is not HoldPurpose.LOAD:
        account.purses[closes.purse].held_minor -= closes.amount_minor
    if posting.opens is not None:
        account.opened.append(posting.opens)
        if posting.opens.purpose is not HoldPurpose.LOAD:
            account.purses[posting.opens.purse].held_minor += posting.opens.amount_minor


def _count_spending(state: PurseState, posting: Posting, today: date) -> None:
    """Add to the totals of this week and month what counts in them, and to that of all time."""
    day = posting.spent_on
    if day is None or (day.year, day.month) == (today.year, today.month):
        state.month_count += posting.spent_count
        state.month_minor += posting.spent_minor
    if day is None or day.isocalendar()[:2] == today.isocalendar()[:2]:
        state.week_count += posting.spent_count
        state.week_minor += posting.spent_minor
    state.lifetime_count += posting.spent_count
    state.lifetime_minor += posting.spent_minor


def remember(account: Account, posting: Posting) -> None:
    """Make the decision an event of the account's history, where its kind is one.

    An approved tap counts with what it was charged, not with what its reader knew. Money back
    is no event, as a credit adjustment is none.
    """
    request = posting.directed.request
    if request.kind not in REMEMBERED_KINDS or posting.kind is Kind.FARE_CREDIT:
        return
    priced = request.kind in TAP_KINDS and posting.outcome.approved
    account.history.append(
        at_us=posting.at_us,
        card_id=posting.directed.card_id,
        kind=request.kind,
        amount_minor=posting.approved_minor if priced else request.amount.amount_minor,
        outcome=posting.outcome,
        segment=request.segment,
        mcc=request.mcc,
        merchant=request.merchant,
        terminal=request.terminal,
        venue=request.venue,
        stop=stop_named(request.tap),
        vehicle=request.tap.vehicle if request.tap is not None else "",
    )
    account.event_ids.append(0)


def give_back_event(account: Account, authorization_id: int) -> None:
    """Mark the event as given back, so that what it spent is free again for rules."""
    if authorization_id in account.event_ids:
        account.history.given_back[account.event_ids.index(authorization_id)] = True
