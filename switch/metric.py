"""What a metric of the catalogue is."""

from __future__ import annotations

from typing import Literal

import msgspec

MetricType = Literal["counter", "gauge", "histogram", "info"]


class Metric(msgspec.Struct, frozen=True):
    """One row of the catalogue. `name` is as it is scraped; `buckets` are a histogram's edges.

    `once_known` keeps it out of a scrape until it was set: a 0 that nobody looked for would
    be taken for a good sign.
    """

    name: str
    type: MetricType
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    once_known: bool = False
