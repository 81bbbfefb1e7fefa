"""What commands print: tables for people, JSON for programs, sentences on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

INPUT_BYTES_MAX = 65_536
"""More than any message in hex or JSON."""
PIPE_COLUMNS = 180

STDIN = "<stdin>"
"""What `-` is called while the command line is read, which takes a lone hyphen for an option."""

Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON instead of text.")]


def write(text: str) -> None:
    """One line on stdout, exactly as it is."""
    sys.stdout.write(text + "\n")


def complain(sentence: str) -> None:
    """One line on stderr."""
    sys.stderr.write(f"citycard: {sentence}\n")


def write_json(value: Any) -> None:
    """A value as indented JSON."""
    write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())


def write_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table; cells are shown as they are. Columns named with a trailing > are right-aligned."""
    table = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD)
    for column in columns:
        right = column.endswith(">")
        table.add_column(column.removesuffix(">"), justify="right" if right else "left")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    # a file or a pipe has no width; wide lines there are better than wrapped cells
    width = None if sys.stdout.isatty() else PIPE_COLUMNS
    Console(file=sys.stdout, highlight=False, width=width).print(table)


def given_or_stdin(argument: str) -> str:
    """The argument, or all of stdin where it was `-`, so that it is in no process list."""
    if argument not in ("-", STDIN):
        return argument
    return sys.stdin.read(INPUT_BYTES_MAX + 1).strip()
