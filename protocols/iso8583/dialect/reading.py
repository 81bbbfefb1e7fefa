"""From a message to a request: the ladder that every financial message climbs."""

from __future__ import annotations

from protocols.card_number import PAN_DIGITS_MAX, PAN_DIGITS_MIN, CardNumber
from protocols.iso8583.dialect.identity import (
    key_of,
    local_at_of,
    payload_hash_of,
)
from protocols.iso8583.dialect.management import (
    NETWORK_ANSWER_MTIS,
    NETWORK_MTIS,
    NetworkAnswer,
    NetworkRequest,
    read_network,
    read_network_answer,
)
from protocols.iso8583.dialect.originals import original_of
from protocols.iso8583.dialect.reconciliation import (
    RECONCILIATION_MTIS,
    ReconciliationRequest,
    read_reconciliation,
)
from protocols.iso8583.dialect.transactions import Transaction, transaction_of
from protocols.iso8583.elements import (
    DATES,
    digits,
    is_time,
    purse_of_processing_code,
    replacement_from,
)
from protocols.iso8583.link import LinkTerms
from protocols.iso8583.message import Message
from protocols.message import Kind, OriginalReference, Outcome, Refusal, Request
from protocols.money import Money

# Requests and advices with their repeats: origin 0 (acquirer) or 1 (acquirer, repeat).
_FINANCIAL_MTIS = frozenset(
    f"0{message_class}{function}{origin}"
    for message_class in "124"
    for function in "02"
    for origin in "01"
)
_ADVICE = "2"
_LOADS = (Kind.LOAD_PENDING, Kind.LOAD)


def read(
    terms: LinkTerms,
    message: Message,
    received_ns: int,
    *,
    hash_key: bytes = b"",
    pin: bytes = b"",
) -> Request | Refusal | NetworkRequest | NetworkAnswer | ReconciliationRequest:
    """What a decoded message of this link asks, or answers.

    `received_ns` is the monotonic clock at the first byte of its frame. `hash_key` (up to 64
    bytes) keys the payload hash: without a secret in it, a stored hash would let the card
    number be found by trying all of them. `pin` (16 bytes, or none) goes into the request as
    it is. Of responses only those to network messages are read; `write` never answers one.
    """
    mti = message.mti
    if mti in _FINANCIAL_MTIS:
        return _read_financial(terms, message, received_ns, hash_key, pin)
    if mti in NETWORK_MTIS:
        return read_network(terms, message)
    if mti in NETWORK_ANSWER_MTIS:
        return read_network_answer(terms, message)
    if mti in RECONCILIATION_MTIS:
        return read_reconciliation(terms, message, received_ns)
    return Refusal(
        Outcome.UNSUPPORTED,
        "mti",
        "this message type is not taken; send a request or an advice of class 1, 2, 4, 5 or 8",
    )


def _read_financial(
    terms: LinkTerms, message: Message, received_ns: int, hash_key: bytes, pin: bytes
) -> Request | Refusal:
    transaction = transaction_of(terms.dialect, message.mti, message)
    if isinstance(transaction, Refusal):
        return transaction
    pan, expiry, pan_path = _card_of(message)
    text = message.text
    local_at = local_at_of(terms, message)
    refusal = _malformed(message, transaction, pan, pan_path, local_at) or _off_terms(
        terms, message, transaction
    )
    if refusal is not None:
        return refusal
    kind = transaction.kind
    original: OriginalReference | None = None
    replacement_minor = 0
    if transaction.linked:
        about = _about(terms, message, kind, local_at)
        if isinstance(about, Refusal):
            return about
        original, replacement_minor = about
    amount = Money(int(text(4) or "0"), text(49) or terms.currencies[0])
    terminal, merchant = text(41).rstrip(), text(42).rstrip()
    mcc = text(18) or terms.default_mcc
    stan = text(11)
    message_class = message.mti[:2]
    said: tuple[str, ...] = (pan, text(4), amount.currency, text(3), mcc, merchant, kind.value)
    if original is not None:
        said += _said_of_original(original, replacement_minor)
    return Request(
        kind=kind,
        segment=terms.segment,
        acquirer=terms.acquirer,
        link=terms.name,
        message_class=message_class,
        card=CardNumber(pan),
        amount=amount,
        terminal=terminal,
        merchant=merchant,
        mcc=mcc,
        venue=terms.venues.get(mcc, ""),
        stan=stan,
        local_at=local_at,
        # DE37 of a linked message is its original's; it gets a number of its own
        rrn=text(37).rstrip() if original is None else "",
        entry_mode=text(22),
        expiry=expiry,
        key=key_of(
            terms,
            message_class,
            terminal=terminal,
            merchant=merchant,
            stan=stan,
            local_at=local_at,
        ),
        payload_hash=payload_hash_of(said, hash_key),
        received_ns=received_ns,
        deadline_ns=received_ns + terms.budget_ms * 1_000_000,
        purse=purse_of_processing_code(text(3)) if kind in _LOADS else "",
        advice=message.mti[2] == _ADVICE,
        original=original,
        replacement_minor=replacement_minor,
        partial_allowed=terms.partial_approval and kind is Kind.PURCHASE,
        pin=pin,
    )


def _about(
    terms: LinkTerms, message: Message, kind: Kind, local_at: str
) -> tuple[OriginalReference, int] | Refusal:
    """The original of a linked message, and what shall stand of it (DE95, reversals only)."""
    original = original_of(terms, message, kind, local_at)
    if isinstance(original, Refusal):
        return original
    if kind is not Kind.REVERSAL or terms.dialect != "iso87_ascii" or 95 not in message.fields:
        return original, 0
    replacement_minor = _replacement(message)
    if isinstance(replacement_minor, Refusal):
        return replacement_minor
    return original, replacement_minor


def _said_of_original(original: OriginalReference, replacement_minor: int) -> tuple[str, ...]:
    """What a repeat must say alike: the key, or else the numbers; a repeat may lack these."""
    named = original.key.hex() or f"{original.rrn}/{original.auth_code}/{original.mmdd}"
    return named, str(replacement_minor)


def _malformed(
    message: Message, transaction: Transaction, pan: str, pan_path: str, local_at: str
) -> Refusal | None:
    """What the message itself is worth, without looking at the link."""
    text = message.text
    for number in transaction.required:
        if not text(number).strip():
            return _missing(number)
    if not pan:
        return _missing(2)
    if not (PAN_DIGITS_MIN <= len(pan) <= PAN_DIGITS_MAX and digits(pan)):
        return Refusal(Outcome.MALFORMED, pan_path, "no card number has this length or form")
    hhmmss, mmdd = text(12), text(13)
    if not local_at:
        return _missing(13 if hhmmss else 12)
    if hhmmss and not is_time(hhmmss):
        return Refusal(Outcome.MALFORMED, "DE12", "there is no such time; send hhmmss")
    if mmdd and mmdd not in DATES:
        return Refusal(Outcome.MALFORMED, "DE13", "there is no such date; send MMDD")
    if text(4) and not digits(text(4)):
        return Refusal(Outcome.MALFORMED, "DE4", "the amount is not digits; send minor units")
    return None


def _off_terms(terms: LinkTerms, message: Message, transaction: Transaction) -> Refusal | None:
    """Whether the message keeps to what its link agreed on."""
    text = message.text
    if text(32) not in ("", terms.acquirer):
        return Refusal(
            Outcome.TERMINAL_NOT_PERMITTED, "DE32", "this link belongs to another acquirer"
        )
    currency = text(49)
    if currency not in terms.currencies and (currency or transaction.amount):
        return Refusal(
            Outcome.CURRENCY_NOT_CONFIGURED, "DE49", "the link has not agreed on this currency"
        )
    if not transaction.zero and int(text(4)) == 0:
        return Refusal(
            Outcome.INVALID_AMOUNT, "DE4", "this transaction has an amount above zero; send it"
        )
    return None


def _replacement(message: Message) -> int | Refusal:
    """What shall stand after a partial reversal (DE95); 0 is a whole one."""
    replacement_minor = replacement_from(message.text(95))
    if replacement_minor is None:
        return Refusal(
            Outcome.MALFORMED, "DE95", "it does not begin with an amount; send 12 digits first"
        )
    if 0 < replacement_minor >= int(message.text(4)):
        return Refusal(
            Outcome.INVALID_AMOUNT, "DE95", "what shall stand is not below DE4; send less"
        )
    return replacement_minor


def _missing(number: int) -> Refusal:
    return Refusal(
        Outcome.MALFORMED, f"DE{number}", "this message needs the field, and not blank; send it"
    )


def _card_of(message: Message) -> tuple[str, str, str]:
    """Card number, expiry (YYMM or empty) and the path they came from.

    DE2 and DE14 come first; track 2 (ISO/IEC 7813: number, separator, YYMM) fills in.
    """
    pan, expiry = message.text(2), message.text(14)
    if pan and expiry:
        return pan, expiry, "DE2"
    track_pan, _, rest = message.text(35).replace("=", "D").partition("D")
    track_expiry = rest[:4]
    if len(track_expiry) != 4 or not track_expiry.isdecimal():
        track_expiry = ""
    if pan:
        return pan, expiry or track_expiry, "DE2"
    return track_pan, expiry or track_expiry, "DE35"
