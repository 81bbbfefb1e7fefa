"""Totals of a settlement, as the two sides of a reconciliation put them to each other."""

from __future__ import annotations

import msgspec

from protocols.iso8583.elements import digits
from protocols.iso8583.message import FieldValue, Message

# ISO 8583:1987: element and width of each total, in the order of the fields of `Totals`.
_TOTALS = (
    (74, 10, "credit_count"),
    (86, 16, "credit_minor"),
    (75, 10, "credit_reversal_count"),
    (87, 16, "credit_reversal_minor"),
    (76, 10, "debit_count"),
    (88, 16, "debit_minor"),
    (77, 10, "debit_reversal_count"),
    (89, 16, "debit_reversal_minor"),
)

_BATCH_CHARACTERS = 31
_COUNT_MAX, _AMOUNT_MAX = 999, 999_999_999_999
IN_BALANCE, OUT_OF_BALANCE = "1", "2"
"""DE66, and the answer code within DE48 of UnionPay POS."""


class Totals(msgspec.Struct, frozen=True):
    """Counts and minor units of one acquirer, link and business day (DE74–77, 86–89).

    In the sense of ISO 8583 a debit takes money from cards. Debits are purchases,
    completions, offline sales and adjustments to more; credits are refunds and adjustments to
    less. A debit reversal is a void or a reversal of a debit; a credit reversal is a void or
    a reversal of a credit. Only what was approved counts. Loads, holds and inquiries are in
    none of them: they do not settle with the merchant.
    """

    credit_count: int = 0
    credit_minor: int = 0
    credit_reversal_count: int = 0
    credit_reversal_minor: int = 0
    debit_count: int = 0
    debit_minor: int = 0
    debit_reversal_count: int = 0
    debit_reversal_minor: int = 0


class BatchTotals(msgspec.Struct, frozen=True):
    """The totals of one batch of a UnionPay POS terminal: what stands, reversals taken off."""

    debit_minor: int = 0
    debit_count: int = 0
    credit_minor: int = 0
    credit_count: int = 0


def totals_fields(totals: Totals) -> dict[int, FieldValue]:
    """DE74–77 and 86–89 of ISO 8583:1987."""
    return {
        number: f"{min(getattr(totals, name), 10**width - 1):0{width}}"
        for number, width, name in _TOTALS
    }


def misspelt_total(message: Message) -> int | None:
    """The first of those fields that is there and not digits; None where all can be read."""
    for number, width, _ in _TOTALS:
        text = message.text(number)
        if text and (len(text) > width or not digits(text)):
            return number
    return None


def totals_from(message: Message) -> Totals | None:
    """What a message claims, 0 where it leaves one out; None where it claims nothing."""
    claimed = {name: int(message.text(n)) for n, _, name in _TOTALS if message.text(n)}
    return Totals(**claimed) if claimed else None


def standing(totals: Totals) -> BatchTotals:
    """What a terminal's batch shows: a sale that was voided or reversed is not in it."""
    return BatchTotals(
        totals.debit_minor - totals.debit_reversal_minor,
        totals.debit_count - totals.debit_reversal_count,
        totals.credit_minor - totals.credit_reversal_minor,
        totals.credit_count - totals.credit_reversal_count,
    )


def batch_totals_text(domestic: BatchTotals, foreign: BatchTotals, code: str = "0") -> str:
    """DE48 of a UnionPay POS batch settlement: domestic cards, then foreign ones.

    Each is debit total (12), count (3), credit total (12), count (3) and answer code (1):
    0 in the request, then 1 in balance or 2 out of balance. What has no room in its digits
    is written as the largest that has.
    """
    return "".join(
        f"{_clipped(one.debit_minor, _AMOUNT_MAX):012}{_clipped(one.debit_count, _COUNT_MAX):03}"
        f"{_clipped(one.credit_minor, _AMOUNT_MAX):012}{_clipped(one.credit_count, _COUNT_MAX):03}"
        f"{code}"
        for one in (domestic, foreign)
    )


def batch_totals_from(text: str) -> tuple[BatchTotals, BatchTotals] | None:
    """DE48 read, domestic and foreign; None where it is neither one nor two whole blocks."""
    if len(text) not in (_BATCH_CHARACTERS, 2 * _BATCH_CHARACTERS) or not digits(text):
        return None
    domestic = _block(text[:_BATCH_CHARACTERS])
    return domestic, _block(text[_BATCH_CHARACTERS:]) if text[_BATCH_CHARACTERS:] else BatchTotals()


def _block(text: str) -> BatchTotals:
    return BatchTotals(int(text[:12]), int(text[12:15]), int(text[15:27]), int(text[27:30]))


def _clipped(value: int, most: int) -> int:
    return max(0, min(value, most))
