"""The tap links of a process, put together from its configuration."""

from __future__ import annotations

from collections.abc import MutableSet
from zoneinfo import ZoneInfo

import msgspec

from switch.clock import Clock
from switch.config import Config
from switch.config_city import TapLink as ConfiguredLink
from switch.keystore.seam import KeyStore, KeyStoreError
from switch.metrics import Metrics
from switch.net.conversation import Conversation
from switch.net.limits import LinkLimits
from switch.net.tap.device_keys import ChipKeys, DeviceKeys
from switch.net.tap.dialect import TapTerms
from switch.net.tap.link import TapLink, UploadTerms
from switch.net.tap.lists import Hotlists
from switch.net.tap.upload_desk import RECORDS_HELD_MAX, Submit, UploadDesk
from switch.net.tap.uploads import Room
from switch.net.tls import server_context
from switch.venues import VenueTable

SECOND_US = 1_000_000


class Taps(msgspec.Struct, frozen=True):
    """The tap links of a process, and the desk that posts what they upload."""

    links: tuple[TapLink, ...]
    desk: UploadDesk


def check_taps(config: Config, store: KeyStore | None) -> None:
    """Raises ConfigError and KeyStoreError for what would keep every reader out."""
    for number, link in enumerate(config.taps):
        server_context(link.tls, f"taps[{number}].tls")
        if store is None:
            raise KeyStoreError(
                f"tap link {link.name} proves its readers and there is no key store; "
                "run citycard keys init, then citycard keys reader install"
            )


def taps_of(
    config: Config,
    *,
    venues: VenueTable,
    store: KeyStore | None,
    submit: Submit,
    limits: LinkLimits,
    open_connections: MutableSet[Conversation],
    clock: Clock,
    metrics: Metrics,
    hash_key: bytes,
    lists: Hotlists | None,
) -> Taps:
    """The links of `[[taps]]`. Raises ConfigError for a certificate that cannot be used."""
    overlap_minutes = config.keys.overlap_minutes
    desk = UploadDesk(
        submit,
        ChipKeys(store, overlap_minutes, clock),
        in_flight_max=config.uploads.in_flight_max,
        clock=clock,
        metrics=metrics,
    )
    # At least one batch of the largest size must fit.
    room = Room(max(RECORDS_HELD_MAX, config.uploads.records_per_batch_max))
    uploads = UploadTerms(config.uploads.records_per_batch_max, config.uploads.open_batches_max)
    links = tuple(
        TapLink(
            tap_terms(link, config, venues, hash_key),
            limits,
            submit,
            clock,
            metrics,
            open_connections,
            keys=DeviceKeys(link.acquirer, store, overlap_minutes, clock),
            desk=desk,
            uploads=uploads,
            room=room,
            lists=lists,
            tls=server_context(link.tls, f"taps[{number}].tls"),
        )
        for number, link in enumerate(config.taps)
    )
    return Taps(links, desk)


def tap_terms(
    link: ConfiguredLink, config: Config, venues: VenueTable, hash_key: bytes
) -> TapTerms:
    """What the protocol's dialect needs to know about a link."""
    by_mode = venues.by_mode()
    return TapTerms(
        name=link.name,
        acquirer=link.acquirer,
        budget_ms=link.budget_ms,
        currency=config.ledger.currency,
        modes=link.modes,
        venues={mode: by_mode[mode] for mode in link.modes if mode in by_mode},
        clock_tolerance_us=config.fares.clock_tolerance_seconds * SECOND_US,
        hash_key=hash_key,
        zone=ZoneInfo(config.ledger.time_zone),
    )
