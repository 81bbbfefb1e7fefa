"""The guards of all links of a process, and the one task that keeps their working keys.

Working keys are in the ledger, wrapped, and shared by all workers. Each polls for new ones
and keeps the newest, and those before it for `keys.overlap_minutes`. Exchanges are served
here too: made, stored, and only then told to the peer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup

from switch.clock import Clock
from switch.config import Config
from switch.config_types import MacMethod
from switch.keystore import working
from switch.keystore.seam import KeyStore, KeyStoreError, Usage
from switch.keystore.working import WorkingKeys
from switch.ledger import link_keys
from switch.ledger.bridge import Connection
from switch.ledger.failures import LedgerLost, LedgerRefused, guarded
from switch.ledger.link_keys import LinkKeyRow, WrappedKey
from switch.logs import Throttle
from switch.logs import get as get_log
from switch.net.link_guard import NANOSECONDS, Asked, Exchange, LinkGuard, PinBlockRefused, Seal

__all__ = ["Guards", "LinkGuard", "PinBlockRefused", "Seal", "guards_for"]

POLL_SECONDS = 0.5
SETTLE_SECONDS = 1.5 * POLL_SECONDS
"""How long the answer to an exchange waits, so that all workers have looked before it."""
LOOK_AGAIN_SECONDS = 0.25
"""How soon a wrong MAC may make the guard look for newer keys again."""
CALL_SECONDS_MAX = 5.0
"""When a silent ledger counts as lost; the peer that waits for keys asks again."""
EXCHANGES_WAITING_MAX = 64
"""One for each link that there may be; a peer has one exchange under way at a time."""

Open = Callable[[], Awaitable[Connection]]

_log = get_log("keys")


class _Ask:
    """What guards ask of the one task: a bounded queue, and a bell."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._looked_ns = 0
        self.waiting: deque[Asked] = deque()
        self.served = 0
        self.bell = anyio.Event()

    def enqueue(self, asked: Asked) -> None:
        if len(self.waiting) + self.served >= EXCHANGES_WAITING_MAX:
            asked.failed()
            return
        self.waiting.append(asked)
        self.bell.set()

    def look_again(self) -> None:
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._looked_ns >= LOOK_AGAIN_SECONDS * NANOSECONDS:
            self._looked_ns = now_ns
            self.bell.set()


class Guards:
    """The guards of all links and upstreams of a process, and the task that keeps their keys.

    `methods` are the MAC methods by link name. `open_ledger` opens a connection, which is the
    guards' own. `settle_seconds` is how long an exchange waits before it is answered, so that
    other workers have the keys before the peer uses them: 0 where there are none. Those of
    `upstreams` are made by the peer, so it is always the newest that we seal with.
    """

    def __init__(
        self,
        methods: dict[str, MacMethod],
        store: KeyStore | None,
        open_ledger: Open,
        overlap_minutes: int,
        clock: Clock,
        settle_seconds: float = 0.0,
        poll_seconds: float = POLL_SECONDS,
        upstreams: Collection[str] = (),
    ) -> None:
        self._ask = _Ask(clock)
        self._guards = {
            name: LinkGuard(
                name, method, store, clock, self._ask, peer_makes_keys=name in upstreams
            )
            for name, method in methods.items()
        }
        self._store = store
        self._open_ledger = open_ledger
        self._overlap_seconds = overlap_minutes * 60
        self._clock = clock
        self._settle_seconds = settle_seconds
        self._poll_seconds = poll_seconds
        self._connection: Connection | None = None
        self._turn = anyio.Lock()
        self._newest = 0
        self._throttle = Throttle()

    def of(self, name: str) -> LinkGuard | None:
        """The guard of a configured link or upstream; None where it needs none.

        It needs one for a MAC, or for PIN blocks: when a zone key is installed for it. Without
        one nothing is verified, and a sign-on that asks for keys is answered without any.
        """
        guard = self._guards[name]
        zone = self._store.find(working.zone_label(name)) if self._store is not None else None
        return guard if guard.method != "none" or zone is not None else None

    async def load(self) -> None:
        """Read the working keys from the ledger, before links listen.

        A ledger that is away is no error here: `run` tries again, and meanwhile a link with a
        MAC lets nothing pass.
        """
        await self._poll()

    async def run(self) -> None:
        """Poll for keys that others made, and serve exchanges, until cancelled."""
        try:
            async with anyio.create_task_group() as tasks:
                while True:
                    with anyio.move_on_after(self._poll_seconds):
                        await self._ask.bell.wait()
                    self._ask.bell = anyio.Event()
                    self._begin_exchanges(tasks)
                    await self._poll()
        finally:
            self._drop()

    def _begin_exchanges(self, tasks: TaskGroup) -> None:
        while self._ask.waiting:
            self._ask.served += 1
            tasks.start_soon(self._serve, self._ask.waiting.popleft())

    async def _poll(self) -> None:
        if not any(self.of(name) for name in self._guards):
            return
        try:
            async with self._ledger() as connection:
                await self._refresh(connection)
        except (LedgerLost, LedgerRefused) as error:
            self._tell("working keys could not be read", str(error))

    async def _serve(self, asked: Asked) -> None:
        """Answer one exchange, whatever happens."""
        text: str | None = None
        try:
            async with self._ledger() as connection:
                await self._refresh(connection)
                text = await self._exchanged(connection, asked)
            await anyio.sleep(self._settle_seconds)
        except (LedgerLost, LedgerRefused) as error:
            self._tell("working keys could not be stored", str(error), asked.guard.name)
        except KeyStoreError as error:
            self._tell("a key exchange failed", str(error), asked.guard.name)
        finally:
            self._ask.served -= 1
        if text is None:
            asked.failed()
        else:
            asked.respond(text)

    async def _exchanged(self, connection: Connection, asked: Asked) -> str:
        """Keys for the peer, stored; "" where the peer made them. Raises KeyStoreError."""
        guard, store = asked.guard, self._store
        if store is None:
            raise KeyStoreError("there is no key store; run citycard keys init")
        keys = guard.young() if not asked.key_block else None
        if keys is None:
            if asked.key_block:
                made = working.from_peer(store, guard.name, guard.method, asked.key_block)
            else:
                made = working.make(store, guard.name, guard.method)
            wrapped = [WrappedKey(*one) for one in working.wrapped(store, guard.name, made)]
            for key in made.all:
                store.forget(key)
            await guarded(
                link_keys.append, connection, guard.name, wrapped, seconds=CALL_SECONDS_MAX
            )
            await self._refresh(connection)
            keys = guard.exchanges[0].keys
            _log.info("keys exchanged", link=guard.name, kcv=[key.kcv for key in keys.all])
        if asked.key_block:
            return ""
        return working.for_peer(store, guard.name, guard.method, keys)

    @asynccontextmanager
    async def _ledger(self) -> AsyncIterator[Connection]:
        """Our turn on the connection; after a failure the next one opens another."""
        async with self._turn:
            try:
                yield await self._connected()
            except (LedgerLost, LedgerRefused):
                self._drop()
                raise

    async def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._newest = 0
            self._connection = await guarded(self._open_ledger, seconds=CALL_SECONDS_MAX)
        return self._connection

    async def _refresh(self, connection: Connection) -> None:
        newest = await guarded(link_keys.newest, connection, seconds=CALL_SECONDS_MAX)
        if newest == self._newest:
            return
        rows = await guarded(
            link_keys.read, connection, list(self._guards), seconds=CALL_SECONDS_MAX
        )
        for name, guard in self._guards.items():
            self._take(guard, [row for row in rows if row.link == name])
        self._newest = newest

    def _take(self, guard: LinkGuard, rows: Sequence[LinkKeyRow]) -> None:
        """Make handles of a link's rows, newest first, of those that are still accepted."""
        known = {exchange.sequence: exchange.keys for exchange in guard.exchanges}
        now_ns = self._clock.monotonic_ns()
        exchanges: list[Exchange] = []
        successor_seconds: float | None = None
        for sequence in dict.fromkeys(row.sequence for row in rows):
            of_sequence = [row for row in rows if row.sequence == sequence]
            left_seconds = None
            if successor_seconds is not None:
                left_seconds = self._overlap_seconds - successor_seconds
            if left_seconds is not None and left_seconds <= 0:
                break
            keys = known.pop(sequence, None) or self._unwrapped(guard.name, of_sequence)
            successor_seconds = of_sequence[0].age_seconds
            if keys is None:
                continue
            exchanges.append(
                Exchange(
                    sequence,
                    keys,
                    now_ns - int(successor_seconds * NANOSECONDS),
                    None if left_seconds is None else now_ns + int(left_seconds * NANOSECONDS),
                )
            )
        guard.adopt(exchanges)
        for keys in known.values():
            for key in keys.all:
                if self._store is not None:
                    self._store.forget(key)

    def _unwrapped(self, link: str, rows: Sequence[LinkKeyRow]) -> WorkingKeys | None:
        """Handles of one exchange; None, with a warning, where another store wrapped it."""
        if self._store is None:
            return None
        try:
            storage = working.storage_key(self._store)
            handles = {
                row.usage: self._store.import_block(row.block, storage, Usage(row.usage), link)
                for row in rows
            }
        except KeyStoreError as error:
            self._tell("a working key cannot be used", str(error), link)
            return None
        return WorkingKeys(handles.get("mac"), handles.get("pin"))

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    def _tell(self, event: str, why: str, link: str = "") -> None:
        suppressed = self._throttle.admit(f"{event} {link}", self._clock.monotonic_ns())
        if suppressed is not None:
            _log.warning(event, link=link, why=why, suppressed=suppressed)


def guards_for(config: Config, store: KeyStore | None, open_ledger: Open, clock: Clock) -> Guards:
    """The guards of a worker. Raises KeyStoreError where a MAC is configured and no store is."""
    upstreams = {upstream.name: upstream.mac for upstream in config.upstreams}
    methods = {link.name: link.mac for link in config.links} | upstreams
    if store is None and any(method != "none" for method in methods.values()):
        name = next(name for name, method in methods.items() if method != "none")
        raise KeyStoreError(
            f"link {name} has a MAC and there is no key store; run citycard keys init"
        )
    return Guards(
        methods,
        store,
        open_ledger,
        config.keys.overlap_minutes,
        clock,
        SETTLE_SECONDS,
        upstreams=upstreams.keys(),
    )
