"""A blocking terminal against a peer that answers, stays silent, hangs up or talks nonsense."""

import contextlib
import socket
import threading

import pytest

from loadtest.crowd import Attempt, Behaviour
from loadtest.terminal import LinkLost, NoAnswer, Terminal
from loadtest.wire import HEADER, TPDU, Key, Wire
from protocols.framing import Framer, frame
from protocols.iso8583 import Message, decode, encode

ATTEMPT = Attempt(Behaviour.ORDINARY, 7, "R0000101", "RETAIL000000001", "5499", 1_250, "000042")
KEY = Key("R0000101", "000042", "02")


@pytest.fixture
def wire():
    return Wire(dialect="unionpay_pos", acquirer="48021000", time_zone="Asia/Shanghai")


@contextlib.contextmanager
def peer(answers):
    """A port that reads one frame a connection and sends what `answers(message)` gives."""
    wire = Wire(dialect="unionpay_pos", acquirer="48021000", time_zone="Asia/Shanghai")
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection:
                    framer = Framer(wire.framing)
                    sign_on = framer.feed(connection.recv(65_536))
                    assert decode("unionpay_pos", sign_on[0].payload).mti == "0800"
                    signed_on = encode("unionpay_pos", Message("0810", {11: "000001", 39: "00"}))
                    connection.sendall(frame(wire.framing, signed_on, TPDU, HEADER))
                    frames = framer.feed(connection.recv(65_536))
                    for part in answers(decode("unionpay_pos", frames[0].payload)):
                        connection.sendall(part)
                    while connection.recv(65_536):
                        pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def answer(wire, message, *, stan="000042", code="00"):
    fields = {n: message.fields[n] for n in (3, 4, 12, 13, 41, 42, 49)}
    reply = Message("0210", {**fields, 11: stan, 37: "632619000042", 39: code})
    payload = encode("unionpay_pos", Message("0210", dict(sorted(reply.fields.items()))))
    return frame(wire.framing, payload, TPDU, HEADER)


def ask(wire, port, *, timeout_seconds=5.0):
    with Terminal("127.0.0.1", port, wire, timeout_seconds=timeout_seconds) as terminal:
        return terminal.ask(wire.sale(ATTEMPT, 1_795_000_000), KEY)


def test_an_answer_is_read_even_byte_by_byte(wire):
    def answers(message):
        whole = answer(wire, message, code="51")
        return [whole[n : n + 1] for n in range(len(whole))]

    with peer(answers) as port:
        got = ask(wire, port)
    assert (got.code, got.rrn, got.approved_minor) == ("51", "632619000042", 1_250)


def test_an_answer_to_another_message_is_left_out(wire):
    def answers(message):
        return [answer(wire, message, stan="000041", code="96"), answer(wire, message)]

    with peer(answers) as port:
        assert ask(wire, port).code == "00"


def test_silence_is_no_answer(wire):
    with peer(lambda message: []) as port, pytest.raises(NoAnswer, match="no answer in"):
        ask(wire, port, timeout_seconds=0.1)


def test_nonsense_is_a_lost_link(wire):
    with peer(lambda message: [b"\xff\xff" + b"x" * 40]) as port, pytest.raises(LinkLost):
        ask(wire, port)


def test_nobody_there_is_a_lost_link(wire):
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with pytest.raises(LinkLost):
        ask(wire, port)


def test_after_silence_the_next_message_has_a_new_connection(wire):
    said = iter([[], None])

    def answers(message):
        parts = next(said)
        return [answer(wire, message)] if parts is None else parts

    with (
        peer(answers) as port,
        Terminal("127.0.0.1", port, wire, timeout_seconds=0.2) as terminal,
    ):
        sale = wire.sale(ATTEMPT, 1_795_000_000)
        with pytest.raises(NoAnswer):
            terminal.ask(sale, KEY)
        assert terminal.ask(sale, KEY).code == "00"


def test_a_terminal_answers_echoes_and_leaves_a_connection_that_was_signed_off(wire):
    asked = [
        frame(wire.framing, encode("unionpay_pos", message), TPDU, HEADER)
        for message in (
            Message("0800", {11: "000001", 60: "00000001301"}),
            Message("0800", {11: "000002", 60: "00000001002"}),
        )
    ]
    connections = []

    def answers(message):
        connections.append(message)
        return [*asked, answer(wire, message)]

    with (
        peer(answers) as port,
        Terminal("127.0.0.1", port, wire, timeout_seconds=5) as terminal,
    ):
        sale = wire.sale(ATTEMPT, 1_795_000_000)
        assert terminal.ask(sale, KEY).code == "00"
        assert terminal.ask(sale, KEY).code == "00"
    assert len(connections) == 2
