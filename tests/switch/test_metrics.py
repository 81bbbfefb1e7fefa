from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from protocols.message import Kind, Outcome, Segment
from risk.record import Effect
from switch import metrics_catalogue as catalogue
from switch.metrics import Metrics
from switch.metrics_catalogue import BILLER, CATALOGUE, LABEL_VALUES, LINK, UPSTREAM, VENUE
from switch.metrics_rules import RULE, RULE_IDS_MAX
from switch.venues import load_venues

CONFIGURED = (LINK, UPSTREAM, VENUE, BILLER, RULE)
CARD = "6222021234567890123"
LONG_RUN = re.compile(r"(?<![.\d])\d{13}")  # decimals of a sum of seconds are no card number


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(["retail-1", "retail-2"])


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.text())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return samples(metrics)[name, frozenset(labels.items())]


def call_everything(metrics: Metrics, text: str, number: float) -> None:
    """Every method, with what a careless caller may pass."""
    metrics.answered(text, text, text, number)  # type: ignore[arg-type]
    metrics.answered(Segment.RETAIL, Kind.PURCHASE, Outcome.APPROVED, number)
    metrics.late(text)  # type: ignore[arg-type]
    metrics.stage(text, number)
    metrics.batch(3)
    metrics.queue_depth(100, 3)
    metrics.queue_depth(1, 3)
    metrics.in_flight(3)
    metrics.conflicts(2)
    metrics.round_trip(text, number)
    metrics.ledger_up(True)
    metrics.ledger_findings(0)
    metrics.late_approvals_reversed()
    metrics.shed(text, text)  # type: ignore[arg-type]
    metrics.refused_unread(text, text, 3)  # type: ignore[arg-type]
    metrics.duplicates(text)
    metrics.link_connections(text, 1)
    metrics.link_closed(text, text)
    metrics.link_state(text, text)
    metrics.malformed(text, text)
    metrics.ready(True)
    metrics.hold_expired()
    metrics.unmatched(text)  # type: ignore[arg-type]
    metrics.standin(text, text)  # type: ignore[arg-type]
    metrics.standin_spool(3, number)
    metrics.standin_posted(text, suspense=True)  # type: ignore[arg-type]
    metrics.upstream_answered(text, text, number)  # type: ignore[arg-type]
    metrics.upstream_state(text, text)
    metrics.upstream_late_approval(text)
    metrics.forward_queue(text, 2, number)
    metrics.mac_failure(text)
    metrics.at_venue(text, number)
    metrics.offline_records(text, text, 3)
    metrics.device_finding(text, text)
    metrics.background(2)
    metrics.biller_called(text, text, number)
    metrics.bills_open({text: 3}, {text: number})
    metrics.hotlist(3, {text: 2})
    metrics.ruleset(text)
    metrics.rules.decides_by(3)
    metrics.rules.looked(3, 1_774_929_600_000_000)
    metrics.rules.load_failed()
    metrics.rules.decided(text, 3)
    metrics.rules.came_to(text, text, 3)  # type: ignore[arg-type]
    metrics.rules.shadow(3, 2, 1)
    metrics.rules.paused(1, 2)
    metrics.rules.overrun(1, 2)
    metrics.rules.over_forecast(1)
    metrics.rules.buckets_read(1_774_929_600_000_000)


def test_rule_ids_are_labels_once_they_are_known_and_are_bounded(metrics: Metrics) -> None:
    metrics.rules.came_to("tap_burst", Effect.DECLINED, 1)
    assert value(metrics, "citycard_rule_results_total", rule="other", effect="declined") == 1
    metrics.rules.know(f"rule_{n}" for n in range(RULE_IDS_MAX - 1))
    metrics.rules.know(["tap_burst", "one_more"])
    metrics.rules.came_to("tap_burst", Effect.DECLINED, 2)
    metrics.rules.came_to("one_more", Effect.DECLINED, 4)
    of_burst = value(metrics, "citycard_rule_results_total", rule="tap_burst", effect="declined")
    others = value(metrics, "citycard_rule_results_total", rule="other", effect="declined")
    assert (of_burst, others) == (2, 5)


def test_every_metric_is_named_helped_and_bounded() -> None:
    assert len({metric.name for metric in CATALOGUE}) == len(CATALOGUE)
    for metric in CATALOGUE:
        assert metric.name.startswith("citycard_")
        assert metric.help.endswith(".")
        assert metric.name.endswith("_total") == (metric.type == "counter")
        assert metric.name.endswith("_info") == (metric.type == "info")
        assert bool(metric.buckets) == (metric.type == "histogram")
        assert list(metric.buckets) == sorted(set(metric.buckets))
        for label in metric.labels:
            assert label in CONFIGURED or LABEL_VALUES[label]


def test_no_metric_can_pass_its_bound_with_closed_labels() -> None:
    for metric in CATALOGUE:
        combinations = 1
        for label in metric.labels:
            combinations *= (64 if label in CONFIGURED else len(LABEL_VALUES[label])) + 1
        assert combinations <= catalogue.SERIES_MAX


def test_what_is_scraped_is_the_catalogue(metrics: Metrics) -> None:
    call_everything(metrics, "retail-1", 0.01)
    scraped = {
        family.name: family
        for family in text_string_to_metric_families(metrics.text())
        if family.name.startswith("citycard_")
    }
    for metric in CATALOGUE:
        family = scraped.pop(metric.name, None) or scraped.pop(metric.name.removesuffix("_total"))
        assert family.documentation == metric.help
        assert family.samples
    assert not scraped


def test_an_answer_is_counted_and_timed(metrics: Metrics) -> None:
    metrics.answered(Segment.RETAIL, Kind.PURCHASE, Outcome.COUNT_LIMIT, 0.051)
    labels = {"segment": "retail", "kind": "purchase"}
    assert value(metrics, "citycard_requests_total", outcome="count_limit", **labels) == 1
    assert value(metrics, "citycard_request_seconds_bucket", le="0.05", **labels) == 0
    assert value(metrics, "citycard_request_seconds_bucket", le="0.1", **labels) == 1


def test_budgets_are_edges() -> None:
    for budget_seconds in (0.05, 0.15, 0.8, 3.0):
        assert budget_seconds in catalogue.REQUEST_SECONDS
    for venue in load_venues("").venues:
        assert {venue.p99_ms / 1000, venue.hard_ms / 1000} <= set(catalogue.VENUE_SECONDS)


def test_a_link_is_in_one_state(metrics: Metrics) -> None:
    for state in ("signing_on", "up"):
        metrics.link_state("retail-1", state)
    states = {
        dict(labels)["state"]: value
        for (name, labels), value in samples(metrics).items()
        if name == "citycard_link_state" and dict(labels)["link"] == "retail-1"
    }
    others = {"down": 0, "signed_off": 0, "signing_on": 0, "draining": 0}
    assert states == {"up": 1, **others}


def test_gauges_follow(metrics: Metrics) -> None:
    metrics.link_connections("retail-1", 3)
    metrics.link_connections("retail-1", -1)
    metrics.queue_depth(3, 9)
    metrics.ledger_findings(2)
    metrics.ledger_up(False)
    assert value(metrics, "citycard_link_connections", link="retail-1") == 2
    assert value(metrics, "citycard_lane_queue_requests", shard="3") == 9
    assert value(metrics, "citycard_ledger_imbalance") == 2
    assert value(metrics, "citycard_ledger_up") == 0


def test_the_imbalance_is_no_zero_before_an_audit(metrics: Metrics) -> None:
    assert "citycard_ledger_imbalance" not in metrics.text()
    metrics.ledger_findings(0)
    metrics.ledger_findings(0)
    assert value(metrics, "citycard_ledger_imbalance") == 0


def test_a_field_path_is_counted_by_its_element(metrics: Metrics) -> None:
    metrics.malformed("retail-1", "DE55.9F02")
    metrics.malformed("retail-1", "frame.length")
    metrics.malformed("retail-1", "DE127")
    for part in ("DE55", "frame", "other"):
        assert value(metrics, "citycard_malformed_total", link="retail-1", part=part) == 1


def test_whatever_is_passed_as_a_label_is_other_and_leaves_no_trace(metrics: Metrics) -> None:
    call_everything(metrics, CARD, 0.5)
    call_everything(metrics, CARD[::-1], 0.5)
    text = metrics.text()
    assert CARD[:12] not in text.replace(f'hash="{CARD[:12]}"', "").replace(CARD[::-1][:12], "")
    assert not LONG_RUN.search(text)
    assert value(metrics, "citycard_link_connections", link="other") == 2


@given(st.lists(st.text(max_size=12), min_size=1, max_size=30))
def test_peers_cannot_make_series(texts: list[str]) -> None:
    metrics = Metrics(["retail-1"])
    call_everything(metrics, "other", 0.5)
    before = set(samples(metrics))
    for text in texts:
        metrics.link_closed(text, text)
        metrics.malformed(text, text)
        metrics.duplicates(text)
        metrics.stage(text, 0.1)
    known = set(catalogue.STAGES) | set(catalogue.CLOSE_REASONS) | set(catalogue.MALFORMED_PARTS)
    known.add("retail-1")
    if known.isdisjoint(texts):
        assert set(samples(metrics)) == before


def test_two_metrics_of_one_process_do_not_mix() -> None:
    one, two = Metrics(), Metrics()
    one.conflicts(5)
    assert value(two, "citycard_posting_conflicts_total") == 0


@pytest.fixture
def address(metrics: Metrics) -> Iterator[str]:
    server = metrics.serve("127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.port}/metrics"
    server.close()


def test_it_is_served_over_http(metrics: Metrics, address: str) -> None:
    metrics.ruleset("3fa9" + "0" * 60)
    metrics.batch(17)
    with urllib.request.urlopen(address, timeout=10) as answer:
        assert answer.status == 200
        text = answer.read().decode()
    assert 'citycard_ruleset_info{hash="3fa900000000"} 1.0' in text
    assert "citycard_batch_requests_count 1.0" in text
    assert "citycard_build_info{" in text


def test_a_closed_server_frees_its_port(metrics: Metrics) -> None:
    server = metrics.serve("127.0.0.1", 0)
    server.close()
    again = metrics.serve("127.0.0.1", server.port)
    assert again.port == server.port
    again.close()
