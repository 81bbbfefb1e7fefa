"""A row of a debit file as the request that collects it, and its reply as the row's result."""

from __future__ import annotations

import hashlib

import msgspec

from protocols.message import Kind, Outcome, Reply, Request, Segment
from protocols.money import Money
from switch.config_city import Biller
from switch.ledger.debits import DebitFile, DebitResult, PostedDebit, TakenRow
from switch.net.debits.file_format import DebitCode

LINK = "debit"
TERMINAL = "DEBIT"
MERCHANT_CHARACTERS = 15
"""DE42, with which the ledger's words are shared, has 15."""
UNHURRIED_NS = 3_600_000_000_000
"""Nobody waits for a row; it is posted whenever its lane has nothing else."""

FOR_NOW = frozenset(
    {
        Outcome.OVERLOADED,
        Outcome.NO_BUDGET,
        Outcome.LEDGER_DOWN,
        Outcome.DESTINATION_DOWN,
        Outcome.OUTCOME_UNKNOWN,
        Outcome.ANSWERED_LATE,
        Outcome.FAULT,
    }
)
"""Said of the switch, not of the row: it is asked for again, under the same key."""


class Refused(msgspec.Struct, frozen=True):
    """A row that is not asked for at all."""

    code: DebitCode


def key_of(file: DebitFile, row_number: int) -> bytes:
    """The idempotency key of a row: when the file began to come, its number, the row's.

    Keys begin with local time, as those of terminals do; a file's stand together in the index.
    """
    numbers = file.file_number.to_bytes(6, "big") + row_number.to_bytes(6, "big")
    return int(file.local_at).to_bytes(4, "big") + numbers


def request_of(
    file: DebitFile, row: TakenRow, biller: Biller, currency: str, now_ns: int
) -> Request | Refused:
    """What collects a row, or why nothing does."""
    if row.is_duplicate:
        return Refused(DebitCode.DUPLICATE)
    if row.medium is None:
        return Refused(DebitCode.NO_MANDATE)
    if row.amount_max_minor and row.amount_minor > row.amount_max_minor:
        return Refused(DebitCode.ABOVE_MANDATE)
    said = f"{file.biller}|{row.serial}|{row.customer}|{row.amount_minor}|{row.type}"
    return Request(
        kind=Kind.BILL,
        segment=Segment.UTILITY,
        acquirer=biller.acquirer,
        link=LINK,
        message_class="02",
        card=None,
        amount=Money(row.amount_minor, currency),
        terminal=TERMINAL,
        merchant=biller.name[:MERCHANT_CHARACTERS],
        mcc=biller.mcc,
        stan=f"{row.row_number % 1_000_000:06}",
        local_at=file.local_at,
        rrn="",
        entry_mode="",
        expiry="",
        key=key_of(file, row.row_number),
        payload_hash=hashlib.blake2b(said.encode(), digest_size=8).digest(),
        received_ns=now_ns,
        deadline_ns=now_ns + UNHURRIED_NS,
        venue=biller.venue,
        medium=row.medium,
        background=True,
    )


def is_for_now(reply: Reply) -> bool:
    """Whether the answer says nothing of the row. What is stored under its key does."""
    return reply.outcome in FOR_NOW and not reply.replayed


def result_of(row_number: int, reply: Reply) -> DebitResult:
    """The result that an answer is."""
    return DebitResult(
        row_number,
        reply.approved_minor if reply.outcome.approved else 0,
        reply.authorization_id,
        reply.outcome.value,
    )


def result_found(row_number: int, posted: PostedDebit) -> DebitResult:
    """The result of a row whose answer was lost with a process, as the ledger has it."""
    return DebitResult(row_number, posted.approved_minor, posted.authorization_id, posted.outcome)


def result_refused(row_number: int, code: DebitCode) -> DebitResult:
    """The result of a row that was not asked for."""
    return DebitResult(row_number, 0, 0, code.value)
