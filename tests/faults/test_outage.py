"""The arithmetic of outages: what counts as late, and what as the first approval."""

from __future__ import annotations

import pytest

from loadtest.life_lines import LifeLine
from tests.faults.outage import Outage, first_approvals_ms, late_resolutions

FIRST, SECOND = Outage(10_000, 11_000, 1), Outage(14_000, 15_000, 2)


def line(sent_at_ms: int, ended_at_ms: int, kind: str = "purchase", code: str = "00") -> LifeLine:
    key = f"L0010001-{sent_at_ms:06}-0102030405-{'04' if kind == 'reversal' else '02'}"
    return LifeLine(
        kind=kind,
        key=key,
        card=1,
        amount_minor=500,
        sent_at_ms=sent_at_ms,
        ended_at_ms=ended_at_ms,
        code=code,
    )


def test_the_first_approval_is_of_a_message_after_the_kill_and_no_reversal():
    lines = [line(9_999, 10_001), line(10_100, 10_110, "reversal"), line(10_900, 11_200)]
    assert first_approvals_ms([FIRST], lines) == [1_200]


@pytest.mark.parametrize(
    ("over_ms", "outages", "expected"),
    [
        (12_000, [FIRST], (0, 1_000)),
        (16_001, [FIRST], (1, 5_001)),
        (17_000, [FIRST, SECOND], (0, 3_000)),
        (20_500, [FIRST, SECOND], (1, 5_500)),
    ],
)
def test_late_is_what_stays_open_while_the_ledger_is_there(over_ms, outages, expected):
    assert late_resolutions(outages, [line(10_500, over_ms)], []) == expected


def test_a_row_that_is_posted_later_than_it_was_answered_counts():
    sale = line(10_500, 10_600)
    terminal, stan, local_at, message_class = sale.key.split("-")
    row = {"terminal": terminal, "stan": stan, "local_at": local_at, "kind": "purchase"}
    row |= {"message_class": message_class, "posted_at_us": 12_000_000}
    assert late_resolutions([FIRST], [sale], [row]) == (0, 1_000)
