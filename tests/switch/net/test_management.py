"""Sign-on, sign-off, echo, cut-over and keys over a real connection, in both dialects."""

from __future__ import annotations

from datetime import UTC, date, datetime

import anyio
import pytest

from protocols.card_number import CardNumber
from protocols.iso8583 import Message, Spec, encode
from protocols.iso8583.client import Sale, reversal_message
from protocols.iso8583.dialect import NetworkFunction
from switch.net.guard import PinBlockRefused, Seal
from switch.net.iso import Conduct

ECHOING = Conduct(sign_on_required=True, echo_idle_seconds=60)
REQUESTS = "citycard_requests_total"
STATE = "citycard_link_state"


def shown(edge) -> str:
    states = ("down", "signed_off", "signing_on", "up", "draining")
    (state,) = [each for each in states if edge.metric(STATE, link="retail-1", state=each)]
    return state


async def connection_of(edge):
    await edge.until(lambda: len(edge.link.open_connections) == 1)
    (connection,) = edge.link.open_connections
    return connection


def answer_to(message: Message, code: str = "00") -> Message:
    kept = {
        number: message.fields[number] for number in (7, 11, 60, 70) if number in message.fields
    }
    return Message("0810", dict(sorted({**kept, 39: code}.items())))


# ---- sign-on and sign-off --------------------------------------------------------------------


async def test_before_sign_on_nothing_that_moves_money_is_taken(edge, approver, dialect):
    peer = await edge.peer(signed_on=False)
    sale = peer.sale(1)
    sold = Sale(
        card=CardNumber("6212340000000039"), amount_minor=1, stan=3, terminal="T0000042",
        merchant="SHOP42", local_at=datetime.now(UTC), mcc="5411", acquirer="48021000",
    )  # fmt: skip
    await peer.send(sale, peer.echo(2), reversal_message(dialect, sold, stan=4))
    refused, echo, reversal = await peer.receive(3)
    assert (refused.mti, refused.text(39)) == ("0210", "58")
    assert (echo.mti, echo.text(39)) == ("0810", "00")
    assert (reversal.mti, reversal.text(39)) == ("0410", "58")
    assert not approver.requests
    for kind in ("purchase", "reversal"):
        assert edge.metric(REQUESTS, segment="retail", kind=kind, outcome="link_signed_off") == 1
    await peer.sign_on()
    await peer.send(sale)
    assert await peer.codes() == ["00"]


async def test_sign_off_is_answered_and_leaves_the_connection_open(edge, approver):
    peer = await edge.peer()
    await peer.send(peer.management(NetworkFunction.SIGN_OFF, 7), peer.sale(1))
    off, refused = await peer.receive(2)
    assert (off.mti, off.text(39), off.text(11)) == ("0810", "00", "000007")
    assert refused.text(39) == "58"
    assert shown(edge) == "signed_off"
    await peer.sign_on()
    await peer.send(peer.sale(2))
    assert await peer.codes() == ["00"]


async def test_the_gauge_shows_the_best_connection(edge):
    assert shown(edge) == "down"
    first = await edge.peer(signed_on=False)
    await edge.until(lambda: shown(edge) == "signed_off")
    second = await edge.peer()
    assert shown(edge) == "up"
    await anyio.aclose_forcefully(second.stream)
    await edge.until(lambda: shown(edge) == "signed_off")
    await anyio.aclose_forcefully(first.stream)
    await edge.until(lambda: shown(edge) == "down")


async def test_a_link_without_sign_on_takes_sales_at_once(serving, approver, link_terms, dialect):
    conduct = Conduct(sign_on_required=False, echo_idle_seconds=60)
    async with serving(link_terms(dialect), approver.submit, conduct=conduct) as edge:
        peer = await edge.peer()
        # a terminal behind a concentrator signs off for itself alone
        await peer.send(peer.sale(1), peer.management(NetworkFunction.SIGN_OFF), peer.sale(2))
        assert await peer.codes(3) == ["00", "00", "00"]
        edge.clock.advance(300)
        await peer.send(peer.echo(3))
        (answer,) = await peer.receive()
        assert answer.text(11) == "000003", "it is asked nothing itself"


async def test_a_message_of_management_that_is_refused_counts_as_no_sale(edge, dialect):
    peer = await edge.peer()
    odd = peer.echo(5)
    spelt = {60: "00000001999"} if dialect == "unionpay_pos" else {70: "999"}
    await peer.send(Message(odd.mti, odd.fields | spelt))
    assert await peer.codes() == ["12"]
    assert edge.metric(REQUESTS, segment="retail", kind="purchase", outcome="unsupported") == 0


async def test_a_reversal_that_is_refused_counts_as_one(edge):
    peer = await edge.peer()
    await peer.send(Message("0400", peer.sale(6, {4: None}).fields))
    assert await peer.codes() == ["30"]
    assert edge.metric(REQUESTS, segment="retail", kind="reversal", outcome="malformed") == 1
    assert edge.metric(REQUESTS, segment="retail", kind="purchase", outcome="malformed") == 0


# ---- echo ------------------------------------------------------------------------------------


async def test_a_silent_peer_is_asked_and_stays_when_it_answers(
    serving, approver, link_terms, dialect
):
    async with serving(link_terms(dialect), approver.submit, conduct=ECHOING) as edge:
        peer = await edge.peer()
        for number in (1, 2):
            edge.clock.advance(61)
            (echo,) = await peer.receive()
            assert (echo.mti, echo.text(11)) == ("0800", f"{number:06}")
            assert "301" in (echo.text(70), echo.text(60)[8:11])
            await peer.send(answer_to(echo))
            connection = await connection_of(edge)
            await edge.until(lambda: not connection.management.asks(NetworkFunction.ECHO))  # noqa: B023
        await peer.send(peer.sale(3))
        assert await peer.codes() == ["00"]


async def test_a_peer_that_does_not_answer_is_closed(serving, approver, link_terms, dialect):
    async with serving(link_terms(dialect), approver.submit, conduct=ECHOING) as edge:
        peer = await edge.peer()
        edge.clock.advance(61)
        await peer.receive()
        edge.clock.advance(4)
        connection = await connection_of(edge)
        assert connection.reason == "peer", "five seconds are waited whatever the budget is"
        edge.clock.advance(2)
        assert await peer.ended() == []
        assert (await edge.closed())["reason"] == "no_echo"


async def test_anything_that_comes_is_as_good_as_an_echo(serving, approver, link_terms, dialect):
    async with serving(link_terms(dialect), approver.submit, conduct=ECHOING) as edge:
        peer = await edge.peer()
        edge.clock.advance(61)
        await peer.receive()
        edge.clock.advance(1)
        await peer.send(peer.sale(1))
        assert await peer.codes() == ["00"]
        edge.clock.advance(30)
        await peer.send(peer.sale(2))
        assert await peer.codes() == ["00"]


async def test_a_peer_that_never_signed_on_is_not_asked(serving, approver, link_terms, dialect):
    async with serving(link_terms(dialect), approver.submit, conduct=ECHOING) as edge:
        peer = await edge.peer(signed_on=False)
        await connection_of(edge)
        edge.clock.advance(300)
        await peer.send(peer.echo(9))
        (answer,) = await peer.receive()
        assert (answer.mti, answer.text(11)) == ("0810", "000009")
        edge.clock.advance(601)
        assert await peer.ended() == []
        assert (await edge.closed())["reason"] == "idle"


# ---- cut-over --------------------------------------------------------------------------------


async def test_the_day_cut_is_told_once_to_who_signed_on(edge):
    told, untold = await edge.peer(), await edge.peer(signed_on=False)
    today = edge.link.calendar.business_date(edge.clock.now_us())
    edge.clock.shift_us = 86_400 * 1_000_000
    (cut,) = await told.receive()
    tomorrow = date.fromordinal(today.toordinal() + 1)
    assert (cut.mti, cut.text(15)) == ("0800", f"{tomorrow:%m%d}")
    assert "201" in (cut.text(70), cut.text(60)[8:11])
    await told.send(answer_to(cut))
    edge.clock.shift_us -= 300 * 1_000_000  # a step back around midnight brings no day back
    for peer in (told, untold):
        await peer.send(peer.echo(3))
        (answer,) = await peer.receive()
        assert answer.mti == "0810"
    assert not edge.log.lines("network message not answered")


async def test_a_cut_over_that_is_not_answered_is_logged_and_costs_nothing(edge):
    peer = await edge.peer()
    edge.clock.shift_us = 86_400 * 1_000_000
    await peer.receive()
    edge.clock.advance(10)
    await edge.until(lambda: edge.log.lines("network message not answered"))
    await peer.send(peer.sale(1))
    assert await peer.codes() == ["00"]


async def test_a_peers_cut_over_is_answered(edge):
    peer = await edge.peer()
    await peer.send(peer.management(NetworkFunction.CUT_OVER, 5, settlement_mmdd="0102"))
    (answer,) = await peer.receive()
    assert (answer.mti, answer.text(39), answer.text(11)) == ("0810", "00", "000005")


async def test_answers_to_nothing_are_left_out(edge):
    peer = await edge.peer()
    await peer.send(answer_to(peer.echo(77)), peer.sale(1))
    assert await peer.codes() == ["00"]


# ---- MAC, PIN and keys: what the link asks of its guard ----------------------------------------


class Guard:
    """A guard whose MAC is DE64 = stan twice, and whose keys come when the test says so."""

    def __init__(self) -> None:
        self.exchanges: list = []
        self.sealed_under: list[Seal | None] = []

    def verify(self, spec: Spec, octets: bytes, message: Message) -> Seal | None:
        return Seal(int(message.text(11))) if message.text(42).startswith("SEALED") else None

    def seal(self, spec: Spec, message: Message, under: Seal | None = None) -> bytes:
        self.sealed_under.append(under)
        return encode(spec, message)

    def pin_of(self, message: Message, card: CardNumber) -> bytes:
        if 52 not in message.fields:
            return b""
        if message.fields[52] == bytes(8):
            raise PinBlockRefused("a PIN block that cannot be read")
        return b"P" * 16

    def exchange(self, respond, failed) -> None:
        self.exchanges.append((respond, failed))


@pytest.fixture
async def guarded(serving, approver, link_terms, ledger_loop):
    guard = Guard()
    async with serving(link_terms("iso87_ascii"), approver.submit, link={"guard": guard}) as edge:
        edge.guard = guard
        yield edge


async def test_a_message_without_its_mac_is_refused_with_63(guarded, approver):
    peer = await guarded.peer()
    await peer.send(peer.sale(1), peer.sale(2, merchant="SEALED"))
    assert await peer.codes(2) == ["63", "00"]
    assert [request.stan for request in approver.requests] == ["000002"]
    assert guarded.metric("citycard_mac_failures_total", link="retail-1") == 1
    assert guarded.metric(REQUESTS, segment="retail", kind="purchase", outcome="mac_wrong") == 1
    assert guarded.guard.sealed_under == [None, Seal(2)], "the sign-on carries none"


async def test_the_pin_is_given_on_and_a_bad_block_is_refused(guarded, approver):
    peer = await guarded.peer()
    await peer.send(
        peer.sale(1, {52: b"12345678"}, merchant="SEALED"),
        peer.sale(2, {52: bytes(8)}, merchant="SEALED"),
        peer.sale(3, merchant="SEALED"),
    )
    assert await peer.codes(3) == ["00", "55", "00"]
    assert [request.pin for request in approver.requests] == [b"P" * 16, b""]


async def test_keys_are_exchanged_on_request(guarded):
    peer = await guarded.peer()
    asking = peer.management(NetworkFunction.KEY_EXCHANGE, 8)
    await peer.send(asking, peer.management(NetworkFunction.KEY_EXCHANGE, 9))
    (hurried,) = await peer.receive()
    assert (hurried.text(11), hurried.text(39)) == ("000009", "91"), "one at a time"
    ((respond, _),) = guarded.guard.exchanges
    respond("D0112P0AE00E0000KEYBLOCK")
    (answer,) = await peer.receive()
    assert (answer.text(11), answer.text(39)) == ("000008", "00")
    assert answer.text(48) == "D0112P0AE00E0000KEYBLOCK"
    await peer.send(asking)
    await guarded.until(lambda: len(guarded.guard.exchanges) == 2)
    guarded.guard.exchanges[1][1]()
    assert await peer.codes() == ["91"]


async def test_a_terminals_sign_on_is_complete_with_its_keys(serving, approver, link_terms):
    guard = Guard()
    async with serving(link_terms("unionpay_pos"), approver.submit, link={"guard": guard}) as edge:
        peer = await edge.peer(signed_on=False)
        await peer.send(peer.management(NetworkFunction.SIGN_ON, 1))
        await edge.until(lambda: shown(edge) == "signing_on")
        await peer.send(peer.sale(2, merchant="SEALED"))
        assert await peer.codes() == ["58"]
        guard.exchanges[0][0]("KEYS")
        (signed_on,) = await peer.receive()
        assert (signed_on.text(39), signed_on.text(62)) == ("00", "KEYS")
        await peer.send(peer.sale(3, merchant="SEALED"))
        assert await peer.codes() == ["00"]


async def test_a_sign_on_whose_keys_cannot_be_made_is_refused(serving, approver, link_terms):
    guard = Guard()
    async with serving(link_terms("unionpay_pos"), approver.submit, link={"guard": guard}) as edge:
        peer = await edge.peer(signed_on=False)
        await peer.send(peer.management(NetworkFunction.SIGN_ON, 1))
        await edge.until(lambda: guard.exchanges)
        guard.exchanges[0][1]()
        assert await peer.codes() == ["91"]
        assert shown(edge) == "signed_off"


async def test_a_key_exchange_where_there_are_no_keys_is_unsupported(edge):
    peer = await edge.peer()
    await peer.send(peer.management(NetworkFunction.KEY_EXCHANGE, 8))
    assert await peer.codes() == ["12"]
