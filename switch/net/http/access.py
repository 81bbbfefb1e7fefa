"""Who asks: by an API key, or by the certificate that a port of one acquirer asks for.

A refusal says nothing of why. A key that was good is believed for a few seconds, so that a
busy counter costs the ledger nothing and a revoked key is refused soon; wrong ones are looked
up only as fast as an address may fail.
"""

from __future__ import annotations

import hmac
from collections import OrderedDict
from collections.abc import Iterable

from protocols.bills.api import Problem
from switch.calendar import BusinessCalendar
from switch.clock import Clock
from switch.ledger import api_keys
from switch.ledger.api_keys import ApiKeyRow
from switch.ledger.bills import BillLedger
from switch.net.http.problems import Fault, problem

BELIEVED_NS = 3_000_000_000
KEYS_KEPT = 1_024
ADDRESSES_KEPT = 4_096
FAILURES_AT_ONCE = 10
FAILURE_FORGIVEN_NS = 1_000_000_000
"""An address may fail ten times at once, and then once a second."""
NOBODY = ApiKeyRow("", "", b"\0" * 32, None)
BEARER = "Bearer "


class Failures:
    """How often each address has failed; the longest quiet one is forgotten first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due_ns: OrderedDict[str, int] = OrderedDict()

    def too_many(self, address: str) -> bool:
        """Whether this address has to wait before it may fail once more."""
        ahead_ns = self._due_ns.get(address, 0) - self._clock.monotonic_ns()
        return ahead_ns > (FAILURES_AT_ONCE - 1) * FAILURE_FORGIVEN_NS

    def count(self, address: str) -> None:
        """It has failed."""
        now_ns = self._clock.monotonic_ns()
        due_ns = max(now_ns, self._due_ns.pop(address, 0)) + FAILURE_FORGIVEN_NS
        self._due_ns[address] = due_ns
        if len(self._due_ns) > ADDRESSES_KEPT:
            self._due_ns.popitem(last=False)


class Gate:
    """Tells the acquirer of a request to one API. `acquirer` is whose the port is, or empty."""

    def __init__(
        self, acquirer: str, ledger: BillLedger, calendar: BusinessCalendar, clock: Clock
    ) -> None:
        self._acquirer = acquirer
        self._ledger = ledger
        self._calendar = calendar
        self._clock = clock
        self._failures = Failures(clock)
        self._believed: OrderedDict[str, tuple[ApiKeyRow, int]] = OrderedDict()

    async def who(self, headers: Iterable[tuple[bytes, bytes]], address: str) -> str | Problem:
        """The acquirer who asks. Raises LedgerLost and LedgerRefused."""
        if self._acquirer:
            return self._acquirer
        shown = [value for name, value in headers if name.lower() == b"authorization"]
        key = shown[0].decode("latin-1").removeprefix(BEARER) if len(shown) == 1 else ""
        key_id = api_keys.key_id_of(key)
        row = self._known(key_id or "")
        # A key that was good may always be looked up again, whoever else fails beside it.
        if row is None and (key_id in self._believed or not self._failures.too_many(address)):
            row = await self._looked_up(key_id)
        # Compared in constant time, for an unknown id as well.
        is_its = hmac.compare_digest((row or NOBODY).key_hash, api_keys.hash_of(key))
        if is_its and row is not None and row is not NOBODY:
            return row.acquirer
        if self._failures.too_many(address):
            return problem(Fault.TOO_MANY, "too many of your keys were refused; wait a while")
        self._failures.count(address)
        words = "send a valid API key as Authorization: Bearer; citycard api-key new makes one"
        return problem(Fault.UNAUTHORIZED, words)

    def _known(self, key_id: str) -> ApiKeyRow | None:
        row, until_ns = self._believed.get(key_id, (None, 0))
        return row if self._clock.monotonic_ns() < until_ns else None

    async def _looked_up(self, key_id: str | None) -> ApiKeyRow:
        row = await api_keys.find(self._ledger, key_id) if key_id is not None else None
        self._believed.pop(key_id or "", None)
        if row is None or key_id is None:
            return NOBODY
        self._believed[key_id] = (row, self._clock.monotonic_ns() + BELIEVED_NS)
        if len(self._believed) > KEYS_KEPT:
            self._believed.popitem(last=False)
        today = self._calendar.local(self._clock.now_us()).date()
        if row.last_used_on != today:
            await api_keys.used(self._ledger, key_id, today)
        return row
