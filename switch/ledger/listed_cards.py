"""What people call a card, as the values that lists of cards hold.

A card is called by its id, its medium, or its number, which is turned into the medium here and
goes no further.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from protocols.card_number import CardNumber
from switch.ledger.cards import CARD_ID_DIGITS_MAX, medium_of
from switch.ledger.list_acts import ActRejected, takes_effect_us
from switch.ledger.rule_list_file import FAULTS_MAX, Fault, FileEntry, ListFileFaulty
from switch.ledger.rule_list_values import valid_value
from switch.ledger.rule_lists import NewEntry, cards_of_mediums, mediums_of_cards
from switch.ledger.rules_trail import Rows

CARD_FIELDS = frozenset({"card_id", "medium"})
CARD_UNKNOWN = "no card of this ledger has this id or number"

KeyOf = Callable[[], bytes] | None
"""Gives the card number key, asked only where a card number was given; None: no number is known."""

_MEDIUM = re.compile(r"[0-9a-fA-F]{32}\Z")


async def listed_values(
    rows: Rows, field: str, given: Sequence[str], key_of: KeyOf
) -> list[tuple[str, ...]]:
    """For each that was given, the values that a list of this field holds for it.

    None for a card that is not known; in a list of mediums a card id stands for all the
    mediums of the card. What is not about cards is as it was given.
    """
    if field not in CARD_FIELDS:
        return [(value,) for value in given]
    named = [_named(value, key_of) for value in given]
    card_ids = [name for name in named if isinstance(name, int)]
    mediums = [name for name in named if isinstance(name, bytes)]
    by_card = await mediums_of_cards(rows, card_ids)
    if field == "medium":
        return [
            (name.hex(),) if isinstance(name, bytes) else tuple(by_card.get(name or 0, ()))
            for name in named
        ]
    by_medium = await cards_of_mediums(rows, mediums)
    found = [by_medium.get(name) if isinstance(name, bytes) else name for name in named]
    known = {*by_card, *by_medium.values()}
    return [(str(card_id),) if card_id in known else () for card_id in found]


async def known_values(rows: Rows, field: str, given: Sequence[str], key_of: KeyOf) -> list[str]:
    """The same, all of them known. Raises ActRejected, naming which by its place."""
    values = await listed_values(rows, field, given, key_of)
    for place, each in enumerate(values, 1):
        if not each:
            raise ActRejected(f"{CARD_UNKNOWN} (the {place}. given); check it")
    return [value for each in values for value in each]


async def entries_of(
    rows: Rows, field: str, lines: Sequence[FileEntry], key_of: KeyOf, *, now_us: int
) -> list[NewEntry]:
    """The lines of a file as entries for a list of this field. Raises ListFileFaulty."""
    named = await listed_values(rows, field, [line.value for line in lines], key_of)
    earliest_us = takes_effect_us(now_us, len(lines))
    faults: list[Fault] = []
    entries: list[NewEntry] = []
    for line, values in zip(lines, named, strict=True):
        try:
            entries += _entries_of(line, field, values, earliest_us)
        except ActRejected as error:
            faults.append(Fault(line.line, str(error)))
    if faults:
        raise ListFileFaulty(faults[:FAULTS_MAX])
    return entries


def _entries_of(
    line: FileEntry, field: str, values: Sequence[str], earliest_us: int
) -> list[NewEntry]:
    if not values:
        raise ActRejected(CARD_UNKNOWN)
    if line.until_us is not None and line.until_us <= max(line.from_us or 0, earliest_us):
        raise ActRejected("it ends before it begins, or before now")
    valid = [valid_value(field, value) for value in values]
    return [NewEntry(value, line.reason, line.from_us, line.until_us) for value in valid]


def _named(value: str, key_of: KeyOf) -> int | bytes | None:
    text = value.strip()
    if _MEDIUM.match(text):
        return bytes.fromhex(text)
    digits = text.replace(" ", "").replace("-", "")
    if not (digits.isascii() and digits.isdigit()):
        return None
    if len(digits) <= CARD_ID_DIGITS_MAX:
        return int(digits)
    if key_of is None:
        return None
    try:
        card = CardNumber(digits)
    except ValueError:
        return None
    return medium_of(card, key_of())
