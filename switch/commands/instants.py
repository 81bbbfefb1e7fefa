"""Days and times that people give on a command line, as epoch microseconds, and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from switch.commands.exits import CommandFailed
from switch.ledger.rule_list_file import instant_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant_us(text: str, name: str, time_zone: str) -> int | None:
    """A day (its start), or a day and a time, in the ledger's zone unless it names its own.

    None for an empty text. Raises CommandFailed, which calls it `name`.
    """
    if not text:
        return None
    try:
        return instant_of(text, time_zone)
    except ValueError:
        raise CommandFailed(
            f"{name} is not a day or a time; write 2026-03-31 or 2026-03-31T18:00"
        ) from None


def shown(instant: int | None, time_zone: str) -> str:
    """An instant (epoch microseconds) for people, to the second; '' for None."""
    if instant is None:
        return ""
    local = (_EPOCH + timedelta(microseconds=instant)).astimezone(ZoneInfo(time_zone))
    return f"{local:%Y-%m-%d %H:%M:%S}"
