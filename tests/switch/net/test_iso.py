"""A link on loopback and everything a peer may do wrong: it hears why, and nobody else notices."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress

import anyio
import pytest
from anyio.abc import SocketAttribute

from loadtest.wire import HEADER
from protocols.card_number import numbered_card
from protocols.iso8583 import Message

ANSWER_BYTES_MAX = 256

# ---- what is right -------------------------------------------------------------------------


async def test_a_sale_and_an_echo_are_answered(edge):
    peer = await edge.peer()
    await peer.send(peer.sale(421), peer.echo(422))
    sale, echo = await peer.receive(2)
    assert (sale.mti, sale.text(39), sale.text(11)) == ("0210", "00", "000421")
    assert (sale.text(38), sale.text(4), sale.text(41)) == ("ABC234", "000000001840", "T0000042")
    assert (echo.mti, echo.text(39), echo.text(11)) == ("0810", "00", "000422")
    if peer.terms.framing.tpdu:
        # destination and source change places, the header comes back as it was
        assert peer.raw[2:13] == bytes.fromhex("6000000006") + HEADER
    requests = "citycard_requests_total"
    assert edge.metric(requests, segment="retail", kind="purchase", outcome="approved") == 1


async def test_frames_may_come_byte_by_byte(edge):
    peer = await edge.peer()
    peer.stream.extra(SocketAttribute.raw_socket).setsockopt(
        socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
    )
    octets = peer.framed(peer.sale(1)) + peer.framed(peer.sale(2))
    for index in range(len(octets)):
        await peer.write(octets[index : index + 1])
    assert [answer.text(11) for answer in await peer.receive(2)] == ["000001", "000002"]


async def test_many_frames_may_come_in_one_write(edge, approver):
    peer = await edge.peer()
    await peer.send(*(peer.sale(stan) for stan in range(1, 401)))
    answers = await peer.receive(400)
    assert [int(answer.text(11)) for answer in answers] == list(range(1, 401))
    assert len(approver.requests) == 400


async def test_the_budget_starts_with_the_first_byte_of_the_frame(edge, approver):
    peer = await edge.peer()
    octets = peer.framed(peer.sale(1)) + peer.framed(peer.sale(2))
    approver.holding = True
    await peer.write(octets[:9])
    connection = await _the_only(edge)
    await edge.until(lambda: connection.frame_begun_ns)
    begun_ns = connection.frame_begun_ns
    edge.clock.advance(3)
    await peer.write(octets[9:])
    await edge.until(lambda: len(approver.requests) == 2)
    first, second = approver.requests
    assert first.received_ns == begun_ns
    assert second.received_ns - begun_ns >= 3_000_000_000
    assert first.deadline_ns == begun_ns + 800_000_000


async def _the_only(edge):
    await edge.until(lambda: len(edge.link.open_connections) == 1)
    (connection,) = edge.link.open_connections
    return connection


# ---- bad messages: an answer that says so, and the link goes on ------------------------------


def _with_field_announced(payload: bytes, peer, number: int) -> bytes:
    """The bitmap says that there is one field more."""
    text = peer.terms.dialect == "iso87_ascii"
    start, octets = (4, 16) if text else (2, 8)
    bitmap = payload[start : start + octets]
    value = int(bitmap, 16) if text else int.from_bytes(bitmap, "big")
    value |= 1 << (64 - number)
    written = f"{value:016X}".encode() if text else value.to_bytes(8, "big")
    return payload[:start] + written + payload[start + octets :]


def _amount_with_a_letter(peer) -> bytes:
    payload = peer.encoded(peer.sale(5))
    if peer.terms.dialect == "iso87_ascii":
        return payload.replace(b"000000001840", b"00000000184A", 1)
    return payload.replace(bytes.fromhex("000000001840"), bytes.fromhex("00000000184A"), 1)


def _without(*numbers: int) -> Callable[..., Message]:
    return lambda peer: peer.sale(5, dict.fromkeys(numbers))


def _with(**fields: str) -> Callable[..., Message]:
    return lambda peer: peer.sale(5, {int(key[2:]): value for key, value in fields.items()})


ANSWERED = {
    "an amount with a letter": (_amount_with_a_letter, "30", "DE4"),
    "a message that breaks off": (lambda peer: peer.encoded(peer.sale(5))[:-1], "30", "DE"),
    "bytes after the message": (lambda peer: peer.encoded(peer.sale(5)) + b"00", "30", "message"),
    "a field that is announced and not there": (
        lambda peer: _with_field_announced(peer.encoded(peer.sale(5)), peer, 64),
        "30",
        "DE64",
    ),
    "no amount": (_without(4), "30", "DE4"),
    "no card": (_without(2, 35), "30", "DE2"),
    "no terminal time": (_without(12), "30", "DE12"),
    "a time that there is not": (_with(DE12="256199"), "30", "DE12"),
    "a date that there is not": (_with(DE13="0230"), "30", "DE13"),
    "a card number of five digits": (_with(DE2="62123", DE35=None), "30", "DE2"),
    "an amount of nothing": (_with(DE4="000000000000"), "13", "DE4"),
    "a currency not configured": (_with(DE49="840"), "12", "DE49"),
    "another acquirer's code": (_with(DE32="48029999"), "58", "DE32"),
    "a transaction that there is not": (_with(DE3="990000"), "12", "DE3"),
    "a message type that is not taken": (
        lambda peer: Message("0600", peer.sale(5).fields),
        "12",
        "mti",
    ),
}


@pytest.mark.parametrize("case", ANSWERED)
async def test_a_bad_message_is_answered_and_the_link_goes_on(edge, approver, case):
    make, code, field = ANSWERED[case]
    peer = await edge.peer()
    async with edge.bystander():
        await peer.send(make(peer), peer.sale(6))
        answer, after = await peer.receive(2)
    assert (answer.text(39), answer.text(11), answer.text(41)) == (code, "000005", "T0000042")
    assert answer.mti[2] == "1"
    assert (after.text(39), after.text(11)) == ("00", "000006")
    (fault,) = edge.log.lines("message at fault")
    assert fault["link"] == "retail-1"
    assert fault["field"].startswith(field)
    assert "offset" in fault
    assert not edge.log.closed()
    assert all(request.stan != "000005" for request in approver.requests)


async def test_a_field_that_the_dialect_does_not_know_is_refused(serving, approver, link_terms):
    """DE45 is not of UnionPay POS; what stood before it names the terminal to answer."""
    async with serving(link_terms("unionpay_pos"), approver.submit) as edge:
        peer = await edge.peer()
        message = peer.encoded(peer.sale(5, {49: None, 53: None, 55: None, 60: None}))
        await peer.send(_with_field_announced(message, peer, 45) + b"\x03abc")
        assert await peer.codes() == ["30"]
        assert edge.log.lines("message at fault")[0]["field"] == "DE45"


async def test_a_response_is_never_answered(edge):
    peer = await edge.peer()
    await peer.send(Message("0210", peer.sale(5).fields), Message("0810", peer.echo(6).fields))
    await peer.send(Message("0430", peer.sale(7).fields), peer.sale(8))
    (answer,) = await peer.receive()
    assert answer.text(11) == "000008"
    counted = [
        (sample.labels["outcome"], sample.value)
        for family in edge.metrics.registry.collect()
        for sample in family.samples
        if sample.name == "citycard_requests_total"
    ]
    assert counted == [("approved", 1.0)], "what is not answered is not counted as answered"


# ---- streams that mean nothing any more: what came before is answered, then the link closes --


def _unaddressed(peer) -> bytes:
    payload = peer.encoded(peer.sale(5))
    return peer.framed(b"\xff\xff\xff\xff" + payload[4:])


def _too_many_digits(peer) -> bytes:
    """Thirteen digits of an amount push every field after them out of its place."""
    payload = peer.encoded(peer.sale(5))
    if peer.terms.dialect == "iso87_ascii":
        return peer.framed(payload.replace(b"000000001840", b"9000000001840", 1))
    written = bytes.fromhex("000000001840")
    return peer.framed(payload.replace(written, b"\x90" + written, 1))


def _no_secondary(peer) -> bytes:
    if peer.terms.dialect == "unionpay_pos":
        return peer.framed(_with_field_announced(peer.encoded(peer.sale(5)), peer, 1))
    payload = peer.encoded(peer.sale(5))
    head = f"{int(payload[4:20], 16) | 1 << 63:016X}8000000000000000".encode()
    return peer.framed(payload[:4] + head + payload[20:])


def _length(peer, value: int) -> bytes:
    binary = peer.terms.framing.kind == "binary2"
    return value.to_bytes(2, "big") if binary else b"%04d" % value


CLOSED = {
    "garbage": (lambda peer: bytes(range(255, 127, -1)) * 4, "frame.length"),
    "a page request": (lambda peer: b"GET / HTTP/1.1\r\nHost: card\r\n\r\n", "frame.length"),
    "a frame over the limit": (lambda peer: _length(peer, 4_097) + b"0" * 4_097, "frame.length"),
    "a length that lies low": (lambda peer: _length(peer, 3) + b"000", "frame.length"),
    "a message type of no digits": (_unaddressed, "mti"),
    "a bitmap that goes on": (_no_secondary, "bitmap"),
}


@pytest.mark.parametrize("case", CLOSED)
@pytest.mark.parametrize("after_a_sale", [False, True])
async def test_a_lost_stream_closes_its_own_link(edge, approver, case, after_a_sale):
    make, field = CLOSED[case]
    peer = await edge.peer()
    before = peer.framed(peer.sale(4)) if after_a_sale else b""
    async with edge.bystander():
        await peer.write(before + make(peer))
        assert await peer.ended() == ["00"] * after_a_sale
        closed = await edge.closed()
    assert (closed["link"], closed["reason"], closed["field"]) == ("retail-1", "framing", field)
    if field == "frame.length":
        assert closed["offset"] == peer.signed_on_bytes + len(before)
    assert closed["why"]
    assert edge.metric("citycard_link_closed_total", link="retail-1", reason="framing") == 1
    assert len([each for each in approver.requests if each.stan < "900000"]) == after_a_sale


async def test_an_amount_over_twelve_digits_is_refused(edge, approver):
    """The fields after it have no borders any more: an answer 30 or a closed link, no sale."""
    peer = await edge.peer()
    async with edge.bystander():
        await peer.write(_too_many_digits(peer))
        with anyio.move_on_after(0.3):
            answers = await peer.ended()
            assert set(answers) <= {"30"}
    assert edge.log.lines("message at fault")
    assert all(each.terminal == "T0000099" for each in approver.requests)


async def test_frames_under_way_are_answered_before_a_lost_stream_closes(edge, approver):
    peer = await edge.peer()
    approver.holding = True
    await peer.write(peer.framed(peer.sale(1)) + peer.framed(peer.sale(2)) + b"\xff" * 64)
    await edge.until(lambda: len(approver.requests) == 2)
    approver.release()
    assert await peer.ended() == ["00", "00"]
    assert (await edge.closed())["reason"] == "framing"


# ---- peers that dawdle, go, or do not listen -------------------------------------------------


async def test_a_frame_that_is_never_finished_closes_the_link(edge):
    """A length longer than what follows, and slow loris, are one and the same."""
    peer = await edge.peer()
    octets = peer.framed(peer.sale(1))
    async with edge.bystander():
        await peer.write(octets[:7])
        for index in range(7, 12):
            edge.clock.advance(2)
            await peer.write(octets[index : index + 1])
        await edge.until(lambda: any(c.frame_begun_ns for c in edge.link.open_connections))
        edge.clock.advance(10)
        assert await peer.ended() == []
        closed = await edge.closed()
    assert (closed["reason"], closed["link"]) == ("slow_frame", "retail-1")


async def test_a_frame_in_good_time_is_not_slow(edge):
    peer = await edge.peer()
    octets = peer.framed(peer.sale(1))
    await peer.write(octets[:7])
    connection = await _the_only(edge)
    await edge.until(lambda: connection.frame_begun_ns)
    edge.clock.advance(14)
    await peer.write(octets[7:])
    assert await peer.codes() == ["00"]
    edge.clock.advance(14)
    await peer.send(peer.sale(2))
    assert await peer.codes() == ["00"]


async def test_a_silent_link_is_closed_and_a_talking_one_is_not(edge):
    silent, talking = await edge.peer(), await edge.peer()
    for stan in range(3):
        await talking.send(talking.echo(stan))
        await talking.receive()
        edge.clock.advance(299)
    assert await silent.ended() == []
    await talking.send(talking.sale(9))
    assert await talking.codes() == ["00"]
    assert (await edge.closed())["reason"] == "idle"


async def test_a_half_closed_link_still_gets_all_its_answers(edge, approver):
    peer = await edge.peer()
    approver.holding = True
    await peer.send(*(peer.sale(stan) for stan in range(1, 4)))
    await peer.stream.send_eof()
    await edge.until(lambda: len(approver.requests) == 3)
    approver.release()
    assert await peer.ended() == ["00", "00", "00"]
    await edge.until(lambda: not edge.link.open_connections)
    assert not edge.log.closed(), "a peer that ends in order is no fault"


async def test_a_link_that_is_reset_with_sales_in_flight_hurts_nobody(edge, approver):
    """Its answers come when nobody is left; they must go nowhere, quietly."""
    peer, other = await edge.peer(), await edge.peer()
    approver.holding = True
    await peer.send(peer.sale(1), peer.sale(2))
    await edge.until(lambda: len(approver.requests) == 2)
    peer.reset()
    await anyio.aclose_forcefully(peer.stream)
    await edge.until(lambda: len(edge.link.open_connections) == 1)
    approver.release()
    await other.send(other.sale(3))
    assert await other.codes() == ["00"]


def _sockets_with_small_buffers(peer, connection):
    """The kernel would hold megabytes before the switch has to."""
    server = connection.stream.extra(SocketAttribute.raw_socket)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
    client = peer.stream.extra(SocketAttribute.raw_socket)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)


async def test_a_peer_that_does_not_read_its_answers_is_cut(serving, approver, link_terms, dialect):
    limit_bytes = 65_536
    async with serving(
        link_terms(dialect), approver.submit, unanswered_bytes_max=limit_bytes
    ) as edge:
        peer = await edge.peer()
        connection = await _the_only(edge)
        _sockets_with_small_buffers(peer, connection)
        frames = peer.framed(peer.sale(1)) * 100
        largest = 0
        async with edge.bystander():
            with anyio.fail_after(20), suppress(anyio.BrokenResourceError):
                while True:
                    await peer.write(frames)
                    largest = max(largest, connection.unwritten_bytes)
            assert (await edge.closed())["reason"] == "unread_answers"
        assert 0 < largest <= limit_bytes + ANSWER_BYTES_MAX, "more was held than the limit says"


async def test_connections_over_the_limit_are_closed_at_once(serving, approver, link_terms):
    async with serving(link_terms("unionpay_pos"), approver.submit, connections_max=3) as edge:
        first, second = await edge.peer(), await edge.peer()
        await first.send(first.echo())
        await second.send(second.echo())
        await first.receive()
        await second.receive()
        async with edge.bystander():
            await edge.until(lambda: len(edge.link.open_connections) == 3)
            over = await edge.peer(signed_on=False)
            assert await over.ended() == []
            assert (await edge.closed())["reason"] == "connections_max"
            await anyio.aclose_forcefully(second.stream)
            await edge.until(lambda: len(edge.link.open_connections) == 2)
            again = await edge.peer()
            await again.send(again.sale())
            assert await again.codes() == ["00"]


async def test_a_fault_of_our_own_ends_its_link_alone(serving, approver, link_terms, dialect):
    card = numbered_card("621234", 666)

    def submit(request, respond):
        if request.stan == "000666":
            raise RuntimeError(f"a bug that quotes {request.card.reveal()}")
        approver.submit(request, respond)

    async with serving(link_terms(dialect), submit) as edge:
        peer = await edge.peer()
        async with edge.bystander():
            await peer.send(peer.sale(666, card=card))
            assert await peer.ended() == []
        closed = await edge.closed()
        assert closed["reason"] == "fault"
        assert "a bug that quotes" in closed["exception"]
        assert card.reveal() not in edge.log.stream.getvalue()


# ---- draining -------------------------------------------------------------------------------


async def test_a_drained_link_reads_no_more_and_answers_what_it_read(edge, approver):
    peer = await edge.peer()
    approver.holding = True
    await peer.send(peer.sale(1), peer.sale(2))
    await edge.until(lambda: len(approver.requests) == 2)
    for connection in list(edge.link.open_connections):
        connection.drain()
    await peer.send(peer.sale(3))
    approver.release()
    assert await peer.ended() == ["00", "00"]
    assert not peer.was_reset, "a reset may overtake the answers"
    assert [request.stan for request in approver.requests] == ["000001", "000002"]
    assert (await edge.closed())["reason"] == "drain"


async def test_links_come_and_go_and_leave_nothing(edge):
    for _ in range(5):
        peers = [await edge.peer() for _ in range(50)]
        for peer in peers:
            await peer.send(peer.echo())
        for peer in peers:
            await peer.receive()
            await anyio.aclose_forcefully(peer.stream)
    await edge.until(lambda: not edge.link.open_connections)
    assert edge.metric("citycard_link_connections", link="retail-1") == 0
    assert edge.metric("citycard_link_closed_total", link="retail-1", reason="peer") == 250
