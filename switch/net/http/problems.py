"""Refusals of the API: one closed list, each with its status and title, told as RFC 9457 says.

A detail is one sentence that says where and what to do; it never repeats what was sent.
"""

from __future__ import annotations

from enum import Enum
from typing import assert_never

from protocols.bills.api import Problem
from protocols.message import Outcome, Reply, response_code

TYPES = "urn:citycard:problem:"
MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 1


class Fault(Enum):
    """What can be wrong: the last part of the problem's type, its HTTP status and its title."""

    BODY = ("body", 400, "The body cannot be understood")
    FIELD = ("field", 422, "A field does not fit")
    HEADER = ("header", 400, "A header does not fit")
    UNAUTHORIZED = ("unauthorized", 401, "Who asks is not known")
    FORBIDDEN = ("forbidden", 403, "This is not for who asks")
    NOT_FOUND = ("not-found", 404, "There is nothing here")
    METHOD = ("method", 405, "This cannot be done here")
    TOO_SLOW = ("too-slow", 408, "The request did not come to its end in time")
    BILL_BUSY = ("bill-busy", 409, "Another payment of this bill is under way")
    BILL_PAID = ("bill-paid", 409, "This bill is paid")
    AMOUNT_CHANGED = ("amount-changed", 409, "The amount is not what the biller asks")
    STATE = ("state", 409, "The payment does not stand so")
    INQUIRY_ENDED = ("inquiry-ended", 410, "The inquiry is too old")
    TOO_LARGE = ("too-large", 413, "The body is too large")
    KEY_REUSED = ("key-reused", 422, "The idempotency key was used for something else")
    BILL_REFUSED = ("bill-refused", 409, "The biller does not take it")
    DECLINED = ("declined", 402, "The card may not pay this")
    TOO_MANY = ("too-many", 429, "Too many requests")
    INTERNAL = ("internal", 500, "The switch has a fault")
    BILLER_AWAY = ("biller-away", 503, "The biller cannot be asked now")
    AWAY = ("away", 503, "The switch cannot do it now")
    UNKNOWN = ("unknown", 504, "What became of it is not known yet")

    @property
    def status(self) -> int:
        return self.value[1]


def problem(fault: Fault, detail: str, pointer: str = "", *, payment_id: str = "") -> Problem:
    """The body of a refusal."""
    name, status, title = fault.value
    return Problem(TYPES + name, title, status, detail, pointer, payment_id=payment_id)


def declined(reply: Reply, *, payment_id: str = "") -> Problem:
    """The problem of a request that the pipeline did not approve."""
    fault, detail = _of_outcome(reply.outcome)
    name, status, title = fault.value
    return Problem(
        TYPES + name,
        title,
        status,
        detail,
        outcome=reply.outcome.value,
        response_code=response_code(reply.outcome),
        payment_id=payment_id,
    )


def _of_outcome(outcome: Outcome) -> tuple[Fault, str]:
    match outcome:
        case Outcome.OVERLOADED | Outcome.NO_BUDGET | Outcome.LEDGER_DOWN:
            words = "no money moved; send the same request again, with the same idempotency key"
            return Fault.AWAY, words
        case Outcome.OUTCOME_UNKNOWN | Outcome.ANSWERED_LATE | Outcome.DESTINATION_DOWN:
            words = "send the same request again, with the same idempotency key, to learn of it"
            return Fault.UNKNOWN, words
        case Outcome.KEY_REUSED:
            words = "give each payment an idempotency key of its own"
            return Fault.KEY_REUSED, words
        case Outcome.FAULT:
            return Fault.INTERNAL, "send it again later; if it stays so, tell the operator"
        case Outcome.BILL_BUSY:
            return Fault.BILL_BUSY, "wait for its end, then ask for the bill again"
        case Outcome.BILL_PAID:
            return Fault.BILL_PAID, "do not pay it again"
        case (
            Outcome.APPROVED
            | Outcome.MALFORMED
            | Outcome.UNSUPPORTED
            | Outcome.LINK_SIGNED_OFF
            | Outcome.MAC_WRONG
            | Outcome.TAC_WRONG
            | Outcome.TERMINAL_NOT_PERMITTED
            | Outcome.CURRENCY_NOT_CONFIGURED
            | Outcome.INVALID_AMOUNT
            | Outcome.ORIGINAL_NOT_FOUND
            | Outcome.ORIGINAL_RESOLVED
            | Outcome.ABOVE_ORIGINAL
            | Outcome.REVERSED_BEFORE
            | Outcome.UNKNOWN_CARD
            | Outcome.CARD_STOLEN
            | Outcome.CARD_LOST
            | Outcome.CARD_BLOCKED
            | Outcome.CARD_CLOSED
            | Outcome.CARD_EXPIRED
            | Outcome.ACCOUNT_FROZEN
            | Outcome.ACCOUNT_CLOSED
            | Outcome.PURSE_NOT_ALLOWED
            | Outcome.PIN_TRIES_EXCEEDED
            | Outcome.PIN_WRONG
            | Outcome.PIN_REQUIRED
            | Outcome.HOTLISTED
            | Outcome.SUSPECTED_FRAUD
            | Outcome.DO_NOT_HONOUR
            | Outcome.AMOUNT_LIMIT
            | Outcome.COUNT_LIMIT
            | Outcome.BALANCE_CAP
            | Outcome.INSUFFICIENT_FUNDS
        ):
            return Fault.DECLINED, "no money moved; the outcome says why, pay another way"
        case _:
            assert_never(outcome)
