"""One process's part of a backtest: its shards read in order, and replayed while more is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Any

import anyio
import anyio.lowlevel
from anyio.streams.memory import MemoryObjectSendStream

from risk.backtest import Replay
from risk.backtest_places import PlaceHistory, place_query
from risk.backtest_tally import Tally
from risk.ruleset import Ruleset, ruleset_from_bytes
from switch.backtest.beside import read_beside
from switch.backtest.history import HistoryReader, reading
from switch.backtest.messages import ShardRequest
from switch.ledger import bridge

CONNECT_SECONDS = 20.0
_SETTINGS = {"application_name": "citycard backtest", "default_transaction_read_only": "on"}

_Chunk = Sequence[Sequence[Any]]


async def replay_shards(
    request: ShardRequest,
    *,
    told: Callable[[int], None],
    stopping: Callable[[], bool],
) -> Tally:
    """Replay the shards of a request. `told` hears how many rows are done; `stopping` is asked
    between chunks of rows, and a tally that was stopped says so.

    Raises what the ledger's driver raises, and HistoryUnreadable.
    """
    ruleset = ruleset_from_bytes(request.canonical)
    live = ruleset_from_bytes(request.live) if request.live else None
    connection = await bridge.connect(
        request.url, timeout_seconds=CONNECT_SECONDS, settings=_SETTINGS
    )
    try:
        replay, reader = await _begun(connection, request, ruleset, live)
        rows = 0
        send, receive = anyio.create_memory_object_stream[_Chunk](1)
        async with anyio.create_task_group() as tasks, receive:
            tasks.start_soon(_read, reader, request, send)
            async for chunk in receive:
                replay.rows(chunk)
                rows += len(chunk)
                told(rows)
                # Lets the reader ask for the next rows before these are worked on.
                await anyio.lowlevel.checkpoint()
                if stopping():
                    replay.tally.cancelled = True
                    tasks.cancel_scope.cancel()
                    break
        return replay.finished()
    finally:
        connection.terminate()


async def _begun(
    connection: bridge.Connection, request: ShardRequest, ruleset: Ruleset, live: Ruleset | None
) -> tuple[Replay, HistoryReader]:
    async with reading(connection, request.timeout_seconds):
        beside = await read_beside(
            connection,
            ruleset,
            live=live,
            from_date=request.from_date,
            to_date=request.to_date,
        )
    query = place_query(ruleset.features)
    places = PlaceHistory(ruleset.features) if query is not None else None
    reader = HistoryReader(
        connection,
        shards=request.shards,
        until_us=request.until_us,
        timeout_seconds=request.timeout_seconds,
        places=(places, query) if places is not None and query is not None else None,
    )
    replay = Replay(
        beside.tested,
        from_date=request.from_date,
        closed_loop=request.closed_loop,
        labels=beside.labels,
        places=places,
    )
    return replay, reader


async def _read(
    reader: HistoryReader, request: ShardRequest, send: MemoryObjectSendStream[_Chunk]
) -> None:
    chunks = reader.days(request.warm_up_from, request.from_date, request.to_date)
    async with send, aclosing(chunks):  # type: ignore[type-var]
        async for chunk in chunks:
            await send.send(chunk)
