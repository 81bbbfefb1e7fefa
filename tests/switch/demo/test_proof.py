"""Journals against the ledger and billers' books: each way they can differ is a finding."""

import msgspec
import pytest

from protocols.message import Segment
from switch.demo.answered import Answered, read_journal
from switch.demo.proof import agree, agree_on_bills, scrape
from switch.demo.venue_lines import segment_lines, venue_lines
from switch.metrics import Metrics
from switch.venues import load_venues

KEY = "R0000101-000001-1122193000-02"
ROW = {
    "key": KEY,
    "approved": True,
    "taken_back": False,
    "approved_minor": 1_250,
    "rrn": "632619000001",
}
ANSWER = Answered(KEY, 0, "00", "632619000001", 1_250)
REFUSED = {**ROW, "approved": False, "approved_minor": 0}
TAKEN_BACK = {**ROW, "taken_back": True}
LATE = Answered(KEY, 0, "91")


def changed(answer, **changes):
    return msgspec.structs.replace(answer, **changes)


@pytest.mark.parametrize(
    ("answers", "rows"),
    [
        ([ANSWER], [ROW]),
        ([ANSWER, changed(ANSWER, repeat=True)], [ROW]),
        ([changed(ANSWER, code="65", approved_minor=0)], [REFUSED]),
        # never reached the ledger, and was told so
        ([changed(ANSWER, code="91", approved_minor=0)], []),
        ([], [REFUSED]),
        # refused for load, and approved when it was sent again
        ([LATE, changed(ANSWER, repeat=True)], [ROW]),
        # approved too late, and taken back by the switch itself
        ([LATE], [TAKEN_BACK]),
        ([], [TAKEN_BACK]),
        # taken back by who had been told
        ([ANSWER], [TAKEN_BACK]),
        # a gate is told no RRN, and may be told of money back
        ([changed(ANSWER, rrn="", approved_minor=-50)], [{**ROW, "approved_minor": -50}]),
        ([changed(ANSWER, code="10")], [ROW]),
        # bills have books of their own, and what was refused over HTTP has no key
        ([changed(ANSWER, key="bill-00"), changed(LATE, key="")], []),
    ],
)
def test_what_agrees_is_no_finding(answers, rows):
    assert agree(answers, rows).disagreements == 0


@pytest.mark.parametrize(
    ("answers", "rows", "said"),
    [
        ([ANSWER], [], "not so in the ledger"),
        ([ANSWER], [REFUSED], "not so in the ledger"),
        ([ANSWER], [{**ROW, "approved_minor": 1_251}], "not so in the ledger"),
        ([ANSWER], [{**ROW, "rrn": "632619000002"}], "not so in the ledger"),
        ([changed(ANSWER, code="51", approved_minor=0)], [ROW], "answered 51"),
        ([], [ROW], "never told"),
        ([changed(ANSWER, key="R0000101-000002-1122193000-02")], [ROW], "never told"),
        ([LATE], [ROW], "answered 91"),
    ],
)
def test_what_disagrees_is_named_by_its_key(answers, rows, said):
    agreement = agree(answers, rows)
    assert agreement.disagreements > 0
    assert any(said in finding for finding in agreement.first)
    assert all(finding.startswith("R0000101-00000") for finding in agreement.first)


def test_many_disagreements_are_counted_and_few_shown():
    answers = [changed(ANSWER, key=f"R0000101-{number:06}-1122193000-02") for number in range(40)]
    agreement = agree(answers, [])
    assert agreement.disagreements == 40
    assert len(agreement.first) == 5


PAID = {"serial": "ab" * 16, "state": "paid", "amount_minor": 4_200}
TOLD = Answered("bill-" + "ab" * 16, 0, "00", "", 4_200, kind="bill_confirm")


@pytest.mark.parametrize(
    ("answers", "rows", "book", "differing"),
    [
        ([TOLD], [PAID], {PAID["serial"]: 4_200}, 0),
        ([], [{**PAID, "state": "released"}], {}, 0),
        ([TOLD], [PAID], {}, 1),
        ([], [], {PAID["serial"]: 4_200}, 1),
        ([TOLD], [PAID], {PAID["serial"]: 4_201}, 1),
        ([TOLD], [{**PAID, "state": "released"}], {}, 1),
    ],
)
def test_bills_are_held_against_the_billers_books(answers, rows, book, differing):
    assert agree_on_bills(answers, rows, book).disagreements == differing


def test_a_line_for_each_venue_and_each_segment():
    answers = [changed(ANSWER, venue="bus", latency_us=1_000 * number) for number in range(1, 101)]
    answers += [
        changed(ANSWER, venue="bus", code="62", latency_us=0),
        changed(ANSWER, mcc="5499", latency_us=151_000),
        changed(ANSWER, venue="water", latency_us=9_000),
    ]
    lines = venue_lines(answers, load_venues(""))
    assert [line.number for line in lines] == list(range(1, 16))
    by_code = {line.code: line for line in lines}
    bus = by_code["bus"].line
    assert (bus.messages, bus.approved, bus.declined) == (101, 100, 1)
    assert (bus.p50_ms, bus.p99_ms) == (50.0, 99.0)
    assert not by_code["bus"].within
    assert by_code["water"].within
    assert (by_code["convenience"].line.messages, by_code["convenience"].within) == (1, False)
    assert by_code["cinema"].line.messages == 0
    messages = {
        each.segment: each.line.messages for each in segment_lines(answers, load_venues(""))
    }
    assert messages == {Segment.TRANSIT: 101, Segment.UTILITY: 1, Segment.RETAIL: 1}


def test_messages_without_an_answer_are_left_out(tmp_path):
    journal = tmp_path / "journal.jsonl"
    lines = [msgspec.json.encode(one) for one in (ANSWER, changed(ANSWER, code="", rrn=""))]
    journal.write_bytes(b"\n".join(lines) + b"\n")
    assert read_journal(journal) == [ANSWER]


def test_a_scrape_sums_over_workers():
    workers = [Metrics(["retail-1"]), Metrics(["retail-1"])]
    for worker in workers:
        worker.ledger_up(True)
        worker.duplicates("stored_answer")
    servers = [worker.serve("127.0.0.1", 0) for worker in workers]
    try:
        scraped = scrape("127.0.0.1", [server.port for server in servers])
    finally:
        for server in servers:
            server.close()
    assert scraped.values["citycard_ledger_up"] == 2
    assert scraped.values["citycard_duplicates_total"] == 2
    assert len(scraped.urls) == 2
