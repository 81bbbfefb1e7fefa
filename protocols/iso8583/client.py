"""What a terminal says, for load generators, demonstrations and tests: messages to send.

Pure functions; whoever sends them decides about sockets, clocks and chance.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal, assert_never

import msgspec

from protocols.card_number import CardNumber
from protocols.iso8583.message import FieldValue, Message

Dialect = Literal["unionpay_pos", "iso87_ascii"]
"""The formats that acquirers of this switch speak."""


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
            fields[60] = "22000001000600"
        case "iso87_ascii":
            fields[7] = f"{sale.local_at:%m%d%H%M%S}"
            fields[26] = "06"
            fields[37] = f"{sale.rrn or f'{sale.local_at:%j%H}{sale.stan:07}':<12}"
            fields[43] = f"{'CITY CARD SHOP':<25}{'QINGDAO':<13}CN"
        case _:
            assert_never(dialect)
    return Message(sale.mti, {number: fields[number] for number in sorted(fields)})


def echo_message(dialect: Dialect, *, stan: int, local_at: datetime, terminal: str = "") -> Message:
    """An echo test (0800), which asks nothing but an answer."""
    match dialect:
        case "unionpay_pos":
            # 60.1 type code 00, 60.2 batch number, 60.3 network management code 301
            fields: dict[int, FieldValue] = {11: f"{stan:06}", 60: "00000001301"}
            if terminal:
                fields[41] = f"{terminal:<8}"
            return Message("0800", fields)
        case "iso87_ascii":
            return Message("0800", {7: f"{local_at:%m%d%H%M%S}", 11: f"{stan:06}", 70: "301"})
        case _:
            assert_never(dialect)
