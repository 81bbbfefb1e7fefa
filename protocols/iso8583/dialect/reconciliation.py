"""Reconciliation (05xx): the acquirer's totals of a day or batch next to the ledger's."""

from __future__ import annotations

from datetime import datetime

import msgspec

from protocols.iso8583.dialect.codes import response_mti
from protocols.iso8583.elements import DATES
from protocols.iso8583.link import LinkTerms
from protocols.iso8583.message import FieldValue, Message
from protocols.iso8583.totals import (
    IN_BALANCE,
    OUT_OF_BALANCE,
    BatchTotals,
    Totals,
    batch_totals_from,
    batch_totals_text,
    misspelt_total,
    standing,
    totals_fields,
    totals_from,
)
from protocols.message import Outcome, Refusal, response_code

RECONCILIATION_MTIS = frozenset({"0500", "0501", "0520", "0521"})

_ECHOED = (7, 11, 32, 33, 41, 42, 49, 50, 60, 99)
_APPROVED = response_code(Outcome.APPROVED)
_OUT_OF_BALANCE_CODE = "95"
"""DE39: the totals differ (domain §4.1, batch mismatch)."""
_ONE_BLOCK_CHARACTERS = 31


class ReconciliationRequest(msgspec.Struct, frozen=True, gc=False):
    """A message that asks for the totals of a link, answered by `reconciliation_reply`.

    `mmdd` is the business day (DE15, or else DE13), empty for the current one. `claimed` is
    what the acquirer has counted, None where it only asks. The clocks are those of `Request`.
    """

    stan: str
    mmdd: str
    claimed: Totals | None
    received_ns: int
    deadline_ns: int


def read_reconciliation(
    terms: LinkTerms, message: Message, received_ns: int
) -> ReconciliationRequest | Refusal:
    """What a reconciliation message asks and claims.

    UnionPay POS claims what stands of its batch (DE48): it comes as totals without reversals.
    """
    text = message.text
    if not text(11).strip():
        return Refusal(
            Outcome.MALFORMED, "DE11", "this message needs the field, and not blank; send it"
        )
    number = 15 if text(15) else 13
    mmdd = text(number)
    if mmdd and mmdd not in DATES:
        return Refusal(Outcome.MALFORMED, f"DE{number}", "there is no such date; send MMDD")
    if text(32) not in ("", terms.acquirer):
        return Refusal(
            Outcome.TERMINAL_NOT_PERMITTED, "DE32", "this link belongs to another acquirer"
        )
    claimed = _claimed(terms, message)
    if isinstance(claimed, Refusal):
        return claimed
    deadline_ns = received_ns + terms.budget_ms * 1_000_000
    return ReconciliationRequest(text(11), mmdd, claimed, received_ns, deadline_ns)


def reconciliation_reply(
    terms: LinkTerms,
    message: Message,
    ours: Totals,
    now_local: datetime,
    settlement_mmdd: str = "",
) -> Message:
    """The 0510 (or 0530) with the ledger's totals and whether they are the acquirer's.

    DE39 is 00, or 95 where they differ. iso87_ascii: DE74–77, 86–89 are ours, DE66 is 1 in
    balance or 2 out of balance, left out where nothing was claimed. UnionPay POS: DE48 with
    what stands of ours and the answer code 1 or 2. A claim that cannot be read differs.
    """
    asked = message.fields
    fields: dict[int, FieldValue] = {number: asked[number] for number in _ECHOED if number in asked}
    fields[15] = settlement_mmdd or message.text(15) or f"{now_local:%m%d}"
    if terms.dialect == "unionpay_pos":
        fields[12], fields[13] = f"{now_local:%H%M%S}", f"{now_local:%m%d}"
        balanced = _compare_batch(message, ours, fields)
    else:
        balanced = _compare(message, ours, fields)
    fields[39] = _APPROVED if balanced else _OUT_OF_BALANCE_CODE
    return Message(response_mti(message.mti), fields)


def _claimed(terms: LinkTerms, message: Message) -> Totals | Refusal | None:
    if terms.dialect == "unionpay_pos":
        if not message.text(48):
            return None
        blocks = batch_totals_from(message.text(48))
        if blocks is None:
            return Refusal(
                Outcome.MALFORMED,
                "DE48",
                "these are not the totals of a batch; send 31 digits for domestic cards, and "
                "31 more for foreign ones",
            )
        domestic, _ = blocks
        return Totals(
            credit_count=domestic.credit_count,
            credit_minor=domestic.credit_minor,
            debit_count=domestic.debit_count,
            debit_minor=domestic.debit_minor,
        )
    misspelt = misspelt_total(message)
    if misspelt is not None:
        return Refusal(Outcome.MALFORMED, f"DE{misspelt}", "the total is not digits; send digits")
    return totals_from(message)


def _compare(message: Message, ours: Totals, fields: dict[int, FieldValue]) -> bool:
    fields |= totals_fields(ours)
    misspelt = misspelt_total(message) is not None
    claimed = None if misspelt else totals_from(message)
    if claimed is None and not misspelt:
        return True
    balanced = claimed == ours
    fields[66] = IN_BALANCE if balanced else OUT_OF_BALANCE
    return balanced


def _compare_batch(message: Message, ours: Totals, fields: dict[int, FieldValue]) -> bool:
    """Domestic cards are the city's own; foreign ones are not taken, so theirs are zero."""
    nothing = BatchTotals()
    stands = standing(ours)
    claimed = message.text(48)
    # a batch that claims nothing is told ours, and is not out of balance with them
    balanced = not claimed or batch_totals_from(claimed) == (stands, nothing)
    text = batch_totals_text(stands, nothing, IN_BALANCE if balanced else OUT_OF_BALANCE)
    fields[48] = text[:_ONE_BLOCK_CHARACTERS] if len(claimed) == _ONE_BLOCK_CHARACTERS else text
    return balanced
