"""A ledger in use: cards, partitions, the operator's accounts, and postings row by row."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any

import msgspec
import pytest

from protocols.card_number import numbered_card
from switch.ledger import bridge, cards, migrate, partitions, sql
from switch.ledger.cards import IssuedCard

DAY = date(2026, 3, 31)
"""The last day of a month, so that a month ends within the partitions made."""
SHARDS = 4
KEY = b"a key of thirty-two bytes, tests"
NOON_US = 1_774_929_600_000_000
HOLD_EXPIRES_US = NOON_US + 3_600_000_000
TAP: dict[str, Any] = {
    "fare_date": DAY, "kind": "fare", "event_at_us": NOON_US, "mode": "bus", "line": "7",
    "stop": "12", "vehicle": "V1", "acquirer": "metro", "fare_class": 0, "fare_version": 3,
    "nominal_minor": 0, "concession_minor": 0, "transfer_minor": 0, "cap_minor": 0,
    "recomputed_minor": 0, "charged_minor": 0, "journey_id": 0,
}  # fmt: skip
CHIP: dict[str, Any] = {
    "counter": 0, "digest": "\\x", "batch": "\\x", "suspense": False, "missing_minor": 0,
}  # fmt: skip
EFFECTS: dict[str, Any] = {"listings": [], "reviews": [], "tags": []}
_POST_BATCH = sql.queries("lane.sql")["post_batch"]
_COLUMNS = [
    "at_us", "remaining_us", "key", "payload_hash", "message_class", "kind", "segment", "link",
    "acquirer", "terminal", "merchant", "mcc", "entry_mode", "stan", "local_at", "rrn",
    "auth_code", "currency", "amount_minor", "approved_minor", "purse", "outcome", "original_id",
    "ruleset", "rule_results", "explanation", "spent_count", "spent_minor",
]  # fmt: skip
_numbers = itertools.count(1)


class Row(msgspec.Struct, kw_only=True):
    """One decision, in the columns of post_batch; `transfers` are (debit, credit, minor)."""

    card: IssuedCard | None
    kind: str = "purchase"
    amount_minor: int = 0
    approved_minor: int = 0
    purse: int = 2
    outcome: str = "approved"
    original_id: int = 0
    spent_count: int = 0
    spent_minor: int = 0
    transfers: Sequence[tuple[int, int, int]] = ()
    opens: tuple[str, int, int] | None = None
    """Purpose, amount, and the authorization it stands for: 0 for the row's own."""
    resolves: tuple[int, str] | None = None
    pin_tries: int = -1
    rrn: str = "r"
    auth_code: str = "A"
    acquirer: str = "metro"
    key: bytes = msgspec.field(default_factory=lambda: secrets.token_bytes(16))
    at_us: int = msgspec.field(default_factory=lambda: NOON_US + next(_numbers))
    remaining_us: int = 60_000_000
    ruleset: str = "3fa9"
    merchant: str = "M1"
    explanation: str = "because"
    rule_results: bytes = b""
    venue: str = ""
    stop: str = ""
    vehicle: str = ""
    tap: dict[str, Any] | None = None
    """Words of ledger.tap that differ from those of `TAP`."""
    chip: dict[str, Any] | None = None
    """Words of posting.ChipChange that differ from those of `CHIP`."""
    spent_on: date | None = None
    effects: dict[str, Any] | None = None
    """Words of post_effects that differ from those of `EFFECTS`."""
    additions: Sequence[tuple[bytes, str, int, int]] = ()
    """What it adds to buckets: series, key, minute, amount."""


class Books:
    """A ledger opened for tests: what the tests of the ledger's rooms say about it."""

    day, shards, key = DAY, SHARDS, KEY
    hold_expires_us = HOLD_EXPIRES_US

    def __init__(self, connection: bridge.Connection, accounts: Mapping[Any, int]) -> None:
        self.connection = connection
        self.trust = accounts["BANK", "trust"]
        self.acquirer = accounts["ACQ", "metro"]
        self.agent = accounts["AGENT", "metro"]
        self.pending = accounts["PENDING", "metro"]
        self.suspense = accounts["SUSPENSE", "operator"]
        self.intercity = accounts["INTERCITY", "north"]

    async def issue(self, count: int = 1, *, shard: int = 1, **terms: Any) -> list[IssuedCard]:
        """That many new cards, all of one shard."""
        issued: list[IssuedCard] = []
        while len(issued) < count:
            new = [cards.NewCard(numbered_card("621299", next(_numbers)), **terms)]
            made = await cards.issue(
                self.connection, new, shards=SHARDS, key=KEY, overdraft_minor=0
            )
            issued += [card for card in made if card.shard == shard]
        return issued

    def load(self, card: IssuedCard, minor: int, **more: Any) -> Row:
        moved = (self.trust, book(card), minor)
        return Row(
            card=card, kind="load", amount_minor=minor, approved_minor=minor,
            transfers=[moved], **more,
        )  # fmt: skip

    def purchase(self, card: IssuedCard, minor: int, **more: Any) -> Row:
        moved = [(book(card), self.acquirer, minor)] if minor else []
        return Row(
            card=card, amount_minor=minor, approved_minor=minor, spent_count=1, spent_minor=minor,
            transfers=moved, **more,
        )  # fmt: skip

    def reversal(self, card: IssuedCard, original_id: int, minor: int, **more: Any) -> Row:
        """The reversal of a purchase of the same month."""
        moved = [(self.acquirer, book(card), minor)] if minor else []
        more = {"spent_minor": -minor, "transfers": moved} | more
        return Row(
            card=card, kind="reversal", amount_minor=minor, approved_minor=minor,
            original_id=original_id, **more,
        )  # fmt: skip

    def decline(self, card: IssuedCard | None, minor: int, **more: Any) -> Row:
        return Row(card=card, amount_minor=minor, outcome="insufficient_funds", **more)

    def preauthorization(self, card: IssuedCard, minor: int, **more: Any) -> Row:
        usual: dict[str, Any] = {"opens": ("preauthorization", minor, 0)}
        return Row(
            card=card, kind="preauthorization", amount_minor=minor, approved_minor=minor,
            **(usual | more),
        )  # fmt: skip

    def completion(self, card: IssuedCard, hold_id: int, minor: int, **more: Any) -> Row:
        usual: dict[str, Any] = {
            "transfers": [(book(card), self.acquirer, minor)], "original_id": hold_id,
            "resolves": (hold_id, "completed"), "spent_count": 1, "spent_minor": minor,
        }  # fmt: skip
        return Row(
            card=card, kind="completion", amount_minor=minor, approved_minor=minor,
            **(usual | more),
        )  # fmt: skip

    def cancel(self, card: IssuedCard, hold_id: int, minor: int, **more: Any) -> Row:
        usual: dict[str, Any] = {
            "kind": "preauthorization_cancel", "original_id": hold_id,
            "resolves": (hold_id, "cancelled"),
        }  # fmt: skip
        return Row(card=card, amount_minor=minor, approved_minor=minor, **(usual | more))

    def given_back(self, card: IssuedCard, original_id: int, minor: int, **more: Any) -> Row:
        """A refund, unless `kind` says void or credit adjustment."""
        usual: dict[str, Any] = {"kind": "refund", "spent_minor": -minor}
        return Row(
            card=card, amount_minor=minor, approved_minor=minor, original_id=original_id,
            transfers=[(self.acquirer, book(card), minor)], **(usual | more),
        )  # fmt: skip

    def load_pending(self, card: IssuedCard, minor: int, **more: Any) -> Row:
        return Row(
            card=card, kind="load_pending", amount_minor=minor, approved_minor=minor,
            opens=("load", minor, 0), transfers=[(self.agent, self.pending, minor)], **more,
        )  # fmt: skip

    def load_confirmed(self, card: IssuedCard, pending_id: int, minor: int, **more: Any) -> Row:
        return Row(
            card=card, kind="load", amount_minor=minor, approved_minor=minor,
            original_id=pending_id, resolves=(pending_id, "completed"),
            transfers=[(self.pending, book(card), minor)], **more,
        )  # fmt: skip

    def fare(self, card: IssuedCard, minor: int, **more: Any) -> Row:
        """A single tap; `tap` says what of it is not as usual, `minor` is what it is charged."""
        moved = [(book(card), self.acquirer, minor)] if minor > 0 else []
        if minor < 0:
            moved = [(self.acquirer, book(card), -minor)]
        usual: dict[str, Any] = {
            "kind": "fare" if minor >= 0 else "fare_credit", "amount_minor": minor,
            "approved_minor": abs(minor), "spent_minor": minor, "spent_count": 1,
            "transfers": moved,
        }  # fmt: skip
        tap = {"nominal_minor": max(minor, 0), "recomputed_minor": min(minor, 0)}
        return Row(
            card=card, tap=tap | {"charged_minor": minor} | more.pop("tap", {}),
            **(usual | more),
        )  # fmt: skip

    def tap_on(self, card: IssuedCard, most_minor: int, **more: Any) -> Row:
        return Row(
            card=card, kind="tap_on", opens=("journey", most_minor, 0),
            tap={"kind": "tap_on"} | more.pop("tap", {}), **more,
        )  # fmt: skip

    def tap_off(self, card: IssuedCard, on_id: int, minor: int, **more: Any) -> Row:
        tap = {"kind": "tap_off", "journey_id": on_id} | more.pop("tap", {})
        return self.fare(
            card, minor, resolves=(on_id, "completed"), tap=tap, **({"kind": "tap_off"} | more)
        )  # fmt: skip

    def chip_load(self, card: IssuedCard, minor: int, **more: Any) -> Row:
        """A load of the chip's purse; `chip` is what the chip says of itself."""
        return Row(
            card=card, kind="load", amount_minor=minor, approved_minor=minor, purse=3,
            transfers=[(self.trust, book(card, 3), minor)], **more,
        )  # fmt: skip

    def record(self, card: IssuedCard, counter: int, minor: int, **more: Any) -> Row:
        """A record of the chip; in suspense where `chip` says so."""
        chip = {
            "counter": counter, "digest": f"\\x{counter:016x}", "batch": f"\\x{1:016x}",
        } | more.pop("chip", {})  # fmt: skip
        suspended = chip.get("suspense", False)
        payer = self.suspense if suspended else book(card, 3)
        usual: dict[str, Any] = {"spent_count": int(not suspended)}
        return Row(
            card=card, kind="offline_fare", amount_minor=minor, approved_minor=minor,
            purse=0 if suspended else 3, spent_minor=0 if suspended else minor,
            transfers=[(payer, self.acquirer, minor)], chip=chip, **(usual | more),
        )  # fmt: skip

    async def versions(self, *rows: Row) -> dict[int, int]:
        found = await self.connection.fetch("select account_id, version from ledger.account")
        known = {record["account_id"]: record["version"] for record in found}
        return {row.card.account_id: known[row.card.account_id] for row in rows if row.card}

    async def post(
        self,
        *rows: Row,
        versions: Mapping[int, int] | None = None,
        day: date = DAY,
        slot: int = 0,
        shard: int | None = None,
        connection: bridge.Connection | None = None,
    ) -> list[Any]:
        """Post one batch; its records (verdict, authorization_id, posted_at_us) in order."""
        if versions is None:
            versions = await self.versions(*rows)
        if shard is None:
            shard = next((row.card.shard for row in rows if row.card), 1)
        moved = [(n, *transfer) for n, row in enumerate(rows, 1) for transfer in row.transfers]
        constant = {
            "payload_hash": b"h", "message_class": "0200", "segment": "retail", "link": "retail-1",
            "terminal": "T1", "mcc": "5411", "entry_mode": "071",
            "stan": "000001", "local_at": "0331120000",
            "currency": "156",
        }  # fmt: skip
        records = await (connection or self.connection).fetch(
            _POST_BATCH, shard, slot, day, list(versions), list(versions.values()),
            [row.card.account_id if row.card else 0 for row in rows],
            [row.card.card_id if row.card else 0 for row in rows],
            *(
                [constant.get(name, getattr(row, name, None)) for row in rows]
                for name in _COLUMNS
            ),
            *([move[position] for move in moved] for position in range(4)),
            [rows[move[0] - 1].kind if move[0] <= len(rows) else "load" for move in moved],
            *_sparse(rows),
        )  # fmt: skip
        return list(records)

    async def posted(self, *rows: Row, **how: Any) -> list[int]:
        """Post rows that must all be taken; their authorization ids."""
        records = await self.post(*rows, **how)
        assert [record["verdict"] for record in records] == ["posted"] * len(rows)
        return [record["authorization_id"] for record in records]

    async def purse(self, card: IssuedCard, purse: int = 2) -> Any:
        return await self.connection.fetchrow(
            "select * from ledger.purse where shard = $1 and account_id = $2 and purse = $3",
            card.shard, card.account_id, purse,
        )  # fmt: skip

    async def count(self, table: str) -> int:
        found: int = await self.connection.fetchval(f"select count(*) from ledger.{table}")
        return found


def _sparse(rows: Sequence[Row]) -> list[Any]:
    """What few rows have: holds to open, holds to resolve, wrong PINs, places, taps, chips."""
    opened = [(n, row.purse, *row.opens) for n, row in enumerate(rows, 1) if row.opens]
    resolved = [(n, *row.resolves) for n, row in enumerate(rows, 1) if row.resolves]
    added = [(n, *addition) for n, row in enumerate(rows, 1) for addition in row.additions]
    counted = [(n, row.pin_tries) for n, row in enumerate(rows, 1) if row.pin_tries >= 0]
    return [
        [each[0] for each in opened],
        [each[2] for each in opened],
        [each[1] for each in opened],
        [each[3] for each in opened],
        [HOLD_EXPIRES_US] * len(opened),
        [each[4] for each in opened],
        *([each[position] for each in resolved] for position in range(3)),
        *([each[position] for each in counted] for position in range(2)),
        *([getattr(row, name) for row in rows] for name in ("venue", "stop", "vehicle")),
        _json({"n": n} | TAP | row.tap for n, row in enumerate(rows, 1) if row.tap is not None),
        _json({"n": n} | CHIP | row.chip for n, row in enumerate(rows, 1) if row.chip is not None),
        [row.spent_on for row in rows],
        _json({"n": n} | EFFECTS | row.effects for n, row in enumerate(rows, 1) if row.effects),
        *([each[position] for each in added] if added else None for position in range(5)),
    ]


def _json(rows: Iterable[dict[str, Any]]) -> Any:
    written = list(rows)
    return msgspec.json.encode(written).decode() if written else None


def book(card: IssuedCard, purse: int = 2) -> int:
    """The account id of a purse in transfers."""
    return card.account_id * 16 + purse


@pytest.fixture
async def books(connection: bridge.Connection) -> Books:
    """A fresh ledger with partitions from the day before DAY to two days after."""
    await migrate.initialise(
        connection,
        shards=SHARDS,
        time_zone="Asia/Shanghai",
        cut_off="00:00",
        currency="156",
        card_key_fingerprint=cards.card_key_fingerprint(KEY),
        acquirers=["metro"],
    )
    owned = [
        ("AGENT", "metro"),
        ("PENDING", "metro"),
        ("SUSPENSE", "operator"),
        ("INTERCITY", "north"),
    ]
    await connection.fetch(
        sql.queries()["open_settlement_accounts"],
        [code for code, _ in owned],
        [owner for _, owner in owned],
    )
    await partitions.make_ahead(connection, DAY, 2, 1)
    return Books(connection, await migrate.settlement_accounts(connection))


@pytest.fixture
def tomorrow() -> date:
    return DAY + timedelta(days=1)
