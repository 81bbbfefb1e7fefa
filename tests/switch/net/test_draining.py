"""Taking leave of peers: those who listen, those who do not, and those who just came."""

from __future__ import annotations

import anyio

from protocols.iso8583 import Message
from protocols.iso8583.dialect import NetworkFunction
from switch.net.draining import take_leave
from switch.net.iso import Conduct


def leaving(edge, seconds=5.0):
    return take_leave([edge.link], edge.link.open_connections, edge.clock, seconds)


async def test_a_peer_that_signed_on_is_told_and_all_it_had_under_way_is_answered(edge, approver):
    peer = await edge.peer()
    approver.holding = True
    await peer.send(peer.sale(1))
    await edge.until(lambda: approver.requests)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(leaving, edge)
        (off,) = await peer.receive()
        assert off.mti == "0800"
        assert "002" in (off.text(70), off.text(60)[8:11])
        # sent before it knew
        await peer.send(peer.sale(2), Message("0810", {11: off.text(11), 39: "00"}))
        await edge.until(lambda: len(approver.requests) == 2)
        approver.release()
        assert await peer.codes(2) == ["00", "00"]
        await peer.stream.send_eof()
        assert await peer.ended() == []
    assert not peer.was_reset
    await edge.until(lambda: not edge.link.open_connections)
    assert not edge.log.lines("message at fault")


async def test_a_peer_that_is_quiet_is_closed_and_one_that_talks_is_heard(edge, approver):
    quiet, talking = await edge.peer(), await edge.peer()
    talked: list[str] = []

    async def talk() -> None:
        for stan in range(1, 12):
            await talking.send(talking.sale(stan))
            talked.extend(await talking.codes(2 if stan == 1 else 1))
            await anyio.sleep(0.1)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(talk)
        await edge.until(lambda: approver.requests)
        assert await leaving(edge) == 0
    assert await quiet.ended() == [""], "its sign-off, and no more"
    assert await talking.ended() == []
    assert talked.count("00") == 11
    assert not quiet.was_reset
    assert not talking.was_reset


async def test_a_peer_that_never_stops_is_answered_up_to_the_end(edge, approver):
    peer = await edge.peer()
    sent: list[int] = []
    done = anyio.Event()

    async def talk() -> None:
        stan = 0
        while not done.is_set():
            stan += 1
            try:
                await peer.send(peer.sale(stan))
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                return
            sent.append(stan)
            await anyio.sleep(0.01)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(talk)
        await edge.until(lambda: approver.requests)
        assert await leaving(edge, 0.3) == 1
        codes = await peer.ended()
        done.set()
    read = len(approver.requests)
    assert codes.count("00") == read, "what was read was answered"
    assert not peer.was_reset
    assert len(sent) >= read


async def test_nobody_signs_on_any_more(edge, approver):
    peer = await edge.peer(signed_on=False)
    await edge.until(lambda: edge.link.open_connections)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(leaving, edge)
        await edge.until(lambda: edge.link.leaving)
        await peer.send(peer.management(NetworkFunction.SIGN_ON))
        assert await peer.ended() == ["91"]
    assert not approver.requests


async def test_who_comes_in_from_the_backlog_is_served_and_sent_on(
    serving, approver, link_terms, dialect
):
    conduct = Conduct(sign_on_required=False)
    async with serving(link_terms(dialect), approver.submit, conduct=conduct) as edge:
        edge.link.leaving = True
        peer = await edge.peer()
        await peer.send(peer.sale(1))
        assert await peer.codes() == ["00"]
        assert await leaving(edge) == 0
        assert await peer.ended() == []
