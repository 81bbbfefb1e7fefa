"""Keys and payload hashes: what makes a message itself, and what a repeat may change."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from hashlib import blake2b

import msgspec
import pytest
from hypothesis.strategies import SearchStrategy

from protocols.card_number import numbered_card
from protocols.framing import Framing
from protocols.iso8583 import Message, Spec
from protocols.iso8583.client import Dialect, Sale, reversal_message, sale_message
from protocols.iso8583.dialect import (
    read,
)
from protocols.iso8583.link import LinkTerms
from protocols.message import Outcome, Reply, Request, Segment

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


def test_a_class_of_messages_may_have_a_key_of_its_own() -> None:
    agreed = terms(match_key_by_class={"01": ("terminal", "stan")})
    first = understood(sale("iso87_ascii", "0100"), agreed).key
    assert understood(sale("iso87_ascii", "0100", de32=None), agreed).key == first
    parts = "\x1f".join(["T0000042", "000417"])
    assert first[4:] == blake2b(parts.encode(), digest_size=12).digest()
    assert understood(sale(), agreed).key == understood(sale()).key


def test_a_reversal_never_has_the_key_of_its_original() -> None:
    """UnionPay POS repeats every element of the original, and a link may leave the class out."""
    agreed = terms("unionpay_pos", match_key=("terminal", "stan", "local_at"))
    original = sale("unionpay_pos")
    reversal = understood(reversal_message("unionpay_pos", original, stan=1), agreed)
    key = understood(original, agreed).key
    assert reversal.original is not None
    assert reversal.original.key == key
    assert reversal.key != key


def test_what_a_reversal_says_of_its_original_is_in_its_hash() -> None:
    whole = understood(reversal_message("iso87_ascii", sale(), stan=9))
    part = understood(reversal_message("iso87_ascii", sale(), stan=9, replacement_minor=5))
    other = understood(reversal_message("iso87_ascii", sale(de11="000418"), stan=9))
    assert len({one.key for one in (whole, part, other)}) == 1
    assert len({one.payload_hash for one in (whole, part, other)}) == 3
    again = reversal_message("iso87_ascii", sale(), stan=9, mti="0420", repeat=True)
    assert understood(again).payload_hash == whole.payload_hash
