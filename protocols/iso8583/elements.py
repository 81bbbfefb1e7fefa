"""Data elements made of parts: DE90, DE95, DE61, DE54 and the totals of a settlement.

Each is written and read on this page, so that the two cannot drift apart. Readers take any
text and give None (or nothing) where it is not what the element should be.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from protocols.message import Balance

Dialect = Literal["unionpay_pos", "iso87_ascii"]
"""The formats that acquirers of this switch speak."""

PREAUTHORIZED = "06"
"""DE25 of a preauthorization and of all that follows it."""

_DAYS_OF_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
DATES = frozenset(
    f"{month:02}{day:02}"
    for month in range(1, 13)
    for day in range(1, _DAYS_OF_MONTH[month - 1] + 1)
)
"""Every MMDD there is; 29 February is one, because DE13 has no year to say otherwise."""


def digits(text: str) -> bool:
    """Whether it is one or more of 0 to 9; Unicode has other digits."""
    return text.isascii() and text.isdigit()


def is_time(hhmmss: str) -> bool:
    """Whether there is such a time of day."""
    return (
        len(hhmmss) == 6
        and digits(hhmmss)
        and hhmmss <= "235959"
        and hhmmss[2:4] <= "59"
        and hhmmss[4:] <= "59"
    )


# ---- original data elements ----------------------------------------------------------------

ORIGINAL_CHARACTERS = 42
_ACQUIRER_DIGITS = 11


class OriginalElements(msgspec.Struct, frozen=True, gc=False):
    """DE90 of ISO 8583:1987: which message this one is about.

    `mti` (4), `stan` (6) and `local_at` (MMDDhhmmss) are those of the original. The standard
    puts DE7 of the original there; acquirers of this switch put DE13 and DE12, or send both
    alike. `acquirer` is its DE32 without leading zeros, empty where it is not said.
    """

    mti: str
    stan: str
    local_at: str
    acquirer: str = ""


def original_text(original: OriginalElements) -> str:
    """DE90, 42 digits; the forwarding institution is not said."""
    return (
        f"{original.mti}{original.stan:0>6}{original.local_at:0>10}"
        f"{original.acquirer:0>{_ACQUIRER_DIGITS}}{'':0>{_ACQUIRER_DIGITS}}"
    )


def original_from(text: str) -> OriginalElements | None:
    """DE90 read; None where it names no message: other length, no such date or time."""
    if len(text) != ORIGINAL_CHARACTERS or not digits(text):
        return None
    local_at = text[10:20]
    if local_at[:4] not in DATES or not is_time(local_at[4:]):
        return None
    return OriginalElements(text[:4], text[4:10], local_at, text[20:31].lstrip("0"))


class BatchReference(msgspec.Struct, frozen=True, gc=False):
    """DE61 of UnionPay POS: batch number (6), STAN (6) and date (MMDD) of the original."""

    batch: str
    stan: str
    mmdd: str = ""


def batch_reference_text(original: BatchReference) -> str:
    """DE61; the date is left out where it is not known."""
    return f"{original.batch:0>6}{original.stan:0>6}{original.mmdd}"


def batch_reference_from(text: str) -> BatchReference | None:
    """DE61 read; what follows the date is for the receipt. None without batch and STAN."""
    if len(text) < 12 or not digits(text):
        return None
    mmdd = text[12:16]
    return BatchReference(text[:6], text[6:12], mmdd if mmdd in DATES else "")


# ---- replacement amounts -------------------------------------------------------------------


def replacement_text(replacement_minor: int) -> str:
    """DE95 of ISO 8583:1987 (an 42): what stands, then three amounts that are not used."""
    return f"{replacement_minor:012}{'':0>30}"


def replacement_from(text: str) -> int | None:
    """What shall stand, in minor units, from DE95; None where it does not begin with digits."""
    return int(text[:12]) if len(text) >= 12 and digits(text[:12]) else None


# ---- balances ------------------------------------------------------------------------------

BALANCE_CHARACTERS = 20
BALANCES_MAX = 6
_ACCOUNT_TYPES = {"GEN": "00", "TRN": "60"}
_PURSES = {account_type: purse for purse, account_type in _ACCOUNT_TYPES.items()}
_LEDGER_BALANCE, _AVAILABLE_BALANCE = "01", "02"
_BALANCE_MINOR_MAX = 999_999_999_999


def purse_of_processing_code(processing_code: str) -> str:
    """The purse that positions 5 and 6 of DE3 name: 60 is stored value, TRN; others are GEN."""
    return _PURSES.get(processing_code[4:6], "GEN")


def account_type_of(purse: str) -> str:
    """Two digits of DE3 and DE54 for a purse code."""
    return _ACCOUNT_TYPES.get(purse, "00")


def balances_text(balances: Iterable[Balance], currency: str) -> str:
    """DE54 of ISO 8583:1987: ledger and available balance of each purse, 20 characters each.

    Account type (2), amount type (2: 01 ledger, 02 available), currency (3), C or D (a debit
    is below zero), 12 digits. There is room for six; a purse without an account type is left
    out. A balance beyond 12 digits is written as the largest that can be.
    """
    groups = [
        f"{_ACCOUNT_TYPES[one.purse]}{amount_type}{currency}{'D' if minor < 0 else 'C'}"
        f"{min(abs(minor), _BALANCE_MINOR_MAX):012}"
        for one in balances
        if one.purse in _ACCOUNT_TYPES
        for amount_type, minor in (
            (_LEDGER_BALANCE, one.balance_minor),
            (_AVAILABLE_BALANCE, one.available_minor),
        )
    ]
    return "".join(groups[:BALANCES_MAX])


def balances_from(text: str) -> tuple[Balance, ...]:
    """DE54 read, in the order of first mention; groups that cannot be read are left out."""
    told: dict[str, dict[str, int]] = {}
    for start in range(0, len(text), BALANCE_CHARACTERS):
        group = text[start : start + BALANCE_CHARACTERS]
        purse, sign, amount = _PURSES.get(group[:2]), group[7:8], group[8:]
        if purse is not None and sign in ("C", "D") and len(amount) == 12 and digits(amount):
            told.setdefault(purse, {})[group[2:4]] = -int(amount) if sign == "D" else int(amount)
    return tuple(
        Balance(purse, amounts.get(_LEDGER_BALANCE, 0), amounts.get(_AVAILABLE_BALANCE, 0))
        for purse, amounts in told.items()
    )
