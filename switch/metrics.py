"""What a switch tells Prometheus: the methods that count, for each metric of the catalogue.

A label value is from a closed list or a configured link; anything else is counted under
`other`, so neither a card number nor a peer's text can become a series. Label children are
kept in a table by their values: finding one in prometheus_client costs more than counting.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Set
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from wsgiref.simple_server import WSGIServer

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    disable_created_metrics,
    generate_latest,
    start_http_server,
)
from prometheus_client.gc_collector import GCCollector
from prometheus_client.process_collector import ProcessCollector

from protocols.message import Kind, Outcome, Segment
from switch.config_trouble import Tls
from switch.metric import Metric, MetricType
from switch.metrics_catalogue import (
    BILL_STATES,
    BILLER,
    CATALOGUE,
    LABEL_VALUES,
    LINK,
    LINK_STATES,
    SERIES_MAX,
    UPSTREAM,
    VENUE,
)
from switch.metrics_rules import RULE, RuleMetrics

# a `_created` series beside each counter would double their number
disable_created_metrics()  # type: ignore[no-untyped-call]

NO_TLS = Tls()
OTHER = "other"
RULESET_HASH_CHARACTERS = 12

_TYPES: Mapping[MetricType, Any] = {
    "counter": Counter,
    "gauge": Gauge,
    "histogram": Histogram,
    "info": Info,
}


class _Family:
    """The children of one metric by their label values."""

    __slots__ = ("_allowed", "_collector", "_of", "_once_known", "_registry", "_width")

    def __init__(
        self, metric: Metric, registry: CollectorRegistry, named: Mapping[str, Set[str]]
    ) -> None:
        made = _TYPES[metric.type]
        extra = {"buckets": metric.buckets} if metric.buckets else {}
        name = metric.name.removesuffix("_info") if metric.type == "info" else metric.name
        self._collector: Any = made(name, metric.help, metric.labels, registry=None, **extra)
        self._registry, self._once_known = registry, metric.once_known
        if not metric.once_known:
            registry.register(self._collector)
        self._allowed: list[Set[str]] = [
            named[label] if label in named else frozenset(LABEL_VALUES[label])
            for label in metric.labels
        ]
        self._of: dict[tuple[object, ...], Any] = {}
        self._width = len(metric.labels)

    def child(self, *values: object) -> Any:
        """The series of these label values, or of `other` where one is not allowed."""
        found = self._of.get(values)
        return self._admit(values) if found is None else found

    def _admit(self, values: tuple[object, ...]) -> Any:
        if self._once_known and not self._of:
            self._registry.register(self._collector)
        if not self._width:
            return self._of.setdefault((), self._collector)
        texts = [str(value) for value in values]
        pairs = zip(texts, self._allowed, strict=True)
        allowed = tuple(text if text in known else OTHER for text, known in pairs)
        if allowed not in self._of and len(self._of) >= SERIES_MAX:
            allowed = (OTHER,) * self._width
        child = self._of.setdefault(allowed, self._collector.labels(*allowed))
        if allowed == tuple(texts) and len(self._of) < SERIES_MAX:
            self._of[values] = child  # a shard's number finds the series of its text
        return child


class MetricsServer:
    """The HTTP endpoint of a process's metrics, served by a thread of its own."""

    def __init__(self, server: WSGIServer) -> None:
        self._server = server
        self.port: int = server.server_port

    def close(self) -> None:
        """Stop answering and free the port. A second call does nothing."""
        self._server.shutdown()
        self._server.server_close()


class Metrics:
    """The metrics of one process. `links` and `upstreams` are the configured names.

    All methods are cheap enough for every request and never raise for a label value.
    """

    def __init__(
        self,
        links: Iterable[str] = (),
        upstreams: Iterable[str] = (),
        venues: Iterable[str] = (),
        billers: Iterable[str] = (),
    ) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        names = frozenset(links)
        rule_ids: set[str] = set()
        named: dict[str, Set[str]] = {
            LINK: names,
            UPSTREAM: frozenset(upstreams),
            VENUE: frozenset(venues),
            BILLER: frozenset(billers),
            RULE: rule_ids,
        }
        families = {
            metric.name.removeprefix("citycard_"): _Family(metric, self.registry, named)
            for metric in CATALOGUE
        }
        self._requests = families["requests_total"].child
        self._request_seconds = families["request_seconds"].child
        self._late = families["late_answers_total"].child
        self._stage_seconds = families["stage_seconds"].child
        self._batch = families["batch_requests"].child()
        self._queue = families["lane_queue_requests"].child
        self._in_flight = families["requests_in_flight"].child()
        self._conflicts = families["posting_conflicts_total"].child()
        self._call_seconds = families["ledger_call_seconds"].child
        self._ledger_up = families["ledger_up"].child()
        self._imbalance = families["ledger_imbalance"].child
        self._late_reversed = families["late_approvals_reversed_total"].child()
        self._shed = families["shed_total"].child
        self._duplicates = families["duplicates_total"].child
        self._connections = families["link_connections"].child
        self._closed = families["link_closed_total"].child
        self._state = families["link_state"].child
        self._malformed = families["malformed_total"].child
        self._ready = families["ready"].child()
        self._holds_expired = families["holds_expired_total"].child()
        self._unmatched = families["unmatched_total"].child
        self._standin = families["standin_total"].child
        self._spool_rows = families["standin_spool_rows"].child()
        self._spool_oldest = families["standin_spool_oldest_seconds"].child()
        self._standin_posted = families["standin_posted_total"].child
        self._standin_suspense = families["standin_suspense_total"].child
        self._upstream_requests = families["upstream_requests_total"].child
        self._upstream_seconds = families["upstream_seconds"].child
        self._upstream_state = families["upstream_state"].child
        self._upstream_late = families["upstream_late_approvals_total"].child
        self._forward_depth = families["forward_depth"].child
        self._forward_oldest = families["forward_oldest_seconds"].child
        self._mac_failures = families["mac_failures_total"].child
        self._venue_seconds = families["venue_seconds"].child
        self._records = families["offline_records_total"].child
        self._device_findings = families["device_findings_total"].child
        self._background = families["background_requests"].child()
        self._biller_calls = families["biller_calls_total"].child
        self._biller_seconds = families["biller_seconds"].child
        self._bills = families["bill_payments"].child
        self._bills_oldest = families["bill_oldest_seconds"].child
        self._hotlist_version = families["hotlist_version"].child
        self._hotlist_acknowledged = families["hotlist_acknowledged_version"].child
        self._ruleset = families["ruleset_info"].child()
        self.rules = RuleMetrics({name: each.child for name, each in families.items()}, rule_ids)
        families["build_info"].child().info(_build())
        for link in sorted(names):
            self._connections(link)
            self.link_state(link, "down")

    def answered(self, segment: Segment, kind: Kind, outcome: Outcome, seconds: float) -> None:
        """One answer left, so long after the first byte of its request."""
        self._requests(segment, kind, outcome).inc()
        self._request_seconds(segment, kind).observe(seconds)

    def late(self, segment: Segment) -> None:
        """A budget ended before the answer was ready."""
        self._late(segment).inc()

    def stage(self, name: str, seconds: float) -> None:
        """One of STAGES took so long."""
        self._stage_seconds(name).observe(seconds)

    def batch(self, size: int) -> None:
        """A batch of so many requests went to the ledger."""
        self._batch.observe(size)

    def queue_depth(self, shard: int, n: int) -> None:
        self._queue(shard).set(n)

    def in_flight(self, n: int) -> None:
        self._in_flight.set(n)

    def conflicts(self, n: int) -> None:
        """So many requests of a batch have to be decided again."""
        self._conflicts.inc(n)

    def round_trip(self, call: str, seconds: float) -> None:
        """One of CALLS took so long."""
        self._call_seconds(call).observe(seconds)

    def ledger_up(self, up: bool) -> None:
        self._ledger_up.set(1 if up else 0)

    def ledger_findings(self, n: int) -> None:
        """What the last audit found; must be 0. Not scraped before the first audit."""
        self._imbalance().set(n)

    def late_approvals_reversed(self) -> None:
        self._late_reversed.inc()

    def shed(self, segment: Segment, outcome: Outcome) -> None:
        self._shed(segment, outcome).inc()

    def refused_unread(self, segment: Segment, outcome: Outcome, n: int) -> None:
        """So many sales were refused for load by their first fields alone."""
        self._requests(segment, Kind.PURCHASE, outcome).inc(n)
        self._shed(segment, outcome).inc(n)

    def duplicates(self, duplicate: str) -> None:
        """A known key came again; one of DUPLICATES says how it was met."""
        self._duplicates(duplicate).inc()

    def link_connections(self, link: str, delta: int) -> None:
        self._connections(link).inc(delta)

    def link_closed(self, link: str, reason: str) -> None:
        """A connection ended; one of CLOSE_REASONS says why."""
        self._closed(link, reason).inc()

    def link_state(self, link: str, state: str) -> None:
        """The link is now in one of LINK_STATES."""
        for each in LINK_STATES:
            self._state(link, each).set(1 if each == state else 0)

    def malformed(self, link: str, part: str) -> None:
        """A message could not be read; `part` is an error's field path, such as `DE55.9F02`."""
        self._malformed(link, part.partition(".")[0]).inc()

    def ready(self, ready: bool) -> None:
        self._ready.set(1 if ready else 0)

    def hold_expired(self) -> None:
        self._holds_expired.inc()

    def unmatched(self, kind: Kind) -> None:
        """A linked message found no original; it is kept for reconciliation."""
        self._unmatched(kind).inc()

    def standin(self, segment: Segment, answer: str) -> None:
        """Stand-in met a request; one of STANDIN_ANSWERS."""
        self._standin(segment, answer).inc()

    def standin_spool(self, rows: int, oldest_seconds: float) -> None:
        self._spool_rows.set(rows)
        self._spool_oldest.set(oldest_seconds)

    def standin_posted(self, segment: Segment, *, suspense: bool) -> None:
        """An advice of the spool is in the ledger."""
        self._standin_posted(segment).inc()
        if suspense:
            self._standin_suspense(segment).inc()

    def upstream_answered(self, upstream: str, outcome: Outcome, seconds: float | None) -> None:
        """A forwarded request has its outcome; no `seconds` where the host did not answer."""
        self._upstream_requests(upstream, outcome).inc()
        if seconds is not None:
            self._upstream_seconds(upstream).observe(seconds)

    def upstream_state(self, upstream: str, state: str) -> None:
        """The link to a host is now in one of LINK_STATES."""
        for each in LINK_STATES:
            self._upstream_state(upstream, each).set(1 if each == state else 0)

    def upstream_late_approval(self, upstream: str) -> None:
        self._upstream_late(upstream).inc()

    def forward_queue(self, upstream: str, depth: int, oldest_seconds: float) -> None:
        """Reversals that this destination has not answered yet."""
        self._forward_depth(upstream).set(depth)
        self._forward_oldest(upstream).set(oldest_seconds)

    def mac_failure(self, link: str) -> None:
        self._mac_failures(link).inc()

    def at_venue(self, venue: str, seconds: float) -> None:
        """One answer left at this venue, so long after the first byte of its request."""
        self._venue_seconds(venue).observe(seconds)

    def offline_records(self, link: str, record: str, n: int) -> None:
        """So many uploaded records came out as one of RECORD_ANSWERS."""
        self._records(link, record).inc(n)

    def device_finding(self, link: str, finding: str) -> None:
        """One of DEVICE_FINDINGS about a reader's message."""
        self._device_findings(link, finding).inc()

    def background(self, delta: int) -> None:
        self._background.inc(delta)

    def biller_called(self, biller: str, outcome: str, seconds: float | None) -> None:
        """A call ended as one of BILLER_ANSWERS; no `seconds` where nothing was answered."""
        self._biller_calls(biller, outcome).inc()
        if seconds is not None:
            self._biller_seconds(biller).observe(seconds)

    def bills_open(self, counts: Mapping[str, int], oldest_seconds: Mapping[str, float]) -> None:
        """Bill payments that have not ended, by state of BILL_STATES, and how old the oldest is."""
        for state in BILL_STATES:
            self._bills(state).set(counts.get(state, 0))
            self._bills_oldest(state).set(oldest_seconds.get(state, 0.0))

    def hotlist(self, version: int, acknowledged: Mapping[str, int]) -> None:
        """The newest hotlist version and what each tap link's acquirer has acknowledged."""
        self._hotlist_version().set(version)
        for link, of in acknowledged.items():
            self._hotlist_acknowledged(link).set(of)

    def ruleset(self, hash: str) -> None:
        self._ruleset.info({"hash": hash[:RULESET_HASH_CHARACTERS]})

    def text(self) -> str:
        """Everything in Prometheus' text format."""
        return generate_latest(self.registry).decode()

    def serve(self, host: str, port: int, tls: Tls = NO_TLS) -> MetricsServer:
        """Answer scrapes at this address, over TLS where it has a certificate.

        Port 0 is any free one. Raises OSError for a port that is taken or a file that cannot
        be read, and ssl.SSLError for one that is no certificate or key.
        """
        if not tls.certificate_file:
            server, _thread = start_http_server(port, host, self.registry)
            return MetricsServer(server)
        server, _thread = start_http_server(
            port,
            host,
            self.registry,
            certfile=tls.certificate_file,
            keyfile=tls.private_key_file,
            client_cafile=tls.authority_file or None,
            client_auth_required=bool(tls.authority_file),
        )
        return MetricsServer(server)


def _build() -> dict[str, str]:
    try:
        release = version("citycard")
    except PackageNotFoundError:
        release = "unknown"
    return {"version": release, "python": platform.python_version()}
