"""What an issuer's switch sends to the host of another issuer: the request in its own name.

The switch is the terminal of these messages: STAN and both clocks are its own, and terminal,
merchant and category are those of the acquirer's. Track, chip and PIN block are not kept by
a `Request`, so they do not travel.
"""

from __future__ import annotations

from datetime import datetime
from typing import assert_never

import msgspec

from protocols.iso8583.client.sales import in_order, repeated
from protocols.iso8583.elements import (
    PREAUTHORIZED,
    BatchReference,
    Dialect,
    OriginalElements,
    account_type_of,
    batch_reference_text,
    original_text,
    replacement_text,
)
from protocols.iso8583.message import FieldValue, Message
from protocols.message import Kind, Request

_BATCH = "000001"

# MTI, first two digits of DE3, DE25 and 60.1 by what is forwarded
_FORWARDED: dict[Kind, tuple[str, str, str, str]] = {
    Kind.PURCHASE: ("0200", "00", "00", "22"),
    Kind.VOID: ("0200", "20", "00", "23"),
    Kind.REFUND: ("0220", "20", "00", "25"),
    Kind.PREAUTHORIZATION: ("0100", "03", PREAUTHORIZED, "10"),
    Kind.PREAUTHORIZATION_CANCEL: ("0100", "20", PREAUTHORIZED, "11"),
    Kind.COMPLETION: ("0200", "00", PREAUTHORIZED, "20"),
    Kind.INQUIRY: ("0200", "31", "00", "01"),
    Kind.OFFLINE_SALE: ("0220", "00", "00", "30"),
    Kind.ADJUSTMENT: ("0220", "02", "00", "32"),
    Kind.LOAD_PENDING: ("0200", "21", "00", "46"),
    Kind.LOAD: ("0220", "21", "00", "46"),
}


def forward_message(
    dialect: Dialect,
    request: Request,
    *,
    acquirer: str,
    stan: int,
    transmitted_at: datetime,
    original: OriginalElements | None = None,
    repeat: bool = False,
) -> Message:
    """A request for the host of the card's issuer, under this switch's acquirer code (DE32).

    `stan` and `transmitted_at` (DE7, and DE12 and DE13 too) are the switch's own and key the
    answer. `original` names, in the host's terms, what a linked request is about. Raises
    ValueError for a request that no host can be asked: without a card, or a kind that only
    this switch knows.
    """
    kind, card = request.kind, request.card
    if card is None or kind not in _FORWARDED:
        raise ValueError("this request cannot be forwarded; only what a card asks for can")
    mti, processing, condition, type_code = _FORWARDED[kind]
    if kind is Kind.ADJUSTMENT and dialect == "unionpay_pos":
        processing = "00"
    # an acquirer's advice stays one, so that the host does not refuse what has happened
    mti = repeated(f"{mti[:2]}2" if request.advice else mti, repeat)
    fields = _fields(dialect, request, acquirer, stan, transmitted_at, type_code)
    fields[2] = card.reveal()
    fields[3] = f"{processing}00{account_type_of(request.purse)}"
    fields[25] = condition
    if kind is not Kind.INQUIRY:
        fields[4] = f"{request.amount.amount_minor:012}"
    reference = request.original
    if reference is not None:
        _set_text(fields, 37, reference.rrn, 12)
        _set_text(fields, 38, reference.auth_code, 6)
    if original is not None:
        _set_original(dialect, fields, original)
    return in_order(mti, fields)


def forward_reversal(
    dialect: Dialect,
    request: Request,
    *,
    acquirer: str,
    stan: int,
    transmitted_at: datetime,
    original_stan: int,
    original_at: datetime,
    replacement_minor: int = 0,
    repeat: bool = False,
    mti: str = "0400",
) -> Message:
    """Takes back what `forward_message` asked for `request`, with the repeat bit later on.

    `original_stan` and `original_at` are the STAN and the transmission time that the original
    left with; DE12 and DE13 repeat it. UnionPay POS repeats the original's DE11 too, and has
    no STAN of its own. An acquirer's reversal, whose original is not known here, is passed on
    as that of a sale. Raises ValueError for a request that `forward_message` would not send.
    """
    if request.kind is Kind.REVERSAL:
        rrn = request.original.rrn if request.original is not None else ""
        request = msgspec.structs.replace(request, kind=Kind.PURCHASE, rrn=rrn)
    sent = forward_message(
        dialect, request, acquirer=acquirer, stan=original_stan, transmitted_at=original_at
    )
    fields = {number: sent.fields[number] for number in sent.fields if number != 38}
    fields.setdefault(4, f"{request.amount.amount_minor:012}")
    fields[7] = f"{transmitted_at:%m%d%H%M%S}"
    if dialect == "iso87_ascii":
        fields[11] = f"{stan:06}"
        local_at = f"{original_at:%m%d%H%M%S}"
        mti_sent = repeated(sent.mti, False)
        fields[90] = original_text(
            OriginalElements(mti_sent, f"{original_stan:06}", local_at, acquirer)
        )
        if replacement_minor:
            fields[95] = replacement_text(replacement_minor)
    return in_order(repeated(mti, repeat), fields)


def _fields(
    dialect: Dialect,
    request: Request,
    acquirer: str,
    stan: int,
    transmitted_at: datetime,
    type_code: str,
) -> dict[int, FieldValue]:
    fields: dict[int, FieldValue] = {
        7: f"{transmitted_at:%m%d%H%M%S}",
        11: f"{stan:06}",
        12: f"{transmitted_at:%H%M%S}",
        13: f"{transmitted_at:%m%d}",
        32: acquirer,
        41: f"{request.terminal:<8}",
        42: f"{request.merchant:<15}",
        49: request.amount.currency,
    }
    for number, text in ((14, request.expiry), (18, request.mcc), (22, request.entry_mode)):
        if text:
            fields[number] = text
    _set_text(fields, 37, request.rrn, 12)
    match dialect:
        case "unionpay_pos":
            fields[60] = f"{type_code}{_BATCH}000600"
        case "iso87_ascii":
            pass
        case _:
            assert_never(dialect)
    return fields


def _set_original(
    dialect: Dialect, fields: dict[int, FieldValue], original: OriginalElements
) -> None:
    if dialect == "iso87_ascii":
        fields[90] = original_text(original)
    else:
        fields[61] = batch_reference_text(
            BatchReference(_BATCH, original.stan, original.local_at[:4])
        )


def _set_text(fields: dict[int, FieldValue], number: int, text: str, width: int) -> None:
    if text:
        fields[number] = f"{text:<{width}}"
