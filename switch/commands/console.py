"""`console`: the HTTP API of those who work with rules, a process of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from switch import logs
from switch.commands.ledger import HERE, Where, ledger_url
from switch.commands.start import BackendChoice

REPORTS = "backtests"


def console(
    *,
    where: Where = HERE,
    backend: BackendChoice = None,
    ready_file: Annotated[
        Path | None, Parameter(help="Written as JSON (pid, port) once the port answers.")
    ] = None,
    log_format: Annotated[logs.Format, Parameter(help="How log lines look.")] = "auto",
    log_level: Annotated[logs.Level, Parameter(help="The least level that is logged.")] = "info",
) -> int:
    """Answer risk officers over HTTP until SIGTERM or SIGINT: rulesets, lists, backtests.

    Who acts is whoever holds the token of `citycard operator add`. It takes no part in
    authorizations: start and stop it at will. /docs tells what it takes.
    """
    from switch.console.serving import serve

    config = where.load()
    logs.hand_down(log_format, log_level)
    logs.configure()
    with ledger_url(where, config) as url:
        return serve(
            config,
            backend=backend or config.server.backend,
            database=url,
            reports=where.directory / REPORTS,
            ready_file=ready_file,
        )
