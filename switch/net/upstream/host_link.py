"""The connection of one worker to one host: kept up, signed on, and known to be alive.

One task reads, one writes what has gathered, one looks a few times a second at what time has
made due; none of them is per message. In which state it is follows the table of link_state.py
from the side that signs on; a lost connection is DOWN, and tried again with back-off.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, assert_never

import anyio
from anyio.abc import ByteStream

from protocols.errors import FramingError
from protocols.iso8583 import Message
from protocols.iso8583.dialect import NetworkAnswer, NetworkFunction
from switch.calendar import BusinessCalendar
from switch.clock import Clock
from switch.config_trouble import Upstream
from switch.logs import Throttle
from switch.logs import get as get_log
from switch.metrics import Metrics
from switch.net.link_state import Event, State, following, initial
from switch.net.upstream.wire import HostAnswer, HostMessage, HostWire, Unreadable

if TYPE_CHECKING:
    from switch.net.guard import LinkGuard

NANOSECONDS = 1_000_000_000
RECEIVE_BYTES = 16_384
CONNECT_SECONDS_MAX = 5.0
RECONNECT_FIRST_SECONDS = 0.1
RECONNECT_MAX_SECONDS = 5.0
NETWORK_SECONDS_MAX = 5.0
"""How long a host may take to answer a sign-on, a key exchange or an echo."""
SIGN_ON_AGAIN_SECONDS = 5.0
"""How long a host that signed off is left alone."""
LOOK_SECONDS = 0.25
UNWRITTEN_BYTES_MAX = 1_048_576
"""What a host may leave unread before its connection counts as lost."""

Connect = Callable[[], Awaitable[ByteStream]]

_log = get_log("upstream")


class HostLink:
    """One host's connection. `answered` takes its answers; `lost` is told when it ends."""

    def __init__(
        self,
        upstream: Upstream,
        wire: HostWire,
        connect: Connect,
        *,
        answered: Callable[[HostAnswer], None],
        lost: Callable[[], None],
        calendar: BusinessCalendar,
        clock: Clock,
        metrics: Metrics,
        guard: LinkGuard | None = None,
    ) -> None:
        self.upstream = upstream
        self._name = upstream.name
        self._wire = wire
        self._connect = connect
        self._answered = answered
        self._lost = lost
        self._calendar = calendar
        self._clock = clock
        self._metrics = metrics
        self._guard = guard
        self._throttle = Throttle()
        self._connection = anyio.CancelScope()
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self._to_send = anyio.Event()
        self._stan = 0
        self._network_stan = ""
        self._network_asked = NetworkFunction.ECHO
        self._network_until_ns = 0
        self._was_up = False
        self._leaving = False
        self._last_byte_ns = 0
        self._sign_on_at_ns = 0
        self._ends_because = ""
        self.state = State.DOWN
        metrics.upstream_state(upstream.name, self.state)

    @property
    def up(self) -> bool:
        """Whether requests may be sent."""
        return self.state is State.UP

    def send(self, octets: bytes) -> None:
        """Send a frame; the caller has looked whether the link is up."""
        self._unsent.append(octets)
        self._unsent_bytes += len(octets)
        if self._unsent_bytes > UNWRITTEN_BYTES_MAX:
            self._cut("it does not read what it is sent")
        self._to_send.set()

    def sign_off(self) -> None:
        """Tell the host that nothing more comes; what is under way is still answered."""
        self._leaving = True
        if self.up:
            self._ask(NetworkFunction.SIGN_OFF)
            self._happens(Event.DRAIN)

    async def run(self) -> None:
        """Keep the connection up until cancelled, or until it ends after a sign-off."""
        pause_seconds = 0.0
        while not self._leaving:
            await anyio.sleep(pause_seconds)
            pause_seconds = min(
                max(2 * pause_seconds, RECONNECT_FIRST_SECONDS), RECONNECT_MAX_SECONDS
            )
            try:
                with anyio.fail_after(CONNECT_SECONDS_MAX):
                    stream = await self._connect()
            except (OSError, TimeoutError) as error:
                self._say("the host cannot be reached", reason=type(error).__name__)
                continue
            if await self._converse(stream):
                pause_seconds = RECONNECT_FIRST_SECONDS

    async def _converse(self, stream: ByteStream) -> bool:
        """One connection from its first to its last byte; whether it ever was up."""
        self._was_up = False
        self._ends_because = "the host closed it"
        self._unsent, self._unsent_bytes = [], 0
        self._last_byte_ns = self._clock.monotonic_ns()
        try:
            with anyio.CancelScope() as self._connection:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._write, stream)
                    tasks.start_soon(self._look)
                    self._enter(initial(self.upstream.sign_on == "required"))
                    if not self.up:
                        self._sign_on()
                    await self._read(stream)
                    tasks.cancel_scope.cancel()
        except* (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            pass
        except* FramingError as errors:
            self._ends_because = f"its frames cannot be told apart ({errors.exceptions[0]})"
        except* Exception as faults:  # noqa: BLE001 - one host's fault must not end the worker
            self._ends_because = "the switch met a fault of its own on this link"
            _log.error("a fault on the link to a host", upstream=self._name, exc_info=faults)
        finally:
            self._enter(State.DOWN)
            await anyio.aclose_forcefully(stream)
            self._lost()
        self._say("the connection to a host ended", reason=self._ends_because)
        return self._was_up

    async def _read(self, stream: ByteStream) -> None:
        framer = self._wire.framer()
        while True:
            try:
                chunk = await stream.receive(RECEIVE_BYTES)
            except anyio.EndOfStream:
                return
            now_ns = self._clock.monotonic_ns()
            self._last_byte_ns = now_ns
            for received in framer.feed(chunk):
                said = self._wire.read(received, now_ns)
                match said:
                    case HostAnswer():
                        self._answered(said)
                    case HostMessage():
                        self._take_network(said)
                    case Unreadable():
                        self._unreadable(said)
                    case (network, message):
                        self._take_network_answer(network, message)
                    case _:
                        assert_never(said)

    async def _write(self, stream: ByteStream) -> None:
        while True:
            if not self._unsent:
                self._to_send = anyio.Event()
                await self._to_send.wait()
            octets = b"".join(self._unsent)
            self._unsent.clear()
            try:
                await stream.send(octets)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
                self._cut("it reads no more")
                return
            self._unsent_bytes -= len(octets)

    async def _look(self) -> None:
        """What is due by time: echo when idle, patience with network messages, sign-on again."""
        while True:
            await anyio.sleep(LOOK_SECONDS)
            now_ns = self._clock.monotonic_ns()
            if self._network_until_ns and now_ns >= self._network_until_ns:
                self._cut("it does not answer network messages")
            elif self.state is State.SIGNED_OFF and now_ns >= self._sign_on_at_ns:
                self._sign_on()
            elif (
                self.up
                and not self._network_until_ns
                and now_ns - self._last_byte_ns >= self.upstream.echo_idle_seconds * NANOSECONDS
            ):
                self._ask(NetworkFunction.ECHO)

    def _cut(self, why: str) -> None:
        self._ends_because = why
        self._connection.cancel()

    def _enter(self, state: State) -> None:
        if state is State.DOWN:
            self._network_until_ns = 0
            self._network_stan = ""
        if state is not self.state:
            self.state = state
            self._metrics.upstream_state(self._name, state)
            if state is State.UP:
                self._was_up = True
                _log.info("a host of another issuer is up", upstream=self._name)

    def _happens(self, event: Event) -> None:
        self._enter(following(self.state, event))

    # --- network management

    def _sign_on(self) -> None:
        self._happens(Event.SIGN_ON_SENT)
        self._ask(NetworkFunction.SIGN_ON)

    def _ask(self, function: NetworkFunction) -> None:
        now = self._clock.monotonic_ns()
        self._network_until_ns = now + int(NETWORK_SECONDS_MAX * NANOSECONDS)
        self._stan = self._stan % 999_999 + 1
        self._network_stan, self._network_asked = f"{self._stan:06}", function
        local_at = self._calendar.local(self._clock.now_us())
        self.send(self._wire.network(function, self._stan, local_at))

    def _take_network_answer(self, network: NetworkAnswer, message: Message) -> None:
        if network.stan != self._network_stan:
            return
        self._network_stan, self._network_until_ns = "", 0
        if self.state is not State.SIGNING_ON:
            return
        if not network.approved:
            self._happens(Event.SIGN_ON_REFUSED)
            self._sign_on_later("the host refuses the sign-on")
        elif self._guard is None or self.upstream.mac == "none":
            self._signed_on()
        elif self._network_asked is NetworkFunction.KEY_EXCHANGE:
            self._guard.receive(self._wire.key_block(message), self._signed_on, self._keys_refused)
        else:
            self._ask(NetworkFunction.KEY_EXCHANGE)

    def _signed_on(self) -> None:
        if self.state is State.SIGNING_ON:
            self._happens(Event.SIGN_ON_ANSWERED)

    def _keys_refused(self) -> None:
        if self.state is State.SIGNING_ON:
            self._happens(Event.SIGN_ON_REFUSED)
            self._sign_on_later("its working keys cannot be used")

    def _sign_on_later(self, why: str) -> None:
        self._say(why)
        self._sign_on_at_ns = self._clock.monotonic_ns() + int(SIGN_ON_AGAIN_SECONDS * NANOSECONDS)

    def _take_network(self, asked: HostMessage) -> None:
        now_local = self._calendar.local(self._clock.now_us())
        self.send(self._wire.network_reply(asked, now_local))
        if asked.request.function is NetworkFunction.SIGN_OFF:
            self._happens(Event.SIGN_OFF)
            self._sign_on_later("the host signed off")

    # --- what is said about it

    def _unreadable(self, fault: Unreadable) -> None:
        if fault.field_path == "MAC":
            self._metrics.mac_failure(self._name)
        self._say(
            "a host's message is at fault",
            field=fault.field_path,
            offset=fault.offset,
            reason=fault.reason,
        )

    def _say(self, event: str, **where: object) -> None:
        key = f"{event} {where.get('reason', '')}"
        suppressed = self._throttle.admit(key, self._clock.monotonic_ns())
        if suppressed is not None:
            _log.warning(event, upstream=self._name, suppressed=suppressed, **where)
