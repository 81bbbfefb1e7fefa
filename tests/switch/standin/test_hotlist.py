"""The hotlist of stand-in is the ruleset's own list of mediums, by its dates."""

from __future__ import annotations

from datetime import datetime

import pytest

from risk.moments import microseconds
from switch.config import Config, Rules
from switch.standin.hotlist import hotlist_of
from switch.terms import ruleset_text

MEDIUM = "0123456789abcdef" * 2
DATES = "from = 2026-03-01T00:00:00Z, until = 2026-04-01T00:00:00Z"
ENTRY = f'entries = [{{ value = "{MEDIUM}", reason = "lost", {DATES} }}]'


@pytest.fixture
def configured(tmp_path):
    """A configuration whose ruleset is the shipped one with one entry on its hotlist."""
    name = 'name = "hotlist"\nfield = "medium"\n'
    text = ruleset_text(Config())
    assert f"{name}entries = []" in text
    path = tmp_path / "ruleset.toml"
    path.write_text(text.replace(f"{name}entries = []", name + ENTRY))
    return Config(rules=Rules(file=str(path)))


@pytest.mark.parametrize(
    ("day", "listed"),
    [("2026-02-28", False), ("2026-03-01", True), ("2026-03-31", True), ("2026-04-01", False)],
)
def test_an_entry_holds_between_its_dates(configured, day, listed):
    now_us = microseconds(datetime.fromisoformat(f"{day}T12:00:00+00:00"))
    hotlisted = hotlist_of(configured)
    assert hotlisted(MEDIUM, now_us) is listed
    assert not hotlisted("f" * 32, now_us)


def test_the_shipped_hotlist_is_empty():
    assert not hotlist_of(Config())(MEDIUM, 0)


def test_a_file_that_the_ledger_does_not_need_keeps_no_worker_from_starting(tmp_path):
    amiss = tmp_path / "amiss.toml"
    amiss.write_text("[[rules]]\nid = 7\n")
    for path in (amiss, tmp_path / "none.toml"):
        assert not hotlist_of(Config(rules=Rules(file=str(path))))(MEDIUM, 0)
