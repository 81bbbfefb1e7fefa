"""The catalogue: every metric of a switch, with its labels, what they may say, and its help.

`ops/metrics.md` is this table for people; a test keeps the two equal.
"""

from __future__ import annotations

from collections.abc import Mapping

from protocols.message import Kind, Outcome, Segment
from switch.metric import Metric
from switch.metrics_rules import RULE_LABELS, RULE_METRICS

SERIES_MAX = 8_192
"""Label combinations of one metric; past it, everything new is counted under `other`."""

REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.25, 0.4, 0.8, 1.5, 3.0)
"""Edges on the budgets: transit 50 and 150 ms, retail 200 (by 150 and 250) and 800 ms, 3 s."""
VENUE_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8, 1.0, 2.0, 3.0, 5.0, 10.0)
"""Edges on the budgets of every shipped venue."""
STAGE_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
BATCH_REQUESTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

STAGES = ("read", "directory", "queue", "load", "decide", "post", "write")
CALLS = ("load", "post", "directory")
CLOSE_REASONS = (
    "peer",
    "framing",
    "idle",
    "slow_frame",
    "unread_answers",
    "connections_max",
    "no_echo",
    "tls",
    "drain",
    "fault",
)
LINK_STATES = ("down", "signed_off", "signing_on", "up", "draining")
DUPLICATES = ("stored_answer", "in_flight", "key_reused")
STANDIN_ANSWERS = ("approved", "accepted", "declined")
"""A sale approved, a reversal taken into the spool, or not covered by the policy."""
MALFORMED_PARTS = (
    "frame",
    "mti",
    "bitmap",
    *(f"DE{n}" for n in (2, 3, 4, 7, 11, 12, 13, 14, 18, 22, 32, 35, 37, 41, 42, 49, 55, 60)),
)
SHARDS_MAX = 64

RECORD_ANSWERS = ("posted", "duplicate", "suspense", "rejected")
"""What became of an uploaded offline record."""
DEVICE_FINDINGS = ("mac_wrong", "unknown_key", "clock_ahead", "replayed", "fare_differs")
"""What is noticed about a reader's message."""
BILLER_ANSWERS = ("done", "refused", "unknown", "timeout", "fault", "circuit_open")
BILL_STATES = ("held", "confirming", "in_doubt", "suspense")
"""States of bill payments that still have to end."""

LINK = "link"
UPSTREAM = "upstream"
VENUE = "venue"
BILLER = "biller"
"""The labels whose values come from the configuration."""

LABEL_VALUES: Mapping[str, tuple[str, ...]] = {
    "segment": tuple(Segment),
    "kind": tuple(Kind),
    "outcome": tuple(Outcome),
    "stage": STAGES,
    "shard": tuple(str(shard) for shard in range(SHARDS_MAX)),
    "call": CALLS,
    "reason": CLOSE_REASONS,
    "state": LINK_STATES,
    "part": MALFORMED_PARTS,
    "duplicate": DUPLICATES,
    "standin": STANDIN_ANSWERS,
    LINK: (),
    UPSTREAM: (),
    VENUE: (),
    BILLER: (),
    "record": RECORD_ANSWERS,
    "call_outcome": BILLER_ANSWERS,
    "device": DEVICE_FINDINGS,
    "bill": BILL_STATES,
    **RULE_LABELS,
}
"""Every label and what it may say, besides `other`."""


CATALOGUE: tuple[Metric, ...] = (
    Metric(
        "citycard_venue_seconds",
        "histogram",
        "From the first byte of a request to its answer, by venue; background work is left out.",
        (VENUE,),
        VENUE_SECONDS,
    ),
    Metric(
        "citycard_offline_records_total",
        "counter",
        "Uploaded records of offline taps, by what became of them.",
        (LINK, "record"),
    ),
    Metric(
        "citycard_device_findings_total",
        "counter",
        "What was noticed about messages of readers.",
        (LINK, "device"),
    ),
    Metric(
        "citycard_background_requests",
        "gauge",
        "Requests of uploads and debit files that wait or are under way.",
    ),
    Metric(
        "citycard_biller_calls_total",
        "counter",
        "Calls of a biller's host, by how they ended.",
        (BILLER, "call_outcome"),
    ),
    Metric(
        "citycard_biller_seconds",
        "histogram",
        "How long a biller's host took to answer.",
        (BILLER,),
        REQUEST_SECONDS,
    ),
    Metric(
        "citycard_bill_payments",
        "gauge",
        "Bill payments that have not ended, by state.",
        ("bill",),
        once_known=True,
    ),
    Metric(
        "citycard_bill_oldest_seconds",
        "gauge",
        "Age of the oldest bill payment that has not ended.",
        ("bill",),
        once_known=True,
    ),
    Metric(
        "citycard_hotlist_version",
        "gauge",
        "The newest version of the readers' hotlist, 0 before the first.",
        (),
        once_known=True,
    ),
    Metric(
        "citycard_hotlist_acknowledged_version",
        "gauge",
        "The hotlist version that an acquirer's readers last acknowledged.",
        (LINK,),
        once_known=True,
    ),
    Metric(
        "citycard_requests_total",
        "counter",
        "Requests answered, by what became of them.",
        ("segment", "kind", "outcome"),
    ),
    Metric(
        "citycard_request_seconds",
        "histogram",
        "From the first byte of a request to its answer; without those refused unread for load.",
        ("segment", "kind"),
        REQUEST_SECONDS,
    ),
    Metric(
        "citycard_late_answers_total",
        "counter",
        "Requests whose answer was not ready within their budget.",
        ("segment",),
    ),
    Metric(
        "citycard_stage_seconds",
        "histogram",
        "Time that one stage of the way through took, once per request or batch.",
        ("stage",),
        STAGE_SECONDS,
    ),
    Metric(
        "citycard_batch_requests",
        "histogram",
        "Requests that one batch carried to the ledger.",
        (),
        BATCH_REQUESTS,
    ),
    Metric(
        "citycard_lane_queue_requests", "gauge", "Requests waiting in a shard's lane.", ("shard",)
    ),
    Metric("citycard_requests_in_flight", "gauge", "Requests without a final answer."),
    Metric(
        "citycard_posting_conflicts_total",
        "counter",
        "Requests loaded and decided again because their account had changed meanwhile.",
    ),
    Metric(
        "citycard_ledger_call_seconds",
        "histogram",
        "Round trip of one call to the ledger.",
        ("call",),
        STAGE_SECONDS,
    ),
    Metric("citycard_ledger_up", "gauge", "Whether the ledger can be reached (1) or not (0)."),
    Metric(
        "citycard_ledger_imbalance",
        "gauge",
        "Findings of the last audit by this process; anything but 0 is an emergency.",
        once_known=True,
    ),
    Metric(
        "citycard_late_approvals_reversed_total",
        "counter",
        "Approvals posted after their deadline, which the switch reversed by itself.",
    ),
    Metric(
        "citycard_shed_total",
        "counter",
        "Requests refused before the ledger because of load, budget or a ledger that is down.",
        ("segment", "outcome"),
    ),
    Metric(
        "citycard_duplicates_total",
        "counter",
        "Requests under a key that was known already, by how they were met.",
        ("duplicate",),
    ),
    Metric(
        "citycard_ready",
        "gauge",
        "Whether the process takes requests (1), or starts or drains (0).",
    ),
    Metric(
        "citycard_holds_expired_total",
        "counter",
        "Holds and pending loads that ended because their time was over.",
    ),
    Metric(
        "citycard_unmatched_total",
        "counter",
        "Reversals and other linked messages whose original is not in the ledger.",
        ("kind",),
    ),
    Metric(
        "citycard_standin_total",
        "counter",
        "Requests met while the ledger was away, by what stand-in said.",
        ("segment", "standin"),
    ),
    Metric("citycard_standin_spool_rows", "gauge", "Advices in the spool that are not posted."),
    Metric(
        "citycard_standin_spool_oldest_seconds", "gauge", "Age of the oldest advice in the spool."
    ),
    Metric(
        "citycard_standin_posted_total",
        "counter",
        "Advices of the spool that were posted.",
        ("segment",),
    ),
    Metric(
        "citycard_standin_suspense_total",
        "counter",
        "Advices that the purse could not pay; they stand in suspense.",
        ("segment",),
    ),
    Metric(
        "citycard_upstream_requests_total",
        "counter",
        "Requests sent to the host of another issuer, by what became of them.",
        (UPSTREAM, "outcome"),
    ),
    Metric(
        "citycard_upstream_seconds",
        "histogram",
        "From sending a request to another issuer's host to its answer.",
        (UPSTREAM,),
        REQUEST_SECONDS,
    ),
    Metric(
        "citycard_upstream_state",
        "gauge",
        "State of the link to a host: 1 for the state it is in and 0 for the others.",
        (UPSTREAM, "state"),
    ),
    Metric(
        "citycard_upstream_late_approvals_total",
        "counter",
        "Approvals of a host that came after its request was given up; each is reversed.",
        (UPSTREAM,),
    ),
    Metric(
        "citycard_forward_depth",
        "gauge",
        "Reversals that wait to be answered by a host.",
        (UPSTREAM,),
    ),
    Metric(
        "citycard_forward_oldest_seconds",
        "gauge",
        "Age of the oldest reversal that a host has not answered.",
        (UPSTREAM,),
    ),
    Metric(
        "citycard_mac_failures_total", "counter", "Messages whose MAC is missing or wrong.", (LINK,)
    ),
    Metric("citycard_link_connections", "gauge", "Open connections of a link.", (LINK,)),
    Metric(
        "citycard_link_closed_total",
        "counter",
        "Connections of a link that ended, by why.",
        (LINK, "reason"),
    ),
    Metric(
        "citycard_link_state",
        "gauge",
        "State of a link: 1 for the state it is in and 0 for the others.",
        (LINK, "state"),
    ),
    Metric(
        "citycard_malformed_total",
        "counter",
        "Messages that were not of the agreed format, by the first part at fault.",
        (LINK, "part"),
    ),
    Metric("citycard_ruleset_info", "info", "The ruleset that decides, by the start of its hash."),
    *RULE_METRICS,
    Metric("citycard_build_info", "info", "Version of the switch and of Python."),
)
