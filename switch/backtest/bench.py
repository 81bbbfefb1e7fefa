"""How fast history is replayed: a ledger is filled with a day of a city's payments, then tested.

`python -m switch.backtest.bench` fills an embedded ledger in a directory of its own (or uses the
one that an earlier run left there) through the code that decides live, and replays the shipped
ruleset over it with one process and with one a core. Every row must come out as it was stored.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import statistics
import sys
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import anyio
import msgspec

from protocols.card_number import numbered_card
from protocols.message import Kind, Request, Segment
from protocols.money import Money
from risk.backtest_result import BacktestResult
from risk.check import first_ruleset
from risk.compile import compile_ruleset
from risk.deployment import Deployment, in_force
from risk.ruleset import canonical_bytes
from switch.backtest.messages import ShardRequest
from switch.backtest.replaying import replay_shards
from switch.backtest.running import BacktestRequest, run_backtest
from switch.backtest.shard import GC_ALLOCATIONS
from switch.calendar import BusinessCalendar
from switch.clock import SystemClock
from switch.config import Config
from switch.decide import Terms, decide, moment_at
from switch.ledger import bridge, sql
from switch.ledger.audit import audit
from switch.ledger.cards import IssuedCard, NewCard, issue, medium_of
from switch.ledger.embedded import running
from switch.ledger.migrate import settlement_accounts
from switch.ledger.prepare import prepare
from switch.ledger.store import Store
from switch.posting import Directed, Posting, Verdict
from switch.terms import load_terms

ROWS = 200_000
CARDS = 10_000
BATCH = 128
ROUNDS = 3
KEY = b"a key for figures, not for cards"
CONNECT_SECONDS = 30.0
UNHURRIED_US = 60_000_000
_QUERIES = sql.queries("backtest.sql")


class Figure(msgspec.Struct, frozen=True):
    """Rounds with so many processes: rows a second of each, and their median."""

    workers: int
    rows: int
    assessed: int
    per_second: float
    rounds: list[float]
    agreeing: int


class CoreFigure(msgspec.Struct, frozen=True):
    """One process, by the time that it had the processor: whatever else the machine does."""

    rows: int
    per_core_second: float
    rounds: list[float]


class Filling:
    """Purchases, loads and inquiries of the cards of each shard, in batches."""

    def __init__(self, terms: Terms, cards: Sequence[tuple[IssuedCard, bytes]], seed: int) -> None:
        self._terms = terms
        self._dice = random.Random(seed)  # noqa: S311 - traffic, not a secret
        self._clock = SystemClock()
        config = Config()
        self._calendar = BusinessCalendar(config.ledger.time_zone, config.ledger.cut_off)
        self._acquirer = config.links[0].acquirer
        self._cards: dict[int, list[tuple[IssuedCard, bytes]]] = {}
        for card, medium in cards:
            self._cards.setdefault(card.shard, []).append((card, medium))

    @property
    def shards(self) -> list[int]:
        return sorted(self._cards)

    async def fill(self, store: Store, shard: int, rows: int) -> int:
        """Post about so many authorizations of one shard."""
        posted = 0
        while posted < rows:
            posted += await self._batch(store, shard)
        return posted

    async def _batch(self, store: Store, shard: int) -> int:
        moment = moment_at(self._clock.now_us(), self._calendar, self._terms)
        chosen = self._dice.sample(self._cards[shard], BATCH)
        batch = [self._directed(card, medium) for card, medium in chosen]
        loaded = await store.load(shard, moment.business_date, moment.now_us, batch)
        decided = [
            decide(directed, facts, self._terms, moment)
            for directed, facts in zip(batch, loaded, strict=True)
        ]
        postings = [each for each in decided if isinstance(each, Posting)]
        versions = {
            each.account.account_id: each.account.version for each in loaded if each.account
        }
        verdicts = await store.post(
            shard,
            0,
            moment.business_date,
            versions,
            postings,
            [UNHURRIED_US] * len(postings),
            self._terms.rules.hash,
        )
        return sum(each.verdict is Verdict.POSTED for each in verdicts)

    def _directed(self, card: IssuedCard, medium: bytes) -> Directed:
        dice = self._dice
        now_ns = self._clock.monotonic_ns()
        octets = dice.randbytes(12)
        kind, purse = dice.choices(
            [(Kind.PURCHASE, ""), (Kind.LOAD, "GEN"), (Kind.PREAUTHORIZATION, "")], [88, 8, 4]
        )[0]
        place = dice.randrange(400)
        request = Request(
            kind=kind,
            segment=Segment.RETAIL,
            acquirer=self._acquirer,
            link="bench",
            message_class="02",
            card=None,
            amount=Money(dice.choice((1_50, 12_80, 35_00, 210_00)), "156"),
            terminal=f"R{place:07}",
            merchant=f"SHOP{place % 60:03}",
            mcc=dice.choice(("5411", "5499", "5812")),
            stan="000001",
            local_at="1122120000",
            rrn="",
            entry_mode="071",
            expiry="",
            key=(now_ns // 1_000_000_000).to_bytes(4, "big") + octets,
            payload_hash=octets[:8],
            received_ns=now_ns,
            deadline_ns=now_ns + UNHURRIED_US * 1_000,
            purse=purse,
        )
        return Directed(request, card.shard, card.account_id, card.card_id, medium)


async def _filled(url: str, rows: int, cards: int) -> None:
    config = Config()
    connection = await bridge.connect(url)
    try:
        await prepare(connection, config, key=KEY, now_us=SystemClock().now_us())
        new = [NewCard(numbered_card("621234", n), "3012", "T2") for n in range(cards)]
        issued = await issue(
            connection, new, shards=config.ledger.shards, key=KEY, overdraft_minor=0
        )
        terms = load_terms(config, await settlement_accounts(connection))
    finally:
        await connection.close()
    ruleset = first_ruleset()
    deployment = Deployment(
        in_force(ruleset, compile_ruleset(ruleset)), read=lambda _series, _key, _minute: 0
    )
    known = [(card, medium_of(each.card, KEY)) for card, each in zip(issued, new, strict=True)]
    filling = Filling(msgspec.structs.replace(terms, rules=deployment), known, seed=1)
    each = rows // len(filling.shards)
    async with anyio.create_task_group() as tasks:
        for shard in filling.shards:
            tasks.start_soon(_fill_shard, url, filling, shard, each)


async def _fill_shard(url: str, filling: Filling, shard: int, rows: int) -> None:
    store = await Store.open(url, CONNECT_SECONDS)
    try:
        await filling.fill(store, shard, rows)
    finally:
        store.terminate()


async def _has_history(url: str) -> bool:
    connection = await bridge.connect(url)
    try:
        if not await connection.fetchval(_QUERIES["is_ledger"]):
            return False
        row = await connection.fetchrow(_QUERIES["days"])
        return row is not None and row["first_day"] is not None
    finally:
        await connection.close()


async def _days(url: str) -> tuple[date, date]:
    """The first and the last business day that there is history of."""
    connection = await bridge.connect(url)
    try:
        row = await connection.fetchrow(_QUERIES["days"])
    finally:
        await connection.close()
    assert row is not None
    return row["first_day"], row["last_day"]


async def _measured(url: str, workers: int, rounds: int) -> Figure:
    first, last = await _days(url)
    results: list[BacktestResult] = []
    for _ in range(rounds):
        request = BacktestRequest(
            url=url,
            ruleset=first_ruleset(),
            from_date=first,
            to_date=last,
            workers=workers,
        )
        results.append(await run_backtest(request))
    speeds = [round(result.rows / result.seconds, 1) for result in results]
    one = results[0]
    return Figure(
        workers, one.rows, one.assessed, statistics.median(speeds), speeds, one.agreement.equal
    )


async def _on_one_core(url: str, rounds: int) -> CoreFigure:
    """Reading and replaying in this process."""
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS)
    first, last = await _days(url)
    request = ShardRequest(
        url=url,
        canonical=canonical_bytes(first_ruleset()),
        shards=tuple(range(Config().ledger.shards)),
        warm_up_from=first,
        from_date=first,
        to_date=last,
        until_us=2**62,
    )
    speeds: list[float] = []
    for _ in range(rounds):
        began = time.process_time()
        tally = await replay_shards(request, told=lambda _rows: None, stopping=lambda: False)
        speeds.append(round(tally.rows / (time.process_time() - began), 1))
    return CoreFigure(tally.rows, statistics.median(speeds), speeds)


async def _clean(url: str) -> bool:
    connection = await bridge.connect(url)
    try:
        return (await audit(connection)).clean
    finally:
        await connection.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figures; 1 where a row did not come out as stored, or the audit is not clean."""
    parser = argparse.ArgumentParser(prog="python -m switch.backtest.bench", description=__doc__)
    parser.add_argument("--directory", type=Path, required=True, help="of the embedded ledger")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--cards", type=int, default=CARDS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args(argv)
    said: dict[str, Any] = {"processors": os.cpu_count()}
    with running(arguments.directory) as server:
        if not bridge.run("asyncio", _has_history, server.url):
            began = time.monotonic()
            bridge.run("asyncio", _filled, server.url, arguments.rows, arguments.cards)
            said["filling_seconds"] = round(time.monotonic() - began, 1)
        figures = [
            bridge.run("asyncio", _measured, server.url, workers, arguments.rounds)
            for workers in sorted({1, os.cpu_count() or 1})
        ]
        said["figures"] = figures
        core = bridge.run("asyncio", _on_one_core, server.url, arguments.rounds)
        said["one_core"] = core
        said["audit_clean"] = bridge.run("asyncio", _clean, server.url)
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(said), indent=2).decode() + "\n")
    agreed = all(each.agreeing == each.assessed for each in figures)
    return 0 if agreed and said["audit_clean"] else 1


if __name__ == "__main__":
    sys.exit(main())
