"""`citycard`: the commands put together, and every failure told in one sentence.

Exit codes: 0 done, 1 findings or a refusal, 2 wrong usage or configuration, 3 the ledger
cannot be reached, 4 a fault in citycard itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from cyclopts import App, Parameter

from switch import logs
from switch.commands import (
    api_key,
    card,
    card_pin,
    checks,
    console,
    days,
    debit,
    explain,
    hotlist,
    keys,
    lists,
    messages,
    operator,
    review,
    rules,
    snooze,
    standin,
    start,
    venues,
)
from switch.commands.exits import Exit, explained
from switch.commands.output import STDIN, complain

DEBUG = "--debug"

EPILOGUE = (
    "Exit codes: 0 done, 1 findings or a refusal, 2 wrong usage or configuration, "
    "3 the ledger cannot be reached, 4 a fault in citycard itself. "
    f"With {DEBUG} a failure shows its traceback."
)


def _release() -> str:
    try:
        return version("citycard")
    except PackageNotFoundError:
        return "unknown"


app = App(
    name="citycard",
    help="The payment switch of a city card.",
    help_epilogue=EPILOGUE,
    help_format="plaintext",
    version=_release,
    default_parameter=Parameter(negative=()),
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)
app.command(start.init)
app.command(start.serve)
app.command(console.console)
app.command(start.demo)
app.command(checks.audit)
app.command(card.app)
card.app.command(card_pin.pin)
app.command(keys.app)
app.command(hotlist.app)
app.command(lists.app)
app.command(snooze.app)
app.command(review.app)
app.command(explain.explain)
app.command(api_key.app)
app.command(debit.app)
app.command(operator.app)
app.command(rules.app)
app.command(messages.decode_message, name="decode")
app.command(messages.encode_message, name="encode")
app.command(checks.config)
app.command(days.app)
app.command(standin.app)
app.command(venues.venues)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code and raises nothing."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    tokens = [STDIN if word == "-" else word for word in given if word != DEBUG]
    logs.configure("auto", "warning")
    try:
        code = app(tokens, exit_on_error=False, print_error=False)
        sys.stdout.flush()
        return int(code or 0)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # the reader went away; let nothing complain again while the process ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except Exception as error:  # noqa: BLE001 - the last place where a failure can become a sentence
        if DEBUG in given:
            logs.get("cli").error("failed", exc_info=error)
        sentences, code = explained(error)
        for sentence in sentences:
            complain(sentence)
        return code


if __name__ == "__main__":
    sys.exit(main())
