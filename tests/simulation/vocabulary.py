"""Which message an acquirer sends for what: the real makers, by kind.

A message about another one is made from what its sender has: the message it sent, and of the
answer the RRN and the approval code.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from protocols.iso8583 import Message
from protocols.iso8583.client import (
    Dialect,
    Sale,
    adjustment_message,
    cancel_message,
    completion_message,
    inquiry_message,
    load_confirmation_message,
    load_message,
    network_message,
    offline_sale_message,
    preauthorization_message,
    refund_message,
    reversal_message,
    sale_message,
    void_message,
)
from protocols.iso8583.dialect import NetworkFunction, network_reply
from protocols.iso8583.link import LinkTerms
from protocols.message import Kind

if TYPE_CHECKING:
    from tests.simulation.acquirer import Step

DIGITS_OF_SIGN_OFF = "002"


class NetworkAnswer(NamedTuple):
    """What a host says to an 0800 of the switch; `leaving` where the switch signs off."""

    message: Message
    leaving: bool


def sign_on_message(dialect: Dialect, stan: int, local_at: datetime) -> Message:
    function = NetworkFunction.SIGN_ON
    return network_message(dialect, function, stan=stan, local_at=local_at, terminal="T0000000")


def network_answer(terms: LinkTerms, message: Message, now_local: datetime) -> NetworkAnswer:
    code = message.text(70) or message.text(60)[-3:]
    return NetworkAnswer(network_reply(terms, message, now_local), code == DIGITS_OF_SIGN_OFF)


def first_message(kind: Kind, dialect: Dialect, sale: Sale) -> Message:
    """A message that begins something."""
    match kind:
        case Kind.PURCHASE:
            return sale_message(dialect, sale)
        case Kind.PREAUTHORIZATION:
            return preauthorization_message(dialect, sale)
        case Kind.INQUIRY:
            return inquiry_message(dialect, sale)
        case Kind.OFFLINE_SALE:
            return offline_sale_message(dialect, sale)
        case Kind.LOAD_PENDING:
            return load_message(dialect, sale)
        case _:
            raise AssertionError(f"{kind} is about another message")


def following_message(
    kind: Kind,
    dialect: Dialect,
    about: Step,
    *,
    stan: int,
    local_at: datetime,
    amount_minor: int,
) -> Message:
    """A message about an earlier one; for a partial reversal the amount is what shall stand."""
    original, told = about.message, about.approval
    rrn, auth_code = (told.rrn, told.auth_code) if told is not None else ("", "")
    match kind:
        case Kind.REVERSAL:
            return reversal_message(dialect, original, stan=stan, replacement_minor=amount_minor)
        case Kind.VOID:
            return void_message(
                dialect, original, stan=stan, local_at=local_at, rrn=rrn, auth_code=auth_code
            )
        case Kind.PREAUTHORIZATION_CANCEL:
            return cancel_message(
                dialect, original, stan=stan, local_at=local_at, rrn=rrn, auth_code=auth_code
            )
        case Kind.LOAD:
            return load_confirmation_message(
                dialect, original, stan=stan, local_at=local_at, rrn=rrn, auth_code=auth_code
            )
        case Kind.REFUND:
            return refund_message(
                dialect, original, stan=stan, local_at=local_at, rrn=rrn, auth_code=auth_code,
                amount_minor=amount_minor,
            )  # fmt: skip
        case Kind.COMPLETION:
            return completion_message(
                dialect, original, stan=stan, local_at=local_at, rrn=rrn, auth_code=auth_code,
                amount_minor=amount_minor,
            )  # fmt: skip
        case Kind.ADJUSTMENT:
            return adjustment_message(
                dialect, original, stan=stan, local_at=local_at, rrn=rrn, auth_code=auth_code,
                total_minor=amount_minor,
            )  # fmt: skip
        case _:
            raise AssertionError(f"{kind} is about no other message")
