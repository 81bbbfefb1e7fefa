"""What the load is made of: when messages arrive and which card does what at which shop.

Arrivals are open-loop: an instant is fixed before anyone knows how fast the switch
answers, and latency is measured from that instant. Behaviours that a switch must refuse
or recognise (blocked, poor and unknown cards, bursts, repeats) are drawn by share.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from random import Random
from typing import NamedTuple

import msgspec

from loadtest.population import (
    UNKNOWN_CARD_FROM,
    USUAL_MERCHANTS,
    draw_amount_minor,
    usual_merchant,
)

BURST_LENGTH = 14
"""Messages of one burst: more than a per-minute attempt limit of ten lets through."""
STAN_MAX = 999_999


class Behaviour(StrEnum):
    """Why this message is sent; `ordinary` is what is left of the shares."""

    ORDINARY = "ordinary"
    BLOCKED = "blocked"
    POOR = "poor"
    UNKNOWN = "unknown"
    BURST = "burst"
    REPEAT = "repeat"


class Mix(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Share of arrivals per deliberate behaviour, 0 to 1. `burst` counts whole bursts begun."""

    blocked: float = 0.01
    poor: float = 0.02
    unknown: float = 0.005
    burst: float = 0.0005
    repeat: float = 0.01


class Cards(msgspec.Struct, frozen=True):
    """The issued card indexes: first the blocked ones, then the poor ones, then the rest."""

    cards: int
    blocked: int
    poor: int


class Attempt(NamedTuple):
    """One sale to be sent. `stan` is DE11, `card_index` the population's, amounts in fen."""

    behaviour: Behaviour
    card_index: int
    terminal: str
    merchant: str
    mcc: str
    amount_minor: int
    stan: str


def parse_mix(text: str) -> Mix:
    """A mix from text such as `blocked=0.02,repeat=0`. Raises ValueError saying what is wrong."""
    shares: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        name, _, share = part.partition("=")
        try:
            shares[name.strip()] = float(share)
        except ValueError:
            raise ValueError(f"the share of {name.strip()} is not a number; write 0.01") from None
    try:
        mix = msgspec.convert(shares, Mix)
    except msgspec.ValidationError:
        raise ValueError(f"a mix names only {', '.join(Mix.__struct_fields__)}") from None
    if min(shares.values(), default=0) < 0 or sum(shares.values()) > 1:
        raise ValueError("the shares of a mix are 0 or more and add up to at most 1")
    return mix


def arrivals(
    rate: float, start_ns: int, end_ns: int, dice: Random, *, spacing: str = "poisson"
) -> Iterator[int]:
    """Instants in monotonic nanoseconds from start to end, `rate` a second on average."""
    if rate <= 0:
        return
    gap_ns = 1e9 / rate
    due = start_ns + gap_ns * dice.random()
    while due < end_ns:
        yield int(due)
        due += gap_ns if spacing == "fixed" else gap_ns * dice.expovariate(1.0)


class Crowd:
    """Draws attempts one after the other; the same seed gives the same sequence."""

    def __init__(self, cards: Cards, mix: Mix, dice: Random) -> None:
        if cards.blocked + cards.poor >= cards.cards:
            raise ValueError("no ordinary card is left; issue more cards or block fewer")
        self._cards = cards
        self._dice = dice
        self._burst: Attempt | None = None
        self._burst_left = 0
        # Cumulative edges: one draw a message decides its behaviour.
        self._edge_blocked = mix.blocked if cards.blocked else 0.0
        self._edge_poor = self._edge_blocked + (mix.poor if cards.poor else 0.0)
        self._edge_unknown = self._edge_poor + mix.unknown
        self._edge_burst = self._edge_unknown + mix.burst
        self._edge_repeat = self._edge_burst + mix.repeat
        # STANs begin anywhere, as those of terminals that have been in use do.
        self._stan = {"": dice.randrange(STAN_MAX)}

    def draw_behaviour(self) -> Behaviour:
        """What the next arrival is. A REPEAT is for the link, which knows what it has sent."""
        if self._burst_left:
            return Behaviour.BURST
        share = self._dice.random()
        if share >= self._edge_repeat:
            return Behaviour.ORDINARY
        if share >= self._edge_burst:
            return Behaviour.REPEAT
        if share >= self._edge_unknown:
            return Behaviour.BURST
        if share >= self._edge_poor:
            return Behaviour.UNKNOWN
        return Behaviour.POOR if share >= self._edge_blocked else Behaviour.BLOCKED

    def attempt(self, behaviour: Behaviour) -> Attempt:
        """A new sale of that behaviour, with a STAN its terminal has not used lately."""
        if behaviour is Behaviour.BURST:
            return self._next_of_burst()
        cards, dice = self._cards, self._dice
        if behaviour is Behaviour.BLOCKED:
            index = dice.randrange(cards.blocked)
        elif behaviour is Behaviour.POOR:
            index = cards.blocked + dice.randrange(cards.poor)
        elif behaviour is Behaviour.UNKNOWN:
            index = UNKNOWN_CARD_FROM + dice.randrange(1_000_000)
        else:
            index = dice.randrange(cards.blocked + cards.poor, cards.cards)
        return self._sale(behaviour, index)

    def _next_of_burst(self) -> Attempt:
        if self._burst is None or self._burst_left == 0:
            cards = self._cards
            index = self._dice.randrange(cards.blocked + cards.poor, cards.cards)
            self._burst, self._burst_left = self._sale(Behaviour.BURST, index), BURST_LENGTH
        self._burst_left -= 1
        return self._burst._replace(amount_minor=100, stan=self._next_stan(self._burst.terminal))

    def _sale(self, behaviour: Behaviour, index: int) -> Attempt:
        dice = self._dice
        shop = usual_merchant(index, dice.randrange(USUAL_MERCHANTS))
        terminal = shop.terminals[index % len(shop.terminals)]
        return Attempt(
            behaviour,
            index,
            terminal,
            shop.merchant,
            shop.mcc,
            draw_amount_minor(shop.mcc, dice),
            self._next_stan(terminal),
        )

    def _next_stan(self, terminal: str) -> str:
        stan = self._stan.get(terminal, self._stan[""]) % STAN_MAX + 1
        self._stan[terminal] = stan
        return f"{stan:06}"
