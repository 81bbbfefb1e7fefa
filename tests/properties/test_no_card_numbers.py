"""No card number in any log, error, metric or exception text, whatever somebody sends.

Real messages are spoilt in every way that is cheap to think of, with the card number in
fields where it does not belong, and go through framer, codec, dialect and link. So do
configurations, rulesets and command lines with a card number in them.
"""

from __future__ import annotations

import io
import logging
import re
import sys
import threading
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loadtest.wire import ASCII_FRAMING, HEADER, TPDU, UNIONPAY_FRAMING
from protocols.card_number import CardNumber, numbered_card
from protocols.errors import DecodeError, ProtocolError
from protocols.framing import Framer, Framing
from protocols.iso8583 import Message, decode, encode
from protocols.iso8583.client import Sale, sale_message
from protocols.iso8583.dialect import read
from protocols.iso8583.link import LinkTerms
from protocols.message import Outcome, Refusal, Reply, Request, Segment
from risk.check import load_ruleset
from risk.findings import RulesetError
from switch import logs
from switch.calendar import BusinessCalendar
from switch.cli import main
from switch.clock import SystemClock
from switch.config import ConfigError, load, parse
from switch.metrics import Metrics
from switch.net.iso import Conduct, Connection, Link, LinkLimits
from switch.terms import ruleset_text

LONG_RUN = re.compile(r"\d{13}")
DIALECTS = ("unionpay_pos", "iso87_ascii")
PATIENT = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

cards = st.builds(
    numbered_card,
    st.just("621234"),
    st.integers(0, 999_999_999),
    st.sampled_from([16, 17, 18, 19]),
)


def assert_shows_none(text: str, card: CardNumber) -> None:
    """Neither a long run of digits, nor the card number with something between its digits."""
    found = LONG_RUN.search(text)
    assert found is None, f"a run of digits in: {text[max(0, found.start() - 200) : found.end()]}"
    assert card.reveal() not in re.sub(r"[ \-._\\]", "", text)


# ---- messages --------------------------------------------------------------------------------


def terms_of(dialect: str) -> LinkTerms:
    return LinkTerms(
        name="retail-1",
        dialect=dialect,  # type: ignore[arg-type]
        framing=UNIONPAY_FRAMING if dialect == "unionpay_pos" else ASCII_FRAMING,
        acquirer="48021000",
        segment=Segment.RETAIL,
        budget_ms=800,
        currencies=("156",),
    )


def sale_of(dialect: str, card: CardNumber) -> Message:
    return sale_message(
        dialect,  # type: ignore[arg-type]
        Sale(
            card=card, amount_minor=1840, stan=7, terminal="T0000042", merchant="SHOP",
            local_at=datetime(2026, 11, 22, 12, tzinfo=UTC), mcc="5411", acquirer="48021000",
        ),
    )  # fmt: skip


@st.composite
def spoilt_payloads(draw: st.DrawFn, dialect: str, card: CardNumber) -> bytes:
    """A sale with the card number where it should not be, then bytes cut, changed or put in."""
    pan = card.reveal()
    message = sale_of(dialect, card)
    fields = dict(message.fields)
    widths = {37: 12, 41: 8, 42: 15, 43: 40}
    for number, width in draw(st.dictionaries(st.sampled_from([*widths]), st.none())).items():
        del width
        fields[number] = (pan * 3)[: widths[number]]
    if draw(st.booleans()):
        fields[48] = pan * 2
    if draw(st.booleans()):
        fields[draw(st.sampled_from([44, 54, 57, 62, 63]))] = (pan * 2)[:24]
    if draw(st.booleans()):
        fields.pop(draw(st.sampled_from(sorted(fields))))
    mti = draw(st.sampled_from(["0200", "0200", "0100", "0400", "0210", "0800", "0999", pan[:4]]))
    payload = bytearray(encode(dialect, Message(mti, dict(sorted(fields.items())))))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(0, len(payload) - 1)))
        match draw(st.sampled_from(["cut", "flip", "pan", "packed", "letters", "drop"])):
            case "cut":
                del payload[at:]
            case "flip":
                if payload:
                    payload[at] ^= draw(st.integers(1, 255))
            case "pan":
                payload[at:at] = pan.encode()
            case "packed":
                payload[at:at] = bytes.fromhex(pan + "0" * (len(pan) % 2))
            case "letters":
                payload[at : at + 1] = "é１".encode(draw(st.sampled_from(["utf-8", "gb18030"])))
            case "drop":
                del payload[at : at + draw(st.integers(1, 9))]
    return bytes(payload)


def framed_anyhow(framing: Framing, payload: bytes) -> bytes:
    lead = (TPDU if framing.tpdu else b"") + HEADER[: framing.header_bytes]
    length = len(lead) + len(payload)
    prefix = length.to_bytes(2, "big") if framing.kind == "binary2" else b"%04d" % length
    return prefix + lead + payload


def texts_of(error: BaseException) -> list[str]:
    told = [str(error), repr(error), repr(error.args), *traceback.format_exception(error)]
    if isinstance(error, ProtocolError):
        told += [error.reason, error.field_path]
    if isinstance(error, DecodeError):
        told.append(repr(error.partial))
    return told


@pytest.mark.parametrize("dialect", DIALECTS)
@PATIENT
@given(draw=st.data(), card=cards)
def test_no_error_of_codec_and_dialect_shows_one(dialect, draw, card):
    payload = draw.draw(spoilt_payloads(dialect, card))
    terms = terms_of(dialect)
    told: list[str] = []
    try:
        for one in Framer(terms.framing).feed(framed_anyhow(terms.framing, payload)):
            told.append(repr(one))
            message = decode(dialect, one.payload)
            told.append(repr(message))
            understood = read(terms, message, 0, hash_key=b"secret")
            if isinstance(understood, Refusal):
                told.append(repr(understood))
    except ProtocolError as error:
        told += texts_of(error)
    for text in told:
        assert_shows_none(text, card)


@pytest.mark.parametrize("dialect", DIALECTS)
@PATIENT
@given(data=st.data(), card=cards)
def test_no_error_of_the_encoder_shows_one(dialect, data, card):
    number = data.draw(st.integers(-1, 130))
    value = data.draw(st.sampled_from([card.reveal() * 9, card.reveal() + "\u0661", b"1" * 40]))
    message = sale_of(dialect, card)
    try:
        encode(dialect, Message(message.mti, message.fields | {number: value}))
    except ProtocolError as error:
        for text in texts_of(error):
            assert_shows_none(text, card)


# ---- the link --------------------------------------------------------------------------------


class Script:
    """A byte stream that says what it was given in chunks, then ends; answers are dropped."""

    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = chunks

    async def receive(self, max_bytes: int) -> bytes:
        await anyio.lowlevel.checkpoint()
        if not self._chunks:
            raise anyio.EndOfStream
        return self._chunks.pop(0)

    async def send(self, octets: bytes) -> None:
        await anyio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        await anyio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await anyio.lowlevel.checkpoint()


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Everything that is logged, in either form; the process is as before afterwards."""
    root = logging.getLogger()
    before = root.handlers, root.level, logging.raiseExceptions
    hooks = sys.excepthook, sys.unraisablehook, threading.excepthook
    captured = io.StringIO()
    yield captured
    root.handlers, level, logging.raiseExceptions = before
    root.setLevel(level)
    sys.excepthook, sys.unraisablehook, threading.excepthook = hooks
    logging.captureWarnings(False)


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("dialect", DIALECTS)
@PATIENT
@given(data=st.data(), card=cards)
def test_no_log_line_and_no_metric_of_a_link_shows_one(stream, dialect, form, data, card):
    stream.seek(0)
    stream.truncate()
    logs.configure(form, "debug", stream)
    terms = terms_of(dialect)
    faulty = data.draw(st.booleans())

    def submit(request: Request, respond) -> None:
        if faulty:
            raise RuntimeError(f"{request.card.reveal()} {request} {request.merchant}")
        respond(Reply(Outcome.APPROVED, request.amount.amount_minor, 1, "ABC234", ""))

    metrics = Metrics([terms.name])
    limits = LinkLimits(10, 600, 15, 65_536)
    clock = SystemClock()
    calendar = BusinessCalendar("Asia/Shanghai", "00:00")
    payloads = data.draw(st.lists(spoilt_payloads(dialect, card), min_size=1, max_size=3))
    octets = b"".join(framed_anyhow(terms.framing, payload) for payload in payloads)
    if data.draw(st.booleans()):
        octets += card.reveal().encode() * 4
    cut = data.draw(st.integers(0, len(octets)))
    script = Script([chunk for chunk in (octets[:cut], octets[cut:]) if chunk])

    async def serve() -> None:
        open_connections: set[Connection] = set()
        link = Link(
            terms,
            limits,
            submit,
            calendar,
            clock,
            metrics,
            open_connections,
            b"key",
            conduct=Conduct(sign_on_required=False),
        )
        await link.handle(script)  # type: ignore[arg-type]

    anyio.run(serve)
    assert_shows_none(_without_timestamps(stream.getvalue()), card)
    assert_shows_none(_without_fractions(metrics.text()), card)


def _without_fractions(text: str) -> str:
    """Seconds are floats, and may have sixteen digits."""
    return re.sub(r"\.\d+(e[+-]\d+)?$", "", text, flags=re.MULTILINE)


def _without_timestamps(text: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "", text)


# ---- what people write -----------------------------------------------------------------------

CONFIGURATION_SPOTS = (
    "{pan} = 1",
    '[ledger]\n{pan} = "x"',
    "[ledger]\nshards = {pan}",
    '[ledger]\ncurrency = "{pan}"',
    '[ledger]\ndatabase = "postgresql://{pan}:{pan}@host:{pan}/{pan}"',
    '[ledger]\ntime_zone = "{pan}"',
    '[[links]]\nname = "a{pan}"',
    '[[links]]\nacquirer = "{pan}"',
    '[[links]]\nname = "a"\nport = 1\n[[links]]\nname = "b"\nport = {pan}',
    '[[links]]\ncurrencies = ["{pan}"]',
    '[purses.GEN]\nrefused_mccs = ["{pan}"]',
    '[keys]\ncard_number_key_file = "{pan}',
    '[server]\nhost = "{pan}"\nworkers = -{pan}',
)


@pytest.mark.parametrize("spot", CONFIGURATION_SPOTS)
@settings(PATIENT, max_examples=10)
@given(card=cards)
def test_no_problem_of_a_configuration_shows_one(spot, card):
    try:
        parse(spot.format(pan=card.reveal()), "citycard.toml")
    except ConfigError as error:
        for text in (str(error), repr(error), *traceback.format_exception(error)):
            assert_shows_none(text, card)


def test_no_missing_file_shows_one(tmp_path):
    card = numbered_card("621234", 7)
    with pytest.raises(ConfigError) as raised:
        load(tmp_path / f"{card.reveal()}.toml")
    assert_shows_none(str(raised.value), card)


RULESET = ruleset_text(parse("", "citycard.toml"))


@settings(PATIENT, max_examples=100)
@given(data=st.data(), card=cards)
def test_no_problem_of_a_ruleset_shows_one(data, card):
    """The card number goes in place of one word, number or text of the shipped ruleset."""
    words = list(re.finditer(r"\w+|\"[^\"]*\"", RULESET))
    word = data.draw(st.sampled_from(words))
    written = data.draw(st.sampled_from(["{pan}", '"{pan}"', "a{pan}", '"a {pan}"', "[{pan}]"]))
    text = RULESET[: word.start()] + written.format(pan=card.reveal()) + RULESET[word.end() :]
    try:
        load_ruleset(text, "rules.toml")
    except RulesetError as error:
        for told in (str(error), repr(error), *traceback.format_exception(error)):
            assert_shows_none(told, card)


COMMANDS = (
    ("{pan}",),
    ("card", "{pan}"),
    ("serve", "--workers", "{pan}"),
    ("serve", "--{pan}"),
    ("serve", "--config", "{pan}"),
    ("config", "check", "{pan}"),
    ("rules", "check", "{pan}"),
    ("audit", "--days", "{pan}"),
    ("audit", "--database", "postgresql://{pan}@127.0.0.1:1/{pan}"),
    ("card", "show", "{pan}", "--database", "postgresql://127.0.0.1:1/none"),
    ("decode", "{pan}"),
    ("decode", "{pan}", "--dialect", "{pan}"),
    ("encode", "{pan}"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_command_line_is_answered_with_one(command, capsys, stream, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    card = numbered_card("621234", 424_242, 19)
    code = main([word.format(pan=card.reveal()) for word in command])
    said = capsys.readouterr()
    assert code != 0 or said.out
    assert_shows_none(said.out + said.err, card)
