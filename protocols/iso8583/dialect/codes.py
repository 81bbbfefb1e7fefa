"""Message types and response codes, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from protocols.message import PARTIALLY_APPROVED_CODE, Outcome

# The inverse of `response_code` for answers of other hosts: where several outcomes share a
# code, the one that such a host can mean.
_OUTCOMES: Mapping[str, Outcome] = MappingProxyType(
    {
        "00": Outcome.APPROVED,
        PARTIALLY_APPROVED_CODE: Outcome.APPROVED,
        "12": Outcome.UNSUPPORTED,
        "13": Outcome.INVALID_AMOUNT,
        "14": Outcome.UNKNOWN_CARD,
        "25": Outcome.ORIGINAL_NOT_FOUND,
        "30": Outcome.MALFORMED,
        "34": Outcome.SUSPECTED_FRAUD,
        "41": Outcome.CARD_LOST,
        "43": Outcome.CARD_STOLEN,
        "46": Outcome.CARD_CLOSED,
        "51": Outcome.INSUFFICIENT_FUNDS,
        "54": Outcome.CARD_EXPIRED,
        "55": Outcome.PIN_WRONG,
        "57": Outcome.PURSE_NOT_ALLOWED,
        "58": Outcome.TERMINAL_NOT_PERMITTED,
        "61": Outcome.AMOUNT_LIMIT,
        "62": Outcome.CARD_BLOCKED,
        "63": Outcome.MAC_WRONG,
        "65": Outcome.COUNT_LIMIT,
        "68": Outcome.REVERSED_BEFORE,
        "75": Outcome.PIN_TRIES_EXCEEDED,
        "91": Outcome.DESTINATION_DOWN,
        "94": Outcome.KEY_REUSED,
        "96": Outcome.FAULT,
    }
)


def is_request(mti: str) -> bool:
    """True of a message that expects an answer: request or advice (third digit 0 or 2).

    A response is never answered, or two hosts would answer each other for ever.
    """
    return len(mti) == 4 and mti.isdecimal() and mti[2] in "02"


def response_mti(mti: str) -> str:
    """The type of the answer: the function digit plus one, and no repeat bit (0201 → 0210)."""
    origin = int(mti[3])
    return f"{mti[:2]}{int(mti[2]) + 1}{origin - origin % 2}"


def response_outcome(code: str) -> Outcome:
    """What DE39 of another host's answer means here; a code without a meaning is a refusal."""
    return _OUTCOMES.get(code, Outcome.DO_NOT_HONOUR)
