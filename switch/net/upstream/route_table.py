"""Whose card it is: by the first digits of its number (BIN), the longest that is known."""

from __future__ import annotations

from collections.abc import Mapping

from protocols.card_number import CardNumber


class RouteTable:
    """BINs of 4 to 8 digits (ISO/IEC 7812-1) and the names of the routes they lead to.

    One dictionary for each length in use: with two lengths a card of ours costs two look-ups.
    """

    def __init__(self, routes: Mapping[str, str]) -> None:
        lengths = sorted({len(digits) for digits in routes}, reverse=True)
        self._by_length = tuple(
            (length, {bin: name for bin, name in routes.items() if len(bin) == length})
            for length in lengths
        )

    def route_of(self, card: CardNumber) -> str:
        """The name of the route of the longest BIN that this number begins with, else empty."""
        digits = card.reveal()
        for length, names in self._by_length:
            name = names.get(digits[:length])
            if name is not None:
                return name
        return ""
