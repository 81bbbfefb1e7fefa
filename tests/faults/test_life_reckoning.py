"""The reckoning notices what is wrong: each finding from the smallest ledger that has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loadtest.life_lines import LifeLine
from loadtest.population import population_card
from switch.keys import make_key, read_key
from switch.ledger.cards import medium_of
from tests.faults.life_reckoning import LedgerState, Reckoned, reckon_life
from tests.faults.reckoning_table import FaultRow, rows_of, table

CARD, OPENING_MINOR = 7, 10_000
SALE_KEY, LATER_KEY = "L0010001-000001-0102030405-02", "L0010001-000002-0102030406-02"


def line(kind: str = "purchase", key: str = SALE_KEY, code: str = "00", **more: Any) -> LifeLine:
    approved_minor = more.pop("approved_minor", 500 if code == "00" else 0)
    return LifeLine(
        kind=kind,
        key=key,
        card=CARD,
        amount_minor=500,
        sent_at_ms=1,
        ended_at_ms=2,
        code=code,
        approved_minor=approved_minor,
        **more,
    )


def row(number: int = 1, kind: str = "purchase", key: str = SALE_KEY, **more: Any) -> Any:
    terminal, stan, local_at, message_class = key.split("-")
    return {
        "authorization_id": number,
        "account_id": 1,
        "kind": kind,
        "terminal": terminal,
        "stan": stan,
        "local_at": local_at,
        "message_class": message_class,
        "outcome": "approved",
        "approved_minor": 500,
        "original_id": 0,
        "posted_at_us": 1_500,
    } | more


REVERSAL = row(2, "reversal", SALE_KEY[:-2] + "04", original_id=1)


def reversed_by(code: str = "00") -> LifeLine:
    return line("reversal", SALE_KEY[:-2] + "04", code, about=SALE_KEY)


@pytest.fixture
def reckoned(tmp_path: Path):
    key_file = tmp_path / "card_number.key"
    make_key(key_file)
    medium = medium_of(population_card(CARD), key=read_key(key_file))

    def reckon(
        lines: list[LifeLine],
        rows: list[Any],
        balance_minor: int,
        held_minor: int = 0,
        open_holds: tuple[Any, ...] = (),
    ) -> Reckoned:
        purse = {"account_id": 1, "balance_minor": balance_minor, "held_minor": held_minor}
        holds = [{"authorization_id": each["authorization_id"], "open": 1} for each in open_holds]
        state = LedgerState(rows, {medium: purse}, list(open_holds), holds)
        return reckon_life(lines, state, key_file, {CARD: OPENING_MINOR})

    return reckon


def test_what_was_told_and_stands_is_sound(reckoned):
    found = reckoned([line()], [row()], 9_500)
    assert found.sound
    assert (found.acknowledged, found.unresolved) == (1, 0)


def test_an_approval_that_is_not_there_is_lost(reckoned):
    found = reckoned([line()], [], 9_500)
    assert len(found.lost) == 1


def test_an_approval_that_stands_twice_is_double(reckoned):
    found = reckoned([line()], [row(), row(2)], 9_000)
    assert found.double
    assert found.wrong, "and the purse shows it"


@pytest.mark.parametrize("code", ["51", "05"])
def test_a_refusal_that_moved_money_is_double(reckoned, code):
    found = reckoned([line(code=code)], [row()], 9_500)
    assert found.double


def test_a_reversed_sale_must_not_stand(reckoned):
    told = [line(), reversed_by()]
    assert reckoned(told, [row(), REVERSAL], OPENING_MINOR).sound
    assert reckoned(told, [row()], 9_500).double


def test_a_sale_that_never_came_is_resolved_by_its_reversal(reckoned):
    found = reckoned([line(code=""), reversed_by("25")], [], OPENING_MINOR)
    assert found.sound
    assert not found.unresolved


@pytest.mark.parametrize("end", [[], [reversed_by("")], [reversed_by("91")]])
def test_what_nobody_knows_is_unresolved(reckoned, end):
    found = reckoned([line(code=""), *end], [row()], 9_500)
    assert found.unresolved == 1
    assert found.sound


def test_another_amount_than_told_is_wrong(reckoned):
    assert reckoned([line()], [row(approved_minor=400)], 9_600).wrong


def test_more_given_back_than_was_paid_is_double(reckoned):
    told = [line(), line("refund", LATER_KEY, about=SALE_KEY, approved_minor=600)]
    stored = [row(), row(2, "refund", LATER_KEY, original_id=1, approved_minor=600)]
    assert reckoned(told, stored, 10_100).double


def test_what_nobody_asked_for_is_wrong(reckoned):
    assert reckoned([], [row()], OPENING_MINOR).wrong


def test_a_hold_is_open_until_it_is_resolved_and_no_longer(reckoned):
    key = SALE_KEY[:-2] + "01"
    told, stored = line("preauthorization", key), row(1, "preauthorization", key)
    hold = {"account_id": 1, "authorization_id": 1, "amount_minor": 500}
    assert reckoned([told], [stored], OPENING_MINOR, 500, (hold,)).sound
    assert reckoned([told], [stored], OPENING_MINOR).wrong, "closed, and nobody did"
    assert reckoned([told], [stored], OPENING_MINOR, 400, (hold,)).wrong, "held is another sum"
    completed = line("completion", LATER_KEY, about=key)
    taken = row(2, "completion", LATER_KEY, original_id=1)
    assert reckoned([told, completed], [stored, taken], 9_500).sound
    assert reckoned([told, completed], [stored, taken], 9_500, 500, (hold,)).wrong


def test_rows_of_the_table_are_added_up(fault_row, request):
    before = len(request.node.user_properties)
    fault_row(FaultRow("kill", 2, 10, 0, 0, 0, "asyncio"))
    fault_row(FaultRow("kill", 3, 20, 0, 1, 0, "trio"))
    mine = request.node.user_properties[before:]
    del request.node.user_properties[before:]

    class Report:
        user_properties = mine

    (summed,) = rows_of([Report()])
    assert summed == FaultRow("kill", 5, 30, 0, 1, 0, "asyncio; trio")
    assert "kill" in table([summed])
