"""The journal against the ledger: each way in which the two can disagree is a finding."""

import msgspec
import pytest

from switch.demo.proof import Answered, agree, read_journal, scrape
from switch.metrics import Metrics

ROW = {
    "terminal": "R0000101",
    "stan": "000001",
    "local_at": "1122193000",
    "outcome": "approved",
    "approved_minor": 1_250,
    "rrn": "632619000001",
}
ANSWER = Answered("R0000101", "000001", "1122193000", 0, "00", "632619000001", 1_250)
REFUSED = {**ROW, "outcome": "count_limit", "approved_minor": 0}


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
        ([changed(ANSWER, code="00", stan="000002")], [ROW], "never told"),
    ],
)
def test_what_disagrees_is_named_by_its_key(answers, rows, said):
    agreement = agree(answers, rows)
    assert agreement.disagreements > 0
    assert any(said in finding for finding in agreement.first)
    assert all(finding.startswith("R0000101-00000") for finding in agreement.first)


def test_many_disagreements_are_counted_and_few_shown():
    answers = [changed(ANSWER, stan=f"{number:06}") for number in range(40)]
    agreement = agree(answers, [])
    assert agreement.disagreements == 40
    assert len(agreement.first) == 5


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
