"""The card number (PAN) as a type that does not show itself.

Everything that prints, logs or formats a card number by accident gets the mask. The
digits leave only through `reveal`, which is easy to search for.
"""

from __future__ import annotations

import re

PAN_DIGITS_MIN = 12
PAN_DIGITS_MAX = 19
"""ISO/IEC 7812-1: a PAN has up to 19 digits; shorter than 12 is no payment card."""

_LONG_DIGIT_RUN = re.compile(r"\d(?:[ -]?\d){12,}")


class CardNumber:
    """A PAN. `str`, `repr` and `format` give only the last four digits."""

    __slots__ = ("_digits",)

    def __init__(self, digits: str) -> None:
        if not (
            PAN_DIGITS_MIN <= len(digits) <= PAN_DIGITS_MAX
            and digits.isascii()
            and digits.isdigit()
        ):
            raise ValueError(
                f"a card number is {PAN_DIGITS_MIN} to {PAN_DIGITS_MAX} digits; check what was sent"
            )
        self._digits = digits

    def reveal(self) -> str:
        """The digits themselves: for hashing, routing by BIN and the wire, never for people."""
        return self._digits

    @property
    def last4(self) -> str:
        return self._digits[-4:]

    def __repr__(self) -> str:
        return f"••{self.last4}"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CardNumber) and self._digits == other._digits

    def __hash__(self) -> int:
        return hash(self._digits)

    def __reduce__(self) -> tuple[type[CardNumber], tuple[str]]:
        raise TypeError("a card number is not pickled; pass its medium hash instead")


def luhn_check_digit(payload: str) -> str:
    """The check digit for the payload (ISO/IEC 7812-1 annex B)."""
    total = 0
    for position, character in enumerate(reversed(payload)):
        digit = int(character)
        if position % 2 == 0:
            digit = digit * 2 - 9 if digit > 4 else digit * 2
        total += digit
    return str(-total % 10)


def numbered_card(bin_digits: str, number: int, length: int = 16) -> CardNumber:
    """The card with this serial number under a BIN, check digit included."""
    payload = f"{bin_digits}{number:0{length - 1 - len(bin_digits)}}"
    return CardNumber(payload + luhn_check_digit(payload))


def mask_digit_runs(text: str) -> str:
    """Text with every run of 13 or more digits masked: the net under every log line."""
    return _LONG_DIGIT_RUN.sub(lambda run: f"[{len(run.group())} digits masked]", text)
