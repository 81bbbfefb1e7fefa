"""What may stand on a list, in the spelling that rules compare with, and never a card number."""

from __future__ import annotations

import re

from protocols.card_number import PAN_DIGITS_MIN, mask_digit_runs
from switch.ledger.list_acts import ActRejected

VALUE_CHARACTERS_MAX = 128
MERCHANT_DIGITS_MAX = 15
"""DE42 (ISO 8583-1:2003) has 15 characters, which many acquirers fill with digits."""

_FORMS = {
    "card_id": (
        re.compile(rf"[1-9][0-9]{{0,{PAN_DIGITS_MIN - 2}}}\Z"),
        "a card id of at most 11 digits",
    ),
    "medium": (re.compile(r"[0-9a-f]{32}\Z"), "a medium of 32 hex digits"),
    "mcc": (re.compile(r"[0-9]{4}\Z"), "a merchant category of 4 digits"),
}
_MANY_DIGITS = re.compile(rf"\d(?:[ -]?\d){{{MERCHANT_DIGITS_MAX}}}")


def valid_value(field: str, value: str) -> str:
    """The value in the spelling that rules compare with. Raises ActRejected, never quoting it."""
    text = value.strip().lower() if field == "medium" else value.strip()
    if field in _FORMS:
        form, expected = _FORMS[field]
        fits = form.match(text) is not None
    else:
        expected = f"1 to {VALUE_CHARACTERS_MAX} characters without a long number"
        fits = text.isprintable() and 1 <= len(text) <= VALUE_CHARACTERS_MAX
        # many acquirers name merchants by digits only; a card number of this city has more
        many = _MANY_DIGITS.search(text) is not None
        fits = fits and not (many if field == "merchant" else mask_digit_runs(text) != text)
    if not fits:
        raise ActRejected(f"the value is not {expected}; a list of field {field} holds such")
    return text
