"""What the drill rehearses and what it reports: its cards, its configuration, its steps."""

from __future__ import annotations

from collections import Counter

import msgspec

from protocols.money import display_minor
from switch.demo.proof import Agreement
from switch.ledger.audit import AuditReport
from switch.standin.rows import Summary

CARDS, BLOCKED, POOR = 160, 2, 4
"""Blocked cards first, then those that cannot pay what stand-in approves for them."""
RETAIL = range(130, 150)
"""Cards that buy in a shop."""
UNSEEN = range(150, CARDS)
"""Cards that do nothing before the ledger goes away."""
RIDERS = range(BLOCKED, 130)
FARE_MINOR = 200
TAPS_MAX = 3
"""Fares that stand-in may approve for one card, by the drill's configuration."""
POOR_TAPS = 2
"""Fares that stand-in approves for each card that cannot pay them."""
LINES = 6
PAUSE_SECONDS = 2.0
"""Between the rounds of taps, so that an outage is one."""
GONE_SECONDS_MAX = 15.0
BACK_SECONDS_MAX = 60.0
POLL_SECONDS = 0.1
CONFIGURATION = f"""\
# The drill: two links on any free ports, and limits low enough to be met.
[server]
metrics_port = 0

[standin.transit]
enabled = true
amount_max_minor = 1000
card_amount_max_minor = 3000
card_count_max = {TAPS_MAX}

[[links]]
name = "transit"
port = 0
dialect = "iso87_ascii"
segment = "transit"
default_mcc = "4111"
budget_ms = 2000
sign_on = "none"
echo_idle_seconds = 0
framing = {{ length = "ascii4", tpdu = false, header_bytes = 0 }}

[[links]]
name = "retail"
port = 0
segment = "retail"
budget_ms = 2000
sign_on = "none"
echo_idle_seconds = 0
"""


class Step(msgspec.Struct, frozen=True):
    """One thing that must be so. `when` is before, away, back or afterwards."""

    when: str
    what: str
    expected: str
    found: str

    @property
    def holds(self) -> bool:
        return self.expected == self.found


class Report(msgspec.Struct, frozen=True):
    """The drill as JSON. `ok` is what the exit code says."""

    ok: bool
    workers: int
    seconds: float
    away_seconds: float
    approval_ms_p50: float
    approval_ms_max: float
    steps: list[Step]
    spool: Summary
    agreement: Agreement
    audit: AuditReport


def codes_text(codes: dict[str, int] | Counter[str]) -> str:
    return ", ".join(f"{count} × {code}" for code, count in sorted(codes.items())) or "none"


def suspense_text(advices: int, amount_minor: int | None = None) -> str:
    whole = advices * FARE_MINOR if amount_minor is None else amount_minor
    return f"{advices} of {display_minor(whole)}"
