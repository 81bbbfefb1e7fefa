"""PIN blocks against published ones, and what an unreadable one gives away: nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psec import des, pinblock

from protocols.card_number import CardNumber, numbered_card
from protocols.pin_block import PinBlockError, is_pin, pin_block_of, pin_in

pytestmark = pytest.mark.filterwarnings("ignore:.*TripleDES")  # psec's spelling of it
TDES = bytes.fromhex("0123456789ABCDEFFEDCBA9876543210")
AES = bytes(range(32))
CARD = CardNumber("5544332211009966")
pins = st.from_regex(r"[0-9]{4,12}", fullmatch=True)
cards = st.builds(numbered_card, st.just("621234"), st.integers(0, 99_999), st.integers(12, 19))


def test_a_published_format_0_block_is_read():
    # the clear block of PIN 1234 and this number (psec's own example), encrypted
    block = des.encrypt_tdes_ecb(TDES + TDES[:8], bytes.fromhex("041277CDDEEFF669"))
    assert pin_in(block, TDES, CARD) == "1234"


def test_a_format_4_block_of_psec_is_read():
    block = pinblock.encipher_pinblock_iso_4(AES, "987654", CARD.reveal())
    assert pin_in(block, AES, CARD) == "987654"


@pytest.mark.parametrize("key", [TDES, AES], ids=["format 0", "format 4"])
@given(pin=pins, card=cards)
def test_what_is_written_is_read(key, pin, card):
    assert pin_in(pin_block_of(pin, key, card), key, card) == pin


@pytest.mark.parametrize("key", [TDES, AES], ids=["format 0", "format 4"])
@given(block=st.one_of(st.binary(max_size=40), st.binary(min_size=8, max_size=8),
                       st.binary(min_size=16, max_size=16)), card=cards)  # fmt: skip
def test_any_octets_are_a_pin_or_one_error(key, block, card):
    refused: PinBlockError | None = None
    try:
        assert is_pin(pin_in(block, key, card))
    except PinBlockError as error:
        refused = error
    if refused is not None:
        assert refused.__cause__ is None
        assert refused.__context__ is None


@pytest.mark.parametrize("clear", ["031277CDDEEFF669", "0A1277CDDEEFF669", "541277CDDEEFF669"])
def test_an_error_quotes_nothing_of_the_block(clear):
    block = des.encrypt_tdes_ecb(TDES + TDES[:8], bytes.fromhex(clear))
    with pytest.raises(PinBlockError) as raised:
        pin_in(block, TDES, CARD)
    assert not any(part in str(raised.value) for part in ("1277", "1234", "`"))


def test_the_block_of_another_card_or_key_is_no_pin():
    block = pin_block_of("1234", TDES, CARD)
    with pytest.raises(PinBlockError):
        pin_in(block, TDES, numbered_card("621234", 1))
    with pytest.raises(PinBlockError):
        pin_in(block, TDES[8:] + TDES[:8], CARD)


@pytest.mark.parametrize("text", ["123", "1234567890123", "12a4", "", "١٢٣٤"])
def test_what_is_no_pin_is_not_written(text):
    with pytest.raises(PinBlockError):
        pin_block_of(text, TDES, CARD)
