"""Every outcome of a decision, what requests of one batch see of each other, and a naive model."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.card_number import numbered_card
from protocols.message import Kind, Outcome, Reply, Request, Segment, response_code
from protocols.money import Money
from risk.assess import decode_results
from risk.facts import empty_history
from switch.decide import (
    AUTH_CODE_ALPHABET,
    CLAIMS_MAX,
    Moment,
    auth_code_of,
    decide,
    derived_key,
    moment_at,
    resolved_as_answered,
    rrn_of,
)
from switch.posting import (
    Account,
    Directed,
    Followers,
    Loaded,
    Original,
    Posting,
    PurseState,
    Stored,
    Transfer,
    purse_book,
)
from tests.simulation.model_ledger import (
    ACQUIRER,
    CALENDAR,
    NOON_US,
    PAYABLE,
    TRUST,
    purchase,
    shipped_terms,
)

ACCOUNT, CARD = 1_000_001, 2_000_001
TRN, GEN = 1, 2
TODAY = CALENDAR.business_date(NOON_US)
TERMS = shipped_terms()


def moment(now_us: int = NOON_US) -> Moment:
    return moment_at(now_us, CALENDAR, TERMS)


def account(transit_minor: int = 0, general_minor: int = 10_000, **changed: Any) -> Account:
    usual: dict[str, Any] = {
        "account_id": ACCOUNT,
        "version": 7,
        "status": "active",
        "tier": "T2",
        "product": "standard",
        "purses": {
            TRN: PurseState(transit_minor, 0, 0, 0, 0),
            GEN: PurseState(general_minor, 0, 0, 0, 0),
        },
        "history": empty_history(),
        "event_ids": [],
    }
    return Account(**(usual | changed))


def loaded(holder: Account | None = None, **changed: Any) -> Loaded:
    usual: dict[str, Any] = {
        "account": holder or account(),
        "card_status": "active",
        "expires_yymm": "2912",
        "last4": "0042",
        "stored": None,
        "original": None,
    }
    return Loaded(**(usual | changed))


def directed(request: Request, account_id: int = ACCOUNT) -> Directed:
    return Directed(request, 1, account_id, CARD if account_id else 0, b"m" * 16)


def load_of(amount_minor: int, purse: str = "GEN", number: int = 1) -> Request:
    return purchase(number, amount_minor, kind=Kind.LOAD, purse=purse)


def reversal(original_id: int = 55, number: int = 9) -> Request:
    return purchase(number, kind=Kind.REVERSAL, original_id=original_id)


def posting_on(request: Request, facts: Loaded, now_us: int = NOON_US) -> Posting:
    decision = decide(directed(request), facts, TERMS, moment(now_us))
    assert isinstance(decision, Posting)
    return decision


def refused(request: Request, facts: Loaded) -> tuple[Outcome, str]:
    """Outcome and explanation of a decline, which moves nothing."""
    posting = posting_on(request, facts)
    assert posting.transfers == ()
    assert (posting.approved_minor, posting.auth_code, posting.spent_count) == (0, "", 0)
    assert posting.explanation.startswith(f"Declined {response_code(posting.outcome)}: ")
    return posting.outcome, posting.explanation


# ---- purchases ----


def test_an_approved_purchase_moves_its_amount_from_the_purse_to_the_acquirer() -> None:
    holder = account()
    posting = posting_on(purchase(amount_minor=500), loaded(holder))
    assert posting.outcome is Outcome.APPROVED
    assert posting.transfers == (Transfer(purse_book(ACCOUNT, GEN), PAYABLE, 500),)
    assert (posting.approved_minor, posting.purse) == (500, GEN)
    assert (posting.spent_count, posting.spent_minor) == (1, 500)
    assert posting.auth_code == auth_code_of(posting.key)
    assert decode_results(posting.rule_results).ruleset_hash == TERMS.rules.hash
    assert holder.purses[GEN].balance_minor == 9_500


@pytest.mark.parametrize(
    ("changed", "outcome", "words"),
    [
        ({"card_status": "lost"}, Outcome.CARD_LOST, "card ••0042 is lost"),
        ({"card_status": "stolen"}, Outcome.CARD_STOLEN, "card ••0042 is stolen"),
        ({"card_status": "blocked"}, Outcome.CARD_BLOCKED, "card ••0042 is blocked"),
        ({"card_status": "closed"}, Outcome.CARD_CLOSED, "card ••0042 is closed"),
        ({"expires_yymm": "2602"}, Outcome.CARD_EXPIRED, "expired in 2602"),
        ({"account": account(status="frozen")}, Outcome.ACCOUNT_FROZEN, "••0042 is frozen"),
        ({"account": account(status="closed")}, Outcome.ACCOUNT_CLOSED, "••0042 is closed"),
    ],
)
@pytest.mark.parametrize("request_", [purchase(), load_of(500)], ids=["purchase", "load"])
def test_a_card_or_account_that_may_not_pay(
    request_: Request, changed: dict[str, Any], outcome: Outcome, words: str
) -> None:
    said, why = refused(request_, loaded(**changed))
    assert said is outcome
    assert words in why


def test_the_card_stands_before_the_account_and_both_before_the_purse() -> None:
    both = loaded(account(status="frozen"), card_status="stolen", expires_yymm="2001")
    assert refused(purchase(mcc="7995"), both)[0] is Outcome.CARD_STOLEN
    frozen = loaded(account(status="frozen"), expires_yymm="2001")
    assert refused(purchase(mcc="7995"), frozen)[0] is Outcome.CARD_EXPIRED
    assert refused(purchase(mcc="7995"), loaded(account(status="frozen")))[0] is (
        Outcome.ACCOUNT_FROZEN
    )


def test_a_card_pays_through_the_last_day_of_its_month_and_forever_without_one() -> None:
    assert posting_on(purchase(), loaded(expires_yymm="2603")).outcome.approved
    assert posting_on(purchase(), loaded(expires_yymm="")).outcome.approved
    next_month_us = NOON_US + 12 * 3_600_000_000
    late = posting_on(purchase(), loaded(expires_yymm="2603"), next_month_us)
    assert late.outcome is Outcome.CARD_EXPIRED


def test_an_unknown_card_is_recorded_under_no_account() -> None:
    facts = Loaded(None, "", "", "", None, None)
    decision = decide(directed(purchase(), account_id=0), facts, TERMS, moment())
    assert isinstance(decision, Posting)
    assert decision.outcome is Outcome.UNKNOWN_CARD
    assert decision.directed.account_id == 0
    assert decision.transfers == ()


@pytest.mark.parametrize(
    ("mcc", "transit_minor", "general_minor", "purse"),
    [
        ("4111", 1_000, 1_000, TRN),  # transit first where both can pay
        ("4111", 100, 1_000, GEN),  # the next one that can pay it all
        ("5411", 1_000, 1_000, GEN),  # TRN pays nothing but transit
    ],
)
def test_the_purse_order(mcc: str, transit_minor: int, general_minor: int, purse: int) -> None:
    holder = account(transit_minor, general_minor)
    posting = posting_on(purchase(mcc=mcc), loaded(holder))
    assert (posting.outcome, posting.purse) == (Outcome.APPROVED, purse)
    assert holder.purses[purse].month_minor == 500


def test_a_merchant_category_that_no_purse_pays() -> None:
    outcome, why = refused(purchase(mcc="7995"), loaded())
    assert outcome is Outcome.PURSE_NOT_ALLOWED
    assert "7995" in why


def test_a_card_without_the_purse_is_refused_too() -> None:
    only_transit = account(purses={TRN: PurseState(1_000, 0, 0, 0, 0)})
    assert refused(purchase(), loaded(only_transit))[0] is Outcome.PURSE_NOT_ALLOWED
    assert refused(load_of(500), loaded(only_transit))[0] is Outcome.PURSE_NOT_ALLOWED


@pytest.mark.parametrize("purse", ["", "MED", "gen", "2"])
def test_a_load_names_a_purse_that_exists(purse: str) -> None:
    assert refused(load_of(500, purse), loaded())[0] is Outcome.PURSE_NOT_ALLOWED


@pytest.mark.parametrize(
    ("state", "approved"),
    [
        (PurseState(500, 0, 0, 0, 0), True),
        (PurseState(499, 0, 0, 0, 0), False),
        (PurseState(600, 101, 0, 0, 0), False),  # what is held is not available
        (PurseState(0, 0, -500, 0, 0), True),  # an overdraft to the floor, and no further
        (PurseState(-1, 0, -500, 0, 0), False),
    ],
)
def test_what_is_available_is_balance_less_held_down_to_the_floor(
    state: PurseState, approved: bool
) -> None:
    holder = account(purses={GEN: state})
    posting = posting_on(purchase(amount_minor=500), loaded(holder))
    assert posting.outcome is (Outcome.APPROVED if approved else Outcome.INSUFFICIENT_FUNDS)


def test_insufficient_funds_says_what_was_asked_and_what_is_there() -> None:
    outcome, why = refused(purchase(amount_minor=123_456), loaded(account(0, 12_345)))
    assert outcome is Outcome.INSUFFICIENT_FUNDS
    assert "1,234.56 asked, 123.45 available in GEN" in why


def test_a_rule_declines_before_the_money_is_looked_at_and_says_why() -> None:
    outcome, why = refused(purchase(amount_minor=60_000), loaded(account(tier="T0")))
    assert outcome is Outcome.AMOUNT_LIMIT
    assert why.startswith("Declined 61: anonymous_payment v1 (live, ruleset ")
    assert "500.00" in why


# ---- loads ----


def test_a_load_comes_from_the_trust_account_and_is_no_spending() -> None:
    holder = account()
    posting = posting_on(load_of(500), loaded(holder))
    assert posting.transfers == (Transfer(TRUST, purse_book(ACCOUNT, GEN), 500),)
    assert (posting.spent_count, posting.spent_minor) == (0, 0)
    assert holder.purses[GEN].balance_minor == 10_500
    assert holder.purses[GEN].month_minor == 0


def test_a_load_may_reach_the_cap_of_its_tier_and_not_pass_it() -> None:
    cap_minor = TERMS.balance_caps_minor["T2"]
    assert posting_on(load_of(1), loaded(account(0, cap_minor - 1))).outcome.approved
    outcome, why = refused(load_of(2), loaded(account(0, cap_minor - 1)))
    assert outcome is Outcome.BALANCE_CAP
    assert "tier T2" in why
    # the cap is of the general purse only (domain 3.5)
    assert posting_on(load_of(2, "TRN"), loaded(account(cap_minor, 0))).outcome.approved


# ---- reversals ----


def original(**changed: Any) -> Original:
    usual: dict[str, Any] = {
        "account_id": ACCOUNT,
        "kind": Kind.PURCHASE,
        "outcome": Outcome.APPROVED,
        "approved_minor": 300,
        "purse": GEN,
        "business_date": TODAY,
        "acquirer": ACQUIRER,
        "mcc": "5411",
        "followers": Followers(),
    }
    return Original(**(usual | changed))


def test_a_reversal_mirrors_the_purchase_and_gives_the_months_total_back() -> None:
    holder = account(purses={GEN: PurseState(700, 0, 0, 1, 300)})
    posting = posting_on(reversal(), loaded(holder, original=original()))
    assert (posting.outcome, posting.kind, posting.original_id) == (
        Outcome.APPROVED,
        Kind.REVERSAL,
        55,
    )
    assert posting.transfers == (Transfer(PAYABLE, purse_book(ACCOUNT, GEN), 300),)
    assert (posting.spent_count, posting.spent_minor) == (0, -300)
    assert (holder.purses[GEN].balance_minor, holder.purses[GEN].month_minor) == (1_000, 0)
    assert holder.history.at_us == []  # a reversal is no event


def test_a_purchase_of_another_month_is_given_back_without_this_months_total() -> None:
    holder = account(purses={GEN: PurseState(700, 0, 0, 1, 300)})
    february = original(business_date=TODAY.replace(month=2, day=28))
    posting = posting_on(reversal(), loaded(holder, original=february))
    assert posting.spent_minor == 0
    assert holder.purses[GEN].month_minor == 300


def test_a_load_is_taken_back_only_while_it_is_there() -> None:
    of_load = original(kind=Kind.LOAD)
    holder = account(purses={GEN: PurseState(300, 0, 0, 0, 0)})
    posting = posting_on(reversal(), loaded(holder, original=of_load))
    assert posting.transfers == (Transfer(purse_book(ACCOUNT, GEN), TRUST, 300),)
    assert posting.spent_minor == 0
    spent = account(purses={GEN: PurseState(299, 0, 0, 0, 0)})
    assert refused(reversal(), loaded(spent, original=of_load))[0] is Outcome.INSUFFICIENT_FUNDS


@pytest.mark.parametrize("found", [None, original(account_id=ACCOUNT + 1)])
def test_an_original_that_is_not_this_accounts_is_not_found(found: Original | None) -> None:
    assert refused(reversal(), loaded(original=found))[0] is Outcome.ORIGINAL_NOT_FOUND


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
    decision = decide(directed(reversal()), loaded(holder, original=done), TERMS, moment())
    assert decision == Reply(Outcome.APPROVED, replayed=True)
    assert holder.purses[GEN].balance_minor == 10_000


def test_an_approval_that_a_repeat_was_answered_with_is_withdrawn_and_not_reversed() -> None:
    holder = account()
    given_out = original(followers=Followers(repeats=1))
    posting = posting_on(reversal(), loaded(holder, original=given_out))
    assert (posting.outcome, posting.kind) == (Outcome.ANSWERED_LATE, Kind.REVERSAL)
    assert (posting.original_id, posting.transfers) == (55, ())
    assert holder.purses[GEN].balance_minor == 10_000


def test_the_last_withdrawal_is_the_reversal() -> None:
    last = original(followers=Followers(repeats=2, withdrawn=2))
    posting = posting_on(reversal(), loaded(original=last))
    assert posting.outcome is Outcome.APPROVED
    assert posting.approved_minor == 300


# ---- stored answers ----


def stored(**changed: Any) -> Stored:
    usual: dict[str, Any] = {
        "authorization_id": 55,
        "payload_hash": purchase().payload_hash,
        "outcome": Outcome.APPROVED,
        "approved_minor": 500,
        "auth_code": "ABC234",
        "rrn": "609012000001",
        "at_us": NOON_US - 1_000_000,
        "followers": Followers(),
    }
    return Stored(**(usual | changed))


def test_a_stored_decline_is_answered_again_and_written_no_more() -> None:
    decline = stored(outcome=Outcome.COUNT_LIMIT, approved_minor=0, auth_code="")
    decision = decide(directed(purchase()), loaded(stored=decline), TERMS, moment())
    assert decision == Reply(Outcome.COUNT_LIMIT, 0, 55, "", "609012000001", replayed=True)


@pytest.mark.parametrize("outcome", [Outcome.OUTCOME_UNKNOWN, Outcome.ANSWERED_LATE])
def test_the_record_of_an_answer_given_in_doubt_is_answered_again(outcome: Outcome) -> None:
    tombstone = stored(outcome=outcome, approved_minor=0, auth_code="")
    decision = decide(directed(purchase()), loaded(stored=tombstone), TERMS, moment())
    assert isinstance(decision, Reply)
    assert (decision.outcome, decision.replayed) == (outcome, True)


def test_a_stored_approval_is_written_down_before_it_is_given_out_again() -> None:
    holder = account()
    posting = posting_on(purchase(), loaded(holder, stored=stored()))
    assert (posting.kind, posting.original_id, posting.transfers) == (Kind.REPEAT, 55, ())
    assert (posting.approved_minor, posting.spent_count) == (0, 0)
    assert posting.key != purchase().key
    assert posting.key[:4] == purchase().key[:4]
    assert posting.reply == Reply(
        Outcome.APPROVED, 500, 55, "ABC234", "609012000001", replayed=True
    )
    assert holder.purses[GEN].balance_minor == 10_000
    assert holder.history.at_us == []
    again = posting_on(purchase(), loaded(stored=stored()), NOON_US + 1)
    assert again.key != posting.key, "each answer is a claim of its own"


def test_a_repeat_is_written_after_what_it_repeats_even_where_this_clock_is_behind() -> None:
    holder = account()
    posting_on(purchase(), loaded(holder))
    behind_us = NOON_US - 5_000_000
    posting = posting_on(purchase(), loaded(holder, stored=stored(at_us=NOON_US)), now_us=behind_us)
    assert posting.kind is Kind.REPEAT
    assert posting.at_us > NOON_US


def test_a_terminal_that_repeats_without_end_is_answered_without_another_row() -> None:
    often = stored(followers=Followers(repeats=CLAIMS_MAX - 1))
    decision = decide(directed(purchase()), loaded(stored=often), TERMS, moment())
    assert isinstance(decision, Reply)
    assert (decision.outcome, decision.authorization_id) == (Outcome.APPROVED, 55)


def test_a_reversed_approval_is_answered_as_late() -> None:
    gone = stored(followers=Followers(reversed=True))
    decision = decide(directed(purchase()), loaded(stored=gone), TERMS, moment())
    assert decision == Reply(Outcome.ANSWERED_LATE, replayed=True)


@pytest.mark.parametrize("found", [stored(), stored(outcome=Outcome.COUNT_LIMIT)])
def test_the_same_key_with_another_content_is_refused(found: Stored) -> None:
    other = purchase(amount_minor=501)
    decision = decide(directed(other), loaded(stored=found), TERMS, moment())
    assert decision == Reply(Outcome.KEY_REUSED)


def test_a_reversal_that_was_already_written_is_answered_from_the_record() -> None:
    decision = decide(
        directed(reversal()), loaded(stored=stored(), original=original()), TERMS, moment()
    )
    assert isinstance(decision, Reply)
    assert (decision.outcome, decision.replayed) == (Outcome.APPROVED, True)


def test_the_record_of_a_doubt_moves_nothing_under_the_same_key() -> None:
    holder = account()
    unknown = Outcome.OUTCOME_UNKNOWN
    posting = resolved_as_answered(directed(purchase()), holder, unknown, moment())
    assert (posting.key, posting.outcome) == (purchase().key, unknown)
    assert posting.transfers == ()
    assert holder.history.outcome == [unknown], "the next of the batch counts the attempt"
    of_repeat = directed(purchase(kind=Kind.REPEAT))
    assert resolved_as_answered(of_repeat, holder, unknown, moment()).at_us > NOON_US
    assert len(holder.history.at_us) == 1, "a repeat is no attempt"


def test_a_repeat_is_no_request() -> None:
    decision = decide(directed(purchase(kind=Kind.REPEAT)), loaded(), TERMS, moment())
    assert decision == Reply(Outcome.UNSUPPORTED)


# ---- a batch ----


def decide_batch(holder: Account, requests: list[Request]) -> list[Outcome]:
    facts = loaded(holder)
    at = moment()
    decisions = [decide(directed(request), facts, TERMS, at) for request in requests]
    assert all(isinstance(decision, Posting) for decision in decisions)
    return [decision.outcome for decision in decisions if isinstance(decision, Posting)]


def test_requests_of_one_batch_see_each_others_balance() -> None:
    holder = account(0, 1_200)
    outcomes = decide_batch(holder, [purchase(n, 500) for n in range(3)])
    assert outcomes == [Outcome.APPROVED, Outcome.APPROVED, Outcome.INSUFFICIENT_FUNDS]
    assert decide_batch(holder, [load_of(400), purchase(8, 600)]) == [Outcome.APPROVED] * 2


def test_requests_of_one_batch_see_each_others_counts() -> None:
    outcomes = decide_batch(account(), [purchase(n, 1) for n in range(12)])
    assert outcomes == [Outcome.APPROVED] * 10 + [Outcome.COUNT_LIMIT] * 2


def test_requests_of_one_batch_see_each_others_sums_by_day_and_month() -> None:
    holder = account(0, 400_000, tier="T0")
    outcomes = decide_batch(holder, [purchase(n, 20_000) for n in range(3)])
    assert outcomes == [Outcome.APPROVED, Outcome.APPROVED, Outcome.AMOUNT_LIMIT]
    spent = PurseState(9_999_999, 0, 0, 500, 9_999_900)
    rich = account(purses={GEN: spent})
    assert decide_batch(rich, [purchase(1, 100), purchase(2, 1)]) == [
        Outcome.APPROVED,
        Outcome.AMOUNT_LIMIT,
    ]


def test_a_reversal_in_the_batch_gives_its_event_back() -> None:
    holder = account(0, 100_000, tier="T0")
    posting_on(purchase(1, 40_000), loaded(holder))
    holder.event_ids[0] = 55
    facts = loaded(holder, original=original(approved_minor=40_000))
    posting_on(reversal(), facts)
    assert holder.history.given_back == [True]
    assert decide_batch(holder, [purchase(2, 40_000)]) == [Outcome.APPROVED]


def test_events_of_one_account_never_share_an_instant_nor_go_back() -> None:
    holder = account()
    facts = loaded(holder)
    ats = [posting_on(purchase(n, 1), facts).at_us for n in range(3)]
    ats.append(posting_on(purchase(3, 1), facts, NOON_US - 60_000_000).at_us)
    assert ats == [NOON_US, NOON_US + 1, NOON_US + 2, NOON_US + 3]
    assert holder.history.at_us == ats
    assert holder.event_ids == [0, 0, 0, 0]


def test_an_acquirer_without_an_account_breaks_before_anything_is_taken() -> None:
    holder = account()
    with pytest.raises(KeyError):
        posting_on(purchase(acquirer="nobody"), loaded(holder))
    assert holder.purses[GEN] == PurseState(10_000, 0, 0, 0, 0)


# ---- numbers ----


@given(st.binary(min_size=16, max_size=16))
def test_an_authorization_code_is_six_clear_characters_of_the_key(key: bytes) -> None:
    code = auth_code_of(key)
    assert len(code) == 6
    assert set(code) <= set(AUTH_CODE_ALPHABET)
    assert code == auth_code_of(key)


def test_derived_keys_keep_their_time_and_are_their_own() -> None:
    key = b"\x01\x02\x03\x04" + b"k" * 12
    keys = {key, derived_key(key, b"repeat"), derived_key(key, b"late-reversal")}
    assert len(keys) == 3
    assert all(len(one) == 16 and one[:4] == key[:4] for one in keys)


def test_the_retrieval_reference_is_the_acquirers_or_made_of_time_and_stan() -> None:
    assert rrn_of(purchase(rrn="123456789012"), moment()) == "123456789012"
    made = rrn_of(purchase(7), moment())
    assert made == "609012000007"  # year 6, day 090, hour 12, STAN
    assert len(rrn_of(purchase(stan="123456789"), moment())) == 12


@given(
    st.sampled_from(["5411", "7995", "4111", ""]),
    st.sampled_from(["active", "lost", "closed"]),
    st.integers(1, 999_999_999_999),
    st.sampled_from(["T0", "T1", "T2"]),
    st.sampled_from([Kind.PURCHASE, Kind.LOAD]),
)
def test_no_card_number_in_any_explanation(
    mcc: str, status: str, amount_minor: int, tier: str, kind: Kind
) -> None:
    card = numbered_card("621299", 424_242)
    digits = card.reveal()
    request = purchase(
        1, amount_minor, card=card, mcc=mcc, kind=kind, purse="GEN", merchant=digits[:15],
        terminal=digits[:8], rrn=digits[:12],
    )  # fmt: skip
    facts = loaded(account(tier=tier), card_status=status, last4=card.last4)
    posting = posting_on(request, facts)
    for text in (posting.explanation, posting.rule_results.decode()):
        assert digits not in text
        assert not re.search(r"\d{13}", text)


# ---- against a naive model ----


class NaiveHolder:
    """A balance, a list of attempts and a set of keys: what a person would write down."""

    def __init__(self, balance_minor: int) -> None:
        self.balance_minor = balance_minor
        self.attempts: list[int] = []
        self.spent: list[tuple[int, int, int]] = []

    def purchase(self, number: int, amount_minor: int, at_us: int) -> Outcome:
        recent = [at for at in self.attempts if at > at_us - 60_000_000]
        spent_minor = sum(minor for _, minor, _ in self.spent)
        self.attempts.append(at_us)
        if amount_minor > 50_000 or spent_minor + amount_minor > 50_000:
            return Outcome.AMOUNT_LIMIT
        if len(recent) + 1 > 10:
            return Outcome.COUNT_LIMIT
        if amount_minor > self.balance_minor:
            return Outcome.INSUFFICIENT_FUNDS
        self.balance_minor -= amount_minor
        self.spent.append((number, amount_minor, at_us))
        return Outcome.APPROVED

    def load(self, amount_minor: int) -> Outcome:
        if self.balance_minor + amount_minor > TERMS.balance_caps_minor["T0"]:
            return Outcome.BALANCE_CAP
        self.balance_minor += amount_minor
        return Outcome.APPROVED

    def reverse(self, number: int) -> None:
        (found,) = [one for one in self.spent if one[0] == number]
        self.spent.remove(found)
        self.balance_minor += found[1]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["purchase", "purchase", "purchase", "load", "reverse"]),
        st.integers(1, 30_000),
        st.sampled_from([0, 1, 5_000_000, 59_999_999, 60_000_000]),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 60_000), STEPS)
def test_any_sequence_agrees_with_a_naive_model(
    balance_minor: int, steps: list[tuple[str, int, int]]
) -> None:
    holder = account(0, balance_minor, tier="T0")
    naive = NaiveHolder(balance_minor)
    at_us = NOON_US
    for number, (what, amount_minor, later_us) in enumerate(steps, 1):
        at_us += later_us
        last_us = holder.history.at_us[-1] if holder.history.at_us else 0
        decided_us = max(at_us, last_us + 1)
        if what == "purchase":
            request = purchase(number, amount_minor)
            posting = posting_on(request, loaded(holder), at_us)
            assert posting.outcome is naive.purchase(number, amount_minor, decided_us)
            holder.event_ids[-1] = number
        elif what == "load":
            posting = posting_on(load_of(amount_minor), loaded(holder), at_us)
            assert posting.outcome is naive.load(amount_minor)
            holder.event_ids[-1] = number
        elif naive.spent:
            back, minor, _ = naive.spent[amount_minor % len(naive.spent)]
            facts = loaded(holder, original=original(approved_minor=minor))
            posting_on(reversal(back), facts, at_us)
            naive.reverse(back)
        assert holder.purses[GEN].balance_minor == naive.balance_minor
        assert holder.purses[GEN].month_minor == sum(minor for _, minor, _ in naive.spent)
        columns = msgspec.structs.asdict(holder.history).values()
        assert {len(column) for column in columns} == {len(holder.event_ids)}


def test_segments_and_currencies_are_the_dialects_business() -> None:
    """Nothing here looks at them: they were refused before a request was made."""
    foreign = purchase(amount=Money(500, "840"), segment=Segment.TRANSIT)
    assert posting_on(foreign, loaded()).outcome.approved
