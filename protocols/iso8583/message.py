"""A decoded ISO 8583 message: an MTI and its fields, with a representation that shows no value."""

from __future__ import annotations

import msgspec

FieldValue = str | bytes
"""Text for n, an, ans, z and x+n fields, bytes for b fields."""


class Message(msgspec.Struct, frozen=True, gc=False):
    """One message. `mti` is four digits; `fields` maps the data element number to its value.

    Fixed-length text keeps its padding. Bitmaps are not fields: they follow from the keys.
    `repr` gives the MTI and the field numbers only.
    """

    mti: str
    fields: dict[int, FieldValue]

    def text(self, number: int) -> str:
        """The text of a field; empty when it is absent or binary."""
        value = self.fields.get(number, "")
        return value if isinstance(value, str) else ""

    def __repr__(self) -> str:
        return f"Message(mti={self.mti[:4]!r}, fields={sorted(self.fields)})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        # msgspec would hand every value to rich's tracebacks and pretty printer
        return [("mti", self.mti[:4]), ("fields", sorted(self.fields))]
