"""One configured port for readers: all concentrators of an acquirer's place in this process."""

from __future__ import annotations

import ssl
from collections.abc import MutableSet

import msgspec
from anyio.abc import ByteStream

from protocols.message import Outcome, Request
from switch.clock import Clock
from switch.metrics import Metrics
from switch.net.conversation import Conversation
from switch.net.entrance import Entrance
from switch.net.limits import NANOSECONDS, LinkLimits
from switch.net.tap.connection import TapConnection
from switch.net.tap.device_keys import DeviceKeys
from switch.net.tap.dialect import BUDGET_NOT_KEPT, LOAD_BUDGET_MS, TapTerms
from switch.net.tap.lists import Hotlists
from switch.net.tap.upload_desk import Submit, UploadDesk
from switch.net.tap.uploads import Room


class UploadTerms(msgspec.Struct, frozen=True):
    """What a connection may upload; see [uploads] of the configuration."""

    records_per_batch_max: int
    open_batches_max: int


class TapLink(Entrance):
    """All connections of one configured tap link in this process.

    `room` is shared by all links of the process, as `desk` is. `lists` is there where
    hotlists are published, `tls` where connections are encrypted.
    """

    def __init__(
        self,
        terms: TapTerms,
        limits: LinkLimits,
        submit: Submit,
        clock: Clock,
        metrics: Metrics,
        open_connections: MutableSet[Conversation],
        *,
        keys: DeviceKeys,
        desk: UploadDesk,
        uploads: UploadTerms,
        room: Room,
        lists: Hotlists | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        # A closing connection is heard out for as long as its slowest answer may take.
        budget_ms = max(terms.budget_ms, LOAD_BUDGET_MS)
        super().__init__(terms.name, budget_ms, limits, clock, metrics, open_connections, tls)
        self.terms = terms
        self.submit = submit
        self.keys = keys
        self.desk = desk
        self.uploads = uploads
        self.room = room
        self.lists = lists
        self._greeted = 0

    def converse(self, stream: ByteStream, number: int) -> TapConnection:
        return TapConnection(self, stream, number)

    def greeted(self, change: int) -> None:
        """So many more connections have said hello; the link is up while there is one."""
        before, self._greeted = self._greeted, self._greeted + change
        if (before > 0) != (self._greeted > 0):
            self.metrics.link_state(self.name, "up" if self._greeted else "down")

    def count(self, request: Request, outcome: Outcome) -> None:
        """One answer left."""
        seconds = (self.clock.monotonic_ns() - request.received_ns) / NANOSECONDS
        self.metrics.answered(request.segment, request.kind, outcome, seconds)
        self.metrics.at_venue(request.venue, seconds)
        if outcome in BUDGET_NOT_KEPT:
            self.metrics.late(request.segment)
