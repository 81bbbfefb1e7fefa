"""What a terminal shows of a backtest, wide or narrow."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.cells import cell_len
from rich.console import Console

from risk.backtest_result import Agreement
from switch.backtest.summary import RULES_MAX, summary_tables
from switch.backtest.verdict import Tone, verdict


def printed(result, width):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    for table in summary_tables(result):
        console.print(table)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [30, 60, 80, 160])
def test_nothing_is_wider_than_the_terminal_or_cut(big, empty, odd, width):
    for result in (big, empty, odd):
        text = printed(result, width)
        assert max(cell_len(line) for line in text.splitlines()) <= width
    text = printed(big, width)
    for figure in ("8,061", "16,122.00", "0.0236 %", "36,204,518", "40,000", "3fa9c17be2d0"):
        assert figure in text
    assert "…" not in text


def test_a_wide_one_has_what_a_narrow_one_has_and_more(big):
    assert "Alone" in printed(big, 100)
    assert "Alone" not in printed(big, 60)
    assert "never fired: 2." in printed(big, 60)


def test_names_are_neither_markup_nor_control(odd):
    text = printed(odd, 160)
    assert "<b>&\"'</script>··换乘" in text
    assert "\x00" not in text
    assert "stopped before its end" in " ".join(text.split())


def test_rules_are_bounded_and_the_rest_is_counted(big):
    rule = big.rules[0]
    many = tuple(
        msgspec.structs.replace(rule, rule_id=f"rule_{number:03}", declined=number)
        for number in range(RULES_MAX + 5)
    )
    text = printed(msgspec.structs.replace(big, rules=many), 100)
    assert "5 more rules in the report." in text
    assert f"rule_{RULES_MAX + 4:03}" in text
    assert "rule_004" not in text


@pytest.mark.parametrize(
    ("agreement", "value", "tone"),
    [
        (Agreement(), "–", Tone.PLAIN),
        (Agreement(1_000_000_000, 1_000_000_000), "100 %", Tone.GOOD),
        (Agreement(1_000_000_000, 999_999_999), "99.99 %", Tone.WARNING),
    ],
)
def test_agreement_is_good_only_when_whole(big, agreement, value, tone):
    lines = {line.name: line for line in verdict(msgspec.structs.replace(big, agreement=agreement))}
    line = lines["Same as decided live"]
    assert (line.value, line.tone) == (value, tone)


def test_recounts_and_failures_are_warned_of(big, odd, empty):
    tones = [{line.name: line.tone for line in verdict(result)} for result in (big, odd, empty)]
    assert [tone["Recounted features of places"] for tone in tones] == [
        Tone.WARNING,
        Tone.PLAIN,
        Tone.PLAIN,
    ]
    assert [tone["Rules"] for tone in tones] == [Tone.PLAIN, Tone.WARNING, Tone.PLAIN]
