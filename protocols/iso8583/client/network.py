"""Messages about the link itself: sign-on and off, keys, cut-over, echo, reconciliation.

Both sides of a link send them, so the switch makes its own here too.
"""

from __future__ import annotations

from datetime import datetime
from typing import assert_never

from protocols.iso8583.client.sales import in_order
from protocols.iso8583.elements import Dialect
from protocols.iso8583.message import FieldValue, Message
from protocols.iso8583.network import KEY_BLOCK_FIELD, NETWORK_CODES, NetworkFunction
from protocols.iso8583.totals import (
    BatchTotals,
    Totals,
    batch_totals_text,
    standing,
    totals_fields,
)

# 60.1 type code of management, 60.2 batch number; 60.3 follows
_MANAGEMENT_BATCH = "00000001"
_BATCH_SETTLEMENT = "201"


def network_message(
    dialect: Dialect,
    function: NetworkFunction,
    *,
    stan: int,
    local_at: datetime,
    settlement_mmdd: str = "",
    terminal: str = "",
    key_block: str = "",
) -> Message:
    """A network management message (0800) of either side.

    `settlement_mmdd` is the business day that a cut-over begins (DE15). `key_block` is text
    of up to 999 characters: DE48 in iso87_ascii, DE62 in UnionPay POS. There a sign-on asks
    for working keys by itself.
    """
    fields: dict[int, FieldValue] = {11: f"{stan:06}"}
    match dialect:
        case "unionpay_pos":
            fields[60] = f"{_MANAGEMENT_BATCH}{NETWORK_CODES[function]}"
        case "iso87_ascii":
            fields[7] = f"{local_at:%m%d%H%M%S}"
            fields[70] = NETWORK_CODES[function]
        case _:
            assert_never(dialect)
    if settlement_mmdd:
        fields[15] = settlement_mmdd
    if terminal:
        fields[41] = f"{terminal:<8}"
    if key_block:
        fields[KEY_BLOCK_FIELD[dialect]] = key_block
    return in_order("0800", fields)


def echo_message(dialect: Dialect, *, stan: int, local_at: datetime, terminal: str = "") -> Message:
    """An echo test (0800), which asks nothing but an answer."""
    return network_message(
        dialect, NetworkFunction.ECHO, stan=stan, local_at=local_at, terminal=terminal
    )


def reconciliation_message(
    dialect: Dialect,
    totals: Totals | None,
    *,
    stan: int,
    local_at: datetime,
    settlement_mmdd: str = "",
    terminal: str = "",
    merchant: str = "",
    acquirer: str = "",
    currency: str = "156",
    mti: str = "0500",
) -> Message:
    """The acquirer's totals of a business day, or of a terminal's batch (0500, 0520).

    Without totals it only asks for those of the switch.
    """
    fields: dict[int, FieldValue] = {11: f"{stan:06}", 49: currency}
    match dialect:
        case "unionpay_pos":
            fields[60] = f"{_MANAGEMENT_BATCH}{_BATCH_SETTLEMENT}"
            if totals is not None:
                fields[48] = batch_totals_text(standing(totals), BatchTotals())
        case "iso87_ascii":
            fields[7] = f"{local_at:%m%d%H%M%S}"
            if totals is not None:
                fields |= totals_fields(totals)
        case _:
            assert_never(dialect)
    if settlement_mmdd:
        fields[15] = settlement_mmdd
    if acquirer:
        fields[32] = acquirer
    if terminal:
        fields[41] = f"{terminal:<8}"
    if merchant:
        fields[42] = f"{merchant:<15}"
    return in_order(mti, fields)
