"""What is said to a host, and that nothing a host says is more than a value."""

from __future__ import annotations

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.framing import Frame, Framer
from protocols.iso8583 import Message, decode, encode
from protocols.iso8583.dialect import NetworkFunction
from protocols.message import Kind, OriginalReference, Outcome
from switch.config_trouble import LinkFraming, Upstream
from switch.net.upstream.wire import HostAnswer, HostMessage, HostWire, Unreadable
from tests.switch.net.upstream.city import request, reversal_of

AT = "0102030405"
UNIONPAY = LinkFraming(length="binary2", tpdu=True, header_bytes=6)


def wire_of(dialect: str) -> HostWire:
    said = {"framing": UNIONPAY} if dialect == "unionpay_pos" else {}
    upstream = Upstream(
        name="city-b", host="127.0.0.1", port=1, bins=("622848",), acquirer="48029999",
        dialect=dialect, **said,
    )  # fmt: skip
    return HostWire(upstream, 4_096, None)


@pytest.fixture(params=["iso87_ascii", "unionpay_pos"])
def dialect(request):
    return request.param


@pytest.fixture
def wire(dialect):
    return wire_of(dialect)


def message_in(wire: HostWire, dialect: str, octets: bytes) -> Message:
    (one,) = Framer(wire.framing).feed(octets)
    return decode(dialect, one.payload)


def answered(wire: HostWire, dialect: str, message: Message, **fields: str) -> object:
    number_of = {"code": 39, "amount": 4, "auth_code": 38}
    said = {number_of[name]: text for name, text in fields.items()}
    answer = Message(f"{message.mti[:2]}10", dict(sorted((message.fields | said).items())))
    return wire.read(Frame(encode(dialect, answer)), 0)


def test_an_answer_is_matched_to_its_request(wire, dialect):
    key, octets = wire.request(request(1_800), "000123", AT, None)
    assert key == wire.key_of(request(1_800), "000123", AT)
    sent = message_in(wire, dialect, octets)
    said = answered(wire, dialect, sent, code="10", amount=f"{900:012}", auth_code="ABC123")
    assert isinstance(said, HostAnswer)
    assert (said.key, said.outcome, said.approved_minor, said.auth_code) == (
        key, Outcome.APPROVED, 900, "ABC123",
    )  # fmt: skip


def test_a_code_that_nobody_knows_is_no_approval_and_is_not_shown(wire, dialect):
    _, octets = wire.request(request(1_800), "000123", AT, None)
    said = answered(wire, dialect, message_in(wire, dialect, octets), code="Z9")
    assert isinstance(said, HostAnswer)
    assert (said.outcome, said.code) == (Outcome.DO_NOT_HONOUR, "??")


@pytest.mark.parametrize("own", [True, False])
def test_a_reversal_says_which_and_whether_again(wire, dialect, own):
    asked = reversal_of(request(1_800), replacement_minor=300) if own else request(1_800)
    numbers = {
        "stan": "000124", "transmitted_at": "0102030409",
        "original_stan": "000123", "original_transmitted_at": AT,
    }  # fmt: skip
    key, octets = wire.reversal(asked, repeat=False, **numbers)
    first = message_in(wire, dialect, octets)
    key_again, octets = wire.reversal(asked, repeat=True, **numbers)
    again = message_in(wire, dialect, octets)
    assert (first.mti, again.mti, first.fields, key) == ("0400", "0401", again.fields, key_again)
    if dialect == "iso87_ascii":
        assert first.text(90).startswith(f"0200000123{AT}")
        assert first.text(95)[:12] == (f"{300:012}" if own else "")
    else:
        assert first.text(11) == "000123"


def test_an_acquirers_reversal_without_a_key_names_the_reference(wire, dialect):
    asked = request(1_800, kind=Kind.REVERSAL, original=None)
    asked = type(asked)(
        **{name: getattr(asked, name) for name in asked.__struct_fields__}
        | {"original": OriginalReference(rrn="123456789012")}
    )
    _, octets = wire.reversal(
        asked, stan="000124", transmitted_at=AT, original_stan="000123",
        original_transmitted_at=AT, repeat=False,
    )  # fmt: skip
    assert message_in(wire, dialect, octets).text(37) == "123456789012"


def test_a_hosts_own_network_message_is_answered(wire, dialect):
    octets = wire.network(NetworkFunction.ECHO, 7, datetime(2024, 1, 2))
    (one,) = Framer(wire.framing).feed(octets)
    asked = wire.read(one, 0)
    assert isinstance(asked, HostMessage)
    answer = message_in(wire, dialect, wire.network_reply(asked, datetime(2024, 1, 2)))
    assert (answer.mti, answer.text(39)) == ("0810", "00")


def test_a_request_of_a_host_is_no_answer(wire, dialect):
    _, octets = wire.request(request(1_800), "000123", AT, None)
    (one,) = Framer(wire.framing).feed(octets)
    assert isinstance(wire.read(one, 0), Unreadable)


@given(st.sampled_from(["iso87_ascii", "unionpay_pos"]), st.binary(max_size=300))
def test_no_bytes_of_a_host_raise(dialect, payload):
    wire_of(dialect).read(Frame(payload), 0)


@given(
    st.sampled_from(["0210", "0110", "0410", "0430", "0810", "0800", "0200", "0510"]),
    st.integers(0, 200),
    st.binary(min_size=1, max_size=8),
)
def test_no_damaged_answer_raises(mti, offset, garbage):
    wire = wire_of("iso87_ascii")
    _, octets = wire.request(request(1_800), "000123", AT, None)
    payload = mti.encode() + octets[8:]
    at = min(offset, len(payload))
    wire.read(Frame(payload[:at] + garbage + payload[at + len(garbage) :]), 0)
