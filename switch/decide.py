"""From facts to a decision: pure, so a recorded day decides the same way again.

One function per kind of message, each a ladder of refusals in the order of `Outcome`. A
decision leaves its mark on the loaded account, so that the next request of the same
account in the batch is decided on what this one leaves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import date
from typing import assert_never

import msgspec

from protocols.message import Kind, Outcome, Reply, Request, response_code
from protocols.money import display_minor
from risk.assess import Assessment, CompiledRuleset, encode_results
from risk.explain import explain
from risk.facts import Facts, Totals
from risk.moments import ServiceDay, Settings, service_day
from switch.calendar import BusinessCalendar
from switch.posting import (
    Account,
    Decision,
    Directed,
    Loaded,
    Original,
    Posting,
    Purse,
    PurseState,
    Stored,
    Transfer,
    purse_book,
)

AUTH_CODE_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
"""Letters and digits that a cashier cannot confuse; DE38 is six of them."""

TIER_NAMES = {"T0": "anonymous", "T1": "named", "T2": "verified"}
"""Tiers as rules name them (domain §3.5)."""

TRUST_ACCOUNT = ("BANK", "trust")

CLAIMS_MAX = 8
"""Answers written down as giving out one approval; a further repeat is answered without.

That many would all have to be withdrawn at once before its answer could be wrong, and a
terminal that repeats without end cannot make the ledger grow.
"""


class Terms(msgspec.Struct, frozen=True):
    """What the operator decided: the ruleset, which purse pays what, caps, own accounts.

    `settlement_accounts` maps (chart code, owner) to the account id of transfers.
    """

    rules: CompiledRuleset
    rule_settings: Settings
    purse_order: tuple[Purse, ...]
    transit_mccs: frozenset[str]
    general_refused_mccs: frozenset[str]
    balance_caps_minor: Mapping[str, int]
    settlement_accounts: Mapping[tuple[str, str], int]


class Moment(msgspec.Struct, frozen=True):
    """When a batch is decided: the ledger's business day and the ruleset's service day."""

    now_us: int
    business_date: date
    local_yymm: str
    rrn_prefix: str
    service_day: ServiceDay


def moment_at(now_us: int, calendar: BusinessCalendar, terms: Terms) -> Moment:
    """The moment of an instant (epoch microseconds), once for a whole batch."""
    local = calendar.local(now_us)
    return Moment(
        now_us=now_us,
        business_date=calendar.business_date(now_us),
        local_yymm=f"{local:%y%m}",
        rrn_prefix=f"{local:%y}"[-1] + f"{local:%j%H}",
        service_day=service_day(terms.rule_settings, now_us),
    )


class Chosen(msgspec.Struct, frozen=True, gc=False):
    """The purse that pays or receives."""

    purse: Purse
    state: PurseState


def decide(directed: Directed, loaded: Loaded, terms: Terms, moment: Moment) -> Decision:
    """The decision on one request, given everything the ledger knows about it."""
    request, account = directed.request, loaded.account
    if account is not None:
        moment = _not_before_history(moment, account)
    if loaded.stored is not None:
        return _stored_answer(directed, loaded.stored, moment)
    if account is None:
        return _declined(directed, moment, Outcome.UNKNOWN_CARD, "no such card")
    match request.kind:
        case Kind.PURCHASE:
            posting = _purchase(directed, loaded, account, terms, moment)
        case Kind.LOAD:
            posting = _load(directed, loaded, account, terms, moment)
        case Kind.REVERSAL:
            return _reversal(directed, loaded, account, terms, moment)
        case Kind.REPEAT:
            return Reply(Outcome.UNSUPPORTED)
        case _:
            assert_never(request.kind)
    _remember(account, posting)
    return posting


def resolved_as_answered(
    directed: Directed, account: Account | None, outcome: Outcome, moment: Moment
) -> Posting:
    """The record of a request that was answered while its posting was in doubt.

    Written under the same key and version check as the posting itself: whichever of the
    two comes first makes the other fail, so the ledger ends up agreeing with the answer
    or shows the approval that must now be reversed.
    """
    if account is not None:
        moment = _not_before_history(moment, account)
    posting = _declined(directed, moment, outcome, "answered before the ledger could tell")
    if account is not None and posting.kind is not Kind.REPEAT:
        _remember(account, posting)
    return posting


def stored_reply(stored: Stored) -> Reply:
    """The answer that the ledger holds, to be given once more."""
    return Reply(
        stored.outcome,
        stored.approved_minor,
        stored.authorization_id,
        stored.auth_code,
        stored.rrn,
        replayed=True,
    )


def _stored_answer(directed: Directed, stored: Stored, moment: Moment) -> Decision:
    request = directed.request
    if stored.payload_hash != request.payload_hash:
        return Reply(Outcome.KEY_REUSED)
    if not stored.outcome.approved or request.kind is Kind.REVERSAL:
        return stored_reply(stored)
    if stored.followers.reversed:
        return Reply(Outcome.ANSWERED_LATE, replayed=True)
    if stored.followers.claims >= CLAIMS_MAX:
        return stored_reply(stored)
    # Its own worker may be about to reverse it as answered too late, at whatever moment
    # that worker learns of it. Writing down that it is given out now, under the version
    # check, makes exactly one of the two happen.
    return Posting(
        directed,
        moment.now_us,
        Outcome.APPROVED,
        auth_code=stored.auth_code,
        rrn=stored.rrn,
        original_id=stored.authorization_id,
        explanation="stored approval given out again",
        key=derived_key(request.key + moment.now_us.to_bytes(8, "big"), b"repeat"),
        kind=Kind.REPEAT,
        reply=stored_reply(stored),
    )


def _purchase(
    directed: Directed, loaded: Loaded, account: Account, terms: Terms, moment: Moment
) -> Posting:
    request = directed.request
    refusal = _status_refusal(loaded, account, moment)
    if refusal is not None:
        return _declined(directed, moment, refusal, _status_words(refusal, loaded))
    eligible = _eligible_purses(account, request.mcc, terms)
    if not eligible:
        words = f"no purse of this card pays at merchant category {request.mcc}"
        return _declined(directed, moment, Outcome.PURSE_NOT_ALLOWED, words)
    amount_minor = request.amount.amount_minor
    able = [chosen for chosen in eligible if chosen.state.available_minor >= amount_minor]
    paying = able[0] if able else eligible[-1]
    assessment = terms.rules.assess(
        _facts(directed, loaded, account, paying.state.available_minor, moment)
    )
    if not assessment.decision.approved:
        return _declined_by_rule(directed, moment, assessment, loaded.last4)
    if not able:
        words = (
            f"{display_minor(amount_minor)} asked, {display_minor(paying.state.available_minor)} "
            f"available in {paying.purse.name}"
        )
        return _declined(directed, moment, Outcome.INSUFFICIENT_FUNDS, words, assessment)
    acquirer_account = terms.settlement_accounts["ACQ", request.acquirer]
    paying.state.balance_minor -= amount_minor
    paying.state.month_count += 1
    paying.state.month_minor += amount_minor
    return _approved(
        directed,
        moment,
        assessment,
        paying.purse,
        Transfer(purse_book(account.account_id, paying.purse), acquirer_account, amount_minor),
        spent_count=1,
        spent_minor=amount_minor,
    )


def _load(
    directed: Directed, loaded: Loaded, account: Account, terms: Terms, moment: Moment
) -> Posting:
    request = directed.request
    refusal = _status_refusal(loaded, account, moment)
    if refusal is not None:
        return _declined(directed, moment, refusal, _status_words(refusal, loaded))
    if request.purse not in Purse.__members__ or Purse[request.purse] not in account.purses:
        words = "the card has no such purse"
        return _declined(directed, moment, Outcome.PURSE_NOT_ALLOWED, words)
    purse = Purse[request.purse]
    state = account.purses[purse]
    amount_minor = request.amount.amount_minor
    assessment = terms.rules.assess(_facts(directed, loaded, account, state.balance_minor, moment))
    if not assessment.decision.approved:
        return _declined_by_rule(directed, moment, assessment, loaded.last4)
    cap_minor = terms.balance_caps_minor[account.tier]
    if purse is Purse.GEN and state.balance_minor + amount_minor > cap_minor:
        words = (
            f"the load would take {purse.name} above {display_minor(cap_minor)}, the most "
            f"that tier {account.tier} may keep"
        )
        return _declined(directed, moment, Outcome.BALANCE_CAP, words, assessment)
    trust_account = terms.settlement_accounts[TRUST_ACCOUNT]
    state.balance_minor += amount_minor
    transfer = Transfer(trust_account, purse_book(account.account_id, purse), amount_minor)
    return _approved(directed, moment, assessment, purse, transfer)


def _reversal(
    directed: Directed, loaded: Loaded, account: Account, terms: Terms, moment: Moment
) -> Decision:
    original = loaded.original
    if original is None or original.account_id != account.account_id:
        words = "the authorization to reverse is not in the ledger"
        return _declined(directed, moment, Outcome.ORIGINAL_NOT_FOUND, words)
    if original.followers.reversed or not original.outcome.approved:
        return Reply(Outcome.APPROVED, replayed=True)
    if original.followers.claims > 1:
        words = "this answer came too late, another one gave the approval out"
        return _declined(directed, moment, Outcome.ANSWERED_LATE, words)
    amount_minor = original.approved_minor
    state = account.purses[original.purse]
    if original.kind is Kind.LOAD and state.available_minor < amount_minor:
        words = f"{display_minor(amount_minor)} to take back is no longer in the purse"
        return _declined(directed, moment, Outcome.INSUFFICIENT_FUNDS, words)
    transfer = _mirrored(account, original, terms)
    month = (moment.business_date.year, moment.business_date.month)
    in_this_month = (original.business_date.year, original.business_date.month) == month
    spent_minor = amount_minor if original.kind is Kind.PURCHASE and in_this_month else 0
    state.balance_minor += amount_minor if original.kind is Kind.PURCHASE else -amount_minor
    state.month_minor -= spent_minor
    _give_back(account, directed.request.original_id)
    return Posting(
        directed,
        moment.now_us,
        Outcome.APPROVED,
        approved_minor=amount_minor,
        purse=original.purse,
        rrn=directed.request.rrn,
        original_id=directed.request.original_id,
        explanation="reversed by the switch: the approval came too late to be answered",
        spent_minor=-spent_minor,
        transfers=(transfer,),
        key=directed.request.key,
        kind=Kind.REVERSAL,
    )


def _mirrored(account: Account, original: Original, terms: Terms) -> Transfer:
    book = purse_book(account.account_id, original.purse)
    if original.kind is Kind.PURCHASE:
        acquirer_account = terms.settlement_accounts["ACQ", original.acquirer]
        return Transfer(acquirer_account, book, original.approved_minor)
    return Transfer(book, terms.settlement_accounts[TRUST_ACCOUNT], original.approved_minor)


def _status_refusal(loaded: Loaded, account: Account, moment: Moment) -> Outcome | None:
    by_card = {
        "stolen": Outcome.CARD_STOLEN,
        "lost": Outcome.CARD_LOST,
        "blocked": Outcome.CARD_BLOCKED,
        "closed": Outcome.CARD_CLOSED,
    }
    if loaded.card_status != "active":
        return by_card[loaded.card_status]
    if loaded.expires_yymm and loaded.expires_yymm < moment.local_yymm:
        return Outcome.CARD_EXPIRED
    if account.status == "frozen":
        return Outcome.ACCOUNT_FROZEN
    if account.status == "closed":
        return Outcome.ACCOUNT_CLOSED
    return None


def _status_words(refusal: Outcome, loaded: Loaded) -> str:
    if refusal is Outcome.CARD_EXPIRED:
        return f"card ••{loaded.last4} expired in {loaded.expires_yymm} (YYMM)"
    if refusal in (Outcome.ACCOUNT_FROZEN, Outcome.ACCOUNT_CLOSED):
        return f"the account of card ••{loaded.last4} is {refusal.value.removeprefix('account_')}"
    return f"card ••{loaded.last4} is {loaded.card_status}"


def _eligible_purses(account: Account, mcc: str, terms: Terms) -> list[Chosen]:
    eligible = []
    for purse in terms.purse_order:
        allowed = (
            mcc in terms.transit_mccs
            if purse is Purse.TRN
            else mcc not in terms.general_refused_mccs
        )
        if allowed and purse in account.purses:
            eligible.append(Chosen(purse, account.purses[purse]))
    return eligible


def _facts(
    directed: Directed, loaded: Loaded, account: Account, balance_minor: int, moment: Moment
) -> Facts:
    request, day = directed.request, moment.service_day
    return Facts(
        now_us=moment.now_us,
        day_start_us=day.day_start_us,
        local_second_of_day=day.local_second_of_day,
        weekday=day.weekday,
        kind=request.kind,
        segment=request.segment,
        amount_minor=request.amount.amount_minor,
        mcc=request.mcc,
        merchant=request.merchant,
        terminal=request.terminal,
        acquirer=request.acquirer,
        entry_mode=request.entry_mode,
        medium=directed.medium.hex(),
        card_id=directed.card_id,
        card_status=loaded.card_status,
        tier=TIER_NAMES[account.tier],
        product=account.product,
        balance_minor=balance_minor,
        history=account.history,
        totals=Totals(
            sum(state.month_count for state in account.purses.values()),
            sum(state.month_minor for state in account.purses.values()),
        ),
    )


def _declined(
    directed: Directed,
    moment: Moment,
    outcome: Outcome,
    words: str,
    assessment: Assessment | None = None,
) -> Posting:
    request = directed.request
    return Posting(
        directed,
        moment.now_us,
        outcome,
        rrn=rrn_of(request, moment),
        original_id=request.original_id,
        rule_results=encode_results(assessment) if assessment is not None else b"",
        explanation=f"Declined {response_code(outcome)}: {words}.",
        key=request.key,
        kind=request.kind,
    )


def _declined_by_rule(
    directed: Directed, moment: Moment, assessment: Assessment, last4: str
) -> Posting:
    request = directed.request
    return Posting(
        directed,
        moment.now_us,
        assessment.decision,
        rrn=rrn_of(request, moment),
        rule_results=encode_results(assessment),
        explanation=explain(assessment, last4),
        key=request.key,
        kind=request.kind,
    )


def _approved(
    directed: Directed,
    moment: Moment,
    assessment: Assessment,
    purse: Purse,
    transfer: Transfer,
    *,
    spent_count: int = 0,
    spent_minor: int = 0,
) -> Posting:
    request = directed.request
    return Posting(
        directed,
        moment.now_us,
        Outcome.APPROVED,
        approved_minor=transfer.amount_minor,
        purse=purse,
        auth_code=auth_code_of(request.key),
        rrn=rrn_of(request, moment),
        rule_results=encode_results(assessment),
        spent_count=spent_count,
        spent_minor=spent_minor,
        transfers=(transfer,),
        key=request.key,
        kind=request.kind,
    )


def _remember(account: Account, posting: Posting) -> None:
    request = posting.directed.request
    account.history.append(
        at_us=posting.at_us,
        card_id=posting.directed.card_id,
        kind=request.kind,
        amount_minor=request.amount.amount_minor,
        outcome=posting.outcome,
        segment=request.segment,
        mcc=request.mcc,
        merchant=request.merchant,
        terminal=request.terminal,
    )
    account.event_ids.append(0)


def _give_back(account: Account, original_id: int) -> None:
    if original_id in account.event_ids:
        account.history.given_back[account.event_ids.index(original_id)] = True


def _not_before_history(moment: Moment, account: Account) -> Moment:
    """The moment, or just after the account's last event where another clock was ahead."""
    at_us = account.history.at_us
    if at_us and at_us[-1] >= moment.now_us:
        return msgspec.structs.replace(moment, now_us=at_us[-1] + 1)
    return moment


def rrn_of(request: Request, moment: Moment) -> str:
    """DE37: the acquirer's, else YDDDhh of the decision and the STAN (12 characters)."""
    return request.rrn or moment.rrn_prefix + request.stan[-6:].rjust(6, "0")


def auth_code_of(key: bytes) -> str:
    """DE38: six letters and digits that follow from the key, so a replay gives the same."""
    number = int.from_bytes(hashlib.blake2b(key, digest_size=4, person=b"auth-code").digest())
    code = ""
    for _ in range(6):
        number, index = divmod(number, len(AUTH_CODE_ALPHABET))
        code += AUTH_CODE_ALPHABET[index]
    return code


def derived_key(key: bytes, purpose: bytes) -> bytes:
    """A key of the switch's own for a message that follows another; same time prefix."""
    return key[:4] + hashlib.blake2b(key, digest_size=12, person=purpose[:16]).digest()
