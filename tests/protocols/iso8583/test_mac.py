"""MACs against the vectors of the standards, against psec, and against one flipped bit."""

from __future__ import annotations

import psec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.errors import DecodeError, EncodeError
from protocols.iso8583 import Message, decode, encode, spec_named
from protocols.iso8583.mac import covered_by, mac_in, mac_of, maker, sealed, verified

pytestmark = pytest.mark.filterwarnings("ignore:.*TripleDES")  # psec's spelling of it
DOUBLE = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
OTHER_DOUBLE = bytes.fromhex("FEDCBA98765432100123456789ABCDEF")
AES_KEY = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
PLAIN = bytes.fromhex(
    "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
    "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
)
KEYS = {"x9.19": DOUBLE, "aes_cmac": bytes(range(32))}
METHODS = tuple(KEYS)
FORMATS = ("unionpay_pos", "iso87_ascii", "iso87_binary")
SALE = {3: "000000", 4: "000000001250", 11: "000001", 41: "T0000001", 49: "156"}

messages = st.builds(
    lambda mti, more: Message(mti, dict(sorted((SALE | more).items()))),
    st.sampled_from(["0200", "0210", "0100", "0420"]),
    st.fixed_dictionaries(
        {},
        optional={
            11: st.from_regex(r"[0-9]{6}", fullmatch=True),
            42: st.text("ABC 19", min_size=15, max_size=15),
            52: st.binary(min_size=8, max_size=8),
            55: st.binary(max_size=64),
        },
    ),
)


@pytest.mark.parametrize(
    ("text", "mac"),
    [
        ("Now is the time for all ", "A1C72E74EA3FA9B6"),
        ("Now is the time for it", "2E2B1428CC78254F"),
    ],
)
def test_retail_mac_is_that_of_iso_9797_1_annex_b(text, mac):
    assert mac_of("x9.19", DOUBLE, text.encode()).hex().upper() == mac


@pytest.mark.parametrize(
    ("length", "mac"),
    [(0, "bb1d6929e9593728"), (16, "070a16b46b4d4144"), (40, "dfa66747de9ae630"),
     (64, "51f0bebf7e3b9d92")],
)  # fmt: skip
def test_cmac_is_that_of_rfc_4493(length, mac):
    assert mac_of("aes_cmac", AES_KEY, PLAIN[:length]).hex() == mac


@given(key=st.binary(min_size=16, max_size=16), octets=st.binary(min_size=1, max_size=200))
def test_retail_mac_is_that_of_psec(key, octets):
    expected = psec.mac.generate_retail_mac(key[:8] * 3, key[8:] * 3, octets, padding=1)
    assert mac_of("x9.19", key, octets) == expected


@pytest.mark.parametrize("method", METHODS)
@given(several=st.lists(st.binary(max_size=40), min_size=1, max_size=6))
def test_a_maker_owes_nothing_to_what_it_made_before(method, several):
    made = maker(method, KEYS[method])
    assert [made(octets) for octets in several] == [
        mac_of(method, KEYS[method], octets) for octets in several
    ]


@pytest.mark.parametrize(("method", "key"), [("x9.19", b"k" * 24), ("aes_cmac", b"k" * 15)])
def test_a_key_of_another_length_is_refused_unseen(method, key):
    with pytest.raises(ValueError, match="key") as raised:
        mac_of(method, key, b"message")
    assert "kkkk" not in str(raised.value)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("form", FORMATS)
@given(message=messages)
def test_what_is_sealed_is_verified(form, method, message):
    spec, key = spec_named(form), KEYS[method]
    octets = sealed(spec, message, key, method)
    received = decode(spec, octets)
    assert received.fields.items() >= message.fields.items()
    assert encode(spec, received) == octets
    assert verified(spec, octets, received, [key], method)
    assert mac_in(received) == mac_of(method, key, covered_by(spec, octets))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("form", FORMATS)
@settings(max_examples=200)
@given(message=messages, at=st.integers(0), bit=st.integers(0, 7))
def test_one_flipped_bit_fails(form, method, message, at, bit):
    spec, key = spec_named(form), KEYS[method]
    octets = bytearray(sealed(spec, message, key, method))
    octets[at % len(octets)] ^= 1 << bit
    try:
        received = decode(spec, bytes(octets))
    except DecodeError:
        return
    # hexadecimal text means the same in small letters, and only the MAC itself may differ so
    if bytes(octets).upper() == sealed(spec, message, key, method):
        return
    assert not verified(spec, bytes(octets), received, [key], method)


@pytest.mark.parametrize("method", METHODS)
def test_any_of_several_keys_will_do_and_no_other(method):
    spec, key = spec_named("unionpay_pos"), KEYS[method]
    octets = sealed(spec, Message("0200", SALE), key, method)
    received = decode(spec, octets)
    other = bytes(byte ^ 0x10 for byte in key)
    assert verified(spec, octets, received, [other, key], method)
    assert not verified(spec, octets, received, [other], method)
    assert not verified(spec, octets, received, [], method)


@pytest.mark.parametrize("form", ["iso87_ascii", "iso87_binary"])
def test_the_mac_is_the_last_field_of_the_message(form):
    spec = spec_named(form)
    long = Message("0200", SALE | {90: "0" * 42})
    octets = sealed(spec, long, DOUBLE, "x9.19")
    received = decode(spec, octets)
    assert 128 in received.fields
    assert 64 not in received.fields
    assert verified(spec, octets, received, [DOUBLE], "x9.19")
    # the same MAC in DE64 does not count: fields behind it would not be covered
    covered = encode(spec, Message("0200", SALE | {64: bytes(8)}))
    forged = Message("0200", SALE | {64: mac_of("x9.19", DOUBLE, covered), 90: "0" * 42})
    again = encode(spec, forged)
    assert mac_in(forged) is None
    assert not verified(spec, again, decode(spec, again), [DOUBLE], "x9.19")


def test_a_message_without_mac_is_not_verified():
    spec = spec_named("unionpay_pos")
    message = Message("0200", SALE)
    assert not verified(spec, encode(spec, message), message, [DOUBLE], "x9.19")


def test_a_mac_that_is_there_already_is_replaced():
    spec = spec_named("unionpay_pos")
    once = sealed(spec, Message("0200", SALE), DOUBLE, "x9.19")
    assert sealed(spec, decode(spec, once), DOUBLE, "x9.19") == once
    assert sealed(spec, decode(spec, once), OTHER_DOUBLE, "x9.19") != once


def test_a_message_that_cannot_be_written_is_told_by_the_codec():
    with pytest.raises(EncodeError):
        sealed(spec_named("unionpay_pos"), Message("0200", {4: "12"}), DOUBLE, "x9.19")
