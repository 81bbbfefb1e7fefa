"""The HTTP API where it is configured; a worker without one imports none of its libraries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from protocols.card_number import CardNumber
from switch.calendar import BusinessCalendar
from switch.clock import Clock
from switch.config import Config
from switch.metrics import Metrics
from switch.venues import VenueTable

if TYPE_CHECKING:
    from switch.net.http.assembly import HttpApi
    from switch.net.http.postings import Submit


def http_api_of(
    config: Config,
    *,
    database: str,
    submit: Submit,
    venues: VenueTable,
    accounts: Mapping[tuple[str, str], int],
    medium_of: Callable[[CardNumber], bytes],
    calendar: BusinessCalendar,
    clock: Clock,
    metrics: Metrics,
    entropy: Callable[[int], bytes],
) -> HttpApi | None:
    """The API, None where no port of one is configured. Raises ConfigError."""
    if not config.apis:
        return None
    from switch.net.http.assembly import http_api

    return http_api(
        config,
        database=database,
        submit=submit,
        venues=venues,
        acquirers=frozenset(owner for code, owner in accounts if code == "ACQ"),
        medium_of=medium_of,
        calendar=calendar,
        clock=clock,
        metrics=metrics,
        entropy=entropy,
    )
