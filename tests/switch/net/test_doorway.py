"""Listening sockets that share a port: who waits when one of them closes is not turned away."""

from __future__ import annotations

import errno
import socket
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.abc import SocketAttribute

from switch.net.doorway import ACCEPTED_AT_ONCE, Doorway


@asynccontextmanager
async def two_doorways(edge, port=0):
    """Two on one port, as two workers have them, before the same link."""
    async with anyio.create_task_group() as tasks:
        first = await Doorway.open(edge.link, "127.0.0.1", port, tasks)
        second = await Doorway.open(edge.link, "127.0.0.1", first.port, tasks)
        yield first, second
        await first.close()
        await second.close()
        tasks.cancel_scope.cancel()


async def test_connections_are_accepted_and_served(edge):
    async with two_doorways(edge) as (first, second), anyio.create_task_group() as accepting:
        accepting.start_soon(first.run)
        accepting.start_soon(second.run)
        edge.port = first.port
        for stan in range(1, 9):
            peer = await edge.peer()
            await peer.send(peer.sale(stan))
            assert await peer.codes() == ["00"]
        accepting.cancel_scope.cancel()


async def test_who_waits_in_the_backlog_is_taken_in_by_a_close(edge):
    """Nobody accepts: connections are given to both by the kernel, and wait."""
    count = 3 * ACCEPTED_AT_ONCE
    async with two_doorways(edge) as (first, second):
        edge.port = first.port
        peers = [await edge.peer(signed_on=False) for _ in range(count)]
        for peer in peers:
            await peer.send(peer.echo())
        await first.close()
        taken_in = len(edge.link.open_connections)
        assert 0 < taken_in < count, "each had some"
        await second.close()
        assert len(edge.link.open_connections) == count
        for peer in peers:
            assert await peer.codes() == ["00"]
        with pytest.raises(OSError, match="onnect"):
            await anyio.connect_tcp("127.0.0.1", edge.port)


async def test_the_next_worker_has_the_port_alone_after_a_close(edge):
    async with two_doorways(edge) as (first, second):
        edge.port = first.port
        await first.close()
        async with anyio.create_task_group() as accepting:
            accepting.start_soon(second.run)
            for _ in range(20):
                peer = await edge.peer()
                await peer.send(peer.echo())
                assert await peer.codes() == ["00"]
            accepting.cancel_scope.cancel()


async def test_a_failed_accept_is_logged_and_the_next_one_succeeds(edge, monkeypatch):
    async with anyio.create_task_group() as tasks:
        doorway = await Doorway.open(edge.link, "127.0.0.1", 0, tasks)
        failures = [OSError(errno.EMFILE, "Too many open files")]
        accept = socket.socket.accept

        def failing(listening):
            if failures:
                raise failures.pop()
            return accept(listening)

        monkeypatch.setattr(socket.socket, "accept", failing)
        async with anyio.create_task_group() as accepting:
            accepting.start_soon(doorway.run)
            edge.port = doorway.port
            peer = await edge.peer()
            await peer.send(peer.echo())
            assert await peer.codes() == ["00"]
            accepting.cancel_scope.cancel()
        (line,) = edge.log.lines("a connection was not accepted")
        assert line["reason"] == "Too many open files"
        await doorway.close()
        tasks.cancel_scope.cancel()


async def test_accepted_sockets_do_not_delay_small_answers(edge):
    async with anyio.create_task_group() as tasks:
        doorway = await Doorway.open(edge.link, "127.0.0.1", 0, tasks)
        edge.port = doorway.port
        await edge.peer(signed_on=False)
        await doorway.close()
        (connection,) = edge.link.open_connections
        raw = connection.stream.extra(SocketAttribute.raw_socket)
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        tasks.cancel_scope.cancel()
