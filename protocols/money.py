"""Money is integer minor units with its currency; there is no float in this building.

A city card is kept in one currency per deployment, yet a foreign code in DE49 must be
seen and refused rather than added up, so the currency travels with the amount.
"""

from __future__ import annotations

import msgspec

AMOUNT_MINOR_MAX = 999_999_999_999
"""The most that a 12-digit amount field can say (ISO 8583 DE4)."""


class CurrencyMismatch(ValueError):
    """Two amounts of different currencies were added or compared."""


class Money(msgspec.Struct, frozen=True, gc=False):
    """An amount in minor units (fen) of the currency with this ISO 4217 numeric code."""

    amount_minor: int
    currency: str

    def __add__(self, other: Money) -> Money:
        self._must_match(other)
        return Money(self.amount_minor + other.amount_minor, self.currency)

    def __sub__(self, other: Money) -> Money:
        self._must_match(other)
        return Money(self.amount_minor - other.amount_minor, self.currency)

    def __lt__(self, other: Money) -> bool:
        self._must_match(other)
        return self.amount_minor < other.amount_minor

    def __le__(self, other: Money) -> bool:
        self._must_match(other)
        return self.amount_minor <= other.amount_minor

    def __str__(self) -> str:
        return f"{display_minor(self.amount_minor)} {self.currency}"

    def _must_match(self, other: Money) -> None:
        if self.currency != other.currency:
            raise CurrencyMismatch(
                f"{self.currency} and {other.currency} cannot be added or compared; "
                "convert one of them first"
            )


def display_minor(amount_minor: int) -> str:
    """The amount with two decimals, for people: 12345 is shown as 123.45."""
    whole, cents = divmod(abs(amount_minor), 100)
    return f"{'-' if amount_minor < 0 else ''}{whole:,}.{cents:02}"
