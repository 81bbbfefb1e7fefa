"""`config check` and `audit`: commands that judge and change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter

from switch import config as configuration
from switch.commands.exits import CommandFailed, Exit
from switch.commands.ledger import HERE, Ledger, Where, with_ledger
from switch.commands.output import Json, write, write_json, write_table
from switch.config import ConfigError
from switch.fares.reading import load_fares
from switch.ledger import audit as ledger_audit
from switch.ledger.audit import AuditReport
from switch.terms import unknown_venues
from switch.venues import load_venues

config = App(name="config", help="Work with the configuration.", help_format="plaintext")


@config.command(name="check")
def check_config(
    file: Annotated[
        Path | None, Parameter(help="The configuration; citycard.toml of this folder if not given.")
    ] = None,
    /,
    *,
    json: Json = False,
) -> int:
    """Check a configuration and list every problem in it; exit 1 if there is one."""
    path = file or Path(configuration.MAIN_FILE)
    if not path.is_file():
        raise CommandFailed(f"there is no configuration at {path}; name one, or run citycard init")
    problems: list[configuration.Problem] = []
    notes: list[configuration.Problem] = []
    try:
        loaded = configuration.load(path)
        notes = configuration.notes(loaded)
        problems = _problems_of_tables(loaded)
    except ConfigError as error:
        problems = error.problems
    if json:
        write_json({"problems": problems, "notes": notes})
    elif problems or notes:
        rows = [("problem", each.key, each.problem, each.remedy) for each in problems]
        rows += [("note", each.key, each.problem, each.remedy) for each in notes]
        write_table(str(path), ["", "key", "what", "what to do"], rows)
    if not problems and not json:
        write(f"{path}: no problems")
    return Exit.FINDINGS if problems else Exit.OK


def _problems_of_tables(loaded: configuration.Config) -> list[configuration.Problem]:
    """What is wrong with the files that a configuration names, and with what names a venue."""
    problems: list[configuration.Problem] = []

    def read_venues() -> None:
        problems.extend(unknown_venues(loaded, load_venues(loaded.venues.file)))

    def read_fares() -> None:
        load_fares(loaded.fares.file, loaded.ledger.time_zone)

    for read in (read_venues, read_fares):
        try:
            read()
        except ConfigError as error:
            problems += [
                configuration.Problem(f"{error.source}: {each.key}", each.problem, each.remedy)
                for each in error.problems
            ]
    return problems


def audit(
    *,
    where: Where = HERE,
    days: Annotated[
        int | None, Parameter(help="Look at the rows of so many last days only; all if not given.")
    ] = None,
    json: Json = False,
) -> int:
    """Recompute the ledger's invariants from its rows; exit 1 if one does not hold."""
    if days is not None and not 1 <= days <= 36_500:
        raise CommandFailed("--days is out of range; give 1 to 36500")
    settings = where.load()
    caps_minor = settings.tiers.balance_caps_minor()

    async def body(ledger: Ledger) -> AuditReport:
        return await ledger_audit.audit(ledger.connection, days=days, balance_caps_minor=caps_minor)

    report = with_ledger(where, settings, body)
    if json:
        write_json({"clean": report.clean, **msgspec.to_builtins(report)})
    else:
        _write_report(report)
    return Exit.OK if report.clean else Exit.FINDINGS


def _write_report(report: AuditReport) -> None:
    rows = [
        (check.name, f"{check.examined:,}", f"{check.findings:,}", check.invariant)
        for check in report.checks
    ]
    write_table("", ["check", "examined>", "findings>", "what must hold"], rows)
    for check in report.checks:
        for row in check.first:
            write(f"{check.name}: {row}")
    findings = sum(check.findings for check in report.checks)
    write("the ledger is in order" if report.clean else f"{findings:,} findings")
