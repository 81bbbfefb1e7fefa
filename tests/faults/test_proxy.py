"""The fault proxies themselves: they do what they say, count it, and carry on otherwise."""

from __future__ import annotations

import anyio
import pytest

from tests.faults.proxy import FaultProxy, Shares, proxied

FRAMES = [bytes([0, 3]) + f"{number:03}".encode() for number in range(40)]


def echoed(shares: Shares, *, trouble: bool = True) -> tuple[list[bytes], FaultProxy]:
    """What comes back from an echo behind a proxy, in order, and the proxy."""

    async def talk() -> tuple[list[bytes], FaultProxy]:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(anyio.abc.SocketAttribute.local_port)

        async def echo(stream: anyio.abc.SocketStream) -> None:
            async with stream:
                async for chunk in stream:
                    await stream.send(chunk)

        proxy = FaultProxy("127.0.0.1", port, shares, seed=3)
        proxy.trouble = trouble
        with proxied(proxy):
            async with listener, anyio.create_task_group() as tasks:
                tasks.start_soon(listener.serve, echo)
                got = await through(proxy.port)
                tasks.cancel_scope.cancel()
        return got, proxy

    return anyio.run(talk)


async def through(port: int) -> list[bytes]:
    received = b""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        try:
            for frame in FRAMES:
                await stream.send(frame)
            with anyio.move_on_after(1.0):
                while len(received) < len(FRAMES) * len(FRAMES[0]):
                    received += await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            pass
    size = len(FRAMES[0])
    return [received[at : at + size] for at in range(0, len(received), size)]


def test_without_trouble_everything_passes_in_order():
    got, proxy = echoed(Shares(drop=0.5, double=0.5), trouble=False)
    assert got == FRAMES
    assert not proxy.done


def test_what_is_dropped_is_missing():
    got, proxy = echoed(Shares(drop=0.2))
    assert proxy.done["drop"] == len(FRAMES) - len(got) > 0
    assert got == sorted(got)


def test_what_is_late_is_overtaken():
    got, proxy = echoed(Shares(delay=0.3, delay_seconds_max=0.2))
    assert proxy.done["delay"] > 0
    assert sorted(got) == FRAMES
    assert got != FRAMES


@pytest.mark.parametrize("fault", ["truncate", "cut"])
def test_a_cut_ends_the_connection(fault):
    got, proxy = echoed(Shares(**{fault: 0.2}))
    assert 1 <= proxy.done.total() <= 2, "after it no direction has anything to treat badly"
    assert len(got) < len(FRAMES)
