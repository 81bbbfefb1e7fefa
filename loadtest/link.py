"""One connection of an acquirer to the switch: sends when due, reads whatever comes back.

Two tasks a connection and none a message: the sender writes all that is due in one piece,
the reader takes a chunk and matches every answer in it. Nothing waits for an answer before
sending the next message. A dropped link reconnects with back-off; what was unanswered is
then unknown, and is sent again only when asked for, under the same key, as a terminal does.

A connection signs on before it sells. When the switch signs off, it sends nothing more there,
waits for what it has under way, connects again and signs on: so a restart costs no answer.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from random import Random

import anyio
import msgspec
from anyio.abc import ByteStream

from loadtest.crowd import Attempt, Behaviour, Crowd
from loadtest.journal import Entry, Journal
from loadtest.tally import INDEFINITE_CODES, Tally
from loadtest.wire import Answer, Asked, Key, Wire
from protocols.errors import FramingError
from protocols.iso8583.dialect import NetworkFunction

CHUNK_BYTES = 65_536
RECENT_MAX = 512
"""Messages a link remembers for repeats; also how many given-up ones it still recognises."""
WAKE_SECONDS = 0.004
"""The sender looks this often at most, so that one write carries all that came due."""
SWEEP_SECONDS = 0.1
BACK_OFF_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
SALE_CLASS = "02"
MANAGEMENT_CLASS = "08"


class LinkPlan(msgspec.Struct, frozen=True):
    """Where a link goes and how patient it is. Nanoseconds are monotonic."""

    host: str
    port: int
    end_ns: int
    timeout_ns: int
    echo_ns: int
    resends: int
    drain_ns: int
    sign_on: bool = True


class Exchange:
    """One message and its first definite answer; repeats of it are sent under the same key."""

    __slots__ = ("answer", "attempt", "frame", "local_at", "sent")

    def __init__(self, attempt: Attempt, frame: bytes, local_at: str) -> None:
        self.attempt = attempt
        self.frame = frame
        self.local_at = local_at
        self.answer: Answer | None = None
        self.sent: deque[Sent] = deque()


class Sent:
    """One sending of an exchange's bytes, until its answer comes or is given up."""

    __slots__ = ("done", "due_ns", "key", "repeat", "resends", "sent_ns")

    def __init__(self, key: Key, due_ns: int, sent_ns: int, repeat: bool) -> None:
        self.key = key
        self.due_ns = due_ns
        self.sent_ns = sent_ns
        self.repeat = repeat
        self.resends = 0
        self.done = False


class AcquirerLink:
    """The messages of one connection and everything known about their answers."""

    def __init__(
        self,
        number: int,
        plan: LinkPlan,
        wire: Wire,
        crowd: Crowd,
        due: Iterator[int],
        tally: Tally,
        journal: Journal,
        dice: Random,
    ) -> None:
        self._number = number
        self._plan = plan
        self._wire = wire
        self._crowd = crowd
        self._due = due
        self._next_due = next(due, None)
        self._tally = tally
        self._journal = journal
        self._dice = dice
        self._exchanges: dict[Key, Exchange] = {}
        self._in_order: deque[Sent] = deque()
        self._given_up: OrderedDict[Key, Exchange] = OrderedDict()
        self._recent: deque[Exchange] = deque(maxlen=RECENT_MAX)
        self._resend: deque[tuple[Exchange, Sent]] = deque()
        self._management_stan = number * 1000
        self._sign_on_stan = ""
        self._signed_on = False
        self._told_to_go = False
        self._to_answer: list[bytes] = []
        self._last_sent_ns = 0
        self._ends: anyio.CancelScope | None = None

    @property
    def waiting(self) -> int:
        """Messages sent or to be sent again that have no answer yet."""
        return len(self._exchanges) + len(self._resend)

    def stop(self) -> None:
        """Send nothing new; the link ends when its answers are in, or given up."""
        self._next_due = None
        self._plan = msgspec.structs.replace(self._plan, end_ns=time.monotonic_ns())

    async def run(self) -> None:
        """Keep the link up until its last message is answered or given up."""
        failures = 0
        while not self._finished(time.monotonic_ns()):
            try:
                stream = await anyio.connect_tcp(self._plan.host, self._plan.port)
            except OSError:
                self._skip_overdue(time.monotonic_ns())
                pause = BACK_OFF_SECONDS[min(failures, len(BACK_OFF_SECONDS) - 1)]
                failures += 1
                await anyio.sleep(pause * (0.5 + self._dice.random()))
                continue
            self._tally.connects += 1
            await self._converse(stream)
            self._lose_waiting(time.monotonic_ns())
            if self._signed_on:
                failures = 0
                continue
            # Whoever answered takes no sign-on just now, such as a worker that is ending.
            await anyio.sleep(BACK_OFF_SECONDS[min(failures, len(BACK_OFF_SECONDS) - 1)])
            failures += 1
        self._skip_overdue(time.monotonic_ns() + self._plan.timeout_ns)

    async def _converse(self, stream: ByteStream) -> None:
        self._last_sent_ns = time.monotonic_ns()
        self._signed_on = not self._plan.sign_on
        self._told_to_go = False
        self._to_answer.clear()
        async with stream, anyio.create_task_group() as tasks:
            self._ends = tasks.cancel_scope
            tasks.start_soon(self._read, stream)
            tasks.start_soon(self._sweep)
            try:
                await self._send(stream)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                self._drop()
            tasks.cancel_scope.cancel()

    def _drop(self) -> None:
        self._tally.drops += 1
        if self._ends:
            self._ends.cancel()

    def _finished(self, now_ns: int) -> bool:
        """The last message is out, and everything is answered or the drain time is over."""
        if now_ns < self._plan.end_ns:
            return False
        if now_ns > self._plan.end_ns + self._plan.drain_ns:
            return True
        return self._next_due is None and not self.waiting

    # --- sending

    async def _send(self, stream: ByteStream) -> None:
        if self._plan.sign_on:
            await stream.send(self._sign_on())
        while not self._finished(now_ns := time.monotonic_ns()):
            pieces, self._to_answer = self._to_answer, []
            if self._told_to_go and not self._exchanges:
                await stream.send(b"".join(pieces))
                return
            if self._signed_on and not self._told_to_go:
                pieces += self._take_due(now_ns)
            elif not self._signed_on and now_ns - self._last_sent_ns > self._plan.timeout_ns:
                self._drop()
                return
            if pieces:
                await stream.send(b"".join(pieces))
            await anyio.sleep(self._pause_seconds(time.monotonic_ns()))

    def _sign_on(self) -> bytes:
        stan = self._next_management_stan()
        self._sign_on_stan = f"{stan:06}"
        at_seconds = time.time_ns() // 1_000_000_000
        return self._wire.management(NetworkFunction.SIGN_ON, stan, at_seconds)

    def _next_management_stan(self) -> int:
        self._management_stan = (self._management_stan + 1) % 1_000_000
        return self._management_stan

    def _take_due(self, now_ns: int) -> list[bytes]:
        """The frames of everything that is due by now, oldest first, and an echo when idle."""
        pieces: list[bytes] = []
        while self._resend:
            exchange, sent = self._resend.popleft()
            self._note_sent(exchange, sent)
            pieces.append(exchange.frame)
        at_seconds = time.time_ns() // 1_000_000_000
        while self._next_due is not None and self._next_due <= now_ns:
            due_ns, self._next_due = self._next_due, next(self._due, None)
            if now_ns - due_ns > self._plan.timeout_ns:
                self._tally.not_sent += 1
                continue
            pieces.append(self._new_or_repeat(due_ns, now_ns, at_seconds))
        if not pieces and now_ns - self._last_sent_ns >= self._plan.echo_ns:
            self._tally.echoes_sent += 1
            pieces.append(self._wire.echo(self._next_management_stan(), at_seconds))
        if pieces:
            self._last_sent_ns = now_ns
        return pieces

    def _new_or_repeat(self, due_ns: int, now_ns: int, at_seconds: int) -> bytes:
        behaviour = self._crowd.draw_behaviour()
        if behaviour is Behaviour.REPEAT and self._recent:
            exchange = self._recent[self._dice.randrange(len(self._recent))]
            self._tally.repeats_sent += 1
        else:
            behaviour = Behaviour.ORDINARY if behaviour is Behaviour.REPEAT else behaviour
            attempt = self._crowd.attempt(behaviour)
            frame = self._wire.sale(attempt, at_seconds)
            exchange = Exchange(attempt, frame, self._wire.local_text(at_seconds))
            self._recent.append(exchange)
        self._tally.sent += 1
        self._tally.behaviours[behaviour] += 1
        key = Key(exchange.attempt.terminal, exchange.attempt.stan, SALE_CLASS)
        sent = Sent(key, due_ns, now_ns, repeat=behaviour is Behaviour.REPEAT)
        self._note_sent(exchange, sent)
        return exchange.frame

    def _note_sent(self, exchange: Exchange, sent: Sent) -> None:
        exchange.sent.append(sent)
        self._exchanges[sent.key] = exchange
        self._in_order.append(sent)

    def _pause_seconds(self, now_ns: int) -> float:
        if not self._signed_on or self._told_to_go:
            return WAKE_SECONDS
        if now_ns >= self._plan.end_ns:
            return WAKE_SECONDS * 10
        until_echo = self._last_sent_ns + self._plan.echo_ns
        until = min(until_echo, self._plan.end_ns, now_ns + 250_000_000)
        if self._next_due is not None:
            until = min(until, self._next_due)
        return max(WAKE_SECONDS, (until - now_ns) / 1e9)

    # --- reading

    async def _read(self, stream: ByteStream) -> None:
        framer = self._wire.framer()
        while True:
            try:
                chunk = await stream.receive(CHUNK_BYTES)
                frames = framer.feed(chunk)
            except (anyio.EndOfStream, anyio.BrokenResourceError, FramingError):
                self._drop()
                return
            now_ns = time.monotonic_ns()
            for received in frames:
                answered = self._wire.read(received)
                if answered is None:
                    self._tally.undecodable += 1
                elif isinstance(answered, Asked):
                    self._told_to_go |= answered.function is NetworkFunction.SIGN_OFF
                    self._to_answer.append(answered.answer)
                elif answered[0].message_class == MANAGEMENT_CLASS:
                    if not self._take_management(*answered):
                        return
                else:
                    self._take_answer(*answered, now_ns)

    def _take_management(self, key: Key, answer: Answer) -> bool:
        """The answer to an echo or to our sign-on; False where that was refused."""
        if key.stan != self._sign_on_stan:
            self._tally.echoes_answered += 1
            return True
        self._sign_on_stan = ""
        self._signed_on = answer.code == "00"
        if not self._signed_on and self._ends:
            self._ends.cancel()
        return self._signed_on

    def _take_answer(self, key: Key, answer: Answer, now_ns: int) -> None:
        exchange = self._exchanges.get(key)
        if exchange is None:
            self._take_late(key, answer, now_ns)
            return
        sent = exchange.sent.popleft()
        sent.done = True
        if not exchange.sent:
            del self._exchanges[key]
        self._tally.answer(answer.code, sent.due_ns, now_ns)
        if answer.code == "00" and not sent.repeat:
            self._tally.approved_minor += answer.approved_minor
        self._compare(exchange, answer, sent.repeat)
        self._write(exchange, sent, now_ns, answer)

    def _take_late(self, key: Key, answer: Answer, now_ns: int) -> None:
        exchange = self._given_up.pop(key, None)
        if exchange is None:
            self._tally.unmatched += 1
            return
        self._tally.late += 1
        self._compare(exchange, answer, repeat=False)
        self._write(exchange, Sent(key, now_ns, now_ns, repeat=False), now_ns, answer, late=True)

    def _compare(self, exchange: Exchange, answer: Answer, repeat: bool) -> None:
        """The same bytes must get the same answer, once there is a definite one."""
        if answer.code in INDEFINITE_CODES:
            self._tally.repeats_indefinite += repeat
        elif exchange.answer is None:
            exchange.answer = answer
            self._tally.repeats_matched += repeat
        elif exchange.answer == answer:
            self._tally.repeats_matched += repeat
        else:
            self._tally.duplicates_mismatched += 1

    # --- giving up

    async def _sweep(self) -> None:
        while True:
            await anyio.sleep(SWEEP_SECONDS)
            now_ns = time.monotonic_ns()
            limit_ns = now_ns - self._plan.timeout_ns
            waiting = self._in_order
            while waiting and (waiting[0].done or waiting[0].sent_ns <= limit_ns):
                sent = waiting.popleft()
                if not sent.done:
                    self._give_up(sent, now_ns)

    def _lose_waiting(self, now_ns: int) -> None:
        """The link is gone, and with it every answer that was under way."""
        while self._in_order:
            sent = self._in_order.popleft()
            if not sent.done:
                self._give_up(sent, now_ns)

    def _give_up(self, sent: Sent, now_ns: int) -> None:
        exchange = self._exchanges[sent.key]
        exchange.sent.remove(sent)
        if not exchange.sent:
            del self._exchanges[sent.key]
        # Remembered even when it is sent again: both answers may come, and must agree.
        self._given_up[sent.key] = exchange
        if len(self._given_up) > RECENT_MAX:
            self._given_up.popitem(last=False)
        if sent.resends < self._plan.resends:
            again = Sent(sent.key, sent.due_ns, now_ns, sent.repeat)
            again.resends = sent.resends + 1
            self._resend.append((exchange, again))
            return
        self._tally.gave_up(sent.due_ns, now_ns)
        self._write(exchange, sent, now_ns, None)

    def _skip_overdue(self, now_ns: int) -> None:
        """Let pass, and count, what could not be sent while the link was down."""
        while self._next_due is not None and now_ns - self._next_due > self._plan.timeout_ns:
            self._next_due = next(self._due, None)
            self._tally.not_sent += 1
        while self._resend and self._finished(now_ns):
            exchange, sent = self._resend.popleft()
            self._tally.gave_up(sent.due_ns, now_ns)
            self._write(exchange, sent, now_ns, None)

    # --- the record

    def _write(
        self, exchange: Exchange, sent: Sent, now_ns: int, answer: Answer | None, late: bool = False
    ) -> None:
        if not self._journal.kept:
            return
        attempt = exchange.attempt
        now_ms, monotonic_ms = time.time_ns() // 1_000_000, now_ns // 1_000_000
        since_epoch_ms = now_ms - monotonic_ms
        code, rrn, auth_code, approved_minor = answer or ("", "", "", 0)
        self._journal.write(
            Entry(
                key=f"{attempt.terminal}-{attempt.stan}-{exchange.local_at}-{sent.key[2]}",
                link=self._number,
                card=attempt.card_index,
                behaviour=attempt.behaviour,
                terminal=attempt.terminal,
                stan=attempt.stan,
                local_at=exchange.local_at,
                amount_minor=attempt.amount_minor,
                due_at_ms=since_epoch_ms + sent.due_ns // 1_000_000,
                sent_at_ms=since_epoch_ms + sent.sent_ns // 1_000_000,
                answered_at_ms=now_ms if answer else 0,
                code=code,
                rrn=rrn,
                auth_code=auth_code,
                approved_minor=approved_minor if code == "00" else 0,
                repeat=sent.repeat,
                late=late,
                unanswered=answer is None,
                mcc=attempt.mcc,
                latency_us=max(1, (now_ns - sent.due_ns) // 1000) if answer else 0,
            )
        )
