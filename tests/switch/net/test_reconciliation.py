"""Reconciliation over a connection: which day and whose totals are asked, and what is answered."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.iso8583.client import reconciliation_message
from protocols.iso8583.dialect import NetworkFunction, Totals
from switch.net.reconciliation import day_meant

OURS = Totals(debit_count=3, debit_minor=1_500, debit_reversal_count=1, debit_reversal_minor=500)
OTHER = Totals(debit_count=2, debit_minor=1_001)


@pytest.mark.parametrize(
    ("mmdd", "today", "meant"),
    [
        ("", date(2026, 7, 1), date(2026, 7, 1)),
        ("0630", date(2026, 7, 1), date(2026, 6, 30)),
        ("1231", date(2027, 1, 1), date(2026, 12, 31)),
        ("0101", date(2026, 12, 31), date(2027, 1, 1)),
        ("0229", date(2028, 3, 1), date(2028, 2, 29)),
        ("0230", date(2026, 3, 1), date(2026, 3, 1)),
        ("0229", date(2026, 3, 1), date(2026, 3, 1)),
    ],
)
def test_a_day_without_its_year_is_the_nearest_one(mmdd, today, meant):
    assert day_meant(mmdd, today) == meant


@given(st.dates(date(2001, 1, 1), date(2090, 1, 1)), st.text(max_size=6))
def test_any_text_gives_some_day(today, text):
    assert isinstance(day_meant(text, today), date)


@given(st.dates(date(2001, 1, 1), date(2090, 1, 1)), st.integers(-180, 180))
def test_any_day_within_half_a_year_is_found_again(today, days):
    meant = date.fromordinal(today.toordinal() + days)
    if (meant.month, meant.day) != (2, 29):
        assert day_meant(f"{meant:%m%d}", today) == meant


class Desk:
    """Tells what the test puts there, and remembers who asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, date]] = []
        self.ours: Totals | None = OURS

    def ask(self, link, terminal, day, told) -> None:
        self.asked.append((link, terminal, day))
        told(self.ours)


@pytest.fixture
async def reconciled(serving, approver, link_terms, dialect, ledger_loop):
    desk = Desk()
    async with serving(link_terms(dialect), approver.submit, link={"ask_totals": desk.ask}) as edge:
        edge.desk = desk
        yield edge


def asking(dialect, totals, **more):
    return reconciliation_message(
        dialect, totals, stan=12, local_at=datetime.now(UTC), terminal="T0000042", **more
    )


@pytest.mark.parametrize("mti", ["0500", "0520", "0521"])
async def test_totals_are_compared_and_told(reconciled, dialect, mti):
    peer = await reconciled.peer()
    today = reconciled.link.calendar.business_date(reconciled.clock.now_us())
    day = {"settlement_mmdd": f"{today:%m%d}"} if dialect == "iso87_ascii" else {}
    await peer.send(asking(dialect, OURS, mti=mti, **day), asking(dialect, OTHER, mti=mti))
    agreed, differs = await peer.receive(2)
    answer_mti = {"0500": "0510", "0520": "0530", "0521": "0530"}[mti]
    assert (agreed.mti, agreed.text(39)) == (answer_mti, "00")
    assert (differs.mti, differs.text(39)) == (answer_mti, "95")
    terminal = "T0000042" if dialect == "unionpay_pos" else ""
    assert reconciled.desk.asked == [("retail-1", terminal, today)] * 2


async def test_totals_that_cannot_be_read_are_refused_with_91(reconciled, dialect):
    reconciled.desk.ours = None
    peer = await reconciled.peer()
    await peer.send(asking(dialect, OURS), peer.sale(13))
    assert await peer.codes(2) == ["91", "00"]
    refused = reconciled.metric(
        "citycard_requests_total", segment="retail", kind="purchase", outcome="ledger_down"
    )
    assert refused == 0


async def test_nobody_is_told_totals_before_sign_on(reconciled, dialect):
    peer = await reconciled.peer(signed_on=False)
    await peer.send(asking(dialect, OURS))
    assert await peer.codes() == ["58"]
    assert not reconciled.desk.asked
    await peer.send(peer.management(NetworkFunction.SIGN_ON), asking(dialect, OURS))
    assert await peer.codes(2) == ["00", "00"]


async def test_a_link_whose_totals_nobody_keeps_says_so(edge, dialect):
    peer = await edge.peer()
    await peer.send(asking(dialect, None))
    assert await peer.codes() == ["91"]
