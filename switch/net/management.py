"""Network management (0800) of one connection, both ways: who signed on, and is anybody there?

The peer's sign-on, sign-off, key exchange, echo and cut-over are answered here; our echo,
cut-over and sign-off are made here and their answers are waited for, by the sweep and not by
a timer of their own. Nothing here moves money, and no message of it carries a MAC: keys may
not be there yet, and whoever forges a sign-on still cannot seal a sale.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import TYPE_CHECKING, assert_never

from protocols.iso8583 import Message
from protocols.iso8583.client import network_message
from protocols.iso8583.dialect import (
    NetworkAnswer,
    NetworkFunction,
    NetworkRequest,
    network_reply,
)
from protocols.message import Outcome
from switch.net.limits import ECHO_ANSWER_SECONDS_MIN, NANOSECONDS
from switch.net.link_state import Event, State, following, initial

if TYPE_CHECKING:
    from switch.net.iso import Link

STANS = 1_000_000
ASKED_MAX = 8
"""Messages of ours without an answer; what a deaf peer was asked before is forgotten first."""

Say = Callable[[Message], None]


class Management:
    """The state of a connection, and the network messages that change and keep it."""

    __slots__ = ("_asked", "_exchanging", "_link", "_stan", "day", "state")

    def __init__(self, link: Link) -> None:
        self._link = link
        self._stan = 0
        self._asked: dict[str, tuple[NetworkFunction, int]] | None = None
        self._exchanging = False
        self.state = initial(link.conduct.sign_on_required)
        self.day = date.max
        """The business day that the peer was told, or signed on in."""
        link.moved(None, self.state)

    # ---- what the peer asks

    def answer(self, request: NetworkRequest, message: Message, say: Say) -> bool:
        """Answer by `say`, now or once keys are made; False where the connection is to end."""
        link = self._link
        match request.function:
            case NetworkFunction.SIGN_ON if link.leaving:
                self._say_reply(say, message, Outcome.DESTINATION_DOWN)
                return False
            case NetworkFunction.SIGN_ON:
                self._sign_on(request, message, say)
            case NetworkFunction.KEY_EXCHANGE:
                self._exchange(message, say)
            case NetworkFunction.SIGN_OFF:
                if link.conduct.sign_on_required:
                    self._move(Event.SIGN_OFF)
                self._say_reply(say, message)
            case NetworkFunction.ECHO | NetworkFunction.CUT_OVER:
                self._say_reply(say, message)
            case _:
                assert_never(request.function)
        return True

    def _sign_on(self, request: NetworkRequest, message: Message, say: Say) -> None:
        if request.wants_keys and self._link.guard is not None:
            self._exchange(message, say, signing_on=True)
            return
        self._signed_on(Event.SIGN_ON_RECEIVED)
        self._say_reply(say, message)

    def _exchange(self, message: Message, say: Say, *, signing_on: bool = False) -> None:
        """New working keys; a sign-on that asks for them is complete with them."""
        guard = self._link.guard
        if guard is None:
            self._say_reply(say, message, Outcome.UNSUPPORTED)
            return
        if self._exchanging:
            # One at a time: a peer in a hurry would have a key made for each of its repeats.
            self._say_reply(say, message, Outcome.OVERLOADED)
            return
        self._exchanging = True
        if signing_on:
            self._move(Event.SIGN_ON_SENT)

        def respond(key_block: str) -> None:
            self._exchanging = False
            if signing_on:
                self._signed_on(Event.SIGN_ON_ANSWERED)
            self._say_reply(say, message, key_block=key_block)

        def failed() -> None:
            self._exchanging = False
            if signing_on:
                self._move(Event.SIGN_ON_REFUSED)
            self._say_reply(say, message, Outcome.LEDGER_DOWN)

        guard.exchange(respond, failed)

    def _signed_on(self, event: Event) -> None:
        link = self._link
        self.day = link.calendar.business_date(link.clock.now_us())
        self._move(event)

    def _say_reply(
        self, say: Say, message: Message, outcome: Outcome = Outcome.APPROVED, key_block: str = ""
    ) -> None:
        link = self._link
        now_local = link.calendar.local(link.clock.now_us())
        say(network_reply(link.terms, message, now_local, outcome, key_block))

    # ---- what we ask

    @property
    def told(self) -> bool:
        """Whether the peer is one that signed on: only such a one is asked anything."""
        return self.state is State.UP and self._link.conduct.sign_on_required

    def ask(self, function: NetworkFunction) -> Message:
        """A network message of ours; its answer is waited for until `overdue`."""
        link = self._link
        self._stan = self._stan % (STANS - 1) + 1
        now_us = link.clock.now_us()
        day = link.calendar.business_date(now_us)
        if function is NetworkFunction.CUT_OVER:
            self.day = day
        asked = self._asked = self._asked or {}
        if len(asked) >= ASKED_MAX:
            del asked[next(iter(asked))]
        asked[f"{self._stan:06}"] = function, link.clock.monotonic_ns()
        return network_message(
            link.terms.dialect,
            function,
            stan=self._stan,
            local_at=link.calendar.local(now_us),
            settlement_mmdd=f"{day:%m%d}" if function is NetworkFunction.CUT_OVER else "",
        )

    def asks(self, function: NetworkFunction) -> bool:
        """Whether an answer to this is being waited for."""
        asked = self._asked
        return asked is not None and any(each is function for each, _ in asked.values())

    def heard(self, answer: NetworkAnswer) -> None:
        """An answer (0810) of the peer; one to nothing that was asked is left out."""
        if self._asked is not None:
            self._asked.pop(answer.stan, None)

    def overdue(self, now_ns: int, last_byte_ns: int) -> list[NetworkFunction]:
        """What was asked and not answered within the link's budget, or 5 s; it is forgotten.

        Anything that came since answers an echo: its question is whether anybody is there.
        """
        if not self._asked:
            return []
        patience_seconds = max(self._link.terms.budget_ms / 1000, ECHO_ANSWER_SECONDS_MIN)
        late: list[NetworkFunction] = []
        for stan, (function, asked_ns) in list(self._asked.items()):
            if function is NetworkFunction.ECHO and last_byte_ns > asked_ns:
                del self._asked[stan]
            elif now_ns - asked_ns > patience_seconds * NANOSECONDS:
                del self._asked[stan]
                late.append(function)
        return late

    # ---- the state

    def drain(self) -> Message | None:
        """We are going: the sign-off to send, where the peer had signed on."""
        told = self.told
        self._move(Event.DRAIN)
        return self.ask(NetworkFunction.SIGN_OFF) if told else None

    def end(self) -> None:
        """The connection is gone, and its state with it."""
        self._link.moved(self.state, None)

    def _move(self, event: Event) -> None:
        before, self.state = self.state, following(self.state, event)
        if before is not self.state:
            self._link.moved(before, self.state)
