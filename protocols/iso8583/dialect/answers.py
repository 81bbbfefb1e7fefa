"""From a reply to a message: what is echoed, what is added, and the answer to what broke off."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from protocols.iso8583.dialect.codes import is_request, response_mti
from protocols.iso8583.dialect.identity import REVERSAL_CLASS
from protocols.iso8583.dialect.transactions import is_linked, transaction_of
from protocols.iso8583.elements import Dialect, balances_text
from protocols.iso8583.link import LinkTerms
from protocols.iso8583.message import FieldValue, Message
from protocols.message import PARTIALLY_APPROVED_CODE, Kind, Outcome, Refusal, Reply, response_code

_ECHOED: Mapping[Dialect, tuple[int, ...]] = {
    "unionpay_pos": (2, 3, 7, 11, 14, 23, 25, 32, 41, 42, 49, 60, 61),
    "iso87_ascii": (2, 3, 7, 11, 14, 25, 32, 41, 42, 49, 90, 95),
}

_ECHOES_AMOUNT = (Kind.REVERSAL, Kind.ADJUSTMENT)


def write(
    terms: LinkTerms,
    request_message: Message,
    reply: Reply,
    now_local: datetime,
    settlement_mmdd: str = "",
) -> Message | None:
    """The answer to a message, ready to encode; None where it is not a request at all.

    `now_local` is the wall clock in the time zone of the ledger. DE15 is `settlement_mmdd`,
    or the date of `now_local` without one. DE38 stands on approvals only; DE4 is the amount
    approved, or the amount asked on a refusal, a reversal and an adjustment. DE37 is the
    terminal's, but a message about another is told its own. DE39 of a partial approval is
    10; DE54 tells the balances of an inquiry. The MAC is not echoed: it is another answer's.
    """
    mti = request_message.mti
    if not is_request(mti):
        return None
    asked = request_message.fields
    fields: dict[int, FieldValue] = {n: asked[n] for n in _ECHOED[terms.dialect] if n in asked}
    fields[12] = asked.get(12) or f"{now_local:%H%M%S}"
    fields[13] = asked.get(13) or f"{now_local:%m%d}"
    # strftime would take a quarter of this function's time
    fields[15] = settlement_mmdd or f"{now_local.month:02}{now_local.day:02}"
    fields[39] = response_code(reply.outcome)
    if 4 in asked:
        fields[4] = asked[4]
    if reply.outcome.approved:
        approved = f"{reply.approved_minor:012}"
        if 4 in asked and approved != asked[4] and _tells_amount(terms, request_message):
            fields[4] = approved
        if reply.partial:
            fields[39] = PARTIALLY_APPROVED_CODE
        _set_if_alphanumeric(fields, 38, reply.auth_code, 6)
    if 37 in asked and not _has_own_number(terms, request_message, reply):
        fields[37] = asked[37]
    else:
        _set_if_alphanumeric(fields, 37, reply.rrn, 12)
    if reply.balances:
        currency = request_message.text(49) or terms.currencies[0]
        fields[54] = balances_text(reply.balances, currency)
    return Message(response_mti(mti), fields)


def write_malformed(terms: LinkTerms, partial: Message | None) -> Message | None:
    """The answer 30 (format error) to a message that broke off or broke a rule of the format.

    None where it cannot be addressed: no request MTI, or DE11 or DE41 was not read. Only
    what was read whole is echoed, so the answer can always be encoded.
    """
    if partial is None or not is_request(partial.mti):
        return None
    read_whole = partial.fields
    if 11 not in read_whole or 41 not in read_whole:
        return None
    echoed = (4, 12, 13, 37, *_ECHOED[terms.dialect])
    fields = {number: read_whole[number] for number in echoed if number in read_whole}
    fields[39] = response_code(Outcome.MALFORMED)
    return Message(response_mti(partial.mti), fields)


def _tells_amount(terms: LinkTerms, request_message: Message) -> bool:
    """Whether the amount approved is one of what was asked.

    DE4 of an adjustment is the new total, and what was posted is the difference; a reversal
    repeats its original's, whatever was left to give back.
    """
    transaction = transaction_of(terms.dialect, request_message.mti, request_message)
    return isinstance(transaction, Refusal) or transaction.kind not in _ECHOES_AMOUNT


def _has_own_number(terms: LinkTerms, request_message: Message, reply: Reply) -> bool:
    """Whether DE37 of the message was its original's, and the reply brings its own."""
    if not reply.rrn or request_message.text(37).rstrip() == reply.rrn:
        return False
    return request_message.mti[:2] != REVERSAL_CLASS and is_linked(terms.dialect, request_message)


def _set_if_alphanumeric(
    fields: dict[int, FieldValue], number: int, value: str, width: int
) -> None:
    """Set a fixed an field, padded on the right; leave it out when the value cannot be one."""
    if 0 < len(value) <= width and value.isascii() and value.isalnum():
        fields[number] = value.ljust(width)
