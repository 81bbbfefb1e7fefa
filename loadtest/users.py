"""Locust users: terminals on the retail link, each with a connection and a steady rhythm.

A decline is a success of the switch and shows under its response code; a failure is no
answer, a lost link, or another answer to the same bytes. For open-loop figures without
coordinated omission use `loadtest.acquirer`; this is for Locust's shapes and its screen.
"""

from __future__ import annotations

import time
from argparse import Namespace
from random import Random
from typing import Any, get_args
from urllib.parse import urlsplit

from locust import User, constant_throughput, events, task
from locust.env import Environment

from loadtest.crowd import Attempt, Behaviour, Cards, Crowd, Mix
from loadtest.link import SALE_CLASS
from loadtest.tally import INDEFINITE_CODES
from loadtest.terminal import LinkLost, NoAnswer, Terminal
from loadtest.wire import Answer, Key, Wire
from protocols.iso8583.client import Dialect

TIMEOUT_SECONDS = 5.0
REPEATS_OF_TEN = 1


class AnotherAnswer(Exception):
    """The same bytes got another answer than before: the switch is not idempotent."""


def add_arguments(parser: Any, **_: object) -> None:
    """What the acquirer's side must know of the issued cards."""
    parser.add_argument("--cards", type=int, default=20_000, help="issued: 0 to this less one")
    parser.add_argument("--blocked-cards", type=int, default=0, help="the first indexes")
    parser.add_argument("--poor-cards", type=int, default=0, help="the indexes after them")
    parser.add_argument("--acquirer", default="48021000", help="DE32")
    parser.add_argument("--dialect", choices=get_args(Dialect), default="unionpay_pos")
    parser.add_argument("--dice", type=int, default=1, help="seed of cards, shops and amounts")
    parser.add_argument("--per-second", type=float, default=5.0, help="payments of one user")


class Crowds:
    """One crowd for all users of a process, so that no two use the same STAN at a terminal."""

    def __init__(self, given: Namespace) -> None:
        self.dice = Random(given.dice)
        cards = Cards(given.cards, given.blocked_cards, given.poor_cards)
        self.crowd = Crowd(cards, Mix(repeat=0.0), self.dice)
        self.wire = Wire(dialect=given.dialect, acquirer=given.acquirer, time_zone="Asia/Shanghai")


_crowds: dict[int, Crowds] = {}


def prepare(environment: Environment, **_: object) -> None:
    """Draw the crowd once the command line is known."""
    given = environment.parsed_options
    assert given is not None
    _crowds[id(environment)] = Crowds(given)


# Locust's event hooks have no annotations.
events.init_command_line_parser.add_listener(add_arguments)  # type: ignore[no-untyped-call]
events.init.add_listener(prepare)  # type: ignore[no-untyped-call]


class RetailTerminal(User):
    """A terminal that sells, and now and then sends a sale twice."""

    def wait_time(self) -> float:
        given = self.environment.parsed_options
        return float(constant_throughput(given.per_second)(self))

    def on_start(self) -> None:
        crowds = _crowds[id(self.environment)]
        self._crowd, self._dice, self._wire = crowds.crowd, crowds.dice, crowds.wire
        at = urlsplit(self.host or "")
        if at.scheme != "iso8583" or not at.hostname or not at.port:
            raise ValueError("the host is not an ISO 8583 link; write iso8583://127.0.0.1:8583")
        self._terminal = Terminal(at.hostname, at.port, self._wire, timeout_seconds=TIMEOUT_SECONDS)

    def on_stop(self) -> None:
        self._terminal.close()

    @task(10 - REPEATS_OF_TEN)
    def sale(self) -> None:
        """One sale, whatever becomes of it."""
        attempt = self._attempt()
        self._ask(attempt, self._wire.sale(attempt, int(time.time())))

    @task(REPEATS_OF_TEN)
    def sale_sent_twice(self) -> None:
        """The same bytes again must get the same answer."""
        attempt = self._attempt()
        frame = self._wire.sale(attempt, int(time.time()))
        first = self._ask(attempt, frame)
        if first is not None and first.code not in INDEFINITE_CODES:
            self._ask(attempt, frame, first)

    def _attempt(self) -> Attempt:
        behaviour = self._crowd.draw_behaviour()
        assert behaviour is not Behaviour.REPEAT, "the mix has none: users repeat by themselves"
        return self._crowd.attempt(behaviour)

    def _ask(self, attempt: Attempt, frame: bytes, before: Answer | None = None) -> Answer | None:
        """Send a frame and tell Locust; None where there was no answer."""
        begun = time.monotonic()
        answer: Answer | None = None
        failure: Exception | None = None
        try:
            answer = self._terminal.ask(frame, Key(attempt.terminal, attempt.stan, SALE_CLASS))
        except (LinkLost, NoAnswer) as lost:
            failure = lost
        if before is not None and answer is not None and answer != before:
            failure = AnotherAnswer("the same bytes got another answer")
        kind = "repeat" if before is not None else "sale"
        self.environment.events.request.fire(
            request_type="0200",
            name=f"{kind} {answer.code}" if answer else kind,
            response_time=(time.monotonic() - begun) * 1000,
            response_length=len(frame),
            exception=failure,
            context={},
        )
        return answer
