"""What the model ledger hands out again: the facts of load_batch, worked out the long way.

Every answer is looked for in the rows as they were written, without indexes or sums kept.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from datetime import date, timedelta

import msgspec

from protocols.message import TAP_KINDS, Kind, Outcome, Request
from risk.facts import HISTORY_EVENTS_MAX, HISTORY_SECONDS_MAX, empty_history
from switch.fares.book import EMPTY_FARE_BOOK, fare_date
from switch.ledger.related import REFUND_DAYS_MAX, Related, related
from switch.posting import (
    Account,
    ChipFacts,
    CountedEvent,
    Directed,
    FareFacts,
    Follower,
    Followers,
    Hold,
    HoldPurpose,
    HoldStatus,
    Loaded,
    Original,
    Posting,
    PurseState,
    Stored,
    TapEvent,
    stop_named,
)
from tests.simulation.model_taps import ModelChip, ModelRight, fare_facts

EVENTS = (
    Kind.PURCHASE,
    Kind.PREAUTHORIZATION,
    Kind.OFFLINE_SALE,
    Kind.LOAD,
    Kind.BILL_INQUIRY,
    Kind.BILL,
    *TAP_KINDS,
)
DAY = timedelta(days=1)
DAY_US = 86_400_000_000
GIVING_BACK = (Kind.REVERSAL, Kind.VOID, Kind.PREAUTHORIZATION_CANCEL)


class ModelPurse(msgspec.Struct):
    balance_minor: int = 0
    held_minor: int = 0
    floor_minor: int = 0
    month: date = date.min
    month_count: int = 0
    month_minor: int = 0
    week: date = date.min
    week_count: int = 0
    week_minor: int = 0
    lifetime_count: int = 0
    lifetime_minor: int = 0

    def spend(self, today: date, day: date, count: int, minor: int) -> None:
        """Count in the month and week of `day`, written on the business day `today`."""
        if self.month < today.replace(day=1):
            self.month, self.month_count, self.month_minor = today.replace(day=1), 0, 0
        if self.week < monday_of(today):
            self.week, self.week_count, self.week_minor = monday_of(today), 0, 0
        if self.month == day.replace(day=1):
            self.month_count += count
            self.month_minor += minor
        if self.week == monday_of(day):
            self.week_count += count
            self.week_minor += minor
        self.lifetime_count += count
        self.lifetime_minor += minor


def monday_of(day: date) -> date:
    return day - timedelta(days=day.weekday())


class ModelAccount(msgspec.Struct):
    shard: int
    account_id: int
    card_id: int
    purses: dict[int, ModelPurse]
    version: int = 0
    status: str = "active"
    card_status: str = "active"
    expires_yymm: str = ""
    tier: str = "T2"
    last4: str = "0042"
    pin_reference: bytes = b""
    pin_tries: int = 0
    issued_us: int = 0
    hotlisted: bool = False
    rights: list[ModelRight] = msgspec.field(default_factory=list)
    chip: ModelChip | None = None


class ModelRow(msgspec.Struct, frozen=True):
    """One authorization as written."""

    authorization_id: int
    shard: int
    business_date: date
    posted_at_us: int
    deadline_at_us: int
    posting: Posting

    @property
    def request(self) -> Request:
        return self.posting.directed.request

    @property
    def account_id(self) -> int:
        return self.posting.directed.account_id


class ModelHold(msgspec.Struct):
    """One hold, open or resolved; `resolutions` is how often, and by whom."""

    hold: Hold
    account_id: int
    status: HoldStatus = HoldStatus.OPEN
    resolutions: list[int] = msgspec.field(default_factory=list)


class ModelFacts:
    """What was written, and what of it a decision is told."""

    def __init__(self) -> None:
        self.accounts: dict[int, ModelAccount] = {}
        self.rows: list[ModelRow] = []
        self.rows_of: dict[int, list[ModelRow]] = {}
        self.by_key: dict[tuple[int, bytes, date], ModelRow] = {}
        self.by_id: dict[int, ModelRow] = {}
        self.holds: dict[int, ModelHold] = {}
        self.fare_date_of = functools.partial(fare_date, EMPTY_FARE_BOOK)

    def load(
        self, shard: int, business_date: date, now_us: int, batch: Sequence[Directed]
    ) -> list[Loaded]:
        shared: dict[int, Account] = {}
        return [self._load_one(shard, business_date, now_us, one, shared) for one in batch]

    def _load_one(
        self,
        shard: int,
        business_date: date,
        now_us: int,
        directed: Directed,
        shared: dict[int, Account],
    ) -> Loaded:
        model = self.accounts.get(directed.account_id)
        if model is not None and directed.account_id not in shared:
            shared[directed.account_id] = self._account(model, business_date, now_us)
        asked = related(directed.request, business_date, REFUND_DAYS_MAX, self.fare_date_of)
        original = self._find_original(shard, directed, business_date)
        return Loaded(
            account=shared.get(directed.account_id),
            card_status=model.card_status if model else "",
            expires_yymm=model.expires_yymm if model else "",
            last4=model.last4 if model else "",
            stored=self._stored(shard, directed.request.key, business_date),
            original=self._original(original, business_date) if original is not None else None,
            holds=self._open_holds(directed.account_id) if asked and asked.wants_holds else (),
            pin_reference=model.pin_reference if model else b"",
            pin_tries=model.pin_tries if model else 0,
            hotlisted=model.hotlisted if model else False,
            fares=self._fares(model, asked) if model and asked else None,
            chip=self._chip(model, asked),
            card_age_days=(now_us - model.issued_us) // DAY_US if model else None,
        )

    def _fares(self, model: ModelAccount, asked: Related) -> FareFacts | None:
        taps = [
            msgspec.structs.replace(row.posting.tap, authorization_id=row.authorization_id)
            for row in self.rows_of.get(model.account_id, [])
            if row.posting.tap is not None
        ]
        day = asked.fare_date or _day_of(asked.original_id, taps)
        if not asked.wants_fares or day is None:
            return None
        standing = [tap for tap in taps if not self._taken_back(tap)]
        journeys = {
            hold.authorization_id
            for hold in self._open_holds(model.account_id)
            if hold.purpose is HoldPurpose.JOURNEY
        }
        return fare_facts(standing, journeys, model.rights, day)

    def _taken_back(self, tap: TapEvent) -> bool:
        about = self._approved_about(self.by_id[tap.authorization_id])
        return any(other.posting.kind is Kind.REVERSAL for other in about)

    @staticmethod
    def _chip(model: ModelAccount | None, asked: Related | None) -> ChipFacts | None:
        if asked is None or asked.chip_counter is None:
            return None
        chip = model.chip if model is not None else None
        return (chip or ModelChip()).facts(asked.chip_counter)

    def _account(self, model: ModelAccount, business_date: date, now_us: int) -> Account:
        history, event_ids = empty_history(), []
        rows = self.rows_of.get(model.account_id, [])
        since_us = now_us - HISTORY_SECONDS_MAX * 1_000_000
        events = [
            row for row in rows if row.posting.kind in EVENTS and row.posting.at_us > since_us
        ]
        for row in sorted(events, key=lambda row: row.posting.at_us)[-HISTORY_EVENTS_MAX:]:
            request = row.request
            history.append(
                at_us=row.posting.at_us,
                card_id=row.posting.directed.card_id,
                kind=row.posting.kind,
                amount_minor=_worth_minor(row),
                outcome=row.posting.outcome,
                segment=request.segment,
                mcc=request.mcc,
                merchant=request.merchant,
                terminal=request.terminal,
                venue=request.venue,
                stop=stop_named(request.tap),
                vehicle=request.tap.vehicle if request.tap is not None else "",
            )
            history.given_back[-1] = self._given_back(row)
            event_ids.append(row.authorization_id)
        month, week = business_date.replace(day=1), monday_of(business_date)
        purses = {
            number: PurseState(
                purse.balance_minor,
                purse.held_minor,
                purse.floor_minor,
                purse.month_count if purse.month == month else 0,
                purse.month_minor if purse.month == month else 0,
                purse.week_count if purse.week == week else 0,
                purse.week_minor if purse.week == week else 0,
                purse.lifetime_count,
                purse.lifetime_minor,
            )
            for number, purse in model.purses.items()
        }
        return Account(
            model.account_id,
            model.version,
            model.status,
            model.tier,
            "standard",
            purses,
            history,
            event_ids,
        )

    def _given_back(self, row: ModelRow) -> bool:
        """Whether reversals, voids and cancels that stand gave all of an event back."""
        standing = self._standing_backs(row)
        worth_minor = sum(self._worth_minor(other) for other in standing)
        return bool(standing) and worth_minor >= row.posting.approved_minor

    def _standing_backs(self, row: ModelRow) -> list[ModelRow]:
        backs = [other for other in self._approved_about(row) if other.posting.kind in GIVING_BACK]
        return [other for other in backs if not self._undone(other)]

    def _open_holds(self, account_id: int) -> tuple[Hold, ...]:
        held = [
            each.hold
            for each in self.holds.values()
            if each.account_id == account_id and each.status is HoldStatus.OPEN
        ]
        opened_us = {each.hold_id: self.by_id[each.hold_id].posting.at_us for each in held}
        return tuple(sorted(held, key=lambda each: (opened_us[each.hold_id], each.hold_id)))

    def _stored(self, shard: int, key: bytes, day: date) -> Stored | None:
        for row in self._under(shard, key, day):
            posting = row.posting
            return Stored(
                row.authorization_id,
                row.request.payload_hash,
                posting.outcome,
                posting.approved_minor,
                posting.auth_code,
                posting.rrn,
                posting.at_us,
                self._followers(row),
                posting.kind,
            )
        return None

    def _under(self, shard: int, key: bytes, day: date) -> Iterable[ModelRow]:
        for days in (0, -1, 1):
            row = self.by_key.get((shard, key, day + timedelta(days)))
            if row is not None:
                yield row

    def _find_original(self, shard: int, directed: Directed, today: date) -> ModelRow | None:
        asked = related(directed.request, today, REFUND_DAYS_MAX, self.fare_date_of)
        if asked is None or asked.since is None or asked.until is None:
            return None
        since, until = asked.since, asked.until

        def in_time(row: ModelRow) -> bool:
            return row.shard == shard and since <= row.business_date <= until

        if asked.original_id:
            row = self.by_id.get(asked.original_id)
            return row if row is not None and in_time(row) else None
        if asked.key:
            under = [row for row in self.rows if row.posting.key == asked.key and in_time(row)]
            if under:
                return max(under, key=lambda row: (row.posting.outcome.approved, row.business_date))
        found = []
        for row in self.rows_of.get(directed.account_id, []):
            posting = row.posting
            fits = (
                bool(asked.rrn) and posting.rrn == asked.rrn,
                bool(asked.auth_code) and posting.auth_code == asked.auth_code,
            )
            wanted = any(fits) if directed.account_id else fits[0]
            request = row.request
            mine = request.acquirer == asked.acquirer and asked.terminal in ("", request.terminal)
            if wanted and mine and posting.kind in asked.kinds and in_time(row):
                found.append(((posting.outcome.approved, *fits, posting.at_us), row))
        return max(found, key=lambda each: each[0])[1] if found else None

    def _original(self, row: ModelRow, today: date) -> Original:
        request, posting = row.request, row.posting
        return Original(
            row.account_id,
            posting.kind,
            posting.outcome,
            posting.approved_minor,
            posting.purse,
            row.business_date,
            request.acquirer,
            request.mcc,
            self._followers(row),
            row.authorization_id,
            posting.original_id,
            posting.at_us,
            request.amount.currency,
            request.terminal,
            request.merchant,
            posting.rrn,
            posting.auth_code,
            posting.spent_count,
            posting.spent_minor,
            posting.transfers,
            self._hold_of(row),
            event=self._event(row, today),
            spent_on=posting.spent_on,
        )

    def _event(self, row: ModelRow, today: date) -> CountedEvent | None:
        """What counters of places were told of it, or of what it gave back."""
        event: ModelRow | None = row
        if (
            row.posting.kind in (Kind.VOID, Kind.PREAUTHORIZATION_CANCEL)
            and row.posting.original_id
        ):
            event = self.by_id.get(row.posting.original_id)
        if event is None or event.posting.kind not in EVENTS or event.business_date < today - DAY:
            return None
        request, posting = event.request, event.posting
        standing = self._standing_backs(event)
        return CountedEvent(
            posting.kind,
            posting.outcome,
            posting.at_us,
            posting.directed.card_id,
            request.acquirer,
            request.terminal,
            request.merchant,
            request.mcc,
            request.segment,
            request.amount.amount_minor,
            posting.approved_minor,
            request.venue,
            stop_named(request.tap),
            request.tap.vehicle if request.tap is not None else "",
            sum(self._worth_minor(other) for other in standing) if standing else -1,
        )

    def _hold_of(self, row: ModelRow) -> Hold | None:
        """The hold that a message opened, else the one that it resolved."""
        if row.authorization_id in self.holds:
            return self.holds[row.authorization_id].hold
        resolved = row.posting.resolves
        return self.holds[resolved.hold_id].hold if resolved is not None else None

    def _about(self, row: ModelRow) -> list[ModelRow]:
        return [
            other
            for other in self.rows_of.get(row.account_id, [])
            if other.posting.original_id == row.authorization_id
        ]

    def _approved_about(self, row: ModelRow) -> list[ModelRow]:
        return [other for other in self._about(row) if other.posting.outcome.approved]

    def _reversals(self, row: ModelRow) -> list[int]:
        return [
            other.posting.approved_minor
            for other in self._approved_about(row)
            if other.posting.kind is Kind.REVERSAL
        ]

    def _worth_minor(self, row: ModelRow) -> int:
        return row.posting.approved_minor - sum(self._reversals(row))

    def _undone(self, row: ModelRow) -> bool:
        return bool(self._reversals(row)) and self._worth_minor(row) <= 0

    def _followers(self, row: ModelRow) -> Followers:
        about = self._approved_about(row)
        withdrawn = [
            other
            for other in self._about(row)
            if other.posting.kind is Kind.REVERSAL
            and other.posting.outcome is Outcome.ANSWERED_LATE
        ]
        standing_minor = row.posting.approved_minor
        for other in about:
            match other.posting.kind:
                case Kind.ADJUSTMENT:
                    standing_minor += self._worth_minor(other)
                case Kind.VOID | Kind.REFUND | Kind.CREDIT_ADJUSTMENT | Kind.REVERSAL:
                    standing_minor -= self._worth_minor(other)
                case _:
                    pass
        gone = bool(self._reversals(row)) and standing_minor <= 0
        changes = tuple(
            Follower(
                other.authorization_id,
                other.posting.kind,
                other.posting.approved_minor if self._undone(other) else self._worth_minor(other),
                self._undone(other),
            )
            for other in sorted(about, key=lambda other: other.posting.at_us)
            if other.posting.kind is not Kind.REPEAT
            and not (gone and other.posting.kind is Kind.REVERSAL)
        )
        repeats = [other for other in about if other.posting.kind is Kind.REPEAT]
        by_sender = any(
            other.posting.kind is Kind.REVERSAL
            and other.posting.directed.request.message_class == "04"
            for other in about
        )
        return Followers(gone, len(repeats), len(withdrawn), changes, gone and by_sender)


def _day_of(authorization_id: int, taps: Iterable[TapEvent]) -> date | None:
    days = [tap.fare_date for tap in taps if tap.authorization_id == authorization_id]
    return days[0] if days else None


def _worth_minor(row: ModelRow) -> int:
    """What an event was for: of an approved tap what was charged."""
    posting = row.posting
    if posting.kind in TAP_KINDS and posting.outcome.approved:
        return posting.approved_minor
    return row.request.amount.amount_minor
