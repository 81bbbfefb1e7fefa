"""Fields to canonical words and back: what an acquirer's message asks, and what it is answered.

`read` is a ladder: the first rung that applies is the answer, in the precedence of
`Outcome`. Pure and without a clock; both are on the path of every message.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from hashlib import blake2b

import msgspec

from protocols.card_number import PAN_DIGITS_MAX, PAN_DIGITS_MIN, CardNumber
from protocols.iso8583.link import KeyPart, LinkTerms
from protocols.iso8583.message import FieldValue, Message
from protocols.message import Kind, Outcome, Refusal, Reply, Request, response_code
from protocols.money import Money

KEY_BYTES = 16
PAYLOAD_HASH_BYTES = 8

# Authorization and financial request, each with its repeat (function digit 0, origin 0 or 1).
_SALE_MTIS = frozenset({"0100", "0101", "0200", "0201"})
# UnionPay POS signs off with an 0820.
_NETWORK_MTIS = frozenset({"0800", "0801", "0820", "0821"})
_GOODS_AND_SERVICES = "00"
"""The first two digits of DE3: a debit for goods and services."""
_PREAUTHORIZED = "06"
"""DE25 of a preauthorization or its completion; neither is a sale by itself."""
_REQUIRED_OF_SALE = (4, 11, 41, 42, 49)
_DAYS_OF_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_DATES = frozenset(
    f"{month:02}{day:02}"
    for month in range(1, 13)
    for day in range(1, _DAYS_OF_MONTH[month - 1] + 1)
)
"""Every MMDD there is; 29 February is one, because DE13 has no year to say otherwise."""

_ECHOED = (2, 3, 7, 11, 14, 25, 32, 41, 42, 49)
_ECHOED_BY_UNIONPAY = (23, 60)
_ECHOED_BY_NETWORK = (7, 11, 32, 41, 42, 60, 70)
_APPROVED = response_code(Outcome.APPROVED)


class NetworkFunction(StrEnum):
    """What a network management message is about (DE70, or DE60.3 of UnionPay POS)."""

    SIGN_ON = "sign_on"
    SIGN_OFF = "sign_off"
    ECHO = "echo"


_NETWORK_FUNCTIONS = {
    "001": NetworkFunction.SIGN_ON,
    "002": NetworkFunction.SIGN_OFF,
    "301": NetworkFunction.ECHO,
}
# 60.3 of a POS sign-on tells the length of the working keys: 001, 003 and 004.
_UNIONPAY_FUNCTIONS = _NETWORK_FUNCTIONS | {
    "003": NetworkFunction.SIGN_ON,
    "004": NetworkFunction.SIGN_ON,
}


class NetworkRequest(msgspec.Struct, frozen=True, gc=False):
    """A network management message: it moves no money and is answered by `network_reply`."""

    function: NetworkFunction
    stan: str


def read(
    terms: LinkTerms, message: Message, received_ns: int, *, hash_key: bytes = b""
) -> Request | Refusal | NetworkRequest:
    """What a decoded message of this link asks.

    `received_ns` is the monotonic clock at the first byte of its frame. `hash_key` (up to 64
    bytes) keys the payload hash: without a secret in it, a stored hash would let the card
    number be found by trying all of them.
    """
    mti = message.mti
    if mti in _SALE_MTIS:
        return _read_sale(terms, message, received_ns, hash_key)
    if mti in _NETWORK_MTIS:
        return _read_network(terms, message)
    return Refusal(Outcome.UNSUPPORTED, "mti", "this link takes sales and network messages only")


def is_request(mti: str) -> bool:
    """True of a message that expects an answer: request or advice (third digit 0 or 2).

    A response is never answered, or two hosts would answer each other for ever.
    """
    return len(mti) == 4 and mti.isdecimal() and mti[2] in "02"


def response_mti(mti: str) -> str:
    """The type of the answer: the function digit plus one, and no repeat bit (0201 → 0210)."""
    origin = int(mti[3])
    return f"{mti[:2]}{int(mti[2]) + 1}{origin - origin % 2}"


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
    approved, or the amount asked on a refusal. The MAC is not echoed: it is another answer's.
    """
    if not is_request(request_message.mti):
        return None
    asked = request_message.fields
    fields: dict[int, FieldValue] = {number: asked[number] for number in _ECHOED if number in asked}
    fields[12] = asked.get(12) or f"{now_local:%H%M%S}"
    fields[13] = asked.get(13) or f"{now_local:%m%d}"
    # strftime would take a quarter of this function's time
    fields[15] = settlement_mmdd or f"{now_local.month:02}{now_local.day:02}"
    fields[39] = response_code(reply.outcome)
    if reply.outcome.approved:
        fields[4] = f"{reply.approved_minor:012}"
        _set_if_alphanumeric(fields, 38, reply.auth_code, 6)
    elif 4 in asked:
        fields[4] = asked[4]
    if 37 in asked:
        fields[37] = asked[37]
    else:
        _set_if_alphanumeric(fields, 37, reply.rrn, 12)
    for number in _echoed_by(terms):
        if number in asked:
            fields[number] = asked[number]
    return Message(response_mti(request_message.mti), fields)


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
    echoed = (4, 12, 13, 37, *_ECHOED, *_echoed_by(terms))
    fields = {number: read_whole[number] for number in echoed if number in read_whole}
    fields[39] = response_code(Outcome.MALFORMED)
    return Message(response_mti(partial.mti), fields)


def network_reply(terms: LinkTerms, request_message: Message, now_local: datetime) -> Message:
    """The 0810 (or 0830) that says yes to a NetworkRequest.

    A POS terminal sets its clock by DE12 and DE13 of the answer.
    """
    asked = request_message.fields
    fields: dict[int, FieldValue] = {
        number: asked[number] for number in _ECHOED_BY_NETWORK if number in asked
    }
    if terms.dialect == "unionpay_pos" or 12 in asked:
        fields[12] = f"{now_local:%H%M%S}"
        fields[13] = f"{now_local:%m%d}"
    fields[39] = _APPROVED
    return Message(response_mti(request_message.mti), fields)


# ---- sales ---------------------------------------------------------------------------------


def _read_sale(
    terms: LinkTerms, message: Message, received_ns: int, hash_key: bytes
) -> Request | Refusal:
    pan, expiry, pan_path = _card_of(message)
    text = message.text
    local_at = _local_at(terms, message)
    refusal = _malformed_sale(message, pan, pan_path, local_at) or _sale_off_terms(terms, message)
    if refusal is not None:
        return refusal
    amount = Money(int(text(4)), text(49))
    terminal, merchant = text(41).rstrip(), text(42).rstrip()
    mcc = text(18) or terms.default_mcc
    stan = text(11)
    message_class = message.mti[:2]
    key_parts: dict[KeyPart, str] = {
        "acquirer": terms.acquirer,
        "terminal": terminal,
        "stan": stan,
        "local_at": local_at,
        "message_class": message_class,
        "merchant": merchant,
    }
    said = (pan, text(4), amount.currency, text(3), mcc, merchant, Kind.PURCHASE.value)
    return Request(
        kind=Kind.PURCHASE,
        segment=terms.segment,
        acquirer=terms.acquirer,
        link=terms.name,
        message_class=message_class,
        card=CardNumber(pan),
        amount=amount,
        terminal=terminal,
        merchant=merchant,
        mcc=mcc,
        stan=stan,
        local_at=local_at,
        rrn=text(37).rstrip(),
        entry_mode=text(22),
        expiry=expiry,
        key=_key([key_parts[part] for part in terms.match_key], local_at),
        payload_hash=_payload_hash(said, hash_key),
        received_ns=received_ns,
        deadline_ns=received_ns + terms.budget_ms * 1_000_000,
    )


def _malformed_sale(message: Message, pan: str, pan_path: str, local_at: str) -> Refusal | None:
    """What the message itself is worth, without looking at the link."""
    text = message.text
    processing_code = text(3)
    if not processing_code:
        return _missing(3)
    # before the fields of a sale are asked for: other transactions have other fields
    if processing_code[:2] != _GOODS_AND_SERVICES:
        return Refusal(Outcome.UNSUPPORTED, "DE3", "only sales (00) are taken; send no other")
    if text(25) == _PREAUTHORIZED:
        return Refusal(
            Outcome.UNSUPPORTED, "DE25", "preauthorizations are not taken; send a sale (00)"
        )
    for number in _REQUIRED_OF_SALE:
        if not text(number).strip():
            return _missing(number)
    if not pan:
        return _missing(2)
    if not (PAN_DIGITS_MIN <= len(pan) <= PAN_DIGITS_MAX and _digits(pan)):
        return Refusal(Outcome.MALFORMED, pan_path, "no card number has this length or form")
    hhmmss, mmdd = text(12), text(13)
    if not local_at:
        return _missing(13 if hhmmss else 12)
    if hhmmss and not _is_time(hhmmss):
        return Refusal(Outcome.MALFORMED, "DE12", "there is no such time; send hhmmss")
    if mmdd and mmdd not in _DATES:
        return Refusal(Outcome.MALFORMED, "DE13", "there is no such date; send MMDD")
    if not _digits(text(4)):
        return Refusal(Outcome.MALFORMED, "DE4", "the amount is not digits; send minor units")
    return None


def _local_at(terms: LinkTerms, message: Message) -> str:
    """MMDDhhmmss of the terminal's clock; empty where the message lacks what tells it.

    UnionPay POS terminals leave DE12 and DE13 to the host. Within one batch (DE60.2, six
    digits) they never use a STAN twice, so the batch number stands in for the time.
    """
    text = message.text
    hhmmss, mmdd = text(12), text(13)
    if hhmmss and mmdd:
        return mmdd + hhmmss
    if terms.dialect == "unionpay_pos" and not hhmmss and not mmdd:
        batch = text(60)[2:8]
        return batch if len(batch) == 6 and _digits(batch) else ""
    return ""


def _sale_off_terms(terms: LinkTerms, message: Message) -> Refusal | None:
    """Whether the message keeps to what its link agreed on."""
    text = message.text
    if text(32) not in ("", terms.acquirer):
        return Refusal(
            Outcome.TERMINAL_NOT_PERMITTED, "DE32", "this link belongs to another acquirer"
        )
    if text(49) not in terms.currencies:
        return Refusal(
            Outcome.CURRENCY_NOT_CONFIGURED, "DE49", "the link has not agreed on this currency"
        )
    if int(text(4)) == 0:
        return Refusal(Outcome.INVALID_AMOUNT, "DE4", "a sale has an amount above zero")
    return None


def _missing(number: int) -> Refusal:
    return Refusal(
        Outcome.MALFORMED, f"DE{number}", "a sale needs this field, and not blank; send it"
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


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _is_time(hhmmss: str) -> bool:
    return (
        len(hhmmss) == 6
        and _digits(hhmmss)
        and hhmmss[:2] <= "23"
        and hhmmss[2:4] <= "59"
        and hhmmss[4:] <= "59"
    )


def _key(parts: list[str], local_at: str) -> bytes:
    """The idempotency key: 4 bytes of MMDDhhmmss, then 12 bytes of hash.

    The terminal's clock in front keeps the keys of one hour together, so that the index over
    them grows at its right edge; wholly random keys cost the ledger 12 to 25 % of its
    throughput. The unit separator cannot be in a part, so no two lists of parts look alike.
    """
    hashed = "\x1f".join(parts).encode("ascii", "replace")
    return int(local_at).to_bytes(4, "big") + blake2b(hashed, digest_size=KEY_BYTES - 4).digest()


def _payload_hash(parts: tuple[str, ...], hash_key: bytes) -> bytes:
    """What makes a message another message under the same key.

    Transmission time (DE7) and entry mode (DE22) are left out: a repeat may differ in them.
    """
    hashed = "\x1f".join(parts).encode("ascii", "replace")
    return blake2b(hashed, digest_size=PAYLOAD_HASH_BYTES, key=hash_key).digest()


# ---- the rest ------------------------------------------------------------------------------


def _read_network(terms: LinkTerms, message: Message) -> NetworkRequest | Refusal:
    stan = message.text(11)
    if terms.dialect == "unionpay_pos":
        # 60.1 type code n2, 60.2 batch number n6, 60.3 network management code n3
        code = message.text(60)[8:11]
        return NetworkRequest(_UNIONPAY_FUNCTIONS.get(code, NetworkFunction.ECHO), stan)
    code = message.text(70)
    if not code:
        return NetworkRequest(NetworkFunction.ECHO, stan)
    function = _NETWORK_FUNCTIONS.get(code)
    if function is None:
        return Refusal(
            Outcome.UNSUPPORTED, "DE70", "only sign-on, sign-off and echo are taken (001, 002, 301)"
        )
    return NetworkRequest(function, stan)


def _echoed_by(terms: LinkTerms) -> tuple[int, ...]:
    return _ECHOED_BY_UNIONPAY if terms.dialect == "unionpay_pos" else ()


def _set_if_alphanumeric(
    fields: dict[int, FieldValue], number: int, value: str, width: int
) -> None:
    """Set a fixed an field, padded on the right; leave it out when the value cannot be one."""
    if 0 < len(value) <= width and value.isascii() and value.isalnum():
        fields[number] = value.ljust(width)
