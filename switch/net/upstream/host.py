"""One destination of forwarded requests, as the parts of the desk share it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from switch.net.upstream.matching import InFlight

if TYPE_CHECKING:
    from switch.config_trouble import Upstream
    from switch.net.upstream.exchange import Awaited
    from switch.net.upstream.host_link import HostLink
    from switch.net.upstream.reversals import ReversalSender
    from switch.net.upstream.wire import HostWire


class Host:
    """One destination: its link, what is under way there, and its reversals."""

    def __init__(self, upstream: Upstream, wire: HostWire) -> None:
        self.upstream = upstream
        self.wire = wire
        self.in_flight: InFlight[Awaited] = InFlight(upstream.in_flight_max)
        self.link: HostLink
        self.reversals: ReversalSender
