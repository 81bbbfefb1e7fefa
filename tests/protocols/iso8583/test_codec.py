"""The codec: bytes written by hand, agreement with pyiso8583, and every way to be refused."""

from __future__ import annotations

import re
from collections.abc import Callable

import iso8583
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from loadtest.codec_bench import as_theirs, realistic_message, theirs_of
from protocols.errors import DecodeError, EncodeError, ProtocolError
from protocols.iso8583 import MESSAGE_BYTES_MAX, SPECS, FieldType, Message, Spec, decode, encode
from protocols.iso8583.codec import SHAPES_MAX, Codec
from protocols.iso8583.encoding import field_codec
from protocols.iso8583.spec import Coding

AnyMessage = Callable[[Spec], SearchStrategy[Message]]
every_spec = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
PAN = "6200000000000123451"


# ---- bytes written by hand -----------------------------------------------------------------

WRITTEN = [
    ("iso87_ascii", "0210", {3: "111111", 39: "05"}, b"02102000000002000000" + b"11111105"),
    (
        "iso87_ascii",
        "0800",
        {11: "000007", 70: "301"},
        b"080080200000000000000400000000000000" + b"000007301",
    ),
    (
        "iso87_ascii",
        "0200",
        {2: "620000000", 52: b"\xab" * 8},
        b"02004000000000001000" + b"09620000000" + b"AB" * 8,
    ),
    ("iso87_ascii", "0200", {28: "D00000150"}, b"02000000001000000000D00000150"),
    ("iso87_ascii", "0200", {55: b"\x9f\x36"}, b"02000000000000000200" + b"0049F36"),
    ("iso87_binary", "0200", {28: "D00000150"}, bytes.fromhex("0200 0000001000000000 44 00000150")),
    # odd digits in a packed standard format: the zero stands left
    (
        "iso87_binary",
        "0200",
        {2: "620000000"},
        bytes.fromhex("0200 4000000000000000 09 0620000000"),
    ),
    ("iso87_binary", "0200", {19: "156"}, bytes.fromhex("0200 0000200000000000 0156")),
    # left-aligned in UnionPay POS: DE2, DE22, DE35, DE60; right-aligned: DE23
    (
        "unionpay_pos",
        "0200",
        {2: "620000000"},
        bytes.fromhex("0200 4000000000000000 09 6200000000"),
    ),
    (
        "unionpay_pos",
        "0200",
        {22: "021", 23: "001"},
        bytes.fromhex("0200 0000060000000000 0210 0001"),
    ),
    (
        "unionpay_pos",
        "0200",
        {35: "6200000000D2612"},
        bytes.fromhex("0200 0000000020000000 15 6200000000D26120"),
    ),
    (
        "unionpay_pos",
        "0800",
        {41: "T0000042", 60: "00000001301"},
        bytes.fromhex("0800 0000000000800010") + b"T0000042" + bytes.fromhex("0011 000000013010"),
    ),
    (
        "unionpay_pos",
        "0200",
        {49: "156", 55: b"\x9f\x36"},
        bytes.fromhex("0200 0000000000008200 313536 0002 9f36"),
    ),
]


@pytest.mark.parametrize(("name", "mti", "fields", "octets"), WRITTEN)
def test_bytes_are_as_the_standard_writes_them(
    name: str, mti: str, fields: dict[int, str | bytes], octets: bytes
) -> None:
    assert encode(name, Message(mti, fields)) == octets
    assert decode(SPECS[name], octets) == Message(mti, fields)


def test_fields_may_be_set_in_any_order() -> None:
    first = Message("0200", {3: "000000", 11: "000001"})
    second = Message("0200", {11: "000001", 3: "000000"})
    assert encode("iso87_ascii", first) == encode("iso87_ascii", second)


# ---- properties ----------------------------------------------------------------------------


@every_spec
@settings(max_examples=150, deadline=None)
@given(sample=st.data())
def test_what_is_written_is_read(
    spec: Spec, any_message: AnyMessage, sample: st.DataObject
) -> None:
    message = sample.draw(any_message(spec))
    assert decode(spec, encode(spec, message)) == message


@every_spec
@settings(max_examples=150, deadline=None)
@given(sample=st.data())
def test_pyiso8583_agrees_on_every_byte(
    spec: Spec, any_message: AnyMessage, sample: st.DataObject
) -> None:
    message = sample.draw(any_message(spec))
    theirs = theirs_of(spec)
    octets = encode(spec, message)
    written, _ = iso8583.encode(as_theirs(spec, message), theirs)
    assert bytes(written) == octets
    read, _ = iso8583.decode(octets, theirs)
    expected = as_theirs(spec, message)
    assert {key: read[key] for key in expected} == expected
    assert {key for key in read if key.isdecimal()} - {"1"} == {str(n) for n in message.fields}


@every_spec
@settings(max_examples=300, deadline=None)
@given(octets=st.binary(max_size=400))
def test_any_bytes_are_a_message_or_a_documented_error(spec: Spec, octets: bytes) -> None:
    _decoded_or_refused(spec, octets)


@every_spec
@settings(max_examples=300, deadline=None)
@given(sample=st.data())
def test_a_damaged_message_is_a_message_or_a_documented_error(
    spec: Spec, any_message: AnyMessage, sample: st.DataObject
) -> None:
    octets = bytearray(encode(spec, sample.draw(any_message(spec))))
    for _ in range(sample.draw(st.integers(1, 3))):
        position = sample.draw(st.integers(0, len(octets)))
        match sample.draw(st.sampled_from(["replace", "insert", "cut", "drop"])):
            case "replace":
                octets[position : position + 1] = sample.draw(st.binary(min_size=1, max_size=1))
            case "insert":
                octets[position:position] = sample.draw(st.binary(min_size=1, max_size=3))
            case "cut":
                del octets[position:]
            case _:
                del octets[position : position + 1]
    _decoded_or_refused(spec, bytes(octets))


def _decoded_or_refused(spec: Spec, octets: bytes) -> None:
    refusal: DecodeError | None = None
    whole: Message | None = None
    try:
        whole = decode(spec, octets)
    except DecodeError as error:
        refusal, whole = error, error.partial
    if refusal is not None:
        assert 0 <= refusal.offset <= len(octets)
        _says_nothing(refusal)
    if whole is not None:
        # nothing was read, not even before a fault, that cannot be sent back
        assert decode(spec, encode(spec, whole)) == whole


def _says_nothing(error: ProtocolError) -> None:
    for said in (str(error), repr(error), repr(error.args), repr(getattr(error, "partial", None))):
        assert not re.search(r"\d{13}", said)
    assert error.field_path in str(error)
    assert str(error.offset) in str(error)


@every_spec
@settings(max_examples=100, deadline=None)
@given(sample=st.data())
def test_runs_read_and_refuse_what_single_fields_do(
    spec: Spec, any_message: AnyMessage, sample: st.DataObject
) -> None:
    """Fields read in runs give what the same fields give one by one, faults included."""
    message = sample.draw(any_message(spec))
    head_bytes = len(encode(spec, Message(message.mti, {}))) + (
        (16 if spec.bitmap_coding is Coding.HEX else 8)
        if max(message.fields, default=0) > 64
        else 0
    )
    octets = bytearray(encode(spec, message))
    if len(octets) > head_bytes and sample.draw(st.booleans()):
        position = sample.draw(st.integers(head_bytes, len(octets) - 1))
        octets[position] = sample.draw(st.integers(0, 255))
    assert _outcome(lambda: decode(spec, bytes(octets))) == _outcome(
        lambda: _one_by_one(spec, message, bytes(octets), head_bytes)
    )


def _one_by_one(spec: Spec, message: Message, octets: bytes, offset: int) -> Message:
    text = octets.translate(bytes(range(128)) + bytes(128)).decode("ascii")
    fields: dict[int, str | bytes] = {}
    for number in sorted(message.fields):
        codec = field_codec(spec.fields[number])
        offset = codec.read(octets, text, octets.hex(), fields, offset)
    if offset != len(octets):
        raise DecodeError("", field_path="message", offset=offset)
    return Message(message.mti, fields)


def _outcome(attempt: Callable[[], Message]) -> object:
    try:
        return attempt()
    except DecodeError as error:
        return error.field_path, error.offset


# ---- faults of theirs ----------------------------------------------------------------------

REFUSED = [
    ("iso87_ascii", b"", "mti", 0),
    ("iso87_ascii", b"020", "mti", 0),
    ("iso87_ascii", b"02x0" + b"0" * 16, "mti", 0),
    ("iso87_ascii", "02²0".encode("latin-1") + b"0" * 16, "mti", 0),
    ("iso87_binary", bytes.fromhex("02f0 0000000000000000"), "mti", 0),
    ("iso87_ascii", b"0200" + b"0" * 15, "bitmap", 4),
    ("iso87_ascii", b"0200" + b"000000000000000G", "bitmap", 4),
    ("iso87_ascii", b"0200" + b"8" + b"0" * 15, "bitmap", 20),
    ("iso87_ascii", b"0200" + b"8" + b"0" * 15 + b"8" + b"0" * 15, "bitmap", 20),
    ("unionpay_pos", bytes.fromhex("0200 8000000000000000 0000000000000000"), "bitmap", 2),
    ("unionpay_pos", bytes.fromhex("0200 0800000000000000"), "DE5", 10),
    ("iso87_ascii", b"02002000000000000000" + b"00000x", "DE3", 25),
    ("iso87_ascii", b"02002000000000000000" + "0000²0".encode("latin-1"), "DE3", 24),
    ("iso87_ascii", b"02002000000000000000" + b"00000", "DE3", 20),
    ("iso87_ascii", b"02002000000000000000" + b"0000000", "message", 26),
    ("iso87_ascii", b"02004000000000000000" + b"20" + b"1" * 20, "DE2", 20),
    ("iso87_ascii", b"02004000000000000000" + b"+9" + b"1" * 9, "DE2", 20),
    ("iso87_ascii", b"02004000000000000000" + b"1", "DE2", 20),
    ("iso87_ascii", b"02004000000000000000" + b"16" + b"1" * 9, "DE2", 22),
    ("iso87_ascii", b"02000000000000800000" + b"ABC\x07EFGH", "DE41", 23),
    ("iso87_ascii", b"02000000000000800000" + b"ABC\xe9EFGH", "DE41", 23),
    ("iso87_ascii", b"02000000000002000000" + b"\x00\x00", "DE39", 20),
    ("iso87_ascii", b"02000000000002000000" + b"-1", "DE39", 20),
    ("iso87_ascii", b"02000000001000000000" + b"X00000150", "DE28", 20),
    ("iso87_ascii", b"02000000000000001000" + b"0" * 15 + b"Z", "DE52", 35),
    ("iso87_ascii", b"02000000000000000200" + b"003ABC", "DE55", 23),
    ("iso87_ascii", b"02000000000020000000" + b"10" + b"12345d2612", "DE35", 27),
    # nibbles above 9 in packed digits, and a padding nibble that is not zero
    ("unionpay_pos", bytes.fromhex("0200 1000000000000000 00000000a840"), "DE4", 14),
    ("unionpay_pos", bytes.fromhex("0200 4000000000000000 1a 62000000"), "DE2", 10),
    ("unionpay_pos", bytes.fromhex("0200 4000000000000000 09 6200000005"), "DE2", 15),
    ("unionpay_pos", bytes.fromhex("0200 0000020000000000 1001"), "DE23", 10),
    ("unionpay_pos", bytes.fromhex("0200 0000040000000000 0211"), "DE22", 11),
    # the same in a run of neighbouring fields
    ("unionpay_pos", bytes.fromhex("0200 0000060000000000 0211 0001"), "DE22", 11),
    ("unionpay_pos", bytes.fromhex("0200 0000060000000000 0210 1001"), "DE23", 12),
    ("iso87_binary", bytes.fromhex("0200 0000300000000000 0156 1156"), "DE20", 12),
    ("unionpay_pos", bytes.fromhex("0200 0000000020000000 10 12345f2612"), "DE35", 13),
    ("unionpay_pos", bytes.fromhex("0200 0000000000000200 1002 9f36"), "DE55", 10),
    ("unionpay_pos", bytes.fromhex("0200 0000000000000200 0256") + bytes(256), "DE55", 10),
    ("unionpay_pos", bytes.fromhex("0200 0000000000000001 00000000"), "DE64", 10),
    ("iso87_binary", bytes.fromhex("0200 0000001000000000 58 00000150"), "DE28", 10),
]


@pytest.mark.parametrize(("name", "octets", "field_path", "offset"), REFUSED)
def test_a_fault_is_placed(name: str, octets: bytes, field_path: str, offset: int) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(name, octets)
    assert (caught.value.field_path, caught.value.offset) == (field_path, offset)
    assert "; " in caught.value.reason, "a sentence says what to do"
    _says_nothing(caught.value)


def test_a_message_over_the_limit_is_refused_unread() -> None:
    with pytest.raises(DecodeError, match=str(MESSAGE_BYTES_MAX)):
        decode("iso87_ascii", b"0200" + b"0" * MESSAGE_BYTES_MAX)


def test_a_refusal_carries_what_was_read_and_shows_none_of_it() -> None:
    octets = encode(
        "iso87_ascii", Message("0200", {2: PAN, 3: "000000", 11: "000417", 41: "T0000042"})
    )
    with pytest.raises(DecodeError) as caught:
        decode("iso87_ascii", octets[:-1] + b"\x00")
    assert caught.value.partial == Message("0200", {2: PAN, 3: "000000", 11: "000417"})
    for said in (str(caught.value), repr(caught.value), repr(caught.value.partial)):
        assert PAN not in said
        assert "000417" not in said


def test_an_undefined_field_still_gives_the_fields_before_it() -> None:
    # fields 11 and 41, then 51, which UnionPay POS does not have
    octets = bytes.fromhex("0200 0020000000802000 000417") + b"T0000042" + b"156"
    with pytest.raises(DecodeError) as caught:
        decode("unionpay_pos", octets)
    assert caught.value.field_path == "DE51"
    assert caught.value.partial == Message("0200", {11: "000417", 41: "T0000042"})


def test_a_broken_bitmap_still_gives_the_message_type() -> None:
    with pytest.raises(DecodeError) as caught:
        decode("unionpay_pos", bytes.fromhex("0200 7024"))
    assert caught.value.partial == Message("0200", {})


def test_without_a_message_type_nothing_was_read() -> None:
    with pytest.raises(DecodeError) as caught:
        decode("unionpay_pos", b"\x02")
    assert caught.value.partial is None


# ---- faults of ours ------------------------------------------------------------------------

UNWRITABLE: list[tuple[str, Message, str]] = [
    ("iso87_ascii", Message("200", {}), "mti"),
    ("iso87_ascii", Message("02٣0", {}), "mti"),
    ("iso87_ascii", Message("0200", {1: "0"}), "DE1"),
    ("iso87_ascii", Message("0200", {65: b"00000000"}), "DE65"),
    ("iso87_ascii", Message("0200", {6_200_000_000_000_000: "0"}), "DE?"),
    ("unionpay_pos", Message("0200", {70: "301"}), "DE70"),
    ("iso87_ascii", Message("0200", {3: "00000"}), "DE3"),
    ("iso87_ascii", Message("0200", {3: "0000000", 4: "00000000001"}), "DE3"),
    ("iso87_ascii", Message("0200", {3: "00000x"}), "DE3"),
    ("iso87_ascii", Message("0200", {3: "00000٣"}), "DE3"),
    ("iso87_ascii", Message("0200", {4: "1000000000000"}), "DE4"),
    ("iso87_ascii", Message("0200", {2: "6" * 20}), "DE2"),
    ("iso87_ascii", Message("0200", {3: b"000000"}), "DE3"),
    ("iso87_ascii", Message("0200", {41: b"T0000042", 42: "M" * 15}), "DE41"),
    ("iso87_ascii", Message("0200", {41: "T000004\u00e9", 42: "M" * 15}), "DE41"),
    ("iso87_ascii", Message("0200", {41: "T000004\ud800"}), "DE41"),
    ("iso87_ascii", Message("0200", {39: "5"}), "DE39"),
    ("iso87_ascii", Message("0200", {37: "20261122000-", 38: "123456"}), "DE37"),
    ("iso87_ascii", Message("0200", {52: "12345678"}), "DE52"),
    ("iso87_ascii", Message("0200", {52: b"1234567"}), "DE52"),
    ("iso87_ascii", Message("0200", {28: "X00000150"}), "DE28"),
    ("unionpay_pos", Message("0200", {4: "00000000a840", 11: "000417"}), "DE4"),
    ("unionpay_pos", Message("0200", {35: "6200=2612"}), "DE35"),
    ("unionpay_pos", Message("0200", {35: "6200d2612"}), "DE35"),
    ("unionpay_pos", Message("0200", {55: bytes(256)}), "DE55"),
    ("iso87_binary", Message("0200", {28: "C0000015x"}), "DE28"),
]


@pytest.mark.parametrize(("name", "message", "field_path"), UNWRITABLE)
def test_what_a_format_cannot_carry_is_our_fault(
    name: str, message: Message, field_path: str
) -> None:
    with pytest.raises(EncodeError) as caught:
        encode(name, message)
    assert caught.value.field_path == field_path
    assert "; " in caught.value.reason
    _says_nothing(caught.value)


def test_a_message_over_the_limit_is_not_written() -> None:
    long: dict[int, str | bytes] = dict.fromkeys(range(105, 120), "x" * 999)
    with pytest.raises(EncodeError, match="longer"):
        encode("iso87_ascii", Message("0200", long))


# ---- what it is made of --------------------------------------------------------------------


def test_the_representation_shows_no_value() -> None:
    message = realistic_message("iso87_ascii")
    assert repr(message).startswith("Message(mti='0200', fields=[2, 3, 4, 7,")
    for said in (repr(message), str(message), f"{message}", repr(message.__rich_repr__())):
        assert not re.search(r"\d{5}", said)


def test_made_up_bitmaps_do_not_fill_the_memory() -> None:
    codec = Codec(SPECS["iso87_binary"])
    for shape in range(SHAPES_MAX + 50):
        with pytest.raises(DecodeError):
            codec.decode(b"\x02\x00" + (shape + 1).to_bytes(8, "big"))
    assert codec._shape_of.cache_info().currsize == SHAPES_MAX


def test_no_unread_mark_ever_leaves_the_codec() -> None:
    for spec in SPECS.values():
        fixed = next(f for f in spec.fields.values() if f.fixed and f.type is FieldType.N)
        octets = encode(spec, Message("0200", {fixed.number: "0" * fixed.length_max}))
        with pytest.raises(DecodeError) as caught:
            decode(spec, octets[:-1])
        assert caught.value.partial == Message("0200", {})
