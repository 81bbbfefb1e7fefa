"""Which earlier message a linked one is about, from DE90, DE61, the repeated DE11 or DE37.

The hazard is a reversal of something that was itself linked: a void carries the reference
number of its sale, and so does the reversal of the void. Were that number taken for the
original's, a reversal that overtakes its lost void would give the sale back a second time.
So what a reversal says besides the key counts only where its original stood for itself.
"""

from __future__ import annotations

import msgspec

from protocols.iso8583.dialect.identity import REVERSAL_CLASS, key_of
from protocols.iso8583.dialect.transactions import Transaction, transaction_of
from protocols.iso8583.elements import (
    PREAUTHORIZED,
    OriginalElements,
    batch_reference_from,
    original_from,
)
from protocols.iso8583.link import LinkTerms
from protocols.iso8583.message import Message
from protocols.message import Kind, OriginalReference, Outcome, Refusal

_KEYED_CLASSES = frozenset({"01", "02"})
# 60.1 of a preauthorization and of its cancellation
_AUTHORIZATION_TYPE_CODES = frozenset({"10", "11"})
_PREAUTHORIZATION_PROCESSING = "03"


class _Told(msgspec.Struct, frozen=True, gc=False):
    """What the elements of one dialect tell: the original's key, date and message type.

    Of the type they may tell the class alone, or not even that: then it was 02, as most are,
    and a request or an advice.
    """

    mtis: tuple[str, ...] = ("0200", "0220")
    key: bytes = b""
    mmdd: str = ""


def original_of(
    terms: LinkTerms, message: Message, kind: Kind, local_at: str
) -> OriginalReference | Refusal:
    """The reference of a linked message; MALFORMED where nothing in it names the original.

    `local_at` is the message's own clock, which a reversal without DE90 repeats.
    """
    reversal = kind is Kind.REVERSAL
    if terms.dialect == "unionpay_pos":
        told = (
            _repeated(terms, message, local_at) if reversal else _by_batch(terms, message, local_at)
        )
    elif 90 in message.fields:
        elements = original_from(message.text(90))
        refusal = _elsewhere(terms, elements)
        if refusal is not None:
            return refusal
        told = _by_elements(terms, message, elements)
    else:
        told = _repeated(terms, message, local_at) if reversal else _Told()
    if reversal and not _stood_alone(terms, told.mtis, message):
        rrn = auth_code = ""
    else:
        rrn, auth_code = _number(message.text(37)), _number(message.text(38))
    if not (told.key or rrn or auth_code):
        number = 37 if terms.dialect == "unionpay_pos" else 90
        return Refusal(
            Outcome.MALFORMED,
            f"DE{number}",
            "nothing in the message names its original; send this field",
        )
    return OriginalReference(key=told.key, rrn=rrn, auth_code=auth_code, mmdd=told.mmdd)


def _elsewhere(terms: LinkTerms, original: OriginalElements | None) -> Refusal | None:
    """Whether DE90 names what is not this link's, or is not taken back at all."""
    if original is None:
        return None
    if original.acquirer not in ("", terms.acquirer.lstrip("0")):
        return Refusal(
            Outcome.TERMINAL_NOT_PERMITTED, "DE90", "the original belongs to another acquirer"
        )
    if original.mti[:2] == REVERSAL_CLASS:
        return Refusal(
            Outcome.UNSUPPORTED, "DE90", "a reversal is not taken back; send the payment again"
        )
    return None


def _by_elements(terms: LinkTerms, message: Message, original: OriginalElements | None) -> _Told:
    """DE90; nothing where it names no message that has a key."""
    if original is None or original.mti[:2] not in _KEYED_CLASSES:
        return _Told()
    key = _key(terms, message, original.mti[:2], original.stan, original.local_at)
    return _Told((original.mti,), key, original.local_at[:4])


def _repeated(terms: LinkTerms, message: Message, local_at: str) -> _Told:
    """A reversal that repeats its original's DE11, DE12 and DE13, or its batch (domain §4.1).

    The class of the original is not said; what it was tells it, but for a preauthorization
    and its completion in iso87_ascii, which look alike: there DE90 has to say it.
    """
    text = message.text
    unionpay = terms.dialect == "unionpay_pos"
    if unionpay:
        authorization = text(60)[:2] in _AUTHORIZATION_TYPE_CODES
    else:
        authorization = text(3)[:2] == _PREAUTHORIZATION_PROCESSING
        if text(25) == PREAUTHORIZED and not authorization:
            return _Told()
    message_class = "01" if authorization else "02"
    key = _key(terms, message, message_class, text(11), local_at)
    return _Told((f"{message_class}00", f"{message_class}20"), key, text(13))


def _by_batch(terms: LinkTerms, message: Message, local_at: str) -> _Told:
    """DE61 of UnionPay POS. A terminal with a clock has keys that a batch does not tell."""
    original = batch_reference_from(message.text(61))
    if original is None:
        return _Told()
    if 12 in message.fields or 13 in message.fields:
        return _Told(mmdd=original.mmdd)
    message_class = "01" if _about_preauthorization(message) else "02"
    key = _key(terms, message, message_class, original.stan, original.batch)
    return _Told(key=key, mmdd=original.mmdd)


def _about_preauthorization(message: Message) -> bool:
    """Cancellation and completion are; the void of a completion has DE25 06 as well."""
    return message.text(25) == PREAUTHORIZED and (
        message.mti[:2] == "01" or message.text(3)[:2] == "00"
    )


def _key(terms: LinkTerms, message: Message, message_class: str, stan: str, local_at: str) -> bytes:
    return key_of(
        terms,
        message_class,
        terminal=message.text(41).rstrip(),
        merchant=message.text(42).rstrip(),
        stan=stan,
        local_at=local_at,
    )


def _number(text: str) -> str:
    """DE37 or DE38; blanks and zeros are how a terminal says that it has none."""
    return text.strip() if text.strip(" 0") else ""


def _stood_alone(terms: LinkTerms, mtis: tuple[str, ...], message: Message) -> bool:
    """Whether the original of a reversal was about no other message, whichever type it had."""
    rows = [transaction_of(terms.dialect, mti, message) for mti in mtis]
    transactions = [row for row in rows if isinstance(row, Transaction)]
    return bool(transactions) and not any(row.linked for row in transactions)
