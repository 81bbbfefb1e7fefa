"""An acquirer's host as real ones are: it signs on, asks, waits, repeats, reverses, reconnects.

What it may not do is guess: a request that no answer came for is reversed, a reversal and an
advice are repeated until they are answered. So in the end it knows of each of its messages
whether it stands, and that is what the oracle holds against the ledger.
"""

from __future__ import annotations

import itertools
from datetime import datetime
from enum import Enum
from random import Random
from typing import TYPE_CHECKING

import anyio
import msgspec
import trio  # noqa: TID251 - the simulation owns its clock and its scheduling

from protocols.card_number import CardNumber
from protocols.errors import DecodeError, FramingError
from protocols.iso8583 import Message
from protocols.iso8583.client import Sale
from protocols.iso8583.link import LinkTerms
from protocols.message import Kind
from tests.simulation.network import Stream
from tests.simulation.spelling import Answer, Key, Spelling, answer_of, key_of
from tests.simulation.vocabulary import (
    first_message,
    following_message,
    network_answer,
    sign_on_message,
)

if TYPE_CHECKING:
    from tests.simulation.town import Town

AGAIN_CODES = frozenset({"91", "96", "58"})
"""Not now: whoever must be answered asks again."""
PATIENCE_SECONDS_MAX = 20.0


class Result(Enum):
    """What a message came to, as its sender knows it."""

    OPEN = "open"
    APPROVED = "approved"
    DECLINED = "declined"
    UNDONE = "undone"
    """Reversed, whether it had stood or not."""


class Step(msgspec.Struct, eq=False):
    """One message of an acquirer that asks for something, and what was heard of it."""

    kind: Kind
    key: Key
    message: Message
    card_number: int
    amount_minor: int
    about: Step | None
    copies: int = 0
    heard: list[Answer] = msgspec.field(default_factory=list)
    answered: trio.Event = msgspec.field(default_factory=trio.Event)
    result: Result = Result.OPEN
    sign: int = 0
    restated_minor: int | None = None
    """Where what stands is not what the answer said: a partial reversal, a difference."""

    @property
    def approval(self) -> Answer | None:
        return next((answer for answer in self.heard if answer.approved), None)

    @property
    def standing_minor(self) -> int:
        """What it moved or set aside, as far as its sender was told and did not take back."""
        if self.result is not Result.APPROVED:
            return 0
        if self.restated_minor is not None:
            return self.restated_minor
        return self.approval.amount_minor if self.approval is not None else 0

    @property
    def effect_minor(self) -> int:
        """What it did to the card's money; negative for what the card paid."""
        return self.sign * self.standing_minor


_SIGN_BY_KIND = {
    Kind.PURCHASE: -1,
    Kind.OFFLINE_SALE: -1,
    Kind.COMPLETION: -1,
    Kind.VOID: 1,
    Kind.REFUND: 1,
    Kind.LOAD: 1,
}


class Line:
    """One connection of the host to some worker."""

    def __init__(self, stream: Stream, worker: int) -> None:
        self.stream = stream
        self.worker = worker
        self.signed_on = False
        self.leaving = False


class Acquirer:
    """One acquirer's host behind one link of the switch."""

    def __init__(self, town: Town, terms: LinkTerms, dice: Random) -> None:
        self.terms = terms
        self.dice = dice
        self.town = town
        self.steps: list[Step] = []
        self.careful = town.killing or dice.random() < 0.3
        """Reverses after 91 and 96 too: a worker that dies cannot keep what it promised."""
        self.rude = dice.random() < 0.1
        """Sends before it has signed on."""
        self.clockless = terms.dialect == "unionpay_pos" and dice.random() < 0.5
        """Its terminals leave DE12 and DE13 to the host, as most POS terminals do."""
        self.unexpected: list[str] = []
        self._spelling = Spelling(terms)
        self._waiting: dict[Key, Step] = {}
        self._lines: list[Line] = []
        self._stans = itertools.count(1)
        self._terminals = [f"T{terms.name[0].upper()}{n:06}" for n in range(1, 4)]
        self._retries = town.dice.choice((1.0, 2.0))

    # ---- connections ----

    async def run(self, tasks: trio.Nursery) -> None:
        """Keep one to three connections open until cancelled."""
        self._tasks = tasks
        for _ in range(3 if self.town.rush else self.dice.choice((1, 1, 2, 3))):
            tasks.start_soon(self._keep_a_line, tasks)

    async def _keep_a_line(self, tasks: trio.Nursery) -> None:
        while True:
            dialled = self.town.dial(self.terms)
            if dialled is not None:
                line = Line(*dialled)
                self._lines.append(line)
                self._sign_on(line)
                await self._listen(line)
                self._lines.remove(line)
                line.stream.close()
            await trio.sleep(self.dice.uniform(0.01, 1.0))

    def _sign_on(self, line: Line) -> None:
        message = sign_on_message(self.terms.dialect, next(self._stans), self.local_now())
        self._post(line, self._spelling.frame_of(message))
        if self.rude:
            line.signed_on = True

    async def _listen(self, line: Line) -> None:
        framer = self._spelling.framer()
        patience_seconds = self.dice.uniform(20, 60)
        while not line.leaving or any(not step.heard for step in self._waiting.values()):
            octets = None
            try:
                with trio.move_on_after(patience_seconds if not line.leaving else 2.0):
                    octets = await line.stream.receive()
                if octets is None:
                    return  # too quiet: half of it is gone, or nothing is to be said
                for one in framer.feed(octets):
                    self._hear(line, self._spelling.message_in(one))
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                return
            except (DecodeError, FramingError) as error:
                self.unexpected.append(f"what the switch wrote cannot be read: {error}")
                return

    def _hear(self, line: Line, message: Message) -> None:
        if message.mti[1] == "8":
            if message.mti[2] in "02":
                answer = network_answer(self.terms, message, self.local_now())
                if answer.leaving:
                    line.leaving = True
                    line.signed_on = False
                self._post(line, self._spelling.frame_of(answer.message))
            elif not line.leaving:
                line.signed_on = True
            return
        if self.dice.random() < self.town.lost_answers:
            return
        step = self._waiting.get(key_of(message))
        if step is None:
            self.unexpected.append(f"an answer to nothing: {message.mti} {key_of(message)}")
            return
        step.heard.append(answer_of(message))
        step.answered.set()

    def _post(self, line: Line, octets: bytes) -> None:
        try:
            line.stream.post(octets)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            line.signed_on = False

    # ---- messages ----

    def local_now(self) -> datetime:
        return self.town.local_now()

    def sale(self, card: CardNumber, amount_minor: int) -> Sale:
        return Sale(
            card=card,
            amount_minor=amount_minor,
            stan=next(self._stans),
            terminal=self.dice.choice(self._terminals),
            merchant=f"M{self.terms.name}",
            local_at=self.local_now(),
            mcc=self.terms.default_mcc,
            acquirer=self.terms.acquirer,
        )

    def first(self, kind: Kind, sale: Sale, card_number: int) -> Step:
        """A message that begins something, ready to be sent."""
        message = first_message(kind, self.terms.dialect, sale)
        if self.clockless:
            for number in (12, 13):
                message.fields.pop(number, None)
        return self._taken_down(kind, message, card_number, sale.amount_minor, None)

    def following(self, kind: Kind, about: Step, amount_minor: int = 0) -> Step:
        """A message about an earlier one, ready to be sent."""
        message = following_message(
            kind,
            self.terms.dialect,
            about,
            stan=next(self._stans),
            local_at=self.local_now(),
            amount_minor=amount_minor,
        )
        return self._taken_down(kind, message, about.card_number, amount_minor, about)

    def _taken_down(
        self, kind: Kind, message: Message, card_number: int, amount_minor: int, about: Step | None
    ) -> Step:
        step = Step(kind, key_of(message), message, card_number, amount_minor, about)
        step.sign = _SIGN_BY_KIND.get(kind, 0)
        assert step.key not in self._waiting, "two messages of one host have the same key"
        self.steps.append(step)
        self._waiting[step.key] = step
        return step

    def transmit(self, step: Step, *, repeat: bool = False) -> None:
        """Send one copy, or two; a concentrator on the way may lose it."""
        message = step.message
        if repeat and self.dice.random() < 0.7:
            # The repeat bit: x200 → x201.
            message = Message(message.mti[:3] + "1", message.fields)
        octets = self._spelling.frame_of(message)
        chance = self.dice.random()
        times = 0 if chance < self.town.lost_frames else 2 if chance > 1 - self.town.doubled else 1
        for _ in range(times):
            step.copies += 1
            if self.dice.random() < self.town.delayed:
                self._tasks.start_soon(self._send_later, octets)
            else:
                self._send(octets)

    async def _send_later(self, octets: bytes) -> None:
        """A copy that the concentrator kept for a while; its message may be reversed by then."""
        await trio.sleep(self.dice.uniform(0.5, 15))
        self._send(octets)

    def _send(self, octets: bytes) -> None:
        lines = [line for line in self._lines if line.signed_on]
        if lines:
            self._post(self.dice.choice(lines), octets)

    async def wait(self, step: Step, seconds: float) -> None:
        step.answered = trio.Event()
        with trio.move_on_after(seconds):
            await step.answered.wait()

    def patience(self) -> float:
        """From impatient (less than the budget) to what the specification says."""
        budget_seconds = self.terms.budget_ms / 1000
        if self.dice.random() < 0.1:
            return budget_seconds * 0.5
        return budget_seconds + self.dice.choice((1, 5))

    async def ask(self, step: Step) -> None:
        """A request: reversed when it is not told in time, or not told clearly."""
        for turn in range(self.dice.choice((1, 1, 1, 2, 3))):
            self.transmit(step, repeat=turn > 0)
            await self.wait(step, self.patience())
            if step.heard:
                break
        if step.approval is not None:
            step.result = Result.APPROVED
        elif step.heard and step.copies <= 1 and not self._unclear(step.heard[0]):
            step.result = Result.DECLINED
        else:
            await self.reverse(step)

    def _unclear(self, answer: Answer) -> bool:
        return self.careful and answer.code in ("91", "96")

    async def tell(self, step: Step) -> None:
        """An advice: repeated until it is answered."""
        answer = await self._until_answered(step)
        step.result = Result.APPROVED if answer.approved else Result.DECLINED

    async def enquire(self, step: Step) -> None:
        """A question that moves nothing: asked once, and forgotten where no answer comes."""
        self.transmit(step)
        await self.wait(step, self.patience())
        step.result = Result.APPROVED if step.approval is not None else Result.DECLINED

    async def reverse(self, step: Step, *, replacement_minor: int = 0) -> None:
        """Take a message back, or all but a part; repeated until answered.

        What cannot be taken back stands as it was told.
        """
        reversal = self.following(Kind.REVERSAL, step, replacement_minor)
        answer = await self._until_answered(reversal)
        undone = answer.approved or (answer.code in ("14", "25") and not replacement_minor)
        reversal.result = Result.APPROVED if undone else Result.DECLINED
        if undone and replacement_minor:
            step.restated_minor = replacement_minor
        elif undone:
            step.result = Result.UNDONE
        elif answer.code == "51" and step.approval is None:
            # What gave money back can be refused so only where it had been approved: it stands.
            step.result = Result.APPROVED
            about_minor = step.about.standing_minor if step.about is not None else 0
            step.restated_minor = step.amount_minor or about_minor
        elif answer.code in ("51", "12"):
            step.result = Result.APPROVED if step.approval is not None else Result.OPEN
        else:
            self.unexpected.append(f"{answer.code} to the reversal {reversal.key}")

    async def _until_answered(self, step: Step) -> Answer:
        seconds = self.patience()
        for turn in itertools.count():
            self.transmit(step, repeat=turn > 0)
            await self.wait(step, seconds)
            for answer in step.heard:
                if answer.code not in AGAIN_CODES:
                    return answer
            if step.answered.is_set():
                await trio.sleep(seconds)  # not now, it was told
            seconds = min(seconds * self._retries + self.dice.random(), PATIENCE_SECONDS_MAX)
        raise AssertionError
