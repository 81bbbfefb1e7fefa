"""Which business day a reconciliation means, which names it without its year."""

from __future__ import annotations

from contextlib import suppress
from datetime import date


def day_meant(mmdd: str, today: date) -> date:
    """The day nearest to `today` with this month and day (DE15 or DE13); else `today`.

    At the turn of the year 1231 is yesterday, not in twelve months. A date that there is not
    in any year around, such as 0230, is taken for today: its totals will not agree.
    """
    candidates: list[date] = []
    for year in (today.year - 1, today.year, today.year + 1):
        with suppress(ValueError):
            candidates.append(date(year, int(mmdd[:2]), int(mmdd[2:])))
    return min(candidates, key=lambda day: abs((day - today).days), default=today)
