"""What is posted is what is loaded, to the last column, over a real PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import date, timedelta
from typing import Any

import anyio
import msgspec
import pytest

from protocols.message import Kind, Mode, OriginalReference, Outcome, Request, Segment, Tap
from protocols.money import Money
from switch.ledger import bridge, facts, store
from switch.ledger.audit import audit
from switch.ledger.failures import LedgerLost, LedgerRefused
from switch.ledger.store import Store
from switch.posting import (
    Directed,
    Followers,
    Hold,
    HoldOpening,
    HoldPurpose,
    HoldResolution,
    HoldStatus,
    Loaded,
    Posted,
    Posting,
    Transfer,
    Verdict,
    purse_book,
)
from tests.simulation.model_ledger import NOON_US, purchase

SHARD = 1
GEN = 2
RULESET = "3fa9c0de"


class Session:
    """A store over the ledger of `books`, and postings made short."""

    def __init__(self, opened: Store, books: Any) -> None:
        self.store = opened
        self.books = books
        self.day: date = books.day
        self._number = 0
        self._at_us = NOON_US

    def request(self, amount_minor: int = 500, **changed: Any) -> Request:
        self._number += 1
        return purchase(self._number, amount_minor, **({"acquirer": "metro"} | changed))

    def posting(self, card: Any, request: Request | None = None, **changed: Any) -> Posting:
        """A decline unless it says something else; each is a microsecond later."""
        request = request or self.request()
        self._at_us += 1
        account_id, card_id = (card.account_id, card.card_id) if card else (0, 0)
        usual: dict[str, Any] = {
            "directed": Directed(request, SHARD, account_id, card_id, b"m" * 16),
            "at_us": self._at_us,
            "outcome": Outcome.COUNT_LIMIT,
            "key": request.key,
            "kind": request.kind,
        }
        return Posting(**(usual | changed))

    def load_posting(self, card: Any, amount_minor: int, **changed: Any) -> Posting:
        transfer = Transfer(self.books.trust, purse_book(card.account_id, GEN), amount_minor)
        return self.posting(
            card,
            self.request(amount_minor, kind=Kind.LOAD, purse="GEN"),
            outcome=Outcome.APPROVED,
            approved_minor=amount_minor,
            purse=GEN,
            transfers=(transfer,),
            **changed,
        )

    def purchase_posting(self, card: Any, amount_minor: int, **changed: Any) -> Posting:
        book = purse_book(card.account_id, GEN)
        usual: dict[str, Any] = {
            "request": self.request(amount_minor),
            "outcome": Outcome.APPROVED,
            "approved_minor": amount_minor,
            "purse": GEN,
            "spent_count": 1,
            "spent_minor": amount_minor,
            "transfers": (Transfer(book, self.books.acquirer, amount_minor),),
        }
        return self.posting(card, **(usual | changed))

    def reversal_posting(self, card: Any, original_id: int, amount_minor: int) -> Posting:
        book = purse_book(card.account_id, GEN)
        return self.posting(
            card,
            self.request(amount_minor, kind=Kind.REVERSAL, original_id=original_id),
            outcome=Outcome.APPROVED,
            approved_minor=amount_minor,
            purse=GEN,
            original_id=original_id,
            spent_minor=-amount_minor,
            transfers=(Transfer(self.books.acquirer, book, amount_minor),),
        )

    async def post(
        self,
        *postings: Posting,
        day: date | None = None,
        remaining_us: int = 60_000_000,
        versions: dict[int, int] | None = None,
    ) -> list[Posted]:
        if versions is None:
            known = await self.store.load(
                SHARD, day or self.day, NOON_US, [posting.directed for posting in postings]
            )
            versions = {
                facts.account.account_id: facts.account.version
                for facts in known
                if facts.account is not None
            }
        budgets = [remaining_us] * len(postings)
        return await self.store.post(
            SHARD, 3, day or self.day, versions, postings, budgets, RULESET
        )

    async def posted(self, *postings: Posting, **how: Any) -> list[int]:
        done = await self.post(*postings, **how)
        assert {one.verdict for one in done} == {Verdict.POSTED}
        return [one.authorization_id for one in done]

    async def facts(self, card: Any, request: Request | None = None, **when: Any) -> Loaded:
        (one,) = await self.all_facts([(card, request)], **when)
        return one

    async def all_facts(
        self,
        asked: Sequence[tuple[Any, Request | None]],
        day: date | None = None,
        now_us: int = NOON_US + 10_000_000,
    ) -> list[Loaded]:
        directed = [
            Directed(
                request or self.request(),
                SHARD,
                card.account_id if card else 0,
                card.card_id if card else 0,
                b"m" * 16,
            )
            for card, request in asked
        ]
        return await self.store.load(SHARD, day or self.day, now_us, directed)


@pytest.fixture
async def session(books: Any, database: str) -> AsyncIterator[Session]:
    opened = await Store.open(database, 10)
    yield Session(opened, books)
    opened.terminate()


async def test_every_column_is_written_where_it_belongs(session: Session) -> None:
    (card,) = await session.books.issue()
    request = session.request(
        777,
        segment=Segment.TRANSIT,
        link="metro-4",
        message_class="01",
        amount=Money(777, "840"),
        terminal="GATE0042",
        merchant="LINE2",
        mcc="4111",
        stan="424242",
        local_at="0331115959",
        entry_mode="071",
        payload_hash=b"eight by",
        venue="metro",
        tap=Tap(Mode.METRO, "M2", "S07", "T19", NOON_US),
    )
    await session.posted(session.load_posting(card, 10_000))
    posting = session.purchase_posting(
        card,
        777,
        request=request,
        auth_code="ABC234",
        rrn="609012424242",
        rule_results=b'{"decision":"approved"}',
        explanation="Approved: because.",
        spent_on=date(2026, 2, 28),
    )
    (authorization_id,) = await session.posted(posting, remaining_us=5_000_000)
    row = await session.books.connection.fetchrow(
        "select * from ledger.authorization where authorization_id = $1", authorization_id
    )
    written = dict(row)
    posted_at_us = written.pop("posted_at_us")
    deadline_at_us = written.pop("deadline_at_us")
    assert 0 < deadline_at_us - posted_at_us <= 5_000_000
    assert written == {
        "business_date": session.day,
        "shard": SHARD,
        "authorization_id": authorization_id,
        "account_id": card.account_id,
        "card_id": card.card_id,
        "at_us": posting.at_us,
        "key": request.key,
        "payload_hash": b"eight by",
        "message_class": "01",
        "kind": "purchase",
        "segment": "transit",
        "link": "metro-4",
        "acquirer": "metro",
        "terminal": "GATE0042",
        "merchant": "LINE2",
        "mcc": "4111",
        "entry_mode": "071",
        "stan": "424242",
        "local_at": "0331115959",
        "rrn": "609012424242",
        "auth_code": "ABC234",
        "currency": "840",
        "amount_minor": 777,
        "approved_minor": 777,
        "purse": GEN,
        "outcome": "approved",
        "original_id": 0,
        "ruleset": RULESET,
        "rule_results": b'{"decision":"approved"}',
        "explanation": "Approved: because.",
        "spent_count": 1,
        "spent_minor": 777,
        "venue": "metro",
        "stop": "M2/S07",
        "vehicle": "T19",
        "spent_on": date(2026, 2, 28),
    }
    transfer = await session.books.connection.fetchrow(
        "select * from ledger.transfer where authorization_id = $1", authorization_id
    )
    assert (transfer["debit_account_id"], transfer["credit_account_id"]) == (
        purse_book(card.account_id, GEN),
        session.books.acquirer,
    )
    assert (transfer["amount_minor"], transfer["currency"], transfer["kind"]) == (
        777,
        "840",
        "purchase",
    )
    slot = await session.books.connection.fetchval("select max(slot) from ledger.position")
    assert slot == 3


async def test_a_card_is_as_old_as_whole_days_since_it_was_issued(session: Session) -> None:
    (card,) = await session.books.issue()
    await session.books.connection.execute(
        f"update ledger.card set issued_at = timestamptz 'epoch' + {NOON_US} * interval '1us'"
    )
    day_us = 86_400_000_000
    ages = [
        (await session.facts(card, now_us=NOON_US + after_us)).card_age_days
        for after_us in (-day_us, 0, day_us - 1, day_us, 31 * day_us + 5)
    ]
    assert ages == [0, 0, 0, 1, 31]
    assert (await session.facts(None)).card_age_days is None


async def test_what_was_posted_is_loaded_as_history(session: Session) -> None:
    (card,) = await session.books.issue(tier="T1", product="student", expires_yymm="2912")
    first = session.load_posting(card, 1_000)
    taken = session.request(
        300, segment=Segment.TRANSIT, mcc="4111", merchant="LINE2", terminal="GATE7"
    )
    second = session.purchase_posting(card, 300, request=taken)
    third = session.posting(card)
    ids = await session.posted(first, second, third)
    facts = await session.facts(card)
    assert (facts.card_status, facts.expires_yymm, facts.last4) == ("active", "2912", card.last4)
    assert facts.stored is None
    assert facts.original is None
    account = facts.account
    assert account is not None
    assert (account.status, account.tier, account.product) == ("active", "T1", "student")
    purse = account.purses[GEN]
    assert (purse.balance_minor, purse.month_count, purse.month_minor) == (700, 1, 300)
    assert account.event_ids == ids
    history = account.history
    assert history.at_us == [first.at_us, second.at_us, third.at_us]
    assert history.kind == [Kind.LOAD, Kind.PURCHASE, Kind.PURCHASE]
    assert history.outcome == [Outcome.APPROVED, Outcome.APPROVED, Outcome.COUNT_LIMIT]
    assert history.amount_minor == [1_000, 300, 500]
    assert history.card_id == [card.card_id] * 3
    assert history.given_back == [False] * 3
    assert (history.segment[1], history.mcc[1], history.merchant[1], history.terminal[1]) == (
        Segment.TRANSIT,
        "4111",
        "LINE2",
        "GATE7",
    )


async def test_the_requests_of_one_account_share_what_is_known_of_it(session: Session) -> None:
    first, second = await session.books.issue(2)
    facts = await session.all_facts([(first, None), (second, None), (first, None), (None, None)])
    assert facts[0].account is facts[2].account
    assert facts[0].account is not facts[1].account
    assert facts[3].account is None
    assert facts[3].card_status == ""


async def test_a_reversal_marks_its_event_and_is_none_itself(session: Session) -> None:
    (card,) = await session.books.issue()
    ids = await session.posted(
        session.load_posting(card, 1_000),
        session.purchase_posting(card, 300),
        session.purchase_posting(card, 200),
    )
    await session.posted(session.reversal_posting(card, ids[1], 300))
    account = (await session.facts(card)).account
    assert account is not None
    assert account.event_ids == ids
    assert account.history.given_back == [False, True, False]
    assert (account.purses[GEN].balance_minor, account.purses[GEN].month_minor) == (800, 200)
    assert (await audit(session.books.connection)).clean


async def test_what_became_of_an_approval(session: Session) -> None:
    (card,) = await session.books.issue()
    request = session.request(300)
    taken = session.purchase_posting(card, 300, request=request, auth_code="ABC234", rrn="r" * 12)
    _, approval_id = await session.posted(session.load_posting(card, 1_000), taken)
    reversal = session.request(kind=Kind.REVERSAL, original_id=approval_id)

    async def followers() -> Followers:
        (facts,) = await session.all_facts([(card, request)])
        (reversing,) = await session.all_facts([(card, reversal)])
        assert facts.stored is not None
        assert facts.stored.authorization_id == approval_id
        assert (facts.stored.at_us, facts.stored.payload_hash) == (
            taken.at_us,
            request.payload_hash,
        )
        assert (facts.stored.auth_code, facts.stored.rrn) == ("ABC234", "r" * 12)
        original = reversing.original
        assert original is not None
        assert (original.account_id, original.kind, original.approved_minor) == (
            card.account_id,
            Kind.PURCHASE,
            300,
        )
        assert (original.purse, original.business_date) == (GEN, session.day)
        assert (original.acquirer, original.mcc) == ("metro", "5411")
        assert original.followers == facts.stored.followers
        return facts.stored.followers

    assert await followers() == Followers()
    repeats = [
        session.posting(card, kind=Kind.REPEAT, outcome=Outcome.APPROVED, original_id=approval_id)
        for _ in range(2)
    ]
    await session.posted(*repeats)
    assert await followers() == Followers(repeats=2)
    late = {"kind": Kind.REVERSAL, "original_id": approval_id}
    await session.posted(session.posting(card, outcome=Outcome.ANSWERED_LATE, **late))
    assert await followers() == Followers(repeats=2, withdrawn=1)
    await session.posted(session.posting(card, outcome=Outcome.ORIGINAL_NOT_FOUND, **late))
    assert await followers() == Followers(repeats=2, withdrawn=1)
    await session.posted(session.reversal_posting(card, approval_id, 300))
    assert await followers() == Followers(reversed=True, repeats=2, withdrawn=1)
    assert (await audit(session.books.connection)).clean


async def test_the_newest_events_are_loaded_however_much_refers_to_them(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Repeats and reversals take no place of the events that limits are counted over."""
    assert (facts.HISTORY_EVENTS_MAX, facts.HISTORY_ROWS_MAX) == (512, 1_024)
    monkeypatch.setattr(facts, "HISTORY_EVENTS_MAX", 10)
    monkeypatch.setattr(store, "HISTORY_ROWS_MAX", 20)
    (card,) = await session.books.issue()
    await session.posted(session.load_posting(card, 1_000))
    ids = await session.posted(*(session.purchase_posting(card, 1) for _ in range(14)))
    await session.posted(*(session.reversal_posting(card, one, 1) for one in ids[6:]))
    repeat = {"kind": Kind.REPEAT, "outcome": Outcome.APPROVED, "original_id": ids[0]}
    await session.posted(*(session.posting(card, **repeat) for _ in range(20)))
    account = (await session.facts(card)).account
    assert account is not None
    assert account.event_ids == ids[-10:]
    assert account.history.given_back == [False] * 2 + [True] * 8


async def test_a_tombstone_is_written_beside_its_reversal(session: Session) -> None:
    (card,) = await session.books.issue()
    sale = session.request(300)
    reversal = session.posting(
        card,
        session.request(300, kind=Kind.REVERSAL),
        outcome=Outcome.ORIGINAL_NOT_FOUND,
        tombstone_key=sale.key,
    )
    posted = await session.posted(
        session.load_posting(card, 1_000), reversal, session.posting(card)
    )
    assert len(set(posted)) == 3, "a tombstone has no verdict of its own"
    stored = (await session.facts(card, sale)).stored
    assert stored is not None
    assert (stored.kind, stored.outcome) == (Kind.TOMBSTONE, Outcome.REVERSED_BEFORE)
    own = (await session.facts(card, reversal.directed.request)).stored
    assert own is not None
    assert (own.kind, own.authorization_id) == (Kind.REVERSAL, posted[1])
    account = (await session.facts(card)).account
    assert account is not None
    assert account.version == 1
    assert (await audit(session.books.connection)).clean


async def test_a_tombstone_goes_with_its_reversal(session: Session) -> None:
    (card,) = await session.books.issue()
    reversal = session.posting(
        card,
        session.request(300, kind=Kind.REVERSAL),
        outcome=Outcome.ORIGINAL_NOT_FOUND,
        tombstone_key=b"t" * 16,
    )
    for how, verdict in (
        ({"versions": {card.account_id: 7}}, Verdict.CONFLICT),
        ({"remaining_us": 0}, Verdict.EXPIRED),
    ):
        (posted,) = await session.post(reversal, **how)
        assert posted.verdict is verdict
    assert await session.books.count("authorization") == 0


async def test_a_hold_is_loaded_as_it_was_opened(session: Session) -> None:
    (card,) = await session.books.issue()
    await session.posted(session.load_posting(card, 1_000))
    opening = session.posting(
        card,
        session.request(300, kind=Kind.PREAUTHORIZATION),
        outcome=Outcome.APPROVED,
        approved_minor=300,
        purse=GEN,
        auth_code="ABC234",
        rrn="609012424242",
        opens=HoldOpening(HoldPurpose.PREAUTHORIZATION, GEN, 300, NOON_US + 99),
    )
    (held,) = await session.posted(opening)
    asking = session.request(kind=Kind.COMPLETION, original=OriginalReference(auth_code="ABC234"))
    facts = await session.facts(card, asking)
    hold = Hold(
        held, held, HoldPurpose.PREAUTHORIZATION, GEN, 300, NOON_US + 99, "metro",
        "609012424242", "ABC234", "T0000001", "5411",
    )  # fmt: skip
    assert facts.holds == (hold,)
    assert facts.original is not None
    assert (facts.original.authorization_id, facts.original.hold) == (held, hold)
    assert facts.account is not None
    assert facts.account.purses[GEN].held_minor == 300
    assert facts.account.history.kind[-1] is Kind.PREAUTHORIZATION
    assert (await session.facts(card)).holds == (), "a purchase does not ask for them"
    cancel = session.posting(
        card,
        session.request(300, kind=Kind.PREAUTHORIZATION_CANCEL),
        outcome=Outcome.APPROVED,
        approved_minor=300,
        purse=GEN,
        original_id=held,
        resolves=HoldResolution(held, HoldStatus.CANCELLED),
    )
    await session.posted(cancel)
    facts = await session.facts(card, asking)
    assert facts.holds == ()
    assert facts.original is not None
    assert [change.kind for change in facts.original.followers.changes] == [
        Kind.PREAUTHORIZATION_CANCEL
    ]
    assert facts.account is not None
    assert facts.account.history.given_back == [False, True]
    assert (await audit(session.books.connection)).clean


async def test_an_event_is_given_back_by_what_gave_all_of_it_back(session: Session) -> None:
    """Parts add up, and a void that was itself reversed gives nothing back."""
    (card,) = await session.books.issue()
    _, sold, voided = await session.posted(
        session.load_posting(card, 1_000),
        session.purchase_posting(card, 100),
        session.purchase_posting(card, 50),
    )

    async def given_back() -> list[bool]:
        account = (await session.facts(card)).account
        assert account is not None
        return account.history.given_back

    await session.posted(session.reversal_posting(card, sold, 60))
    assert await given_back() == [False, False, False]
    await session.posted(session.reversal_posting(card, sold, 40))
    assert await given_back() == [False, True, False]
    void = msgspec.structs.replace(session.reversal_posting(card, voided, 50), kind=Kind.VOID)
    (void_id,) = await session.posted(void)
    assert await given_back() == [False, True, True]
    undoing = session.purchase_posting(
        card, 50, kind=Kind.REVERSAL, original_id=void_id, spent_count=0
    )
    await session.posted(undoing)
    assert await given_back() == [False, True, False]
    assert (await audit(session.books.connection)).clean


async def test_totals_are_of_the_month_that_is_asked_for(session: Session) -> None:
    (card,) = await session.books.issue()
    await session.posted(session.load_posting(card, 1_000), session.purchase_posting(card, 300))
    april = session.day + timedelta(days=1)
    account = (await session.facts(card, day=april)).account
    assert account is not None
    assert (account.purses[GEN].month_count, account.purses[GEN].month_minor) == (0, 0)
    await session.posted(session.purchase_posting(card, 50), day=april)
    account = (await session.facts(card, day=april)).account
    assert account is not None
    assert (account.purses[GEN].month_count, account.purses[GEN].month_minor) == (1, 50)
    assert account.purses[GEN].balance_minor == 650


async def test_history_ends_after_a_day(session: Session) -> None:
    (card,) = await session.books.issue()
    posting = session.posting(card)
    await session.posted(posting)
    just_in_us = posting.at_us + 86_400_000_000 - 1
    for now_us, events in ((just_in_us, 1), (just_in_us + 1, 0)):
        account = (await session.facts(card, now_us=now_us)).account
        assert account is not None
        assert len(account.event_ids) == events


async def test_an_unknown_card_is_written_without_an_account_and_found_by_its_key(
    session: Session,
) -> None:
    request = session.request()
    posting = session.posting(None, request, outcome=Outcome.UNKNOWN_CARD)
    await session.posted(posting)
    facts = await session.facts(None, request)
    assert facts.account is None
    assert facts.stored is not None
    assert facts.stored.outcome is Outcome.UNKNOWN_CARD
    with pytest.raises(LedgerRefused) as refused:
        await session.post(session.posting(None, request, outcome=Outcome.UNKNOWN_CARD))
    assert refused.value.sqlstate == "23505"
    assert not refused.value.transient


async def test_verdicts_come_back_in_order(session: Session) -> None:
    fresh, stale = await session.books.issue(2)
    postings = [session.posting(fresh), session.posting(stale), session.posting(None)]
    done = await session.post(*postings, versions={fresh.account_id: 0, stale.account_id: 5})
    verdicts = [one.verdict for one in done]
    assert verdicts == [Verdict.POSTED, Verdict.CONFLICT, Verdict.POSTED]
    (expired,) = await session.post(session.posting(None), remaining_us=0)
    assert expired.verdict is Verdict.EXPIRED


@pytest.mark.parametrize(
    ("spoilt", "sqlstate"),
    [
        ({"explanation": "a\0b"}, "22021"),  # the server refuses it
        ({"at_us": 1 << 70}, "22000"),  # the driver does
        ({"approved_minor": 5}, "23514"),  # approved, and moves nothing
        ({"key": b"short"}, "23514"),
    ],
)
async def test_a_row_that_cannot_be_written_is_refused_and_the_connection_stays(
    session: Session, spoilt: dict[str, Any], sqlstate: str
) -> None:
    (card,) = await session.books.issue()
    with pytest.raises(LedgerRefused) as refused:
        await session.post(session.posting(card), session.posting(card, **spoilt))
    assert refused.value.sqlstate == sqlstate
    assert refused.value.__cause__ is None, "a driver's error may quote the row"
    await session.posted(session.posting(card))
    assert await session.books.count("authorization") == 1


async def test_an_overdrawn_purse_is_refused_with_the_name_of_its_rule(session: Session) -> None:
    (card,) = await session.books.issue()
    with pytest.raises(LedgerRefused) as refused:
        await session.post(session.purchase_posting(card, 1))
    assert refused.value.sqlstate == "23514"
    assert refused.value.constraint.startswith("purse")


async def test_a_lock_that_is_not_given_is_worth_another_try(
    session: Session, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(store.LANE_SETTINGS, "lock_timeout", "20ms")
    (card,) = await session.books.issue()
    await session.books.connection.execute("begin")
    await session.books.connection.execute("select 1 from ledger.account for update")
    impatient = await Store.open(database, 10)
    posting = session.posting(card)
    with pytest.raises(LedgerRefused) as refused:
        await impatient.post(
            SHARD, 0, session.day, {card.account_id: 0}, [posting], [60_000_000], RULESET
        )
    assert refused.value.transient
    await session.books.connection.execute("rollback")
    await session.posted(posting)
    impatient.terminate()


async def test_a_connection_that_the_server_ends_is_lost(session: Session) -> None:
    (card,) = await session.books.issue()
    await session.books.connection.fetch(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid()"
        " and application_name = 'citycard lane'"
    )
    with pytest.raises(LedgerLost):
        await session.facts(card)
    with pytest.raises(LedgerLost):
        await session.facts(card)


async def test_a_terminated_connection_is_lost(session: Session) -> None:
    session.store.terminate()
    with pytest.raises(LedgerLost):
        await session.facts(None)


async def test_a_silent_server_is_lost_after_a_while(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "CALL_SECONDS_MAX", 0.05)
    (card,) = await session.books.issue()
    connection = session.books.connection
    await connection.execute("begin")
    await connection.execute("select 1 from ledger.account for update")
    with pytest.raises(LedgerLost, match=r"no answer for 0\.05 s"):
        await session.store.post(
            SHARD, 0, session.day, {card.account_id: 0}, [session.posting(card)], [10**9], RULESET
        )
    await connection.execute("rollback")


async def test_a_server_that_is_not_there_is_lost() -> None:
    with pytest.raises(LedgerLost), anyio.fail_after(20):
        await Store.open("postgresql://nobody@127.0.0.1:1/nothing", 5)


async def test_a_lanes_connection_is_durable_and_plans_by_index(
    session: Session, database: str
) -> None:
    connection = await bridge.connect(database, settings=store.LANE_SETTINGS)
    for name, value in store.LANE_SETTINGS.items():
        shown = await connection.fetchval(f"show {name}")
        assert shown == value or (name, shown) == ("lock_timeout", "1s")
    connection.terminate()
