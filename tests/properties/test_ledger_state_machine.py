"""All kinds of messages in any order, through decide and Postgres, beside a model ledger.

Both ledgers are asked for the same facts before each decision and must tell the same, to the
last field; both are given the same posting and must give the same verdict. At the end of each
run their purses and holds agree, and the audit of the real one is clean.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import anyio.from_thread
import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from protocols.card_number import numbered_card
from protocols.message import (
    ChipRecord,
    ChipState,
    ChipVerdict,
    Kind,
    Mode,
    OriginalReference,
    Outcome,
    Request,
    Segment,
    Tap,
)
from switch.config import parse
from switch.decide import Terms, decide, moment_at
from switch.ledger import bridge, cards, migrate, partitions, sql
from switch.ledger.audit import audit
from switch.ledger.expiry import DueHold, expiry_request
from switch.ledger.store import Store
from switch.posting import Directed, Forwarded, HoldStatus, Posting, Verdict
from switch.terms import load_terms
from tests.simulation.model_ledger import (
    ACQUIRER,
    CALENDAR,
    NOON_US,
    FakeClock,
    ModelAccount,
    ModelLedger,
    ModelPurse,
    check_books,
    purchase,
)
from tests.simulation.model_taps import ModelRight

SHARD = 0
DAYS_AHEAD = 3
UNHURRIED_US = 60_000_000
KEY = b"a key of thirty-two bytes, tests"
PIN, OTHER_PIN = b"p" * 16, b"q" * 16
UPSTREAM = "north"
RULESET = "3fa9"
OVERDRAFT_MINOR = 800
ISSUED_US = NOON_US - 5 * 86_400_000_000 // 2
OWNED = [
    ("AGENT", ACQUIRER), ("PENDING", ACQUIRER), ("INTERCITY", UPSTREAM),
    ("SUSPENSE", "transit operations"), ("SUSPENSE", "risk office"),
]  # fmt: skip
_numbers = itertools.count(1)

amounts = st.one_of(st.integers(1, 60), st.integers(1, 3_000))
picks = st.integers(0, 10_000)
hows = st.sampled_from(["key", "rrn", "code", "both"])
SALES = (Kind.PURCHASE, Kind.COMPLETION, Kind.OFFLINE_SALE)
RIDES = (Kind.FARE, Kind.TAP_ON, Kind.TAP_OFF, Kind.FARE_CREDIT)


class Ledger:
    """The real one: a connection, a store, and the loop that both live in."""

    def __init__(self, url: str, portal: anyio.from_thread.BlockingPortal) -> None:
        self.portal = portal
        self.connection: bridge.Connection = portal.call(bridge.connect, url)
        self.store: Store = portal.call(Store.open, url, 20.0)
        self.terms: Terms = portal.call(self._begin)

    async def _begin(self) -> Terms:
        await migrate.initialise(
            self.connection, shards=1, time_zone="Asia/Shanghai", cut_off="00:00",
            currency="156", card_key_fingerprint=cards.card_key_fingerprint(KEY),
            acquirers=[ACQUIRER],
        )  # fmt: skip
        config = parse("", "defaults")
        suspense = [("SUSPENSE", policy.suspense_owner) for policy in (
            config.standin.transit, config.standin.utility, config.standin.retail,
        )]  # fmt: skip
        owned = sorted({*OWNED, *suspense})
        await self.connection.fetch(
            sql.queries()["open_settlement_accounts"],
            [code for code, _ in owned],
            [owner for _, owner in owned],
        )
        today = CALENDAR.business_date(NOON_US)
        await partitions.make_ahead(self.connection, today, DAYS_AHEAD, 1)
        accounts = await migrate.settlement_accounts(self.connection)
        # Two hours for everything, so that a run lives to see what expires.
        return msgspec.structs.replace(
            load_terms(config, accounts), hold_expiry_minutes=120, load_expiry_minutes=120
        )

    async def issue(self) -> tuple[cards.IssuedCard, str]:
        new = cards.NewCard(numbered_card("621299", next(_numbers)), tier="T2", chip=True)
        (card,) = await cards.issue(
            self.connection, [new], shards=1, key=KEY, overdraft_minor=OVERDRAFT_MINOR
        )
        await self.connection.execute(
            f"update ledger.card set issued_at = timestamptz 'epoch' + {ISSUED_US} * interval '1us'"
        )
        return card, new.card.last4

    def rows(self, query: str, *values: object) -> Sequence[Any]:
        found: Sequence[Any] = self.portal.call(self.connection.fetch, query, *values)
        return found

    def close(self) -> None:
        async def terminate() -> None:
            self.store.terminate()
            self.connection.terminate()

        self.portal.call(terminate)


class Done(msgspec.Struct, frozen=True):
    """One request that was posted, and as what."""

    request: Request
    posting: Posting
    authorization_id: int


class LedgerMachine(RuleBasedStateMachine):
    """Each rule sends one message, or lets time pass."""

    real: Ledger

    @initialize(opening_minor=st.sampled_from([20_000, 2_000, 0]))
    def begin(self, opening_minor: int) -> None:
        self.clock = FakeClock(NOON_US)
        self.model = ModelLedger(self.clock)
        self.done: list[Done] = []
        self.accounts: list[ModelAccount] = []
        for _ in range(2):
            card, last4 = self.real.portal.call(self.real.issue)
            account = ModelAccount(
                shard=SHARD,
                account_id=card.account_id,
                card_id=card.card_id,
                purses={
                    1: ModelPurse(floor_minor=-OVERDRAFT_MINOR),
                    2: ModelPurse(),
                    3: ModelPurse(),
                },
                last4=last4,
                issued_us=ISSUED_US,
            )
            self.accounts.append(account)
            self.model.accounts[account.account_id] = account
        if opening_minor:
            for purse in ("GEN", "TRN"):
                self.send(self.request(Kind.LOAD, opening_minor, purse=purse), 0)

    # ---- what is sent ----

    @rule(
        who=st.integers(0, 1), amount_minor=amounts, mcc=st.sampled_from(["5411", "4111"]),
        partial_allowed=st.booleans(), pin=st.sampled_from([b"", b"", PIN, OTHER_PIN]),
        rrn=st.sampled_from(["", "", "R1"]),
    )  # fmt: skip
    def sale(self, who: int, **said: Any) -> None:
        self.send(self.request(Kind.PURCHASE, **said), who)

    @rule(
        amounts=st.lists(amounts, min_size=2, max_size=4),
        who=st.lists(st.integers(0, 1), min_size=4, max_size=4),
    )
    def sales_of_one_batch(self, amounts: list[int], who: list[int]) -> None:
        sent = [
            (self.request(Kind.PURCHASE, amount), self.accounts[index])
            for amount, index in zip(amounts, who, strict=False)
        ]
        self.play([self.model.directed(request, account) for request, account in sent])

    @rule(who=st.integers(0, 1), amount_minor=amounts, purse=st.sampled_from(["GEN", "TRN", "MED"]))
    def load_at_the_counter(self, who: int, amount_minor: int, purse: str) -> None:
        self.send(self.request(Kind.LOAD, amount_minor, purse=purse), who)

    @rule(who=st.integers(0, 1), amount_minor=amounts)
    def load_at_an_agent(self, who: int, amount_minor: int) -> None:
        self.send(self.request(Kind.LOAD_PENDING, amount_minor, purse="GEN"), who)

    @rule(who=st.integers(0, 1), amount_minor=amounts, kind=st.sampled_from(
        [Kind.PREAUTHORIZATION, Kind.PREAUTHORIZATION, Kind.INQUIRY]
    ))  # fmt: skip
    def preauthorization_or_inquiry(self, who: int, amount_minor: int, kind: Kind) -> None:
        self.send(self.request(kind, amount_minor), who)

    @rule(who=st.integers(0, 1), amount_minor=amounts)
    def offline_sale(self, who: int, amount_minor: int) -> None:
        self.send(self.request(Kind.OFFLINE_SALE, amount_minor, advice=True), who)

    @rule(who=st.integers(0, 1), amount_minor=amounts)
    def standin_advice(self, who: int, amount_minor: int) -> None:
        at_us = self.clock.now_us()
        self.send(self.request(Kind.PURCHASE, amount_minor, advice=True, standin_at_us=at_us), who)

    @rule(
        who=st.integers(0, 1), ago=st.sampled_from([0, 0, 60, 900, 3_600, 12 * 3_600]),
        kind=st.sampled_from([Kind.FARE, Kind.TAP_ON, Kind.TAP_ON, Kind.TAP_OFF, Kind.INSPECT]),
        mode=st.sampled_from([Mode.BUS, Mode.METRO, Mode.METRO]), line=st.sampled_from(["1", "2"]),
        stop=st.sampled_from(["", "S01", "S09"]),
    )  # fmt: skip
    def tap(self, who: int, ago: int, kind: Kind, mode: Mode, line: str, stop: str) -> None:
        said = Tap(mode, line, stop, "V1", self.clock.now_us() - ago * 1_000_000)
        self.send(self.transit(kind, 200, tap=said, venue=mode.value), who)

    @rule(who=st.integers(0, 1), stop=st.sampled_from(["S02", "S07"]), minutes=st.integers(1, 400))
    def ride(self, who: int, stop: str, minutes: int) -> None:
        """A journey, whose end comes so late that it may have expired; it was 20 minutes long."""
        began_us = self.clock.now_us()
        on = Tap(Mode.METRO, "1", "S01", "", began_us)
        self.send(self.transit(Kind.TAP_ON, 0, tap=on), who)
        self.time_passes(minutes * 60)
        self.what_is_due_expires()
        off = Tap(Mode.METRO, "1", stop, "", min(began_us + 1_200_000_000, self.clock.now_us()))
        self.send(self.transit(Kind.TAP_OFF, 0, tap=off), who)

    @rule(
        who=st.integers(0, 1), amount_minor=st.integers(0, 90), counter=st.integers(0, 6),
        twin=st.sampled_from([0, 0, 1]), batch=st.integers(0, 1),
        verdict=st.sampled_from([ChipVerdict.GENUINE, ChipVerdict.GENUINE, ChipVerdict.WRONG]),
    )  # fmt: skip
    def chip_record(
        self, who: int, amount_minor: int, counter: int, twin: int, batch: int, verdict: ChipVerdict
    ) -> None:
        digest = bytes((twin, amount_minor, counter, 0, 0, 0, 0, 0))
        record = ChipRecord(counter, 0, digest, bytes(7) + bytes((batch,)), verdict)
        said = Tap(Mode.BUS, "1", "", "V1", self.clock.now_us() - 1, record=record)
        account_id = self.accounts[who].account_id
        key = (account_id << 16 | counter).to_bytes(16, "big")
        request = self.transit(Kind.OFFLINE_FARE, amount_minor, tap=said, key=key, background=True)
        self.send(msgspec.structs.replace(request, payload_hash=digest), who)

    @rule(
        who=st.integers(0, 1), amount_minor=amounts, counter=st.integers(-1, 7),
        spent_minor=st.sampled_from([0, 0, 5, -5]),
        kind=st.sampled_from([Kind.LOAD, Kind.LOAD, Kind.LOAD_PENDING]),
    )  # fmt: skip
    def chip_load(
        self, who: int, amount_minor: int, counter: int, spent_minor: int, kind: Kind
    ) -> None:
        balance_minor = self.accounts[who].purses[3].balance_minor - spent_minor
        chip = ChipState(max(counter, 0), balance_minor)
        said = Tap(Mode.BUS, "1", "", "", self.clock.now_us(), chip=chip)
        self.send(self.transit(kind, amount_minor, tap=said, purse="CHIP"), who)

    @rule(who=st.integers(0, 1), fare_class=st.integers(1, 3), hours=st.integers(-30, 30))
    def right_is_granted(self, who: int, fare_class: int, hours: int) -> None:
        account, from_us = self.accounts[who], self.clock.now_us() + hours * 3_600_000_000
        until_us = from_us + 20 * 3_600_000_000
        self.real.rows(
            sql.queries()["grant_entitlement"],
            SHARD, account.account_id, fare_class, from_us, until_us, "a test",
        )  # fmt: skip
        account.rights.append(ModelRight(fare_class, from_us, until_us))
        account.version += 1

    @rule(who=st.integers(0, 1), fare_class=st.integers(1, 3))
    def rights_are_ended(self, who: int, fare_class: int) -> None:
        account, now_us = self.accounts[who], self.clock.now_us()
        self.real.rows(
            sql.queries()["revoke_entitlements"],
            SHARD, account.account_id, fare_class, now_us, "a test",
        )  # fmt: skip
        for right in account.rights:
            if right.fare_class == fare_class and right.until_us > now_us:
                right.until_us = now_us
        account.version += 1

    @rule(pick=picks, how=hows, part=st.integers(0, 4), dated=st.booleans(), kind=st.sampled_from(
        [Kind.COMPLETION, Kind.COMPLETION, Kind.PREAUTHORIZATION_CANCEL]
    ))  # fmt: skip
    def resolve_a_hold(self, pick: int, how: str, part: int, dated: bool, kind: Kind) -> None:
        self.follow(pick, (Kind.PREAUTHORIZATION,), kind, how, part, dated)

    @rule(pick=picks, how=hows, dated=st.booleans(), part=st.sampled_from([4, 4, 3]))
    def confirm_a_load(self, pick: int, how: str, dated: bool, part: int) -> None:
        self.follow(pick, (Kind.LOAD_PENDING,), Kind.LOAD, how, part, dated, purse="GEN")

    @rule(pick=picks, how=hows, part=st.integers(1, 5), dated=st.booleans(), kind=st.sampled_from(
        [Kind.VOID, Kind.REFUND, Kind.ADJUSTMENT]
    ))  # fmt: skip
    def change_a_sale(self, pick: int, how: str, part: int, dated: bool, kind: Kind) -> None:
        part = 4 if kind is Kind.VOID else part
        self.follow(pick, SALES, kind, how, part, dated, advice=kind is Kind.ADJUSTMENT)

    @rule(pick=picks, how=hows, replaced=st.booleans(), dated=st.booleans())
    def reverse(self, pick: int, how: str, replaced: bool, dated: bool) -> None:
        target = self.picked(pick, tuple(set(Kind) - {Kind.REVERSAL, Kind.REPEAT, Kind.TOMBSTONE}))
        if target is not None:
            self.send(
                self.request(
                    Kind.REVERSAL,
                    target.request.amount.amount_minor,
                    original=self.reference(target, how, dated),
                    replacement_minor=target.posting.approved_minor // 2 if replaced else 0,
                ),
                self.owner(target),
            )

    @rule(pick=picks)
    def reverse_as_answered_too_late(self, pick: int) -> None:
        target = self.picked(
            pick,
            (*SALES, *RIDES, Kind.LOAD, Kind.PREAUTHORIZATION, Kind.REFUND, Kind.VOID),
        )
        if target is not None:
            self.send(
                self.request(
                    Kind.REVERSAL,
                    target.request.amount.amount_minor,
                    original_id=target.authorization_id,
                ),
                self.owner(target),
            )

    @rule(who=st.integers(0, 1), amount_minor=amounts, comes=st.booleans())
    def reverse_what_has_not_come(self, who: int, amount_minor: int, comes: bool) -> None:
        sale = self.request(Kind.PURCHASE, amount_minor)
        original = OriginalReference(key=sale.key)
        self.send(self.request(Kind.REVERSAL, amount_minor, original=original), who)
        if comes:
            self.send(sale, who)

    @rule(pick=picks, changed=st.sampled_from([False, False, True]))
    def repeat(self, pick: int, changed: bool) -> None:
        if self.done:
            target = self.done[pick % len(self.done)]
            request = target.request
            if changed:
                request = msgspec.structs.replace(request, payload_hash=b"another!")
            self.play([msgspec.structs.replace(target.posting.directed, request=request)])

    @rule(amount_minor=amounts, outcome=st.sampled_from(
        [Outcome.APPROVED, Outcome.APPROVED, Outcome.DO_NOT_HONOUR]
    ), refunded=st.booleans())  # fmt: skip
    def card_of_another_issuer(self, amount_minor: int, outcome: Outcome, refunded: bool) -> None:
        approved_minor = amount_minor if outcome.approved else 0
        rrn = f"U{next(_numbers):011}"
        forwarded = Forwarded(UPSTREAM, outcome, approved_minor, "UP1234", rrn)
        sale = self.request(Kind.PURCHASE, amount_minor)
        self.play([Directed(sale, SHARD, 0, 0, b"", forwarded)])
        if refunded:
            reference = OriginalReference(rrn=forwarded.rrn, auth_code=forwarded.auth_code)
            refund = self.request(Kind.REFUND, amount_minor, original=reference)
            self.play([Directed(refund, SHARD, 0, 0, b"", forwarded)])

    # ---- what else happens ----

    @rule(seconds=st.sampled_from([1, 60, 3_600, 3 * 3_600, 14 * 3_600]))
    def time_passes(self, seconds: int) -> None:
        if self.clock.now_us() + seconds * 1_000_000 < NOON_US + 2 * 86_400_000_000:
            self.clock.advance(seconds)

    @rule()
    def what_is_due_expires(self) -> None:
        due = self.real.rows(sql.queries()["due_holds"], self.clock.now_us(), [], 100)
        mine = {account.account_id: account for account in self.accounts}
        for row in due:
            hold = DueHold(**dict(row))
            if hold.account_id in mine:
                request = expiry_request(hold, CALENDAR, self.clock.monotonic_ns())
                self.play([self.model.directed(request, mine[hold.account_id])])

    @rule(who=st.integers(0, 1), reference=st.sampled_from([b"", PIN]))
    def pin_is_set(self, who: int, reference: bytes) -> None:
        account = self.accounts[who]
        self.real.rows(
            "update ledger.card set pin_reference = $1, pin_tries = 0 where card_id = $2",
            reference,
            account.card_id,
        )
        account.pin_reference, account.pin_tries = reference, 0

    @rule(who=st.integers(0, 1), status=st.sampled_from(["active", "lost", "blocked"]))
    def card_is_stopped(self, who: int, status: str) -> None:
        account = self.accounts[who]
        self.real.portal.call(
            cards.set_status, self.real.connection, account.card_id, cards.CardStatus(status), ""
        )
        account.card_status = status
        account.version += 1

    @precondition(lambda self: any(done.posting.has_effect for done in self.done))
    @rule(who=st.integers(0, 1), amount_minor=amounts)
    def somebody_else_was_first(self, who: int, amount_minor: int) -> None:
        """A posting decided on another version conflicts, and nothing of it is written."""
        request = self.request(Kind.PURCHASE, amount_minor)
        self.play([self.model.directed(request, self.accounts[who])], stale=True)
        self.play([self.model.directed(request, self.accounts[who])])

    # ---- how ----

    def request(self, kind: Kind, amount_minor: int, **said: Any) -> Request:
        number = next(_numbers)
        mmdd_hms = f"{CALENDAR.local(self.clock.now_us()):%m%d%H%M%S}"
        return purchase(number, amount_minor, kind=kind, local_at=mmdd_hms, **said)

    def transit(self, kind: Kind, amount_minor: int, **said: Any) -> Request:
        said = {"segment": Segment.TRANSIT, "mcc": "4111", "card": None} | said
        return self.request(kind, amount_minor, **said)

    def send(self, request: Request, who: int) -> None:
        self.play([self.model.directed(request, self.accounts[who])])

    def picked(self, pick: int, kinds: tuple[Kind, ...]) -> Done | None:
        """One of the earlier messages of these kinds, four times in five an approved one."""
        able = [
            done
            for done in self.done
            if done.posting.kind in kinds
            and done.posting.directed.account_id
            and (done.posting.outcome.approved or pick % 5 == 0)
        ]
        return able[pick % len(able)] if able else None

    def owner(self, target: Done) -> int:
        ids = [account.account_id for account in self.accounts]
        return ids.index(target.posting.directed.account_id)

    def reference(self, target: Done, how: str, dated: bool) -> OriginalReference:
        posting = target.posting
        return OriginalReference(
            key=posting.key if how == "key" else b"",
            rrn=posting.rrn if how in ("rrn", "both") else "",
            auth_code=posting.auth_code if how in ("code", "both") else "",
            mmdd=f"{CALENDAR.local(posting.at_us):%m%d}" if dated else "",
        )

    def follow(
        self,
        pick: int,
        kinds: tuple[Kind, ...],
        kind: Kind,
        how: str,
        part: int,
        dated: bool,
        **said: Any,
    ) -> None:
        """A message about an earlier one, for so many quarters of its amount."""
        target = self.picked(pick, kinds)
        if target is not None:
            amount_minor = target.request.amount.amount_minor * part // 4
            if kind not in (Kind.COMPLETION, Kind.ADJUSTMENT):
                amount_minor = max(amount_minor, 1)  # of nothing, no dialect lets them in
            reference = self.reference(target, how, dated)
            self.send(
                self.request(kind, amount_minor, original=reference, **said), self.owner(target)
            )

    def play(self, batch: list[Directed], *, stale: bool = False) -> None:
        """Load, decide and post on both ledgers, and compare them at each step."""
        self.clock.advance(0.001)
        now_us = self.clock.now_us()
        moment = moment_at(now_us, CALENDAR, self.real.terms)
        today = moment.business_date
        loaded = self.real.portal.call(self.real.store.load, SHARD, today, now_us, batch)
        modelled = self.model.load(SHARD, today, now_us, batch)
        for known, expected in zip(loaded, modelled, strict=True):
            assert known == expected
        decisions = [
            decide(directed, facts, self.real.terms, moment)
            for directed, facts in zip(batch, loaded, strict=True)
        ]
        assert decisions == [
            decide(directed, facts, self.real.terms, moment)
            for directed, facts in zip(batch, modelled, strict=True)
        ]
        postings = [decision for decision in decisions if isinstance(decision, Posting)]
        versions = {
            facts.account.account_id: facts.account.version - stale
            for facts in loaded
            if facts.account is not None
        }
        if postings:
            self.post(postings, versions, [UNHURRIED_US] * len(postings))

    def post(self, postings: list[Posting], versions: dict[int, int], budgets: list[int]) -> None:
        now_us = self.clock.now_us()
        today = CALENDAR.business_date(now_us)
        posted = self.real.portal.call(
            self.real.store.post, SHARD, 0, today, versions, postings, budgets, RULESET
        )
        self.model.ids = self.ids_of(postings, [each.authorization_id for each in posted])
        assert posted == self.model.post(SHARD, today, versions, postings, budgets, now_us)
        for posting, each in zip(postings, posted, strict=True):
            if each.verdict is Verdict.POSTED:
                self.done.append(Done(posting.directed.request, posting, each.authorization_id))

    def ids_of(self, postings: list[Posting], ids: list[int]) -> Iterator[int]:
        """The ids that the real ledger gave, for the model to give the same."""
        for posting, authorization_id in zip(postings, ids, strict=True):
            yield authorization_id
            if posting.tombstone_key:
                rows = self.real.rows(
                    "select authorization_id from ledger.authorization where key = $1"
                    " and kind = 'tombstone' order by business_date desc limit 1",
                    posting.tombstone_key,
                )
                yield rows[0]["authorization_id"]

    def teardown(self) -> None:
        if not hasattr(self, "model"):
            return
        check_books(self.model, {})
        today = CALENDAR.business_date(self.clock.now_us())
        batch = [
            self.model.directed(self.request(Kind.PREAUTHORIZATION, 1), account)
            for account in self.accounts
        ]
        now_us = self.clock.now_us()
        loaded = self.real.portal.call(self.real.store.load, SHARD, today, now_us, batch)
        assert loaded == self.model.load(SHARD, today, now_us, batch)
        self.check_stored_holds()
        report = self.real.portal.call(audit, self.real.connection)
        assert report.clean, [check for check in report.checks if check.findings]

    def check_stored_holds(self) -> None:
        rows = self.real.rows(
            "select hold_id, status, resolved_by from ledger.hold where account_id = any ($1)",
            [account.account_id for account in self.accounts],
        )
        assert {(row["hold_id"], row["status"], row["resolved_by"]) for row in rows} == {
            (
                hold_id,
                held.status.value,
                0 if held.status is HoldStatus.OPEN else held.resolutions[0],
            )
            for hold_id, held in self.model.holds.items()
        }


@pytest.fixture(scope="module")
def real(databases: Any, template: str) -> Iterator[Ledger]:
    """One ledger for all runs: each has accounts of its own in it."""
    with databases.fresh(template) as url, anyio.from_thread.start_blocking_portal() as portal:
        ledger = Ledger(url, portal)
        yield ledger
        ledger.close()


def test_the_ledger_agrees_with_its_model_whatever_is_sent(real: Ledger) -> None:
    """See LedgerMachine."""
    machine = type("Machine", (LedgerMachine,), {"real": real})
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    kinds = real.rows("select kind from ledger.authorization group by kind")
    assert {row["kind"] for row in kinds} >= {
        "purchase", "reversal", "load", "tombstone", "fare", "tap_on", "tap_off", "offline_fare",
        "fare_credit", "incomplete_fare",
    }  # fmt: skip
