"""The link with the whole pipeline and a real ledger behind it, where the answer needs one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from protocols.card_number import numbered_card
from switch.clock import SystemClock
from switch.config import Config, Ledger
from switch.config import Link as ConfiguredLink
from switch.config_trouble import LinkFraming
from switch.demo import stage
from switch.keys import make_key, read_key
from switch.ledger import bridge
from switch.ledger.audit import audit
from switch.ledger.migrate import settlement_accounts
from switch.terms import load_terms
from switch.worker import Assignment, Worker

CARDS, BLOCKED, POOR = 6, 1, 1
RICH = numbered_card("621234", 4)


@pytest.fixture
async def switch(database: str, ledger_loop: None, tmp_path: Path) -> AsyncIterator[Worker]:
    """A worker's parts on a stage of six cards: number 0 is blocked, number 1 has 3.00."""
    links = (
        ConfiguredLink(name="unionpay", port=0),
        ConfiguredLink(
            name="ascii",
            port=0,
            dialect="iso87_ascii",
            framing=LinkFraming(length="ascii4", tpdu=False, header_bytes=0),
        ),
    )
    config = Config(ledger=Ledger(shards=2), links=links)
    key_file = tmp_path / "card_number.key"
    make_key(key_file)
    crowd = stage.Crowd(CARDS, BLOCKED, POOR)
    await stage.set_stage(database, config, read_key(key_file), crowd, lambda _: None)
    connection = await bridge.connect(database)
    accounts = await settlement_accounts(connection)
    assignment = Assignment(
        slot=0, config=config, backend="asyncio", database=database,
        card_key_file=str(key_file), ports={}, metrics_port=0,
    )  # fmt: skip
    worker = Worker(assignment, load_terms(config, accounts), SystemClock())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(worker._run_pipeline)
        await worker._until_lanes_are_up()
        yield worker
        assert await worker.pipeline.finish(5) == 0
        tasks.cancel_scope.cancel()
    report = await audit(connection, balance_caps_minor=config.tiers.balance_caps_minor())
    await connection.close()
    assert report.clean, report


@pytest.fixture
def paying(switch: Worker, serving: Any) -> Any:
    """`async with paying("unionpay") as edge`: a link before the worker's own pipeline."""

    @asynccontextmanager
    async def pay(name: str) -> AsyncIterator[Any]:
        terms = next(link.terms for link in switch.links if link.terms.name == name)
        async with serving(terms, switch.pipeline.submit) as edge:
            yield edge

    return pay


async def rows(database: str) -> list[Any]:
    connection = await bridge.connect(database)
    try:
        return list(
            await connection.fetch(
                "select kind, outcome, approved_minor, stan from ledger.authorization "
                "where kind <> 'load' order by posted_at_us, authorization_id"
            )
        )
    finally:
        await connection.close()


@pytest.mark.parametrize("name", ["unionpay", "ascii"])
async def test_cards_are_told_apart(paying, name):
    async with paying(name) as edge:
        peer = await edge.peer()
        await peer.send(
            peer.sale(1, card=RICH, amount_minor=500),
            peer.sale(2, card=numbered_card("621234", 800_000_000)),
            peer.sale(3, card=numbered_card("621234", 0)),
            peer.sale(4, card=numbered_card("621234", 1), amount_minor=301),
            peer.sale(5, {49: "840"}, card=RICH),
        )
        answers = {answer.text(11): answer.text(39) for answer in await peer.receive(5)}
        assert answers == {
            "000001": "00", "000002": "14", "000003": "62", "000004": "51", "000005": "12",
        }  # fmt: skip


@pytest.mark.parametrize("name", ["unionpay", "ascii"])
async def test_one_message_twice_in_one_read_moves_money_once(paying, name, database):
    async with paying(name) as edge:
        peer = await edge.peer()
        sale = peer.sale(1, card=RICH, amount_minor=500)
        await peer.send(sale, sale, sale)
        answers = await peer.receive(3)
        told = {(one.text(39), one.text(37), one.text(38), one.text(4)) for one in answers}
        assert len(told) == 1
        assert told.pop()[0] == "00"
        await peer.send(sale)
        (later,) = await peer.receive()
        assert later.fields == answers[0].fields
    moved = [row for row in await rows(database) if row["approved_minor"]]
    assert [(row["kind"], row["approved_minor"]) for row in moved] == [("purchase", 500)]


@pytest.mark.parametrize("together", [True, False])
async def test_one_key_with_another_content_is_refused(paying, database, together):
    async with paying("unionpay") as edge:
        peer = await edge.peer()
        sale = peer.sale(1, card=RICH, amount_minor=500)
        other = type(sale)(sale.mti, sale.fields | {4: "000000000999"})
        if together:
            await peer.send(sale, other)
            codes = await peer.codes(2)
        else:
            await peer.send(sale)
            codes = await peer.codes()
            await peer.send(other)
            codes += await peer.codes()
        assert sorted(codes) == ["00", "94"]
    moved = [row["approved_minor"] for row in await rows(database) if row["approved_minor"]]
    assert moved == [500]


async def test_a_link_that_is_reset_after_its_sale_leaves_the_money_where_it_went(paying, database):
    """The sale is approved with nobody to tell; the terminal's repeat on a new link is told."""
    async with paying("unionpay") as edge:
        peer, again = await edge.peer(), await edge.peer()
        sale = peer.sale(1, card=RICH, amount_minor=500)
        await peer.send(sale)
        peer.reset()
        await anyio.aclose_forcefully(peer.stream)
        with anyio.fail_after(5):
            while not await rows(database):  # noqa: ASYNC110 - the ledger tells nobody
                await anyio.sleep(0.01)
        await again.send(sale)
        assert await again.codes() == ["00"]
    assert sum(row["approved_minor"] for row in await rows(database)) == 500
