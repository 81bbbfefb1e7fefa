"""Each way a biller's host can fail has its own clear ending, over real HTTP on both backends."""

from __future__ import annotations

import pytest

from loadtest.biller import Plan
from protocols.bills.biller import Bill, PaymentAnswer, PaymentState, RefusalReason, TokenAnswer
from switch.net.billers.circuit import CircuitState
from switch.net.billers.client import BillerAnswer

A, B = "a" * 32, "b" * 32


async def test_a_bill_is_asked_for_paid_looked_up_and_given_back(in_town):
    async with in_town(Plan(api_key="open-sesame")) as town:
        billers = town.billers
        bill = await billers.inquire("water", "FEE-1250", town.by())
        assert isinstance(bill, Bill)
        assert (bill.total_minor, bill.payable) == (1450, True)
        paid = await billers.pay("water", A, "FEE-1250", 1450, town.by())
        assert isinstance(paid, PaymentAnswer)
        assert (paid.state, paid.receipt) == (PaymentState.PAID, "R00000001")
        # the same serial is the same payment; another serial finds the bill paid
        assert await billers.pay("water", A, "FEE-1250", 1450, town.by()) == paid
        other = await billers.pay("water", B, "FEE-1250", 1450, town.by())
        assert isinstance(other, PaymentAnswer)
        assert (other.state, other.reason) == (PaymentState.REFUSED, RefusalReason.ALREADY_PAID)
        assert await billers.query("water", A, "FEE-1250", 1450, town.by()) == paid
        back = await billers.reverse("water", A, "FEE-1250", 1450, town.by())
        assert isinstance(back, PaymentAnswer)
        assert back.state is PaymentState.REVERSED
    assert town.host.book.payments[A].heard == 2
    assert (town.counted("done"), town.counted("refused")) == (5, 1)


async def test_what_a_biller_does_not_have_is_its_own_word(in_town):
    async with in_town() as town:
        billers = town.billers
        assert await billers.inquire("water", "NOBILL-1", town.by()) is BillerAnswer.UNKNOWN
        assert await billers.pay("water", A, "NOBILL-1", 5, town.by()) is BillerAnswer.UNKNOWN
        assert await billers.query("water", A, "X-5", 5, town.by()) is BillerAnswer.UNKNOWN
        assert await billers.reverse("water", A, "X-5", 5, town.by()) is BillerAnswer.UNKNOWN
        assert await billers.token("water", A, town.by()) is BillerAnswer.UNKNOWN
        # and the 404 of something before it is not
        assert await billers.inquire("water", "PROXY-1", town.by()) is BillerAnswer.FAULT
    assert (town.counted("unknown"), town.counted("fault")) == (5, 2)


async def test_a_token_is_fetched_again_and_never_given_back(in_town):
    async with in_town(Plan(kind="prepaid"), kind="prepaid") as town:
        billers = town.billers
        bought = await billers.pay("water", A, "METER-7", 5_000, town.by())
        assert isinstance(bought, PaymentAnswer)
        assert len(bought.token) == 20
        assert bought.token not in repr(bought)
        again = await billers.token("water", A, town.by())
        assert again == TokenAnswer(A, bought.token)
        back = await billers.reverse("water", A, "METER-7", 5_000, town.by())
        assert isinstance(back, PaymentAnswer)
        assert (back.state, back.reason) == (PaymentState.REFUSED, RefusalReason.TOKEN_ISSUED)


@pytest.mark.parametrize(
    ("bill_no", "ending", "posted"),
    [
        ("F500-5", BillerAnswer.FAULT, False),
        ("LOST-5", BillerAnswer.TIMEOUT, True),
        ("SLOW-5", BillerAnswer.TIMEOUT, True),
        ("WRONG-5", BillerAnswer.FAULT, True),
        ("MIXED-5", BillerAnswer.FAULT, True),
        ("TWICE-5", BillerAnswer.FAULT, True),
        ("HUGE-5", BillerAnswer.FAULT, True),
        ("MUTE-5", BillerAnswer.TIMEOUT, True),
    ],
)
async def test_a_payment_that_goes_wrong_is_sent_once_and_never_believed(
    in_town, bill_no, ending, posted
):
    async with in_town(Plan(slow_seconds=60), timeout_ms=300) as town:
        assert await town.billers.pay("water", A, bill_no, 5, town.by()) is ending
        assert town.counted(ending) == 1
        assert (A in town.host.book.payments) is posted
        assert town.host.calls == 1
        if bill_no[:4] in ("HUGE", "MUTE"):
            return
        # nothing is guessed: the biller is asked, and knows
        found = await town.billers.query("water", A, bill_no, 5, town.by())
        if posted:
            assert isinstance(found, PaymentAnswer)
            assert found.state is PaymentState.PAID
        else:
            assert found is BillerAnswer.UNKNOWN


async def test_a_question_is_asked_once_more_and_then_the_circuit_is_open(in_town):
    async with in_town(circuit_failures=3, circuit_seconds=3600) as town:
        billers = town.billers
        assert await billers.inquire("water", "DEAF-5", town.by()) is BillerAnswer.FAULT
        assert town.host.calls == 2
        assert await billers.inquire("water", "DEAF-5", town.by()) is BillerAnswer.FAULT
        assert town.circuit.state is CircuitState.OPEN
        assert await billers.pay("water", A, "X-5", 5, town.by()) is BillerAnswer.CIRCUIT_OPEN
        assert (town.host.calls, town.host.book.payments) == (3, {})


async def test_without_time_nothing_is_sent(in_town):
    async with in_town() as town:
        ended = await town.billers.pay("water", A, "X-5", 5, town.by(0))
        assert ended is BillerAnswer.CIRCUIT_OPEN
        assert town.host.calls == 0


async def test_a_short_budget_is_kept_and_held_against_nobody(in_town):
    async with in_town(circuit_failures=1) as town:
        ended = await town.billers.query("water", A, "X-5", 5, town.by(0.001))
        assert ended in (BillerAnswer.TIMEOUT, BillerAnswer.CIRCUIT_OPEN)
        assert await town.billers.inquire("water", "MUTE-5", town.by(0.2)) is BillerAnswer.TIMEOUT
        assert town.circuit.state is CircuitState.CLOSED


async def test_a_host_that_is_away_or_wants_another_key_is_a_fault(in_town, nobody_there):
    ended = await nobody_there.billers.inquire("water", "X-5", nobody_there.by())
    assert ended is BillerAnswer.FAULT
    async with in_town(Plan(api_key="open-sesame")) as town:
        town.billers._hosts["water"].client.headers["authorization"] = "Bearer no"
        assert await town.billers.inquire("water", "X-5", town.by()) is BillerAnswer.FAULT


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\xfe",
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 60_000,
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"x" * 200_000 + b"\r\n\r\n{}",
    ],
)
async def test_what_is_no_answer_is_a_fault(raw_host, octets):
    async with raw_host(octets) as town:
        assert await town.billers.pay("water", A, "X-5", 5, town.by()) is BillerAnswer.FAULT
