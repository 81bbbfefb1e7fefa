"""Puts the upstreams of a worker together from its configuration."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import anyio
from anyio.abc import ByteStream

from switch.calendar import BusinessCalendar
from switch.clock import Clock
from switch.config import Config
from switch.config_trouble import Upstream
from switch.ledger.forward_book import ForwardBook
from switch.ledger.forwarding import ForwardStore
from switch.ledger.sealed_request import RequestSealer
from switch.metrics import Metrics
from switch.net.encrypted import encrypted
from switch.net.tls import client_context
from switch.net.upstream.desk import Ledgered, Upstreams
from switch.net.upstream.host_link import Connect
from switch.net.upstream.keeping import ORPHAN_GRACE_SECONDS

if TYPE_CHECKING:
    from switch.net.guard import LinkGuard


def upstreams_of(
    config: Config,
    *,
    database: str,
    key: bytes,
    pipeline: Ledgered,
    calendar: BusinessCalendar,
    clock: Clock,
    metrics: Metrics,
    entropy: Callable[[int], bytes],
    guards: Mapping[str, LinkGuard] | None = None,
    orphan_grace_seconds: float = ORPHAN_GRACE_SECONDS,
) -> Upstreams | None:
    """The configured upstreams before a pipeline; None where there are none.

    `key` is the card number key. Raises what `client_context` raises for certificates.
    """
    if not config.upstreams:
        return None
    seconds = float(config.ledger.connect_timeout_seconds)
    book = ForwardBook(functools.partial(ForwardStore.open_book, database, seconds), clock)
    return Upstreams(
        config.upstreams,
        pipeline=pipeline,
        book=book,
        sealer=RequestSealer(key, entropy),
        connectors={
            each.name: connector(each, f"upstreams[{index}].tls")
            for index, each in enumerate(config.upstreams)
        },
        frame_bytes_max=config.limits.frame_bytes_max,
        calendar=calendar,
        clock=clock,
        metrics=metrics,
        guards=guards,
        orphan_grace_seconds=orphan_grace_seconds,
    )


def connector(upstream: Upstream, key: str) -> Connect:
    """How a host is connected to: TCP, with TLS where the section `key` says so."""
    context = client_context(upstream.tls, key)

    async def connect() -> ByteStream:
        stream = await anyio.connect_tcp(upstream.host, upstream.port)
        if context is None:
            return stream
        try:
            return await encrypted(stream, context, server_side=False, hostname=upstream.host)
        except BaseException:
            await anyio.aclose_forcefully(stream)
            raise

    return connect
