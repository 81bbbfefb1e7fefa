"""Who pays where: cards, merchants and amounts as pure functions, so two processes agree.

The switch that issues cards and the acquirer that uses them never exchange a list: card
number `index` is the same on both sides by the BIN rule below. Randomness is passed in;
amounts are drawn from integer tables, so no float comes near money.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from random import Random
from typing import NamedTuple

from protocols.card_number import CardNumber, numbered_card

CITY_CARD_BIN = "621234"
UNKNOWN_CARD_FROM = 800_000_000
"""Card indexes from here on are never issued: they stand for foreign or mistyped cards."""

MERCHANT_COUNT = 240
TERMINALS_PER_MERCHANT_MAX = 4
USUAL_MERCHANTS = 3
"""A citizen shops at a few places near home; velocity rules count distinct terminals."""

CONVENIENCE_MCC = "5499"
SUPERMARKET_MCC = "5411"

# Deciles of ticket size in fen, first and last being the bounds of what is ever drawn.
# Proposal of the shape only: many small tickets, a long thin tail.
CONVENIENCE_DECILES = (150, 400, 650, 900, 1_190, 1_500, 1_980, 2_600, 3_650, 5_800, 18_000)
SUPERMARKET_DECILES = (
    *(500, 1_450, 2_300, 3_180, 4_260, 5_600, 7_350, 9_800, 13_900, 22_400, 88_000),
)


class Merchant(NamedTuple):
    """A shop: `merchant` is DE42 (15 characters), `terminals` its DE41s (8 characters)."""

    merchant: str
    mcc: str
    terminals: tuple[str, ...]


def population_card(index: int) -> CardNumber:
    """The card with this index. Indexes 0 to cards - 1 are issued; see UNKNOWN_CARD_FROM."""
    return numbered_card(CITY_CARD_BIN, index)


def merchant_at(rank: int) -> Merchant:
    """The merchant of this rank; rank 0 is the busiest. Two of three are convenience stores."""
    mcc = SUPERMARKET_MCC if rank % 3 == 0 else CONVENIENCE_MCC
    terminals = 1 + rank % TERMINALS_PER_MERCHANT_MAX
    return Merchant(
        merchant=f"RETAIL{rank:09}",
        mcc=mcc,
        terminals=tuple(f"R{rank:05}{lane:02}" for lane in range(1, terminals + 1)),
    )


MERCHANTS = tuple(merchant_at(rank) for rank in range(MERCHANT_COUNT))

# Zipf with exponent 1 in integers: the merchant of rank r weighs 1/(r+1).
_ZIPF_SCALE = 1_000_000
_ZIPF_EDGES = tuple(accumulate(_ZIPF_SCALE // (rank + 1) for rank in range(MERCHANT_COUNT)))


def usual_merchant(index: int, choice: int) -> Merchant:
    """The `choice`-th of a card's usual merchants (0 to USUAL_MERCHANTS - 1), by Zipf."""
    # Knuth's multiplicative hash spreads neighbouring indexes without a generator per card.
    spread = ((index * USUAL_MERCHANTS + choice + 1) * 2_654_435_761) & 0xFFFF_FFFF
    return MERCHANTS[bisect_right(_ZIPF_EDGES, spread * _ZIPF_EDGES[-1] >> 32)]


def draw_amount_minor(mcc: str, dice: Random) -> int:
    """A ticket size in minor units, typical for the merchant category."""
    deciles = SUPERMARKET_DECILES if mcc == SUPERMARKET_MCC else CONVENIENCE_DECILES
    part = dice.randrange(len(deciles) - 1)
    return dice.randrange(deciles[part], deciles[part + 1])
