"""`citycard standin drill`: the ledger is stopped under a running switch, and everything told.

A switch of several workers and an embedded ledger of its own, both in a folder that is
thrown away. Counts are taken before, while the ledger is away and after it is back, and each
is held against what must be so; the exit code says whether all of it was.
"""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from protocols.card_number import CardNumber
from protocols.money import display_minor
from switch import config as configuration
from switch.app import ReadyState
from switch.config import Config, link_terms
from switch.demo import stage
from switch.demo.answered import Answered
from switch.demo.children import ChildFailed, switch_serving
from switch.demo.drill_lines import LineLost, Lines, Told
from switch.demo.drill_plan import (
    BACK_SECONDS_MAX,
    BLOCKED,
    CARDS,
    CONFIGURATION,
    FARE_MINOR,
    GONE_SECONDS_MAX,
    LINES,
    PAUSE_SECONDS,
    POLL_SECONDS,
    POOR,
    POOR_TAPS,
    RETAIL,
    RIDERS,
    TAPS_MAX,
    UNSEEN,
    Report,
    Step,
    codes_text,
    suspense_text,
)
from switch.demo.drill_screen import DrillScreen, drill_screen
from switch.demo.proof import Agreement, agree
from switch.ledger import bridge, sql
from switch.ledger.audit import AuditReport, audit
from switch.ledger.embedded import PORT, EmbeddedServer, running
from switch.ledger.embedded_places import EmbeddedServerError
from switch.standin import spool_path
from switch.standin.spool import summarised, switched
from switch.standin.spool_file import SpoolUnusable

_QUERIES = sql.queries("drill.sql")
EXIT_OK, EXIT_FINDINGS, EXIT_LEDGER = 0, 1, 3


def run(*, directory: Path | None, workers: int, as_json: bool) -> int:
    """Run the drill; 0 only if everything holds, 1 if not, 3 if there was no ledger to drill on."""
    screen = drill_screen(quiet=as_json)
    # SIGTERM ends like Ctrl-C, so that no server and no switch is left behind.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with _home(directory) as home, stage.own_directory(home):
            report = _Drill(screen, home, workers).run()
    except (EmbeddedServerError, *bridge.CONNECTION_LOST) as error:
        screen.failure(f"the drill has no ledger: {error}")
        return EXIT_LEDGER
    except (ChildFailed, LineLost, stage.StageNotSet, SpoolUnusable) as error:
        screen.failure(f"the drill was cut short: {error}")
        return EXIT_FINDINGS
    finally:
        signal.signal(signal.SIGTERM, before)
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(report)).decode())  # noqa: T201 - what was asked for
    return EXIT_OK if report.ok else EXIT_FINDINGS


@contextmanager
def _home(directory: Path | None) -> Iterator[Path]:
    """The given folder, or one that is thrown away; short, as sockets go into it."""
    if directory is not None:
        yield directory.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="citycard-drill-") as made:
        yield Path(made)


class _Drill:
    """One drill from its first tap to its last check."""

    def __init__(self, screen: DrillScreen, home: Path, workers: int) -> None:
        self._screen = screen
        self._home = home
        self._workers = workers
        self._steps: list[Step] = []
        self._told: list[Told] = []

    def run(self) -> Report:
        """Everything in order. Raises what its parts raise."""
        started = time.monotonic()
        self._screen.heading(f"citycard standin drill · {self._workers} workers · {CARDS} cards")
        config_file, config = self._configured()
        with ExitStack() as closing:
            server = closing.enter_context(running(self._home))
            bridge.run("asyncio", stage.fresh_database, server.url_for("postgres"))
            self._set_stage(server.url, config)
            ready = closing.enter_context(
                switch_serving(
                    config=config_file,
                    url=server.url,
                    directory=self._home,
                    workers=self._workers,
                    backend=config.server.backend,
                )
            )
            with _both_lines(config, ready) as (transit, retail):
                self._before(transit, retail)
                self._stop(server)
                away_from = time.monotonic()
                taps = self._away(transit, retail, config)
            self._kill(ready, config)
            closing.enter_context(running(self._home))
            away_seconds = time.monotonic() - away_from
            with _both_lines(config, ready) as (transit, retail):
                self._back(transit, retail, config, taps[POOR])
            agreement, report = self._afterwards(server.url, config)
        return self._concluded(started, away_seconds, taps, agreement, report, config)

    def _configured(self) -> tuple[Path, Config]:
        path = self._home / configuration.MAIN_FILE
        path.write_text(CONFIGURATION, "utf-8")
        config = configuration.load(path)
        for left in self._home.glob(f"{spool_path(config, self._home).name}*"):
            left.unlink()
        return path, config

    def _set_stage(self, url: str, config: Config) -> None:
        key = stage.card_key(config, self._home)
        crowd = stage.Crowd(CARDS, BLOCKED, POOR)
        with self._screen.steps() as step:
            bridge.run("asyncio", stage.set_stage, url, config, key, crowd, step)
        self._screen.line(f"ledger   PostgreSQL, fsync on; {BLOCKED} cards blocked, {POOR} poor")

    def _before(self, transit: Lines, retail: Lines) -> None:
        self._screen.line("before   every rider taps once, every shopper buys once")
        self._expect("before", "taps", self._tap(transit, RIDERS), {"00": len(RIDERS)})
        self._expect(
            "before", "taps of blocked cards", self._tap(transit, range(BLOCKED)), {"62": BLOCKED}
        )
        self._expect("before", "sales in shops", self._tap(retail, RETAIL), {"00": len(RETAIL)})

    def _stop(self, server: EmbeddedServer) -> None:
        """End the server as a crash would: no word to its clients, recovery at the next start."""
        os.kill(server.pid, signal.SIGQUIT)
        give_up = time.monotonic() + GONE_SECONDS_MAX
        while _listens(server) and time.monotonic() < give_up:
            time.sleep(POLL_SECONDS)
        self._screen.line("away     PostgreSQL was stopped at once, as a crash would")

    def _away(self, transit: Lines, retail: Lines, config: Config) -> list[Told]:
        """What is asked while the ledger is away; the approvals of stand-in."""
        spool = spool_path(config, self._home)
        first = self._tap(transit, RIDERS)
        self._expect("away", "taps, approved by stand-in", first, {"00": len(RIDERS)})
        self._pause()
        self._again("away", "a tap sent once more", transit, first[POOR])
        second = self._tap(transit, RIDERS[POOR:])
        self._pause()
        third = self._tap(transit, RIDERS[POOR:])
        self._pause()
        self._expect(
            "away", f"taps up to the limit of {TAPS_MAX}", second + third,
            {"00": len(second) + len(third)},
        )  # fmt: skip
        over = self._tap(transit, RIDERS[POOR:])
        self._expect("away", "taps over the limit", over, {"91": len(over)})
        dear = self._tap(transit, RIDERS[:POOR], amount_minor=1_001)
        self._expect("away", "taps above the ceiling", dear, {"91": POOR})
        blocked = self._tap(transit, range(BLOCKED))
        self._expect("away", "taps of blocked cards", blocked, {"91": BLOCKED})
        unseen = self._tap(transit, UNSEEN)
        self._expect("away", "taps of cards not seen before", unseen, {"91": len(UNSEEN)})
        shops = self._tap(retail, RETAIL)
        self._expect("away", "sales in shops", shops, {"91": len(RETAIL)})
        reversal = transit.reverse(RIDERS[POOR + 1], first[POOR + 1].sale)
        self._steps.append(Step("away", "the reversal of a tap", "00", reversal.code))
        switched(spool, on=False)
        off = self._tap(transit, RIDERS[:POOR])
        self._expect("away", "taps after `standin off`", off, {"91": POOR})
        switched(spool, on=True)
        on = self._tap(transit, RIDERS[:POOR])
        self._expect("away", "taps after `standin on`", on, {"00": POOR})
        approved = first + second + third + on
        in_spool = summarised(spool)
        rows = len(approved) + 1
        self._steps.append(Step("away", "rows in the spool", str(rows), str(in_spool.open_rows)))
        amount = display_minor(sum(total.amount_minor for total in in_spool.totals))
        self._screen.line(f"         {len(approved)} taps approved, {amount}, all in the spool")
        return approved

    def _again(self, when: str, what: str, transit: Lines, tapped: Told) -> None:
        """Send a tap that was approved once more: the answer must be the same."""
        (again,) = transit.sell([(RIDERS[POOR], tapped.sale)])
        expected, found = (
            f"{told.answer.code} {told.answer.auth_code}" for told in (tapped, again)
        )
        self._steps.append(Step(when, what, expected, found))

    def _pause(self) -> None:
        time.sleep(PAUSE_SECONDS)

    def _kill(self, ready: ReadyState, config: Config) -> None:
        """End the workers as kill -9 does: what they answered is on disk, or it is nowhere."""
        before = summarised(spool_path(config, self._home)).open_rows
        for pid in ready.workers:
            os.kill(pid, signal.SIGKILL)
        after = summarised(spool_path(config, self._home)).open_rows
        self._steps.append(Step("killed", "rows in the spool", str(before), str(after)))
        self._screen.line(f"killed   {len(ready.workers)} workers, with kill -9")

    def _back(self, transit: Lines, retail: Lines, config: Config, tapped: Told) -> None:
        self._screen.line("back     PostgreSQL was started again and recovered, workers are new")
        spool = spool_path(config, self._home)
        from_seconds = time.monotonic()
        while summarised(spool).open_rows and time.monotonic() - from_seconds < BACK_SECONDS_MAX:
            time.sleep(POLL_SECONDS)
        found = summarised(spool)
        self._steps.append(Step("back", "rows left in the spool", "0", str(found.open_rows)))
        self._screen.line(f"         the spool was posted after {_since(from_seconds):.1f} s")
        self._until_ledger_answers(retail)
        self._again("back", "the same tap once more", transit, tapped)
        poor = self._until_nobody_owes(transit)
        self._expect("back", "taps of cards that cannot pay", poor, {"51": POOR})
        taps = self._tap(transit, RIDERS[POOR:])
        self._expect("back", "taps, approved by the ledger", taps, {"00": len(taps)})

    def _until_nobody_owes(self, transit: Lines) -> list[Told]:
        """Taps of cards that had stood-in taps and cannot pay, sent until a worker on a busy
        machine has seen as well that their taps are posted; they move nothing."""
        give_up = time.monotonic() + BACK_SECONDS_MAX
        while True:
            poor = self._tap(transit, RIDERS[:POOR])
            if all(told.answer.code != "91" for told in poor) or time.monotonic() > give_up:
                return poor
            time.sleep(POLL_SECONDS)

    def _until_ledger_answers(self, retail: Lines) -> None:
        """Until no worker takes a card for one that owes: each looks at the spool once a second."""
        give_up = time.monotonic() + BACK_SECONDS_MAX
        while time.monotonic() < give_up:
            time.sleep(1.0)
            if {told.answer.code for told in self._tap(retail, RETAIL)} == {"00"}:
                return

    def _afterwards(self, url: str, config: Config) -> tuple[Agreement, AuditReport]:
        rows, suspense, report = bridge.run("asyncio", _looked_up, url, config)
        answered = [
            Answered(told.key, 0, told.answer.code, told.answer.rrn, told.answer.approved_minor)
            for told in self._told
        ]
        sales = [row for row in rows if row["kind"] == "purchase"]
        agreement = agree(answered, sales)
        reversals = sum(row["kind"] == "reversal" and row["outcome"] == "approved" for row in rows)
        found = summarised(spool_path(config, self._home))
        in_spool = {each.state: each.rows for each in found.counts}
        self._steps += [
            Step("afterwards", "reversals posted", "1", str(reversals)),
            Step("afterwards", "in suspense by the spool", suspense_text(POOR * POOR_TAPS),
                 suspense_text(in_spool.get("suspense", 0))),
            Step("afterwards", "in suspense by the ledger", suspense_text(POOR * POOR_TAPS),
                 suspense_text(suspense["advices"], suspense["amount_minor"])),
            Step("afterwards", "advices refused", "0", str(in_spool.get("refused", 0))),
            Step("afterwards", f"disagreements in {agreement.answers} answers", "0",
                 str(agreement.disagreements)),
            Step("afterwards", f"findings of {len(report.checks)} audits", "0",
                 str(sum(check.findings for check in report.checks))),
        ]  # fmt: skip
        return agreement, report

    def _tap(
        self, lines: Lines, cards: Sequence[int], *, amount_minor: int = FARE_MINOR
    ) -> list[Told]:
        """One sale of each card, all at once."""
        sales = [(index, lines.sale(index, _card(index), amount_minor)) for index in cards]
        told = lines.sell(sales)
        self._told += told
        return told

    def _expect(self, when: str, what: str, told: list[Told], codes: dict[str, int]) -> None:
        found = Counter(each.answer.code for each in told)
        self._steps.append(Step(when, what, codes_text(codes), codes_text(found)))

    def _concluded(
        self,
        started: float,
        away_seconds: float,
        approvals: list[Told],
        agreement: Agreement,
        report: AuditReport,
        config: Config,
    ) -> Report:
        milliseconds = sorted(told.answer.milliseconds for told in approvals)
        made = Report(
            ok=all(step.holds for step in self._steps) and report.clean,
            workers=self._workers,
            seconds=_since(started),
            away_seconds=away_seconds,
            approval_ms_p50=milliseconds[len(milliseconds) // 2],
            approval_ms_max=milliseconds[-1],
            steps=self._steps,
            spool=summarised(spool_path(config, self._home)),
            agreement=agreement,
            audit=report,
        )
        self._tell(made)
        return made

    def _tell(self, report: Report) -> None:
        self._screen.heading("\nWhat had to hold")
        self._screen.table(
            [(step.when, step.what, step.expected, step.found, step.holds) for step in report.steps]
        )
        for finding in report.agreement.first:
            self._screen.failure(f"  {finding}")
        for check in report.audit.checks:
            if check.findings:
                first = ", ".join(check.first)
                self._screen.failure(f"  {check.name}: {check.findings} — {first}")
        self._screen.line(
            f"approvals by stand-in: p50 {report.approval_ms_p50:.1f} ms, "
            f"max {report.approval_ms_max:.1f} ms in bursts; "
            f"the ledger was away for {report.away_seconds:.1f} s"
        )
        if report.ok:
            self._screen.heading(f"\nProven in {report.seconds:.0f} s.")
        else:
            self._screen.failure("\nNot proven: see the lines above.")


@contextmanager
def _both_lines(config: Config, ready: ReadyState) -> Iterator[tuple[Lines, Lines]]:
    """Transit and retail."""
    with _lines(config, 0, ready.links) as transit, _lines(config, 1, ready.links) as retail:
        yield transit, retail


def _lines(config: Config, number: int, ports: dict[str, int]) -> Lines:
    """Connections of one link, as soon as a worker listens. Raises LineLost."""
    link = config.links[number]
    give_up = time.monotonic() + BACK_SECONDS_MAX
    while True:
        try:
            return Lines(
                (config.server.host, ports[link.name]),
                dialect=link.dialect,
                framing=link_terms(link, config).framing,
                acquirer=link.acquirer,
                mcc=link.default_mcc,
                time_zone=config.ledger.time_zone,
                connections=LINES,
            )
        except ConnectionRefusedError:
            if time.monotonic() > give_up:
                raise LineLost(f"link {link.name} was not answered any more") from None
            time.sleep(POLL_SECONDS)


def _listens(server: EmbeddedServer) -> bool:
    """Whether the server is there still; while it ends, a posting may reach it or not."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(server.socket_directory / f".s.PGSQL.{PORT}"))
        except OSError:
            return False
        return True


async def _looked_up(url: str, config: Config) -> tuple[list[Any], Any, AuditReport]:
    connection = await bridge.connect(url)
    try:
        return (
            list(await connection.fetch(_QUERIES["standing"])),
            await connection.fetchrow(_QUERIES["suspense"]),
            await audit(connection, balance_caps_minor=config.tiers.balance_caps_minor()),
        )
    finally:
        await connection.close()


def _card(index: int) -> CardNumber:
    return stage.new_card(index).card


def _since(started: float) -> float:
    return time.monotonic() - started
