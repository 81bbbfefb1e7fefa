"""The simulated biller: its book posts each serial once, its faults are the ones asked for."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from loadtest.biller import BillerHost, Plan, chances_of
from loadtest.biller_book import PREFIXES, Book, Conflict, Fault, fault_of
from protocols.bills.biller import (
    Absent,
    Bill,
    PaymentAnswer,
    PaymentOrder,
    PaymentState,
    RefusalReason,
)

CHECKOUT = Path(__file__).parents[2]


def paid(book, serial, bill_no, minor):
    answer = book.pay(PaymentOrder(serial * 32, bill_no, minor))
    assert isinstance(answer, PaymentAnswer)
    return answer.state, answer.reason


def test_a_book_posts_each_serial_once_and_each_bill_once():
    book = Book()
    order = PaymentOrder("a" * 32, "W-1250", 1250)
    assert book.pay(order) == book.pay(order) == book.query("a" * 32)
    assert book.pay(PaymentOrder("a" * 32, "W-1250", 1251)) == Conflict()
    assert paid(book, "b", "W-1250", 1250) == (PaymentState.REFUSED, RefusalReason.ALREADY_PAID)
    assert paid(book, "c", "V-1250", 99) == (PaymentState.REFUSED, RefusalReason.AMOUNT_WRONG)
    bill = book.inquire("W-1250")
    assert isinstance(bill, Bill)
    assert not bill.payable
    book.reverse("a" * 32)
    assert paid(book, "d", "W-1250", 1250)[0] is PaymentState.PAID
    written = book.written()
    assert (written["paid_count"], written["paid_minor"]) == (1, 1250)
    assert [each["heard"] for each in written["payments"]] == [3, 1, 1, 1]


def test_prefixes_choose_what_happens():
    book = Book()
    assert isinstance(book.inquire("NOBILL-1"), Absent)
    grown = [book.inquire("GROWS-500").total_minor for _ in range(3)]
    assert grown == [500, 600, 700]
    assert paid(book, "e", "GROWS-500", 700)[0] is PaymentState.PAID
    assert paid(book, "f", "CLOSED-5", 5)[1] is RefusalReason.CLOSED
    assert paid(book, "0", "PAID-5", 5)[1] is RefusalReason.ALREADY_PAID
    assert paid(book, "1", "CUTOFF-5", 5)[0] is PaymentState.PAID
    assert book.reverse("1" * 32).reason is RefusalReason.CUT_OFF
    for prefix in PREFIXES:
        others = [known for known in PREFIXES if known != prefix and known.startswith(prefix)]
        assert not others, "no prefix begins like another"
    assert fault_of("LOST-5", paying=True) is Fault.LOST
    assert fault_of("LOST-5", paying=False) is Fault.NONE


def test_faults_by_chance_follow_the_seed():
    plan = Plan(chances=chances_of("slow=0.2,500=0.3"), seed=4)
    throws = [[BillerHost(plan)._by_chance() for _ in range(1)] for _ in range(2)]
    assert throws[0] == throws[1]
    host = BillerHost(plan)
    met = [host._by_chance() for _ in range(2_000)]
    assert 300 < met.count(Fault.SLOW) < 500
    assert 500 < met.count(Fault.ERROR) < 700


@pytest.mark.parametrize("text", ["slow", "slow=x", "slow=2", "huge=0.1", "slow=0.6,500=0.6"])
def test_chances_that_are_none_are_told(text):
    with pytest.raises(ValueError, match=r"write NAME=CHANCE|make them smaller"):
        chances_of(text)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_process_says_where_it_listens_and_leaves_its_book(tmp_path, backend):
    command = [
        sys.executable, "-m", "loadtest.biller", "--kind", "prepaid", "--backend", backend,
        "--book", str(tmp_path / "book.json"), "--ready-file", str(tmp_path / "ready.json"),
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=CHECKOUT)
    try:
        assert process.stdout is not None
        port = json.loads(process.stdout.readline())["port"]
        assert json.loads((tmp_path / "ready.json").read_text()) == {"port": port}
        order = {"serial": "a" * 32, "bill_no": "METER-1", "amount_minor": 5000}
        answer = asked(port, "/bills/payments", order)
        assert len(answer["token"]) == 20
        assert asked(port, f"/bills/payments/{'a' * 32}/token")["token"] == answer["token"]
        shown = asked(port, "/book")
        with pytest.raises(urllib.error.HTTPError, match="400"):
            asked(port, "/bills/payments", {"serial": "no"})
        with pytest.raises(urllib.error.HTTPError, match="404"):
            asked(port, "/else")
    finally:
        process.terminate()
        assert process.wait(20) == 0
    book = json.loads((tmp_path / "book.json").read_text())
    assert book == shown
    assert (book["paid_count"], book["paid_minor"]) == (1, 5000)
    assert answer["token"] not in json.dumps(book)


def asked(port, path, body=None):
    octets = json.dumps(body).encode() if body is not None else None
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", octets)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.loads(answer.read())
