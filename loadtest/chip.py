"""A chip and its purse, as readers meet it offline: a counter, a balance, and a TAC for each ride.

Any number of chips is simulated; each is known by its medium, and its TAC key is derived
from the issuer's TAC master key as at personalisation.
"""

from __future__ import annotations

import msgspec

from protocols.tap.record import PURCHASE
from protocols.tap.tac import TacMethod, card_key, covered_by_tac, tac_under
from protocols.tap.words import OfflineRecord


class TacTerms(msgspec.Struct, frozen=True):
    """Under which TAC master key chips were personalised."""

    master: bytes
    method: TacMethod = "aes_cmac"
    key_version: int = 1

    def __repr__(self) -> str:
        return f"TacTerms(method={self.method!r}, key_version={self.key_version})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("method", self.method), ("key_version", self.key_version)]


class Chip:
    """One chip. `counter` is the number of its next record, so also how many it has made."""

    def __init__(
        self, medium: bytes, terms: TacTerms, *, counter: int = 0, balance_minor: int = 0
    ) -> None:
        self.medium = medium
        self.counter = counter
        self.balance_minor = balance_minor
        self._terms = terms
        self._key = card_key(terms.method, terms.master, medium)

    def load(self, amount_minor: int) -> None:
        """Write a load that the switch has agreed to."""
        self.balance_minor += amount_minor

    def pay(
        self, amount_minor: int, *, terminal: str, local_at: str, number: int, stop: str = ""
    ) -> OfflineRecord:
        """Debit the chip and have its record; see OfflineRecord for the forms.

        A chip pays whatever it has: what it must not do is up to the reader.
        """
        unproven = OfflineRecord(
            medium=self.medium,
            counter=self.counter,
            overdraft_minor=0,
            amount_minor=amount_minor,
            type=PURCHASE,
            terminal=terminal,
            local_at=local_at,
            transaction_number=number,
            tac=bytes(4),
            tac_key_version=self._terms.key_version,
            stop=stop,
        )
        self.counter = (self.counter + 1) & 0xFFFF
        self.balance_minor -= amount_minor
        tac = tac_under(self._terms.method, self._key, covered_by_tac(unproven))
        return msgspec.structs.replace(unproven, tac=tac)
