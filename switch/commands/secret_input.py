"""Secrets typed by people: without echo at a terminal, from standard input otherwise."""

from __future__ import annotations

import getpass
import sys

from switch.commands.exits import CommandFailed
from switch.commands.output import INPUT_BYTES_MAX

LINES_MAX = 8


def secret_lines(prompts: list[str]) -> list[str]:
    """What was typed for each prompt, or the lines of standard input, as many as there are.

    At a terminal an empty answer ends the questions. Raises CommandFailed for far too much.
    """
    if sys.stdin.isatty():
        return _asked(prompts)
    text = sys.stdin.read(INPUT_BYTES_MAX + 1)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(text) > INPUT_BYTES_MAX or len(lines) > LINES_MAX:
        raise CommandFailed(f"that is more than {LINES_MAX} lines; give one secret a line")
    return lines


def _asked(prompts: list[str]) -> list[str]:
    lines: list[str] = []
    for prompt in prompts:
        line = getpass.getpass(f"{prompt}: ").strip()
        if not line:
            break
        lines.append(line)
    return lines
