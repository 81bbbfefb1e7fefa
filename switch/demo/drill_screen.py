"""How the drill looks: lines while it runs, and one table of what had to hold."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from switch.demo.screen import WIDTH_MAX, Screen

Line = tuple[str, str, str, str, bool]
"""When, what, what was expected, what was found, whether it holds."""


def drill_screen(*, quiet: bool) -> DrillScreen:
    """A screen on standard output; a quiet one prints nothing."""
    made = Console(highlight=False, soft_wrap=False, quiet=quiet)
    made.width = min(made.width, WIDTH_MAX) if made.is_terminal else WIDTH_MAX
    return DrillScreen(made)


class DrillScreen(Screen):
    """A demonstration's screen with the drill's table."""

    def table(self, lines: Iterable[Line]) -> None:
        """What had to hold, line by line; a line that does not is red."""
        table = Table(box=None, pad_edge=False, header_style="dim")
        for header in ("", "when", "what", "expected", "found"):
            table.add_column(header)
        before = ""
        for when, what, expected, found, holds in lines:
            table.add_row(
                Text("✓", "green") if holds else Text("✗", "bold red"),
                "" if when == before else when,
                what,
                expected,
                Text(found, "" if holds else "bold red"),
            )
            before = when
        self._out.print(Padding(table, (0, 0, 0, 2)))
