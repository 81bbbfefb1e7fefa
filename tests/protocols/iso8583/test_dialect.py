"""From fields to words and back: every rung of the ladder, every field of an answer."""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from hashlib import blake2b

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from protocols.card_number import CardNumber, numbered_card
from protocols.framing import Framing
from protocols.iso8583 import SPECS, Message, Spec, decode, encode
from protocols.iso8583.client import Dialect, Sale, sale_message
from protocols.iso8583.dialect import (
    NetworkFunction,
    NetworkRequest,
    is_request,
    network_reply,
    read,
    response_mti,
    write,
    write_malformed,
)
from protocols.iso8583.link import LinkTerms
from protocols.message import Kind, Outcome, Refusal, Reply, Request, Segment, response_code

AnyMessage = Callable[[Spec], SearchStrategy[Message]]
CARD = numbered_card("620000", 12_345)
NOW = datetime(2026, 11, 22, 18, 5, 9)
APPROVED = Reply(Outcome.APPROVED, 1_840, 7, "A1B2C3", "632618000417")
both = pytest.mark.parametrize("dialect", ["unionpay_pos", "iso87_ascii"])


def terms(dialect: Dialect = "iso87_ascii", **changes: object) -> LinkTerms:
    agreed = LinkTerms(
        "shops", dialect, Framing(), "48021000", Segment.RETAIL, 800, ("156",), default_mcc="5999"
    )
    return msgspec.structs.replace(agreed, **changes)


def sale(dialect: Dialect = "iso87_ascii", mti: str = "0200", /, **changes: str | None) -> Message:
    """A sale with fields changed (`de4="…"`) or taken out (`de4=None`)."""
    message = sale_message(
        dialect,
        Sale(CARD, 1_840, 417, "T0000042", "M0042", NOW, "5411", "48021000", mti=mti),
    )
    for name, value in changes.items():
        number = int(name.removeprefix("de"))
        message.fields.pop(number, None)
        if value is not None:
            message.fields[number] = value
    return message


def understood(message: Message, agreed: LinkTerms | None = None, **more: bytes) -> Request:
    request = read(agreed or terms(), message, 5_000, **more)
    assert isinstance(request, Request)
    return request


# ---- sales ---------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("mti", ["0100", "0200"])
def test_a_sale_is_understood(dialect: Dialect, mti: str) -> None:
    request = understood(sale(dialect, mti), terms(dialect))
    assert (request.kind, request.segment, request.link) == (Kind.PURCHASE, Segment.RETAIL, "shops")
    assert (request.acquirer, request.terminal, request.merchant) == (
        "48021000",
        "T0000042",
        "M0042",
    )
    assert request.card == CARD
    assert (request.amount.amount_minor, request.amount.currency) == (1_840, "156")
    assert (request.mcc, request.stan, request.local_at) == ("5411", "000417", "1122180509")
    assert (request.entry_mode, request.expiry) == ("071", "3012")
    assert request.message_class == mti[:2]
    assert (request.received_ns, request.deadline_ns) == (5_000, 5_000 + 800_000_000)
    assert (len(request.key), len(request.payload_hash)) == (16, 8)


def test_what_is_missing_is_taken_from_the_link() -> None:
    request = understood(sale(de18=None, de32=None, de37=None, de22=None, de14=None, de35=None))
    assert (request.mcc, request.acquirer) == ("5999", "48021000")
    assert (request.rrn, request.entry_mode, request.expiry) == ("", "", "")


@pytest.mark.parametrize("separator", ["=", "D"])
def test_track_2_gives_card_and_expiry(separator: str) -> None:
    track = f"{CARD.reveal()}{separator}29012010000"
    request = understood(sale(de2=None, de14=None, de35=track))
    assert (request.card, request.expiry) == (CARD, "2901")
    assert understood(sale(de14=None, de35=track)).expiry == "2901"
    assert understood(sale(de35=track)).expiry == "3012"
    assert understood(sale(de2=None, de14=None, de35=CARD.reveal())).expiry == ""


REFUSED: list[tuple[Message, Outcome, str]] = [
    (Message("0400", {}), Outcome.UNSUPPORTED, "mti"),
    (Message("0210", {}), Outcome.UNSUPPORTED, "mti"),
    (Message("1200", {}), Outcome.UNSUPPORTED, "mti"),
    (sale("iso87_ascii", "0220"), Outcome.UNSUPPORTED, "mti"),
    (sale(de3="200000"), Outcome.UNSUPPORTED, "DE3"),
    (sale(de3="310000", de4=None, de41=None), Outcome.UNSUPPORTED, "DE3"),
    (sale(de25="06"), Outcome.UNSUPPORTED, "DE25"),
    *(
        (sale(**{f"de{n}": None}), Outcome.MALFORMED, f"DE{n}")
        for n in (3, 4, 11, 12, 13, 41, 42, 49)
    ),
    (sale(de2=None, de35=None), Outcome.MALFORMED, "DE2"),
    (sale(de41=" " * 8), Outcome.MALFORMED, "DE41"),
    (sale(de2="62000000000"), Outcome.MALFORMED, "DE2"),
    (sale(de2="6200000000x00003"), Outcome.MALFORMED, "DE2"),
    (sale(de2=None, de35="62000=2901"), Outcome.MALFORMED, "DE35"),
    (sale(de12="240000"), Outcome.MALFORMED, "DE12"),
    (sale(de12="236000"), Outcome.MALFORMED, "DE12"),
    (sale(de12="235960"), Outcome.MALFORMED, "DE12"),
    (sale(de13="0230"), Outcome.MALFORMED, "DE13"),
    (sale(de13="0000"), Outcome.MALFORMED, "DE13"),
    (sale(de13="1301"), Outcome.MALFORMED, "DE13"),
    (sale(de32="48021001"), Outcome.TERMINAL_NOT_PERMITTED, "DE32"),
    (sale(de49="840"), Outcome.CURRENCY_NOT_CONFIGURED, "DE49"),
    (sale(de4="000000000000"), Outcome.INVALID_AMOUNT, "DE4"),
    # precedence: what the message is worth, then the terminal, the currency, the amount
    (sale(de13="0230", de32="1", de49="840"), Outcome.MALFORMED, "DE13"),
    (sale(de32="1", de49="840", de4="0" * 12), Outcome.TERMINAL_NOT_PERMITTED, "DE32"),
    (sale(de49="840", de4="0" * 12), Outcome.CURRENCY_NOT_CONFIGURED, "DE49"),
]


@pytest.mark.parametrize(("message", "outcome", "path"), REFUSED)
def test_a_refusal_says_what_and_where(message: Message, outcome: Outcome, path: str) -> None:
    refusal = read(terms(), message, 1)
    assert isinstance(refusal, Refusal)
    assert (refusal.outcome, refusal.field_path) == (outcome, path)
    assert not re.search(r"\d{5}", refusal.reason)


@pytest.mark.parametrize("year", [2027, 2028])
def test_every_day_of_the_calendar_is_a_date(year: int) -> None:
    first = datetime(year, 1, 1)
    for day in range(366 if calendar.isleap(year) else 365):
        understood(sale(de13=f"{first + timedelta(days=day):%m%d}"))


# ---- identity ------------------------------------------------------------------------------


def test_the_key_starts_with_the_clock_of_the_terminal() -> None:
    key = understood(sale()).key
    assert int.from_bytes(key[:4], "big") == 1_122_180_509
    parts = "\x1f".join(["48021000", "T0000042", "000417", "1122180509", "02"])
    assert key[4:] == blake2b(parts.encode(), digest_size=12).digest()
    later = understood(sale(de12="180510")).key
    assert later > key


@pytest.mark.parametrize("change", [{"de11": "000418"}, {"de41": "T0000043"}, {"de13": "1123"}])
def test_another_part_is_another_key(change: dict[str, str]) -> None:
    assert understood(sale(**change)).key != understood(sale()).key


def test_a_repeat_has_the_key_and_hash_of_its_first() -> None:
    first = understood(sale())
    repeat = understood(sale("iso87_ascii", "0201", de7="1122180539", de22="051"))
    assert (repeat.key, repeat.payload_hash) == (first.key, first.payload_hash)


def test_authorization_and_financial_request_are_two_keys() -> None:
    assert understood(sale("iso87_ascii", "0100")).key != understood(sale()).key


def test_the_merchant_is_in_the_key_where_agreed() -> None:
    agreed = terms(match_key=("terminal", "stan", "merchant"))
    assert understood(sale(de42="M0043".ljust(15)), agreed).key != understood(sale(), agreed).key
    assert understood(sale(de42="M0043".ljust(15))).key == understood(sale()).key


@pytest.mark.parametrize(
    "change",
    [
        {"de4": "000000001841"},
        {"de2": numbered_card("620000", 9).reveal()},
        {"de3": "001000"},
        {"de18": "5499"},
        {"de42": "M0043".ljust(15)},
    ],
)
def test_another_payload_is_another_hash(change: dict[str, str]) -> None:
    assert understood(sale(**change)).payload_hash != understood(sale()).payload_hash


def test_a_secret_keys_the_payload_hash_and_not_the_key() -> None:
    plain, keyed = understood(sale()), understood(sale(), hash_key=b"secret")
    assert plain.payload_hash != keyed.payload_hash
    assert plain.key == keyed.key


# ---- answers -------------------------------------------------------------------------------


@both
def test_an_approval_echoes_and_adds(dialect: Dialect) -> None:
    asked = sale(dialect, de37=None)
    answer = write(terms(dialect), asked, APPROVED, NOW, "1123")
    assert answer is not None
    assert answer.mti == "0210"
    echoed = {2, 3, 11, 12, 13, 14, 25, 32, 41, 42, 49}
    echoed |= {23, 60} if dialect == "unionpay_pos" else {7}
    assert {n: answer.fields[n] for n in echoed} == {n: asked.fields[n] for n in echoed}
    added = {4: "000000001840", 15: "1123", 37: "632618000417", 38: "A1B2C3", 39: "00"}
    assert {n: answer.fields[n] for n in added} == added
    assert set(answer.fields) == echoed | set(added)
    assert decode(dialect, encode(dialect, answer)).fields == answer.fields


def test_a_partial_approval_says_how_much() -> None:
    answer = write(terms(), sale(), msgspec.structs.replace(APPROVED, approved_minor=5), NOW)
    assert answer is not None
    assert answer.text(4) == "000000000005"


@pytest.mark.parametrize("outcome", [o for o in Outcome if not o.approved])
def test_a_refusal_has_its_code_and_no_authorization(outcome: Outcome) -> None:
    reply = Reply(outcome, auth_code="A1B2C3", rrn="632618000417")
    answer = write(terms(), sale(de37=None), reply, NOW)
    assert answer is not None
    assert answer.text(39) == response_code(outcome)
    assert answer.text(4) == "000000001840"
    assert answer.text(37) == "632618000417"
    assert 38 not in answer.fields
    assert answer.text(15) == "1122"


def test_the_reference_number_of_the_terminal_is_kept() -> None:
    answer = write(terms(), sale(de37="TERMINALRRN1"), APPROVED, NOW)
    assert answer is not None
    assert answer.text(37) == "TERMINALRRN1"


def test_a_clock_is_given_to_a_terminal_that_sent_none() -> None:
    answer = write(terms(), sale(de12=None, de13=None), Reply(Outcome.MALFORMED), NOW)
    assert answer is not None
    assert (answer.text(12), answer.text(13)) == ("180509", "1122")


@pytest.mark.parametrize(
    ("asked", "answered"),
    [("0100", "0110"), ("0200", "0210"), ("0201", "0210"), ("0420", "0430"), ("0800", "0810"),
     ("1200", "1210"), ("0202", "0212"), ("0203", "0212")],
)  # fmt: skip
def test_the_answer_to_a_request(asked: str, answered: str) -> None:
    assert is_request(asked)
    assert response_mti(asked) == answered


@pytest.mark.parametrize("mti", ["0110", "0210", "0430", "0810", "0240", "02x0", "", "٠٢٠٠"])
def test_what_is_not_a_request_is_never_answered(mti: str) -> None:
    message = Message(mti, {11: "000417", 41: "T0000042"})
    assert not is_request(mti)
    assert write(terms(), message, APPROVED, NOW) is None
    assert write_malformed(terms(), message) is None


@pytest.mark.parametrize("dialect", ["unionpay_pos", "iso87_ascii"])
@settings(max_examples=150, deadline=None)
@given(sample=st.data())
def test_whatever_was_decoded_can_be_answered(
    dialect: Dialect, any_message: AnyMessage, sample: st.DataObject
) -> None:
    spec = SPECS[dialect]
    drawn = sample.draw(any_message(spec))
    mti = sample.draw(st.sampled_from(["0100", "0200", "0420", "0800", "1200"]))
    message = decode(spec, encode(spec, Message(mti, drawn.fields)))
    reply = Reply(
        sample.draw(st.sampled_from(list(Outcome))),
        approved_minor=sample.draw(st.integers(0, 999_999_999_999)),
        auth_code=sample.draw(st.text(max_size=8)),
        rrn=sample.draw(st.text(max_size=14)),
    )
    read(terms(dialect), message, 1)
    for answer in (
        write(terms(dialect), message, reply, NOW),
        write_malformed(terms(dialect), message),
        network_reply(terms(dialect), message, NOW),
    ):
        if answer is not None:
            assert decode(spec, encode(spec, answer)).fields == answer.fields


@pytest.mark.parametrize("dialect", ["unionpay_pos", "iso87_ascii"])
@settings(max_examples=150, deadline=None)
@given(sample=st.data())
def test_any_decoded_message_is_read_as_a_value(
    dialect: Dialect, any_message: AnyMessage, sample: st.DataObject
) -> None:
    """Fields of a sale replaced by any others the format allows: never an exception."""
    drawn = sample.draw(any_message(SPECS[dialect]))
    mixed = sale(dialect).fields | drawn.fields
    understood_as = read(terms(dialect), Message("0200", mixed), 1)
    assert isinstance(understood_as, Request | Refusal)
    if isinstance(understood_as, Request):
        assert isinstance(understood_as.card, CardNumber)
        assert understood_as.amount.amount_minor > 0


def test_a_broken_message_is_answered_30_where_it_can_be_addressed() -> None:
    partial = Message("0200", {3: "000000", 4: "000000001840", 11: "000417", 41: "T0000042"})
    assert write_malformed(terms(), partial) == Message("0210", {**partial.fields, 39: "30"})
    for missing in (11, 41):
        rest = {n: value for n, value in partial.fields.items() if n != missing}
        assert write_malformed(terms(), Message("0200", rest)) is None
    assert write_malformed(terms(), None) is None


# ---- network management --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dialect", "mti", "code", "function"),
    [
        ("iso87_ascii", "0800", {70: "301"}, NetworkFunction.ECHO),
        ("iso87_ascii", "0800", {70: "001"}, NetworkFunction.SIGN_ON),
        ("iso87_ascii", "0801", {70: "002"}, NetworkFunction.SIGN_OFF),
        ("iso87_ascii", "0800", {}, NetworkFunction.ECHO),
        ("unionpay_pos", "0800", {}, NetworkFunction.ECHO),
        ("unionpay_pos", "0800", {60: "00000001003"}, NetworkFunction.SIGN_ON),
        ("unionpay_pos", "0820", {60: "00000001002"}, NetworkFunction.SIGN_OFF),
    ],
)
def test_network_messages_are_understood_and_answered(
    dialect: Dialect, mti: str, code: dict[int, str | bytes], function: NetworkFunction
) -> None:
    message = Message(mti, {11: "000001", **code})
    assert read(terms(dialect), message, 1) == NetworkRequest(function, "000001")
    answer = network_reply(terms(dialect), message, NOW)
    assert answer.mti == response_mti(message.mti)
    assert answer.text(39) == "00"
    assert all(answer.fields[n] == value for n, value in message.fields.items())
    assert (answer.text(12) == "180509") is (dialect == "unionpay_pos")
    assert decode(dialect, encode(dialect, answer)).fields == answer.fields


def test_another_network_function_is_refused() -> None:
    refusal = read(terms(), Message("0800", {11: "000001", 70: "161"}), 1)
    assert isinstance(refusal, Refusal)
    assert (refusal.outcome, refusal.field_path) == (Outcome.UNSUPPORTED, "DE70")


# ---- terminals that leave the clock to the host ------------------------------------------


def test_a_pos_terminal_without_a_clock_is_known_by_its_batch() -> None:
    pos = terms("unionpay_pos")
    first = sale("unionpay_pos", de12=None, de13=None, de60="22000001000600")
    request = understood(first, pos)
    assert request.local_at == "000001"
    assert understood(first, pos).key == request.key
    later = sale("unionpay_pos", de12=None, de13=None, de60="22000002000600")
    assert understood(later, pos).key != request.key
    answer = write(pos, first, APPROVED, NOW)
    assert answer is not None
    assert (answer.fields[12], answer.fields[13]) == ("180509", "1122")


@pytest.mark.parametrize(
    ("dialect", "changes", "path"),
    [
        ("unionpay_pos", {"de12": None, "de13": None, "de60": None}, "DE12"),
        ("unionpay_pos", {"de12": None, "de13": None, "de60": "22"}, "DE12"),
        ("unionpay_pos", {"de12": None}, "DE12"),
        ("unionpay_pos", {"de13": None}, "DE13"),
        ("iso87_ascii", {"de12": None, "de13": None}, "DE12"),
    ],
)
def test_without_clock_and_batch_a_sale_is_malformed(
    dialect: Dialect, changes: dict[str, str | None], path: str
) -> None:
    refusal = read(terms(dialect), sale(dialect, **changes), 1)
    assert isinstance(refusal, Refusal)
    assert (refusal.outcome, refusal.field_path) == (Outcome.MALFORMED, path)
