"""Messages that stand for themselves: sales, preauthorizations, inquiries and loads."""

from __future__ import annotations

from datetime import datetime
from typing import assert_never

import msgspec

from protocols.card_number import CardNumber
from protocols.iso8583.elements import PREAUTHORIZED, Dialect, account_type_of
from protocols.iso8583.message import FieldValue, Message

_BATCH = "000001"


class Sale(msgspec.Struct, frozen=True):
    """One purchase as the terminal knows it.

    `amount_minor` is in minor units of `currency` (ISO 4217 numeric), `stan` 0 to 999,999,
    `local_at` the terminal's own clock, `expiry` YYMM, `terminal` up to 8 and `merchant` up
    to 15 characters.
    """

    card: CardNumber
    amount_minor: int
    stan: int
    terminal: str
    merchant: str
    local_at: datetime
    mcc: str
    acquirer: str
    currency: str = "156"
    expiry: str = "3012"
    entry_mode: str = "071"
    rrn: str = ""
    mti: str = "0200"


def sale_message(dialect: Dialect, sale: Sale) -> Message:
    """A sale of 19 fields, contactless with track 2 equivalent; encodable as it is."""
    pan = sale.card.reveal()
    separator = "D" if dialect == "unionpay_pos" else "="
    fields: dict[int, FieldValue] = {
        2: pan,
        3: "000000",
        4: f"{sale.amount_minor:012}",
        11: f"{sale.stan:06}",
        12: f"{sale.local_at:%H%M%S}",
        13: f"{sale.local_at:%m%d}",
        14: sale.expiry,
        18: sale.mcc,
        22: sale.entry_mode,
        25: "00",
        32: sale.acquirer,
        35: f"{pan}{separator}{sale.expiry}2010000000",
        41: f"{sale.terminal:<8}",
        42: f"{sale.merchant:<15}",
        49: sale.currency,
    }
    match dialect:
        case "unionpay_pos":
            fields[23] = "001"
            fields[53] = "2000000000000000"
            fields[55] = bytes.fromhex(
                f"9F3602001A9F0206{sale.amount_minor:012}5F2A02{sale.currency:0>4}"
            )
            fields[60] = f"22{_BATCH}000600"
        case "iso87_ascii":
            fields[7] = f"{sale.local_at:%m%d%H%M%S}"
            fields[26] = "06"
            fields[37] = f"{sale.rrn or f'{sale.local_at:%j%H}{sale.stan:07}':<12}"
            fields[43] = f"{'CITY CARD SHOP':<25}{'QINGDAO':<13}CN"
        case _:
            assert_never(dialect)
    return in_order(sale.mti, fields)


def preauthorization_message(dialect: Dialect, sale: Sale, *, repeat: bool = False) -> Message:
    """Sets `sale.amount_minor` aside: 0100, DE3 03, DE25 06 (60.1 = 10)."""
    message = _retyped(sale_message(dialect, sale), "0100", "030000", "10", repeat)
    message.fields[25] = PREAUTHORIZED
    return message


def inquiry_message(dialect: Dialect, sale: Sale, *, repeat: bool = False) -> Message:
    """Asks for balances: 0200, DE3 31 (60.1 = 01); it has no amount."""
    message = _retyped(sale_message(dialect, sale), "0200", "310000", "01", repeat)
    del message.fields[4]
    return message


def offline_sale_message(dialect: Dialect, sale: Sale, *, repeat: bool = False) -> Message:
    """Tells of a sale that the terminal approved by itself: 0220 (60.1 = 30)."""
    return _retyped(sale_message(dialect, sale), "0220", "000000", "30", repeat)


def load_message(
    dialect: Dialect, sale: Sale, *, purse: str = "GEN", repeat: bool = False
) -> Message:
    """Money taken by an agent for a purse (TRN or GEN), to be confirmed: 0200, DE3 21.

    The account type in positions 5 and 6 of DE3 names the purse. UnionPay POS: 60.1 = 46.
    """
    processing_code = f"2100{account_type_of(purse)}"
    return _retyped(sale_message(dialect, sale), "0200", processing_code, "46", repeat)


def in_order(mti: str, fields: dict[int, FieldValue]) -> Message:
    """The message with its fields in the order in which they travel."""
    return Message(mti, {number: fields[number] for number in sorted(fields)})


def typed_batch(batch: FieldValue, type_code: str) -> str:
    """DE60 of UnionPay POS under another type code (60.1), same batch (60.2)."""
    return type_code + (batch[2:] if isinstance(batch, str) else "")


def repeated(mti: str, repeat: bool) -> str:
    """The message type with or without the repeat bit: 0200 or 0201."""
    return f"{mti[:3]}{'1' if repeat else '0'}"


def _retyped(
    message: Message, mti: str, processing_code: str, type_code: str, repeat: bool
) -> Message:
    fields = message.fields | {3: processing_code}
    if 60 in fields:
        fields[60] = typed_batch(fields[60], type_code)
    return Message(repeated(mti, repeat), fields)
