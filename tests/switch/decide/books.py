"""The books that a person would keep by hand: what decisions are compared with.

One account with one card. It writes down what is posted and works out from that alone what
the next decision is to see; nothing of switch/decide is used for it.
"""

from __future__ import annotations

from collections import Counter

import msgspec

from protocols.message import Kind, Reply, Request
from risk.facts import empty_history
from switch.decide import decide
from switch.posting import (
    PURSE_BOOKS_FROM,
    Account,
    Decision,
    Follower,
    Followers,
    Hold,
    HoldPurpose,
    HoldStatus,
    Loaded,
    Original,
    Posting,
    PurseState,
    purse_book,
)
from tests.switch.decide.cases import ACCOUNT, GEN, TODAY, TRN, directed, moment, terms

REDUCING = (Kind.VOID, Kind.REFUND, Kind.CREDIT_ADJUSTMENT, Kind.REVERSAL)


class Row(msgspec.Struct, frozen=True):
    """One posting as written."""

    authorization_id: int
    posting: Posting

    @property
    def request(self) -> Request:
        return self.posting.directed.request


class Books:
    """What was posted, and what follows from it."""

    def __init__(self, *, transit_minor: int = 3_000, general_minor: int = 12_000) -> None:
        self.rows: list[Row] = []
        self.opening = {TRN: transit_minor, GEN: general_minor}
        self.holds: dict[int, Hold] = {}
        self.resolved: dict[int, tuple[HoldStatus, int]] = {}

    def send(self, request: Request, now_us: int) -> tuple[Decision, Row | None]:
        """Decide and write down; the row, where there is one."""
        facts = self.loaded(request)
        decision = decide(directed(request), facts, terms(), moment(now_us))
        if isinstance(decision, Reply):
            return decision, None
        row = Row(len(self.rows) + 1, decision)
        self._write(row)
        assert facts.account is not None
        shown = {number: self._shown(state) for number, state in facts.account.purses.items()}
        kept = {number: self._shown(state) for number, state in self._purses().items()}
        assert shown == kept, "the account shows the next of its batch what is written"
        return decision, row

    def balance_minor(self, purse: int) -> int:
        return self.opening[purse] + self.moved()[purse_book(ACCOUNT, purse)]

    def held_minor(self, purse: int) -> int:
        return sum(
            hold.amount_minor
            for hold in self.open_holds()
            if hold.purse == purse and hold.purpose is HoldPurpose.PREAUTHORIZATION
        )

    def moved(self) -> Counter[int]:
        """What all transfers together put on each account."""
        moved: Counter[int] = Counter()
        for row in self.rows:
            for one in row.posting.transfers:
                moved[one.debit_account_id] -= one.amount_minor
                moved[one.credit_account_id] += one.amount_minor
        return moved

    def open_holds(self) -> list[Hold]:
        return [hold for number, hold in self.holds.items() if number not in self.resolved]

    def followers(self, authorization_id: int) -> Followers:
        """What refers to an approval; a follower is worth what is left of it."""
        approved = [
            row
            for row in self.rows
            if row.posting.original_id == authorization_id and row.posting.outcome.approved
        ]
        changes = []
        for row in approved:
            taken_minor = sum(
                other.posting.approved_minor
                for other in self.rows
                if other.posting.original_id == row.authorization_id
                and other.posting.kind is Kind.REVERSAL
                and other.posting.outcome.approved
            )
            minor = row.posting.approved_minor
            undone = 0 < minor <= taken_minor
            left_minor = minor if undone else minor - taken_minor
            changes.append(Follower(row.authorization_id, row.posting.kind, left_minor, undone))
        by_id = {row.authorization_id: row.posting for row in self.rows}
        stands_minor = by_id[authorization_id].approved_minor
        for change in changes:
            if not change.undone and change.kind in REDUCING:
                stands_minor -= change.approved_minor
            elif not change.undone and change.kind is Kind.ADJUSTMENT:
                stands_minor += change.approved_minor
        reversed_ = stands_minor <= 0 and any(one.kind is Kind.REVERSAL for one in changes)
        kept = tuple(one for one in changes if not (reversed_ and one.kind is Kind.REVERSAL))
        return Followers(reversed=reversed_, changes=kept)

    def loaded(self, request: Request) -> Loaded:
        holder = Account(
            ACCOUNT, 1, "active", "T2", "standard", self._purses(), empty_history(), []
        )
        found = self._original(request)
        return Loaded(holder, "active", "", "0042", None, found, tuple(self.open_holds()))

    def _purses(self) -> dict[int, PurseState]:
        return {
            number: PurseState(self.balance_minor(number), self.held_minor(number), 0, 0, 0)
            for number in (TRN, GEN)
        }

    def _original(self, request: Request) -> Original | None:
        for row in self.rows:
            by_key = request.original is not None and request.original.key == row.posting.key
            if by_key or row.authorization_id == request.original_id:
                return self._as_original(row)
        return None

    def _as_original(self, row: Row) -> Original:
        posting, request, number = row.posting, row.request, row.authorization_id
        resolved = [n for n, (_, by) in self.resolved.items() if by == number]
        hold = self.holds.get(number) or (self.holds[resolved[0]] if resolved else None)
        return Original(
            ACCOUNT,
            posting.kind,
            posting.outcome,
            posting.approved_minor,
            posting.purse,
            TODAY,
            request.acquirer,
            request.mcc,
            self.followers(number),
            authorization_id=number,
            original_id=posting.original_id,
            at_us=posting.at_us,
            currency=request.amount.currency,
            terminal=request.terminal,
            merchant=request.merchant,
            rrn=posting.rrn,
            auth_code=posting.auth_code,
            spent_count=posting.spent_count,
            spent_minor=posting.spent_minor,
            legs=posting.transfers,
            hold=hold,
        )

    def _write(self, row: Row) -> None:
        posting, number = row.posting, row.authorization_id
        self.rows.append(row)
        for one in posting.transfers:
            books = (one.debit_account_id, one.credit_account_id)
            assert all(book < PURSE_BOOKS_FROM or book // 16 == ACCOUNT for book in books)
        if posting.resolves is not None:
            assert posting.resolves.hold_id in self.holds
            assert posting.resolves.hold_id not in self.resolved, "a hold resolves exactly once"
            self.resolved[posting.resolves.hold_id] = (posting.resolves.status, number)
        if posting.opens is not None:
            opens = posting.opens
            self.holds[number] = Hold(
                number,
                opens.authorization_id or number,
                opens.purpose,
                opens.purse,
                opens.amount_minor,
                opens.expires_at_us,
                row.request.acquirer,
                posting.rrn,
                posting.auth_code,
            )

    @staticmethod
    def _shown(state: PurseState) -> tuple[int, int]:
        return state.balance_minor, state.held_minor
