"""Words of readers as requests: what makes a tap itself, and what it is when its clock is wrong."""

from __future__ import annotations

from datetime import datetime

import msgspec
import pytest

from protocols.message import ChipVerdict, Fare, Kind, Outcome, Reply, Segment
from protocols.tap.words import Head, TapAnswer, TapKind
from switch.net.tap.dialect import When, read_record_request, read_tap, record_key, tap_answer

NOW_US = 1_763_600_000_000_000
WHEN = When(received_ns=5_000_000_000, now_us=NOW_US)
HEAD = Head("GATE1", 1_234_567)


@pytest.fixture
def tapped(terms, said):
    def read(head=HEAD, body=b"body", when=WHEN, **changes):
        told = said(**({"event_at_ms": NOW_US // 1000} | changes))
        return read_tap(terms(), head, told, body, when)

    return read


def test_a_tap_is_a_request_of_its_venue(tapped, terms):
    request = tapped(kind=TapKind.ON)
    local = datetime.fromtimestamp(NOW_US / 1_000_000, terms().zone)
    assert (request.kind, request.segment, request.venue) == (
        Kind.TAP_ON, Segment.TRANSIT, "metro",
    )  # fmt: skip
    assert (request.terminal, request.stan, request.merchant, request.mcc) == (
        "GATE1", "234567", "L1", "4111",
    )  # fmt: skip
    assert request.local_at == f"{local:%m%d%H%M%S}"
    assert request.key[:4] == int(request.local_at).to_bytes(4, "big")
    assert request.deadline_ns - request.received_ns == 150_000_000
    assert (request.card, request.amount.amount_minor, request.alone) == (None, 200, True)


def test_a_repeat_is_the_same_message_and_other_content_another(tapped):
    first, again, other = tapped(), tapped(), tapped(body=b"other")
    assert (first.key, first.payload_hash) == (again.key, again.payload_hash)
    assert first.key == other.key
    assert first.payload_hash != other.payload_hash
    keys = {
        tapped(head=head, **changes).key
        for head, changes in (
            (HEAD, {}),
            (Head("GATE2", HEAD.sequence), {}),
            (Head("GATE1", 8), {}),
            (HEAD, {"event_at_ms": NOW_US // 1000 - 5_000}),
        )
    }
    assert len(keys) == 4


def test_a_repeat_of_a_tap_that_is_ahead_is_the_same_message_however_much_later(tapped):
    ahead_ms = NOW_US // 1000 + 3_600_000
    first = tapped(event_at_ms=ahead_ms)
    later = tapped(event_at_ms=ahead_ms, when=When(9, NOW_US + 7_000_000))
    assert first.key == later.key
    assert (first.tap.clock_ahead, first.tap.event_at_us) == (True, NOW_US)
    within = tapped(event_at_ms=NOW_US // 1000 + 299_000)
    assert (within.tap.clock_ahead, within.tap.event_at_us) == (False, NOW_US)


@pytest.mark.parametrize("at_ms", [0, 7_258_118_400_000])
def test_any_instant_that_a_frame_can_say_makes_a_request(tapped, at_ms):
    assert tapped(event_at_ms=at_ms).tap.event_at_us == min(at_ms * 1000, NOW_US)


def test_an_answer_without_a_fare_tells_what_was_charged(tapped, said):
    request = tapped()
    assert tap_answer(said(), request.tap, Reply(Outcome.APPROVED, 180), 7) == TapAnswer(
        "00", 180, list_version=7
    )
    credit = Reply(Outcome.APPROVED, 0, fare=Fare(200, recomputed_minor=-450))
    assert tap_answer(said(), request.tap, credit, 0).charged_minor == -250
    refused = Reply(Outcome.INSUFFICIENT_FUNDS)
    assert tap_answer(said(), request.tap, refused, 0).response_code == "51"


def test_a_record_is_the_same_message_from_whatever_batch(terms, record, opened):
    agreed, one = terms(), record(3)
    made = [
        read_record_request(
            agreed, opened((one,), batch), one, venue=agreed.venues[next(iter(agreed.venues))],
            digest=b"digest00", batch=bytes([batch] * 8), verdict=ChipVerdict.GENUINE, when=WHEN,
        )
        for batch in (1, 2)
    ]  # fmt: skip
    assert made[0].key == made[1].key == record_key(one.medium, 3)
    assert made[0].payload_hash == made[1].payload_hash == b"digest00"
    assert made[0].key != record_key(one.medium, 4)
    local = datetime(2025, 11, 20, 8, 15, tzinfo=agreed.zone)
    assert made[0].tap.event_at_us == int(local.timestamp()) * 1_000_000
    assert made[0].local_at == "1120081500"
    assert made[0].must_post
    assert msgspec.structs.replace(made[0].tap.record, batch=b"") == msgspec.structs.replace(
        made[1].tap.record, batch=b""
    )
