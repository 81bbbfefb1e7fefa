"""What batches are worth: ledger work in batches, one by one, and PostgreSQL's own benchmark.

Three ways of the same machine, one after the other in each round, so that a busy moment
hits all of them: load, decide and post in batches over the shards; the same work as one
interactive transaction an authorization; and pgbench (TPC-B-like) as the yardstick that
anyone can repeat. fsync is on throughout, and the ledger is audited at the end.
"""

from __future__ import annotations

import argparse
import functools
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import anyio
import msgspec

from protocols.card_number import numbered_card
from protocols.message import Kind, Request, Segment
from protocols.money import Money
from switch.calendar import BusinessCalendar
from switch.clock import SystemClock
from switch.config import Config
from switch.decide import Terms, decide, moment_at
from switch.ledger import bridge, sql
from switch.ledger.audit import audit
from switch.ledger.cards import IssuedCard, NewCard, issue
from switch.ledger.counter import LoadOrder, load_purses
from switch.ledger.embedded import PROGRAMS, EmbeddedServer, running
from switch.ledger.migrate import settlement_accounts
from switch.ledger.prepare import prepare
from switch.ledger.store import LANE_SETTINGS, Store
from switch.posting import Directed, Posting, Purse, Verdict, purse_book
from switch.terms import load_terms

BATCHES = (1, 8, 32, 128)
INTERACTIVE_CONNECTIONS = (4, 16)
PGBENCH_CLIENTS = (4, 16)
PGBENCH_SCALE = 20
ROUNDS = 3
CARDS = 40_000
PURSE_MINOR = 400_000
KEY = b"a key for figures, not for cards"
CONNECT_SECONDS = 30.0
UNHURRIED_US = 60_000_000
_QUERIES = sql.queries("bench.sql")
_TPS = re.compile(r"tps = ([0-9.]+)")
_LATENCY = re.compile(r"latency average = ([0-9.]+)")


class Measured(msgspec.Struct, frozen=True):
    """One way in one round. `p99_ms` is of a batch, a transaction, or 0 where unknown."""

    way: str
    per_second: float
    p50_ms: float
    p99_ms: float


class Figure(msgspec.Struct, frozen=True):
    """Medians over the rounds; `ratio` is against the best interactive way."""

    way: str
    per_second: float
    p50_ms: float
    p99_ms: float
    ratio: float
    rounds: list[float]


class Figures(msgspec.Struct, frozen=True):
    """The whole run, with what it ran on."""

    figures: list[Figure]
    audit_clean: bool
    processors: int
    server: str


class Bench:
    """A loaded ledger and the ways to post to it."""

    def __init__(self, url: str, config: Config, terms: Terms, cards: Sequence[IssuedCard]) -> None:
        self._url = url
        self._terms = terms
        self._clock = SystemClock()
        self._calendar = BusinessCalendar(config.ledger.time_zone, config.ledger.cut_off)
        self._shards = config.ledger.shards
        self._acquirer = config.links[0].acquirer
        self._cards: dict[int, list[IssuedCard]] = {shard: [] for shard in range(self._shards)}
        for card in cards:
            self._cards[card.shard].append(card)

    async def batches(self, size: int, seconds: float) -> Measured:
        """Every shard posts batches of this size, one after the other."""
        stores = [await Store.open(self._url, CONNECT_SECONDS) for _ in range(self._shards)]
        try:
            workers = [
                functools.partial(self._batch, store, shard, size)
                for shard, store in enumerate(stores)
            ]
            return await _timed(f"batches of {size}", workers, seconds)
        finally:
            for store in stores:
                store.terminate()

    async def _batch(self, store: Store, shard: int, size: int) -> int:
        moment = moment_at(self._clock.now_us(), self._calendar, self._terms)
        batch = [self._directed(card) for card in random.sample(self._cards[shard], size)]
        loaded = await store.load(shard, moment.business_date, moment.now_us, batch)
        decisions = [
            decide(directed, facts, self._terms, moment)
            for directed, facts in zip(batch, loaded, strict=True)
        ]
        postings = [decision for decision in decisions if isinstance(decision, Posting)]
        versions = {
            facts.account.account_id: facts.account.version for facts in loaded if facts.account
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
        return sum(posted.verdict is Verdict.POSTED for posted in verdicts)

    async def interactive(self, connections: int, seconds: float) -> Measured:
        """Each connection runs one transaction an authorization, statement by statement."""
        opened = [
            await bridge.connect(self._url, settings=LANE_SETTINGS) for _ in range(connections)
        ]
        try:
            workers = []
            for connection in opened:
                prepared = {
                    name: await connection.prepare(text)
                    for name, text in _QUERIES.items()
                    if name not in ("begin", "commit")
                }
                workers.append(functools.partial(self._transaction, connection, prepared))
            return await _timed(f"interactive, {connections} connections", workers, seconds)
        finally:
            for connection in opened:
                await connection.close()

    async def _transaction(
        self, connection: bridge.Connection, prepared: dict[str, bridge.Prepared]
    ) -> int:
        card = random.choice(self._cards[random.randrange(self._shards)])  # noqa: S311
        moment = moment_at(self._clock.now_us(), self._calendar, self._terms)
        today, shard, account_id = moment.business_date, card.shard, card.account_id
        key, amount_minor = os.urandom(16), 1_00
        await connection.execute(_QUERIES["begin"])
        await prepared["lock_account"].fetch(shard, account_id)
        await prepared["card"].fetch(shard, card.card_id)
        await prepared["purses"].fetch(shard, account_id)
        await prepared["stored"].fetch(shard, key, today)
        await prepared["history"].fetch(account_id, shard, moment.now_us - 86_400_000_000, today)
        rows = await prepared["insert_authorization"].fetch(
            today, shard, account_id, card.card_id, moment.now_us, key, key[:8], amount_minor
        )
        debit, credit = purse_book(account_id, Purse.GEN), self._payable
        await prepared["insert_transfer"].fetch(
            today, shard, rows[0]["authorization_id"], debit, credit, amount_minor
        )
        await prepared["update_purse"].fetch(shard, account_id, Purse.GEN, amount_minor, today)
        await prepared["update_position"].fetch(shard, today, credit, 0, amount_minor)
        await prepared["update_account"].fetch(shard, account_id)
        await connection.execute(_QUERIES["commit"])
        return 1

    @property
    def _payable(self) -> int:
        return self._terms.settlement_accounts["ACQ", self._acquirer]

    def _directed(self, card: IssuedCard) -> Directed:
        now_ns = self._clock.monotonic_ns()
        octets = os.urandom(12)
        request = Request(
            kind=Kind.PURCHASE,
            segment=Segment.RETAIL,
            acquirer=self._acquirer,
            link="bench",
            message_class="02",
            card=None,
            amount=Money(1_00, "156"),
            terminal="R0000101",
            merchant="BENCH",
            mcc="5499",
            stan="000001",
            local_at="1122120000",
            rrn="",
            entry_mode="071",
            expiry="",
            # Like real keys, these rise with time in their first four bytes.
            key=(now_ns // 1_000_000_000).to_bytes(4, "big") + octets,
            payload_hash=octets[:8],
            received_ns=now_ns,
            deadline_ns=now_ns + UNHURRIED_US * 1_000,
        )
        return Directed(request, card.shard, card.account_id, card.card_id, b"")


async def _timed(
    way: str, workers: Sequence[Callable[[], Awaitable[int]]], seconds: float
) -> Measured:
    """Run each worker over and over, all at once, for so long; authorizations a second."""
    posted = 0
    took_ms: list[float] = []
    begun = time.monotonic()

    async def work(once: Callable[[], Awaitable[int]]) -> None:
        nonlocal posted
        while (before := time.monotonic()) - begun < seconds:
            # Not `posted += await ...`, which would read the sum before the others add to it.
            count = await once()
            posted += count
            took_ms.append((time.monotonic() - before) * 1000)

    async with anyio.create_task_group() as tasks:
        for once in workers:
            tasks.start_soon(work, once)
    took_ms.sort()
    elapsed = time.monotonic() - begun
    p99_ms = took_ms[len(took_ms) * 99 // 100]
    return Measured(way, posted / elapsed, statistics.median(took_ms), p99_ms)


def pgbench(server: EmbeddedServer, *arguments: str) -> str:
    """What the wheel's pgbench prints, run against a database of its own."""
    environment = {"PGHOST": str(server.socket_directory), "PGUSER": "citycard", "LC_ALL": "C"}
    command = [str(PROGRAMS / "pgbench"), *arguments, "postgres"]
    return subprocess.run(  # noqa: S603 - the wheel's program
        command, env=os.environ | environment, capture_output=True, text=True, check=True
    ).stdout


def _pgbench_round(server: EmbeddedServer, clients: int, seconds: float) -> Measured:
    said = pgbench(
        server,
        "-M",
        "prepared",
        "-c",
        str(clients),
        "-j",
        "2",
        "-n",
        "-T",
        str(max(1, round(seconds))),
    )
    tps, latency = _TPS.search(said), _LATENCY.search(said)
    assert tps is not None
    assert latency is not None
    way = f"pgbench TPC-B-like, {clients} clients"
    return Measured(way, float(tps.group(1)), float(latency.group(1)), 0.0)


async def _prepared(url: str, cards: int) -> Bench:
    """A fresh ledger with loaded cards."""
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
    store = await Store.open(url, CONNECT_SECONDS)
    orders = [
        LoadOrder(card.shard, card.account_id, card.card_id, "GEN", PURSE_MINOR) for card in issued
    ]
    await load_purses(
        store,
        orders,
        terms=terms,
        currency=config.ledger.currency,
        calendar=BusinessCalendar(config.ledger.time_zone, config.ledger.cut_off),
        clock=SystemClock(),
        entropy=os.urandom,
    )
    store.terminate()
    return Bench(url, config, terms, issued)


async def _round(url: str, bench: Bench, seconds: float) -> list[Measured]:
    measured = [await bench.batches(size, seconds) for size in BATCHES]
    measured += [await bench.interactive(n, seconds) for n in INTERACTIVE_CONNECTIONS]
    return measured


async def _clean(url: str) -> tuple[bool, str]:
    connection = await bridge.connect(url)
    try:
        report = await audit(connection)
        for check in report.checks:
            if check.findings:
                print(f"audit: {check.name}: {check.findings}", file=sys.stderr)  # noqa: T201
        return report.clean, str(await connection.fetchval("show server_version"))
    finally:
        await connection.close()


def summarise(rounds: Sequence[Sequence[Measured]]) -> list[Figure]:
    """Medians of each way over the rounds, and their ratio to the best interactive way."""
    by_way: dict[str, list[Measured]] = {}
    for measured in rounds:
        for one in measured:
            by_way.setdefault(one.way, []).append(one)

    def median(way: str, field: str) -> float:
        return float(statistics.median(getattr(one, field) for one in by_way[way]))

    base = max(
        (median(way, "per_second") for way in by_way if way.startswith("interactive")), default=0.0
    )
    return [
        Figure(
            way,
            round(median(way, "per_second"), 1),
            round(median(way, "p50_ms"), 2),
            round(median(way, "p99_ms"), 2),
            round(median(way, "per_second") / base, 2) if base else 0.0,
            [round(one.per_second, 1) for one in measured],
        )
        for way, measured in by_way.items()
    ]


def measure(
    directory: Path,
    *,
    seconds: float,
    rounds: int,
    cards: int,
    say: Callable[[str], None],
    scale: int = PGBENCH_SCALE,
) -> Figures:
    """Run everything on an embedded server in this (empty) directory."""
    with running(directory) as server:
        say(f"issuing and loading {cards:,} cards")
        bench = bridge.run("asyncio", _prepared, server.url, cards)
        pgbench(server, "-i", "-q", "-s", str(scale))
        measured: list[list[Measured]] = []
        for number in range(1, rounds + 1):
            say(f"round {number} of {rounds}")
            one = bridge.run("asyncio", _round, server.url, bench, seconds)
            one += [_pgbench_round(server, clients, seconds) for clients in PGBENCH_CLIENTS]
            measured.append(one)
        say("auditing")
        clean, version = bridge.run("asyncio", _clean, server.url)
    return Figures(summarise(measured), clean, os.cpu_count() or 0, f"PostgreSQL {version}")


def table(figures: Figures) -> str:
    """The figures as a table of plain text."""
    lines = [f"{'way':<34}{'per s':>9}{'ratio':>7}{'p50 ms':>9}{'p99 ms':>9}"]
    for one in figures.figures:
        p99 = f"{one.p99_ms:9.1f}" if one.p99_ms else f"{'':9}"
        lines.append(f"{one.way:<34}{one.per_second:9.0f}{one.ratio:7.2f}{one.p50_ms:9.1f}{p99}")
    lines.append(
        f"{figures.server}, fsync on, {figures.processors} processors; p50 and p99 of one batch or "
        f"transaction; audit {'clean' if figures.audit_clean else 'HAS FINDINGS'}"
    )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, and write JSON where asked; 1 when the audit is not clean."""
    parser = argparse.ArgumentParser(prog="python -m switch.ledger.bench", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each way in each round")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--cards", type=int, default=CARDS)
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args(argv)

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)  # noqa: T201

    with tempfile.TemporaryDirectory(prefix="citycard-bench-") as directory:
        figures = measure(
            Path(directory), seconds=given.seconds, rounds=given.rounds, cards=given.cards, say=say
        )
    if given.json:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(figures)) + b"\n")
    print(table(figures))  # noqa: T201
    return 0 if figures.audit_clean else 1


if __name__ == "__main__":
    sys.exit(main())
