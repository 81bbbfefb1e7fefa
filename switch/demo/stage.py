"""Sets the stage of a demonstration: a fresh ledger, issued cards, money on them, some blocked.

Cards follow the BIN rule that the acquirer's load generator follows too, so the two sides
agree on a card by its index and never exchange a list.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import msgspec

from protocols.card_number import numbered_card
from switch import config as configuration
from switch.calendar import BusinessCalendar
from switch.clock import SystemClock
from switch.config import Config, key_path
from switch.keys import make_key, read_key
from switch.ledger import bridge, sql
from switch.ledger.bridge import Connection
from switch.ledger.cards import (
    CardReference,
    CardStatus,
    IssuedCard,
    NewCard,
    entitle,
    issue,
    set_status,
)
from switch.ledger.counter import LoadOrder, load_purses
from switch.ledger.migrate import settlement_accounts
from switch.ledger.prepare import prepare
from switch.ledger.store import Store
from switch.terms import live_terms

CITY_CARD_BIN = "621234"
CARD_EXPIRES_YYMM = "3012"
_QUERIES = sql.queries("demo.sql")

PURSE_MINOR = {"T0": 80_000, "T1": 200_000, "T2": 400_000}
"""On an ordinary card's general purse, below the cap of its tier (domain §3.5)."""
POOR_PURSE_MINOR = 300
TRANSIT_MINOR = 10_000
HALF_FARE_CLASS = 1
ENTITLED_US = 30 * 86_400_000_000
ISSUE_CHUNK = 5_000
LOAD_CHUNK = 1_000
MARKER_FILE = "demonstration"
"""Says that the ledger in this directory may be thrown away; locked while one runs."""

CONFIGURATION = """\
# Any free ports, the rest as shipped.
[server]
metrics_port = 0

[[links]]
name = "retail-1"
port = 0
"""
LINK = "retail-1"


class StageNotSet(Exception):
    """The demonstration can't have what it needs; the text says what to do."""


class Crowd(msgspec.Struct, frozen=True):
    """How many cards of each sort: indexes 0.. are blocked, then poor, then ordinary.

    The first of the ordinary ones are `riders`, who have transit money too; the first of
    those have `chips` with a purse of their own, and the next ones `entitled` to half fare.
    """

    cards: int
    blocked: int
    poor: int
    riders: int = 0
    chips: int = 0
    entitled: int = 0

    @property
    def first_rider(self) -> int:
        return self.blocked + self.poor


def crowd_of(cards: int) -> Crowd:
    """One card of a hundred blocked, two poor, the rest ordinary."""
    return Crowd(cards, cards // 100, cards // 50)


def city_crowd_of(cards: int) -> Crowd:
    """A crowd of which every other card rides, some with a chip, some at half fare."""
    riders = cards // 2
    return msgspec.structs.replace(
        crowd_of(cards), riders=riders, chips=riders // 4, entitled=min(100, riders // 8)
    )


def tier_of(index: int) -> str:
    """Six of ten cards are anonymous, three named, one verified."""
    return "T0" if index % 10 < 6 else "T1" if index % 10 < 9 else "T2"


@contextmanager
def own_directory(home: Path) -> Iterator[None]:
    """The directory for one demonstration at a time, and never one with a real ledger in it.

    Raises StageNotSet.
    """
    marker = home / MARKER_FILE
    if (home / "postgres").exists() and not marker.exists():
        raise StageNotSet(f"{home} holds a ledger that no demonstration made; give another one")
    home.mkdir(parents=True, exist_ok=True)
    with marker.open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StageNotSet(
                f"another demonstration is running in {home}; wait for it or give --directory"
            ) from None
        yield


async def fresh_database(admin_url: str) -> None:
    """Replace the ledger of the demonstration before by an empty database."""
    connection = await bridge.connect(admin_url)
    try:
        await connection.execute(_QUERIES["drop_database"])
        await connection.execute(_QUERIES["create_database"])
    finally:
        await connection.close()


def write_configuration(home: Path, more: str = "") -> tuple[Path, Config]:
    """The configuration file of a staged switch, and what it says; `more` is added to it."""
    path = home / "citycard.toml"
    path.write_text(CONFIGURATION + more, "utf-8")
    return path, configuration.load(path)


def card_key(config: Config, directory: Path) -> bytes:
    """The demonstration's card number key, made when it is missing."""
    path = key_path(config, directory)
    make_key(path)
    return read_key(path)


async def set_stage(
    url: str, config: Config, key: bytes, crowd: Crowd, step: Callable[[str], None]
) -> None:
    """Migrate, issue the cards, load them and block the first ones; `step` is told of each."""
    connection = await bridge.connect(url)
    try:
        await prepare(connection, config, key=key, now_us=SystemClock().now_us())
        issued: list[IssuedCard] = []
        for start in range(0, crowd.cards, ISSUE_CHUNK):
            chunk = range(start, min(start + ISSUE_CHUNK, crowd.cards))
            issued += await issue(
                connection,
                [new_card(index, chip=has_chip(index, crowd)) for index in chunk],
                shards=config.ledger.shards,
                key=key,
                overdraft_minor=config.purses.transit.overdraft_minor,
            )
            step(f"{len(issued):,} of {crowd.cards:,} cards issued")
        await _load(url, config, issued, crowd, step)
        await _entitle(connection, issued, crowd)
        for card in issued[: crowd.blocked]:
            await set_status(connection, card.card_id, CardStatus.BLOCKED, "reported lost")
        step(f"{crowd.blocked:,} cards blocked, {crowd.poor:,} left nearly empty")
    finally:
        await connection.close()


def new_card(index: int, *, chip: bool = False) -> NewCard:
    """The card with this index of the population."""
    card = numbered_card(CITY_CARD_BIN, index)
    return NewCard(card, CARD_EXPIRES_YYMM, tier_of(index), chip=chip)


def has_chip(index: int, crowd: Crowd) -> bool:
    """Whether the card with this index has a purse on a chip."""
    return 0 <= index - crowd.first_rider < crowd.chips


async def _entitle(connection: Connection, issued: list[IssuedCard], crowd: Crowd) -> None:
    """Some riders have a right to half fare, since long and for long."""
    now_us, first = SystemClock().now_us(), crowd.first_rider + crowd.chips
    for card in issued[first : first + crowd.entitled]:
        reference = CardReference(card.card_id, card.account_id, card.shard, card.last4)
        await entitle(
            connection,
            reference,
            HALF_FARE_CLASS,
            from_us=now_us - ENTITLED_US,
            until_us=now_us + ENTITLED_US,
            granted_by="demonstration",
        )


async def _load(
    url: str,
    config: Config,
    issued: list[IssuedCard],
    crowd: Crowd,
    step: Callable[[str], None],
) -> None:
    """Put money on every purse through the operator's counter, one shard beside the other."""
    connection = await bridge.connect(url)
    try:
        accounts = await settlement_accounts(connection)
        terms = await live_terms(config, accounts, connection, SystemClock().now_us())
    finally:
        await connection.close()
    orders = [
        LoadOrder(card.shard, card.account_id, card.card_id, "GEN", _purse_minor(index, crowd))
        for index, card in enumerate(issued)
    ]
    riders = issued[crowd.first_rider : crowd.first_rider + crowd.riders]
    orders += [
        LoadOrder(card.shard, card.account_id, card.card_id, "TRN", TRANSIT_MINOR)
        for card in riders
    ]
    done = 0

    async def load_shard(shard: int) -> None:
        nonlocal done
        store = await Store.open(url, config.ledger.connect_timeout_seconds)
        try:
            mine = [order for order in orders if order.shard == shard]
            for start in range(0, len(mine), LOAD_CHUNK):
                replies = await load_purses(
                    store,
                    mine[start : start + LOAD_CHUNK],
                    terms=terms,
                    currency=config.ledger.currency,
                    calendar=BusinessCalendar(config.ledger.time_zone, config.ledger.cut_off),
                    clock=SystemClock(),
                    entropy=os.urandom,
                )
                done += sum(reply.outcome.approved for reply in replies)
                step(f"{done:,} of {len(orders):,} purses loaded")
        finally:
            store.terminate()

    async with anyio.create_task_group() as tasks:
        for shard in range(config.ledger.shards):
            tasks.start_soon(load_shard, shard)
    if done != len(orders):
        raise StageNotSet(f"{len(orders) - done} loads were refused; check the tiers' caps")


def _purse_minor(index: int, crowd: Crowd) -> int:
    if crowd.blocked <= index < crowd.blocked + crowd.poor:
        return POOR_PURSE_MINOR
    return PURSE_MINOR[tier_of(index)]
