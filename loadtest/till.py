"""A till that lives the whole life of an authorization, one customer after the other.

What a till does with an answer that never came, or says nothing (91, 96, 68), is what the
trade does (domain §4.1): it takes the message back before anything else, with a reversal
(0400, then 0401 until it is answered), also over another connection. An advice tells of what
has happened already, so it is never taken back but repeated until it is answered.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from random import Random
from zoneinfo import ZoneInfo

import anyio
import msgspec

from loadtest.journal import Journal
from loadtest.life_lines import APPROVED_CODES, LifeLine, LifeTally
from loadtest.life_link import LifeLink
from loadtest.population import population_card
from loadtest.tally import INDEFINITE_CODES
from loadtest.wire import Answer, Key, Wire
from protocols.iso8583 import Message
from protocols.iso8583.client import (
    Dialect,
    Sale,
    cancel_message,
    completion_message,
    inquiry_message,
    preauthorization_message,
    refund_message,
    reversal_message,
    sale_message,
    void_message,
)
from protocols.message import Kind

AMOUNT_MINOR_MIN, AMOUNT_MINOR_MAX = 100, 900
"""Small, so that a card lasts for long under the limits of its tier."""
AGAIN_SECONDS = (0.05, 0.1, 0.2, 0.4)
"""Pauses before an indefinite advice or reversal is sent again."""
SHARED_BY = 3
"""A card is used at so many neighbouring tills; five in ten minutes is fraud to the rules."""
STAN_MAX = 999_999
REVERSAL_CLASS = "04"


class TillPlan(msgspec.Struct, frozen=True):
    """What all tills of a run have in common; see loadtest.lifecycle for the meaning."""

    dialect: Dialect
    acquirer: str
    time_zone: ZoneInfo
    cards: int
    tills: int
    gap_seconds: float
    timeout_seconds: float
    until_ns: int
    patience_seconds: float


class _Said(msgspec.Struct, frozen=True):
    """A message that was approved, with what those about it need to know."""

    message: Message
    key: str
    card: int
    amount_minor: int
    rrn: str
    auth_code: str


Make = Callable[[bool], Message]
"""Makes the message, with the repeat bit or without."""


class Till:
    """One terminal; it finishes what it has begun before it begins anything else."""

    def __init__(
        self,
        number: int,
        terminal: str,
        plan: TillPlan,
        link: LifeLink,
        wire: Wire,
        journal: Journal,
        tally: LifeTally,
        dice: Random,
    ) -> None:
        self._number = number
        self._terminal = terminal
        self._plan = plan
        self._link = link
        self._wire = wire
        self._journal = journal
        self._tally = tally
        self._dice = dice
        self._stan = 0
        self._until_ns = plan.until_ns
        self._give_up_ns = plan.until_ns + int(plan.patience_seconds * 1e9)
        self._visits: dict[Callable[[], Awaitable[None]], int] = {
            self._sale: 26,
            self._sale_and_void: 13,
            self._sale_and_refunds: 14,
            self._sale_repeated: 6,
            self._sale_walked_away: 6,
            self._fuel: 20,
            self._fuel_left: 1,
            self._inquiry: 8,
        }

    def stop(self, now_ns: int) -> None:
        """No new customer; what is under way is brought to its end within the patience."""
        self._until_ns = min(self._until_ns, now_ns)
        self._give_up_ns = self._until_ns + int(self._plan.patience_seconds * 1e9)

    async def run(self) -> None:
        """Serve customers until the end."""
        visits, weights = list(self._visits), list(self._visits.values())
        while True:
            await anyio.sleep(self._dice.expovariate(1 / self._plan.gap_seconds))
            left_seconds = (self._until_ns - time.monotonic_ns()) / 1e9
            if left_seconds <= 0:
                return
            # Nobody is served while the link is down; that is looked at again for a stop.
            if await self._link.usable(min(left_seconds, 0.2)):
                self._tally.visiting += 1
                (visit,) = self._dice.choices(visits, weights)
                await visit()
                self._tally.visiting -= 1

    # ---- visits

    async def _sale(self) -> None:
        await self._buy()

    async def _sale_and_void(self) -> None:
        sale = await self._buy()
        if sale is not None:
            await self._void(sale)

    async def _sale_and_refunds(self) -> None:
        """Sometimes all, sometimes two parts, sometimes more than there was."""
        sale = await self._buy()
        if sale is None:
            return
        part_minor = self._dice.choice((sale.amount_minor, max(1, sale.amount_minor // 2)))
        for _ in range(self._dice.choice((1, 1, 2))):
            stan, local_at = self._next_stan(), self._now()

            def refund(repeat: bool, stan: int = stan, local_at: datetime = local_at) -> Message:
                return refund_message(
                    self._plan.dialect, sale.message, stan=stan, local_at=local_at, rrn=sale.rrn,
                    auth_code=sale.auth_code, amount_minor=part_minor, repeat=repeat,
                )  # fmt: skip

            await self._insist(Kind.REFUND, refund, sale.card, part_minor, sale.key)

    async def _sale_repeated(self) -> None:
        """The same bytes again, as a terminal sends them that lost an answer on its last hop."""
        message, card, amount_minor = self._sale_of()
        await self._ask(Kind.PURCHASE, message, card, amount_minor, again=True)

    async def _sale_walked_away(self) -> None:
        sale = await self._buy()
        if sale is not None:
            await self._reverse(sale.message, sale.key, sale.card, sale.amount_minor)

    async def _fuel(self) -> None:
        """A preauthorization, then what was pumped, or nothing."""
        hold = await self._preauthorize()
        if hold is None:
            return
        fate = self._dice.random()
        if fate < 0.3:
            await self._cancel(hold)
            return
        taken_minor = max(1, hold.amount_minor - self._dice.randrange(hold.amount_minor))
        completion = await self._complete(hold, taken_minor, advice=fate > 0.7)
        if completion is None or (fate < 0.4 and await self._void(completion)):
            await self._cancel(hold)

    async def _fuel_left(self) -> None:
        """Nobody comes back: the hold stays open until it expires."""
        await self._preauthorize()

    async def _inquiry(self) -> None:
        card = self._card()
        message = inquiry_message(self._plan.dialect, self._sale_at(card, AMOUNT_MINOR_MIN))
        await self._ask(Kind.INQUIRY, message, card, 0)

    # ---- messages

    async def _buy(self) -> _Said | None:
        message, card, amount_minor = self._sale_of()
        return await self._ask(Kind.PURCHASE, message, card, amount_minor)

    async def _preauthorize(self) -> _Said | None:
        card = self._card()
        amount_minor = self._amount_minor()
        message = preauthorization_message(self._plan.dialect, self._sale_at(card, amount_minor))
        return await self._ask(Kind.PREAUTHORIZATION, message, card, amount_minor)

    async def _void(self, original: _Said) -> _Said | None:
        message = void_message(
            self._plan.dialect, _with_amount(original), stan=self._next_stan(),
            local_at=self._now(), rrn=original.rrn, auth_code=original.auth_code,
        )  # fmt: skip
        return await self._ask(
            Kind.VOID, message, original.card, original.amount_minor, original.key
        )

    async def _cancel(self, hold: _Said) -> None:
        message = cancel_message(
            self._plan.dialect, hold.message, stan=self._next_stan(), local_at=self._now(),
            rrn=hold.rrn, auth_code=hold.auth_code,
        )  # fmt: skip
        await self._ask(
            Kind.PREAUTHORIZATION_CANCEL, message, hold.card, hold.amount_minor, hold.key
        )

    async def _complete(self, hold: _Said, taken_minor: int, *, advice: bool) -> _Said | None:
        stan, local_at = self._next_stan(), self._now()

        def completion(repeat: bool) -> Message:
            return completion_message(
                self._plan.dialect, hold.message, stan=stan, local_at=local_at, rrn=hold.rrn,
                auth_code=hold.auth_code, amount_minor=taken_minor, advice=advice, repeat=repeat,
            )  # fmt: skip

        if advice:
            return await self._insist(Kind.COMPLETION, completion, hold.card, taken_minor, hold.key)
        return await self._ask(Kind.COMPLETION, completion(False), hold.card, taken_minor, hold.key)

    # ---- exchanges

    async def _ask(
        self,
        kind: Kind,
        message: Message,
        card: int,
        amount_minor: int,
        about: str = "",
        *,
        again: bool = False,
    ) -> _Said | None:
        """Ask once (or, with `again`, twice) and take it back where nobody knows."""
        if not await self._until_usable():
            return None
        sent_at_ms = _now_ms()
        answer = await self._exchange(message)
        mismatched = False
        if again and _definite(answer) and await self._until_usable():
            repeated = await self._exchange(message)
            mismatched = _definite(repeated) and repeated != answer
        self._write(
            kind, message, card, amount_minor, sent_at_ms, answer, about,
            sends=1 + again, mismatched=mismatched,
        )  # fmt: skip
        if _definite(answer):
            return self._said(message, card, answer)
        if kind is not Kind.INQUIRY:
            await self._reverse(message, _key_text(message), card, amount_minor)
        return None

    async def _reverse(self, original: Message, about: str, card: int, amount_minor: int) -> None:
        stan = self._next_stan()

        def reversal(repeat: bool) -> Message:
            return reversal_message(self._plan.dialect, original, stan=stan, repeat=repeat)

        await self._insist(Kind.REVERSAL, reversal, card, amount_minor, about)

    async def _insist(
        self, kind: Kind, make: Make, card: int, amount_minor: int, about: str
    ) -> _Said | None:
        """Send until there is a definite answer, or the patience is over."""
        answer: Answer | None = None
        message, sent_at_ms, sends = make(False), _now_ms(), 0
        while not _definite(answer) and await self._until_usable():
            answer = await self._exchange(make(sends > 0))
            sends += 1
            if not _definite(answer):
                await anyio.sleep(AGAIN_SECONDS[min(sends, len(AGAIN_SECONDS)) - 1])
        self._write(kind, message, card, amount_minor, sent_at_ms, answer, about, sends=sends)
        return self._said(message, card, answer)

    async def _until_usable(self) -> bool:
        return await self._link.usable((self._give_up_ns - time.monotonic_ns()) / 1e9)

    async def _exchange(self, message: Message) -> Answer | None:
        key = Key(self._terminal, message.text(11), message.mti[:2])
        frame = self._wire.spelled(message)
        answer = await self._link.ask(frame, key, self._plan.timeout_seconds)
        if answer is not None:
            self._tally.answered(answer.code, reversal=key.message_class == REVERSAL_CLASS)
        return answer

    def _said(self, message: Message, card: int, answer: Answer | None) -> _Said | None:
        if answer is None or answer.code not in APPROVED_CODES:
            return None
        return _Said(
            message, _key_text(message), card, answer.approved_minor, answer.rrn, answer.auth_code
        )

    def _write(
        self,
        kind: Kind,
        message: Message,
        card: int,
        amount_minor: int,
        sent_at_ms: int,
        answer: Answer | None,
        about: str,
        *,
        sends: int,
        mismatched: bool = False,
    ) -> None:
        code, rrn, _auth_code, approved_minor = answer or ("", "", "", 0)
        line = LifeLine(
            kind=kind.value,
            key=_key_text(message),
            card=card,
            amount_minor=amount_minor,
            sent_at_ms=sent_at_ms,
            ended_at_ms=_now_ms(),
            about=about,
            code=code,
            rrn=rrn,
            approved_minor=approved_minor if code in APPROVED_CODES else 0,
            sends=sends,
            mismatched=mismatched,
        )
        self._tally.end(line)
        if line.indefinite and (kind is Kind.REVERSAL or message.mti[2] == "2"):
            self._tally.unresolved += 1
        self._journal.write(line)

    # ---- what a sale is made of

    def _sale_of(self) -> tuple[Message, int, int]:
        card, amount_minor = self._card(), self._amount_minor()
        return (
            sale_message(self._plan.dialect, self._sale_at(card, amount_minor)),
            card,
            amount_minor,
        )

    def _sale_at(self, card: int, amount_minor: int) -> Sale:
        return Sale(
            card=population_card(card),
            amount_minor=amount_minor,
            stan=self._next_stan(),
            terminal=self._terminal,
            merchant=f"LIFE{self._number:011}",
            local_at=self._now(),
            mcc="5411",
            acquirer=self._plan.acquirer,
        )

    def _card(self) -> int:
        """A card of the neighbourhood."""
        plan = self._plan
        home = (self._number + self._dice.randrange(SHARED_BY)) % plan.tills
        return home + plan.tills * self._dice.randrange(max(1, (plan.cards - home) // plan.tills))

    def _amount_minor(self) -> int:
        return self._dice.randrange(AMOUNT_MINOR_MIN, AMOUNT_MINOR_MAX)

    def _next_stan(self) -> int:
        self._stan = self._stan % STAN_MAX + 1
        return self._stan

    def _now(self) -> datetime:
        return datetime.fromtimestamp(time.time(), self._plan.time_zone)


def _definite(answer: Answer | None) -> bool:
    return answer is not None and answer.code not in INDEFINITE_CODES


def _key_text(message: Message) -> str:
    text = message.text
    return f"{text(41).rstrip()}-{text(11)}-{text(13)}{text(12)}-{message.mti[:2]}"


def _with_amount(original: _Said) -> Message:
    """A void takes back what was approved, which a partial approval makes less than asked."""
    fields = original.message.fields | {4: f"{original.amount_minor:012}"}
    return Message(original.message.mti, fields)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
