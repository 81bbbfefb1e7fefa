"""Tills and terminals of the city: messages of ISO 8583, each asked, answered and written down.

A terminal serves many citizens at once, for they come when they come. What is answered with
nothing definite is taken back (0400) before the citizen leaves; an advice is repeated.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from random import Random
from zoneinfo import ZoneInfo

import anyio
import msgspec

from loadtest.city_lines import CityLine, CityTally
from loadtest.city_plan import TIMEOUT_SECONDS, Citizen, IsoDoor
from loadtest.life_lines import APPROVED_CODES
from loadtest.life_link import LifeLink
from loadtest.tally import INDEFINITE_CODES
from loadtest.wire import Answer, Key, Wire
from protocols.iso8583 import Message
from protocols.iso8583.client import Dialect, Sale, reversal_message
from protocols.message import Kind

TRIES_MAX = 5
AGAIN_SECONDS = 0.2
USABLE_SECONDS_MAX = 10.0
STAN_MAX = 999_999
CARD_EXPIRY = "3012"

Make = Callable[[bool], Message]
"""Makes a message, with the repeat bit or without."""


class Approved(msgspec.Struct, frozen=True):
    """A message that was approved, with what those about it need to know."""

    message: Message
    citizen: Citizen
    amount_minor: int
    rrn: str
    auth_code: str


class TillLink:
    """A connection of an acquirer's host, which its terminals share."""

    def __init__(self, door: IsoDoor, host: str, time_zone: str, seed: int) -> None:
        self.dialect: Dialect = door.dialect
        self.acquirer = door.acquirer
        self.wire = Wire(dialect=door.dialect, acquirer=door.acquirer, time_zone=time_zone)
        self.link = LifeLink(0, host, door.port, self.wire, Random(seed))
        self.zone = ZoneInfo(time_zone)


class Till:
    """One terminal at a venue."""

    def __init__(
        self, tally: CityTally, link: TillLink, venue: str, mcc: str, terminal: str
    ) -> None:
        self._tally = tally
        self._host = link
        self._venue = venue
        self._mcc = mcc
        self._terminal = terminal
        self._stan = time.time_ns() // 1_000_000 % STAN_MAX

    @property
    def dialect(self) -> Dialect:
        return self._host.dialect

    def sale(self, citizen: Citizen, amount_minor: int) -> Sale:
        """What every first message of this terminal is made of."""
        return Sale(
            card=citizen.card,
            amount_minor=amount_minor,
            stan=self.next_stan(),
            terminal=self._terminal,
            merchant=f"{self._venue.upper():.12}001".replace("_", ""),
            local_at=self.now(),
            mcc=self._mcc,
            acquirer=self._host.acquirer,
            expiry=CARD_EXPIRY,
        )

    def next_stan(self) -> int:
        self._stan = self._stan % STAN_MAX + 1
        return self._stan

    def now(self) -> datetime:
        return datetime.fromtimestamp(time.time(), self._host.zone)

    async def ask(
        self,
        kind: Kind,
        message: Message,
        citizen: Citizen,
        amount_minor: int,
        due_ns: int = 0,
        *,
        again: bool = False,
    ) -> Approved | None:
        """Ask once, or the same bytes twice; take back what got no definite answer."""
        answer = await self._exchange(kind, message, citizen, amount_minor, due_ns)
        if again and answer is not None:
            await self._exchange(kind, message, citizen, amount_minor, 0, repeat=True)
        if answer is None or answer.code in INDEFINITE_CODES:
            stan = self.next_stan()

            def reversal(repeat: bool) -> Message:
                return reversal_message(self.dialect, message, stan=stan, repeat=repeat)

            await self.insist(Kind.REVERSAL, reversal, citizen, amount_minor)
        return _approved(message, citizen, answer)

    async def insist(
        self, kind: Kind, make: Make, citizen: Citizen, amount_minor: int, due_ns: int = 0
    ) -> Approved | None:
        """Send an advice or a reversal until there is a definite answer."""
        answer: Answer | None = None
        for number in range(TRIES_MAX):
            message = make(number > 0)
            answer = await self._exchange(
                kind, message, citizen, amount_minor, 0 if number else due_ns, repeat=number > 0
            )
            if answer is not None and answer.code not in INDEFINITE_CODES:
                break
            await anyio.sleep(AGAIN_SECONDS)
        return _approved(message, citizen, answer)

    async def _exchange(
        self,
        kind: Kind,
        message: Message,
        citizen: Citizen,
        amount_minor: int,
        due_ns: int,
        *,
        repeat: bool = False,
    ) -> Answer | None:
        if not await self._host.link.usable(USABLE_SECONDS_MAX):
            self._tally.not_sent += 1
            return None
        text = message.text
        key = Key(self._terminal, text(11), message.mti[:2])
        sent_ns = due_ns or time.monotonic_ns()
        due_at_ms = time.time_ns() // 1_000_000 - (time.monotonic_ns() - sent_ns) // 1_000_000
        frame = self._host.wire.spelled(message)
        answer = await self._host.link.ask(frame, key, TIMEOUT_SECONDS)
        code, rrn, _, approved_minor = answer or ("", "", "", 0)
        self._tally.over(
            CityLine(
                venue=self._venue,
                kind=kind.value,
                key=f"{self._terminal}-{text(11)}-{text(13)}{text(12)}-{message.mti[:2]}",
                card=citizen.index,
                amount_minor=amount_minor,
                due_at_ms=due_at_ms,
                latency_us=max(1, (time.monotonic_ns() - sent_ns) // 1000),
                code=code,
                rrn=rrn,
                approved_minor=approved_minor if code in APPROVED_CODES else 0,
                repeat=repeat,
            )
        )
        return answer


def _approved(message: Message, citizen: Citizen, answer: Answer | None) -> Approved | None:
    if answer is None or answer.code not in APPROVED_CODES:
        return None
    return Approved(message, citizen, answer.approved_minor, answer.rrn, answer.auth_code)
