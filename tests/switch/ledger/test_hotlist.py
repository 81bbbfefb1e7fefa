"""How a worker follows the hotlist, on both backends and a real ledger."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from protocols.tap import hotlist as reader
from switch.calendar import BusinessCalendar
from switch.clock import SystemClock
from switch.config import Config
from switch.ledger import bridge, hotlist_entries
from switch.ledger.hotlist import Hotlists
from switch.ledger.hotlist_publishing import publish
from switch.ledger.housekeeping import Housekeeping
from switch.metrics import Metrics

BY = {"reason": "lost", "author": "desk"}
SECONDS_MAX = 20


async def until(holds: Callable[[], bool]) -> None:
    with anyio.fail_after(SECONDS_MAX):
        while not holds():  # noqa: ASYNC110 - it follows by polling
            await anyio.sleep(0.01)


async def listed(connection: bridge.Connection, card_id: int) -> None:
    await hotlist_entries.add(connection, [card_id], **BY)
    assert await publish(connection, "desk") is not None


async def test_a_worker_has_each_version_and_the_changes_to_it(books: Any, database: str) -> None:
    first, second = await books.issue(2)
    metrics = Metrics(["depot-1", "gates"])
    hotlists = Hotlists(
        functools.partial(bridge.connect, database),
        {"depot-1": "metro", "gates": "north"},
        metrics,
        poll_seconds=0.01,
    )
    await hotlists.load()
    assert hotlists.newest() is None
    assert hotlists.change(0) is None
    assert not await hotlists.acknowledge("metro", 1, bytes(32))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hotlists.run)
        await listed(books.connection, first.card_id)
        await until(lambda: hotlists.newest() is not None)
        one = hotlists.newest()
        assert one is not None
        await listed(books.connection, second.card_id)
        await until(lambda: hotlists.newest() is not one)
        two = hotlists.newest()
        assert two is not None
        assert (one.version, two.version) == (1, 2)
        assert two.digest == reader.digest_of(two.octets)
        change = hotlists.change(1)
        assert change is not None
        after = reader.apply(reader.read_list(one.octets), reader.read_list(change))
        assert reader.whole_bytes(after) == two.octets
        assert hotlists.change(2) is None
        assert (hotlists.at(1), hotlists.at(2), hotlists.at(3)) == (one, two, None)
        assert "octets=" in repr(two)
        assert len(repr(two)) < 60, "mediums name cards"

        assert not await hotlists.acknowledge("metro", 2, one.digest)
        assert not await hotlists.acknowledge("metro", 3, two.digest)
        assert await hotlists.acknowledge("metro", 1, one.digest)
        assert await hotlists.acknowledge("metro", 2, two.digest)
        assert await hotlists.acknowledge("metro", 2, two.digest), "said again"

        def shown(name: str, **labels: str) -> float | None:
            return metrics.registry.get_sample_value(f"citycard_{name}", labels)

        await until(lambda: shown("hotlist_acknowledged_version", link="depot-1") == 2)
        assert shown("hotlist_version") == 2
        assert shown("hotlist_acknowledged_version", link="gates") == 0
        tasks.cancel_scope.cancel()
    (view,) = await hotlist_entries.acknowledgements(books.connection)
    assert (view.acquirer, view.version, view.behind) == ("metro", 2, 0)


async def test_a_ledger_that_is_away_leaves_the_list_that_is_known(
    books: Any, database: str
) -> None:
    (card,) = await books.issue(1)
    await listed(books.connection, card.card_id)
    opened: list[bridge.Connection] = []
    away = False

    async def open_ledger() -> bridge.Connection:
        if away:
            raise ConnectionRefusedError
        opened.append(await bridge.connect(database))
        return opened[-1]

    hotlists = Hotlists(open_ledger)
    await hotlists.load()
    known = hotlists.newest()
    assert known is not None
    away = True
    opened[0].terminate()
    await hotlists.load()
    assert hotlists.newest() is known
    assert not await hotlists.acknowledge("metro", 1, known.digest)
    away = False
    assert await hotlists.acknowledge("metro", 1, known.digest)
    assert len(opened) == 2
    opened[1].terminate()


async def test_a_cancelled_call_leaves_no_half_read_connection(books: Any, database: str) -> None:
    """The next call opens another, rather than reading the answer to the one before."""
    opened: list[bridge.Connection] = []

    async def open_ledger() -> bridge.Connection:
        opened.append(await bridge.connect(database))
        return opened[-1]

    hotlists = Hotlists(open_ledger)
    await hotlists.load()

    call: Callable[..., Awaitable[Any]] = hotlists.acknowledge
    await books.connection.execute(
        "begin; lock table ledger.hotlist_version in access exclusive mode"
    )
    with anyio.move_on_after(0.05) as scope:
        await call("metro", 1, bytes(32))
    assert scope.cancelled_caught
    await books.connection.execute("rollback")
    assert opened[0].closed
    assert not await hotlists.acknowledge("metro", 1, bytes(32))
    assert len(opened) == 2
    opened[1].terminate()


async def test_housekeeping_publishes_what_has_expired(books: Any, database: str) -> None:
    (card,) = await books.issue(1)
    await listed(books.connection, card.card_id)
    await books.connection.execute("update ledger.hotlist_entry set expires_at = now()")
    config = Config()
    house = Housekeeping(
        config,
        database,
        audits=True,
        calendar=BusinessCalendar(config.ledger.time_zone, config.ledger.cut_off),
        clock=SystemClock(),
        metrics=Metrics(),
    )
    hotlists = Hotlists(functools.partial(bridge.connect, database), poll_seconds=0.01)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hotlists.run)
        tasks.start_soon(house.run)
        house.day_missing()  # look now, not in a minute
        await until(lambda: (newest := hotlists.newest()) is not None and newest.version == 2)
        tasks.cancel_scope.cancel()
    newest = hotlists.newest()
    assert newest is not None
    assert reader.read_list(newest.octets).count == 0
