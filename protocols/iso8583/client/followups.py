"""Messages about an earlier one: voids, refunds, completions, confirmations, reversals.

The original is the `Sale` or the very message that was sent, so that anything can be
followed: the void of a completion, the reversal of a refund. It is named by DE90 in
iso87_ascii and by DE61 in UnionPay POS, and by DE37 and DE38 where they are given.
"""

from __future__ import annotations

from datetime import datetime

from protocols.iso8583.client.sales import (
    Sale,
    in_order,
    repeated,
    sale_message,
    typed_batch,
)
from protocols.iso8583.elements import (
    PREAUTHORIZED,
    BatchReference,
    Dialect,
    OriginalElements,
    batch_reference_text,
    original_text,
    replacement_text,
)
from protocols.iso8583.message import FieldValue, Message

Earlier = Sale | Message

# What a follow-up repeats of its original: card, merchant, currency, batch.
_REPEATED = (2, 14, 18, 22, 23, 25, 26, 32, 35, 41, 42, 43, 49, 53, 60)


def void_message(
    dialect: Dialect,
    original: Earlier,
    *,
    stan: int,
    local_at: datetime,
    rrn: str = "",
    auth_code: str = "",
    repeat: bool = False,
) -> Message:
    """Takes a sale or a completion back, whole: 0200, DE3 20 (60.1 = 23, or 21 after one).

    `stan` and `local_at` are this message's own; `rrn` and `auth_code` what the answer to
    the original said. A UnionPay POS terminal with a clock has to give `rrn`.
    """
    earlier = _message(dialect, original)
    type_code = "21" if earlier.text(25) == PREAUTHORIZED else "23"
    return _followup(
        dialect, earlier, repeated("0200", repeat), "200000", type_code, stan, local_at,
        rrn=rrn, auth_code=auth_code,
    )  # fmt: skip


def refund_message(
    dialect: Dialect,
    original: Earlier,
    *,
    stan: int,
    local_at: datetime,
    rrn: str = "",
    auth_code: str = "",
    amount_minor: int | None = None,
    repeat: bool = False,
) -> Message:
    """Gives all or `amount_minor` of a sale back: 0220, DE3 20 (60.1 = 25)."""
    return _followup(
        dialect, _message(dialect, original), repeated("0220", repeat), "200000", "25", stan,
        local_at, rrn=rrn, auth_code=auth_code, amount_minor=amount_minor, condition="00",
    )  # fmt: skip


def cancel_message(
    dialect: Dialect,
    original: Earlier,
    *,
    stan: int,
    local_at: datetime,
    rrn: str = "",
    auth_code: str = "",
    repeat: bool = False,
) -> Message:
    """Gives a preauthorization up: 0100, DE3 20, DE25 06 (60.1 = 11)."""
    return _followup(
        dialect, _preauthorization(dialect, original), repeated("0100", repeat), "200000", "11",
        stan, local_at, rrn=rrn, auth_code=auth_code, condition=PREAUTHORIZED,
    )  # fmt: skip


def completion_message(
    dialect: Dialect,
    original: Earlier,
    *,
    stan: int,
    local_at: datetime,
    rrn: str = "",
    auth_code: str = "",
    amount_minor: int | None = None,
    advice: bool = False,
    repeat: bool = False,
) -> Message:
    """Takes `amount_minor`, or all, of a preauthorization: 0200 or 0220, DE25 06 (60.1 = 20)."""
    return _followup(
        dialect, _preauthorization(dialect, original),
        repeated("0220" if advice else "0200", repeat), "000000", "20", stan, local_at,
        rrn=rrn, auth_code=auth_code, amount_minor=amount_minor, condition=PREAUTHORIZED,
    )  # fmt: skip


def adjustment_message(
    dialect: Dialect,
    original: Earlier,
    *,
    total_minor: int,
    stan: int,
    local_at: datetime,
    rrn: str = "",
    auth_code: str = "",
    tip: bool = False,
    repeat: bool = False,
) -> Message:
    """A new total for a sale: 0220; DE3 02 in iso87_ascii, 60.1 = 32 (34 a tip) in UnionPay."""
    processing_code = "020000" if dialect == "iso87_ascii" else "000000"
    return _followup(
        dialect, _message(dialect, original), repeated("0220", repeat), processing_code,
        "34" if tip else "32", stan, local_at, rrn=rrn, auth_code=auth_code,
        amount_minor=total_minor,
    )  # fmt: skip


def load_confirmation_message(
    dialect: Dialect,
    original: Message,
    *,
    stan: int,
    local_at: datetime,
    rrn: str = "",
    auth_code: str = "",
    repeat: bool = False,
) -> Message:
    """Confirms a pending load (a `load_message`), for the same purse and amount: 0220, DE3 21."""
    return _followup(
        dialect, original, repeated("0220", repeat), original.text(3), "46", stan, local_at,
        rrn=rrn, auth_code=auth_code,
    )  # fmt: skip


def reversal_message(
    dialect: Dialect,
    original: Earlier,
    *,
    stan: int,
    replacement_minor: int = 0,
    repeat: bool = False,
    mti: str = "0400",
) -> Message:
    """Takes any earlier message back: 0400 or 0420, with the repeat bit from the second on.

    iso87_ascii: the original in DE90; above zero, `replacement_minor` shall stand of it
    (DE95). UnionPay POS knows neither: a reversal repeats the original's DE11, so `stan` is
    not used. The clock fields are the original's in both.
    """
    earlier = _message(dialect, original)
    fields = {number: earlier.fields[number] for number in _REPEATED if number in earlier.fields}
    for number in (3, 4, 7, 11, 12, 13, 37):
        if number in earlier.fields:
            fields[number] = earlier.fields[number]
    fields.setdefault(4, f"{0:012}")
    if dialect == "iso87_ascii":
        fields[11] = f"{stan:06}"
        fields[90] = _original_elements(earlier)
        if replacement_minor:
            fields[95] = replacement_text(replacement_minor)
    return in_order(repeated(mti, repeat), fields)


def _message(dialect: Dialect, original: Earlier) -> Message:
    return sale_message(dialect, original) if isinstance(original, Sale) else original


def _preauthorization(dialect: Dialect, original: Earlier) -> Message:
    """The original as a message; a `Sale` stands for the preauthorization made from it."""
    if isinstance(original, Sale):
        return Message("0100", sale_message(dialect, original).fields)
    return original


def _followup(
    dialect: Dialect,
    original: Message,
    mti: str,
    processing_code: str,
    type_code: str,
    stan: int,
    local_at: datetime,
    *,
    rrn: str = "",
    auth_code: str = "",
    amount_minor: int | None = None,
    condition: str = "",
) -> Message:
    """A message about another; without a clock in the original there is none in this one."""
    earlier = original.fields
    fields: dict[int, FieldValue] = {n: earlier[n] for n in _REPEATED if n in earlier}
    fields[3] = processing_code
    fields[4] = original.text(4) if amount_minor is None else f"{amount_minor:012}"
    fields[11] = f"{stan:06}"
    if 12 in earlier:
        fields[12] = f"{local_at:%H%M%S}"
        fields[13] = f"{local_at:%m%d}"
    if condition:
        fields[25] = condition
    if rrn:
        fields[37] = f"{rrn:<12}"
    if auth_code:
        fields[38] = f"{auth_code:<6}"
    if dialect == "unionpay_pos":
        fields[60] = typed_batch(earlier.get(60, ""), type_code)
        batch = original.text(60)[2:8]
        fields[61] = batch_reference_text(
            BatchReference(batch, original.text(11), original.text(13) or f"{local_at:%m%d}")
        )
    else:
        fields[7] = f"{local_at:%m%d%H%M%S}"
        if 37 not in fields and 37 in earlier:
            fields[37] = earlier[37]
        fields[90] = _original_elements(original)
    return in_order(mti, fields)


def _original_elements(original: Message) -> str:
    text = original.text
    return original_text(
        OriginalElements(repeated(original.mti, False), text(11), text(13) + text(12), text(32))
    )
