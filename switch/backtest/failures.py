"""What a backtest says when it cannot go on; each text is one sentence for people."""

from __future__ import annotations


class BacktestRefused(Exception):
    """A backtest that cannot be run, or not to its end."""


class HistoryUnreadable(Exception):
    """History that cannot be replayed."""


def first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first failure of a group, however deep it lies."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
