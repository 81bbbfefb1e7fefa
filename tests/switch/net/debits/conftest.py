"""A worker's parts on a ledger with a few cards, a biller with mandates, and its API."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from protocols.card_number import CardNumber
from switch.clock import SystemClock
from switch.config import Config, Ledger
from switch.config_city import Api, Biller, Uploads
from switch.demo import stage
from switch.keys import make_key, read_key
from switch.ledger import bridge
from switch.ledger.audit import audit
from switch.ledger.cards import medium_of
from switch.ledger.debits import DebitLedger, DebitRow
from switch.ledger.migrate import settlement_accounts
from switch.net.debits.assembly import collecting_of, debit_desk
from switch.net.debits.file_format import debit_lines
from switch.net.debits.routes import debit_routes
from switch.net.http.access import Gate
from switch.net.http.edge import Edge
from switch.net.http.routes import application
from switch.net.http.server import HttpPort
from switch.terms import load_terms
from switch.worker import Assignment, Worker

CARDS, BLOCKED, POOR = 6, 1, 1
"""Card 0 is blocked, card 1 has 3.00, the others have enough."""
WATER = "48041000"
PATIENCE_SECONDS = 30
DAY = date(2026, 11, 5)
CONFIG = Config(
    ledger=Ledger(shards=2),
    billers=(
        Biller(name="water", url="http://127.0.0.1:9", venue="water", acquirer=WATER),
        Biller(name="power", url="http://127.0.0.1:9", venue="electricity", acquirer="48042000"),
    ),
    apis=(Api(name="bills", acquirer=WATER, port=0, body_bytes_max=2_048),),
    uploads=Uploads(in_flight_max=24, debit_rows_max=20_000),
)


class House:
    """What the tests of debit files stand on."""

    def __init__(self, worker: Worker, database: str, key: bytes) -> None:
        self.worker, self.database, self.key = worker, database, key
        self.http = httpx.AsyncClient()

    def collecting(self, **changes: Any) -> Any:
        made = collecting_of(
            CONFIG, self.database, self.worker.pipeline.submit, self.worker.clock,
            self.worker.metrics,
        )  # fmt: skip
        made._look_seconds = 0.02
        for name, value in changes.items():
            setattr(made, f"_{name}", value)
        return made

    @asynccontextmanager
    async def working(self, **changes: Any) -> AsyncIterator[None]:
        """Files are worked off for as long as the body runs."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.collecting(**changes).run)
            yield
            tasks.cancel_scope.cancel()

    def card(self, index: int) -> CardNumber:
        return stage.new_card(index).card

    async def mandate(self, customer: str, card: int, **more: Any) -> httpx.Response:
        asked = {"biller": "water", "customer": customer, "card": self.card(card).reveal()}
        return await self.http.post("/v1/mandates", json=asked | more)

    async def send(self, name: str, octets: bytes, biller: str = "water") -> httpx.Response:
        async def parts() -> AsyncIterator[bytes]:
            for start in range(0, len(octets), 700):
                yield octets[start : start + 700]

        return await self.http.put(
            f"/v1/debit-files/{name}?biller={biller}", content=parts(), timeout=PATIENCE_SECONDS
        )

    async def status(self, name: str) -> dict[str, Any]:
        found = await self.http.get(f"/v1/debit-files/{name}?biller=water")
        assert found.status_code == 200, found.text
        shown: dict[str, Any] = found.json()
        return shown

    async def ended(self, name: str) -> dict[str, Any]:
        """Wait until a file has ended."""
        return await self.until(name, lambda shown: shown["ended_at"] is not None)

    async def until(self, name: str, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        with anyio.fail_after(PATIENCE_SECONDS):
            while not condition(shown := await self.status(name)):  # noqa: ASYNC110
                await anyio.sleep(0.02)
        return shown

    async def codes(self, name: str) -> list[str]:
        """The code of each row of the result file, whose trailer is there."""
        found = await self.http.get(f"/v1/debit-files/{name}/result?biller=water")
        assert found.status_code == 200
        header, *lines, trailer = found.text.splitlines()
        assert int(header.split("|")[0]) == len(lines)
        assert trailer.startswith("sha256|")
        return [line.split("|")[6] for line in lines]

    async def rows(self, query: str) -> list[Any]:
        connection = await bridge.connect(self.database)
        try:
            return list(await connection.fetch(query))
        finally:
            await connection.close()

    async def bills(self) -> list[Any]:
        """What was asked of the ledger for rows."""
        return await self.rows(
            "select outcome, approved_minor, venue, acquirer from ledger.authorization "
            "where kind = 'bill' order by key"
        )


def file_of(rows: Iterable[tuple[str, int]], serial: str = "W") -> bytes:
    """A file of (customer, amount) with serials of its own."""
    made = [
        DebitRow(DAY, f"{serial}{number:06}", customer, minor, "01", "M")
        for number, (customer, minor) in zip(itertools.count(1), rows)
    ]
    return b"".join(debit_lines(made, len(made), sum(row.amount_minor for row in made)))


@pytest.fixture
def debit_file() -> Callable[..., bytes]:
    return file_of


@pytest.fixture
async def house(database: str, ledger_loop: None, tmp_path: Path) -> AsyncIterator[House]:
    """A house whose ledger's audit is clean in the end, and whose files say what it holds."""
    key_file = tmp_path / "card_number.key"
    make_key(key_file)
    key = read_key(key_file)
    await stage.set_stage(database, CONFIG, key, stage.Crowd(CARDS, BLOCKED, POOR), lambda _: None)
    connection = await bridge.connect(database)
    accounts = await settlement_accounts(connection)
    assignment = Assignment(
        slot=0, config=CONFIG, backend="asyncio", database=database,
        card_key_file=str(key_file), ports={}, metrics_port=0,
    )  # fmt: skip
    worker = Worker(assignment, load_terms(CONFIG, accounts), SystemClock())
    made = House(worker, database, key)
    api = CONFIG.apis[0]
    desk = debit_desk(CONFIG, database, worker.calendar, worker.clock)
    routes = debit_routes(desk, lambda card: medium_of(card, key))
    gate = Gate(api.acquirer, None, worker.calendar, worker.clock)  # type: ignore[arg-type]
    app = Edge(application(list(routes), api.body_bytes_max), api, gate, worker.clock)
    port = HttpPort("bills", app, None)
    number = port.open("127.0.0.1", 0)
    made.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{number}", timeout=PATIENCE_SECONDS)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker._run_pipeline)
        tasks.start_soon(port.run)
        await worker._until_lanes_are_up()
        yield made
        await made.http.aclose()
        await port.leave(1)
        assert await worker.pipeline.finish(10) == 0
        tasks.cancel_scope.cancel()
    report = await audit(connection, balance_caps_minor=CONFIG.tiers.balance_caps_minor())
    counted = await connection.fetchrow(
        "select (select coalesce(sum(collected_minor), 0) from ledger.debit_file) as files, "
        "(select coalesce(sum(collected_minor), 0) from ledger.debit_result) as results, "
        "(select coalesce(sum(approved_minor), 0) from ledger.authorization "
        "where kind = 'bill' and outcome = 'approved') as posted"
    )
    await connection.close()
    assert report.clean, report
    assert counted is not None
    assert counted["files"] == counted["results"] == counted["posted"]


@pytest.fixture
async def debits(house: House) -> AsyncIterator[DebitLedger]:
    opened = await DebitLedger.open(house.database, 10)
    yield opened
    opened.terminate()
