"""`make load`: Locust's terminals against a switch, then the audit of its ledger.

Without `--port` it sets up a switch of its own and audits it; with one it loads what
listens there, whose ledger is its operator's to audit.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from loadtest.staged import Ended, Serving, StageFailed, staged_switch

CARDS = 20_000
GRACE_SECONDS = 60


class Row(msgspec.Struct, frozen=True):
    """One line of Locust's statistics; response times in ms by how often each was seen."""

    name: str
    num_requests: int
    num_failures: int
    response_times: dict[str, int]

    def percentile_ms(self, percent: int) -> float:
        """The nearest-rank percentile (Locust rounds response times to two digits)."""
        seen = sorted((float(time_ms), count) for time_ms, count in self.response_times.items())
        rank = sum(count for _, count in seen) * percent / 100
        for time_ms, count in seen:
            rank -= count
            if rank <= 0:
                return time_ms
        return 0.0


class Report(msgspec.Struct, frozen=True):
    """One run. `audit` is missing where the switch was somebody else's."""

    seconds: int
    users: int
    requests: int
    failures: int
    rows: list[Row]
    audit: Ended | None

    @property
    def sound(self) -> bool:
        audited = self.audit is None or self.audit.clean
        return self.requests > 0 and not self.failures and audited


def run_locust(serving: Serving, given: argparse.Namespace) -> list[Row]:
    """Locust headless for so many seconds. Raises StageFailed with what it said."""
    with tempfile.TemporaryDirectory(prefix="citycard-load-") as directory:
        figures = Path(directory) / "figures"
        command = [
            *(sys.executable, "-m", "locust", "--headless", "--skip-log", "--only-summary"),
            *("--locustfile", str(Path(__file__).with_name("locustfile.py"))),
            *("--host", f"iso8583://{given.host}:{serving.port}"),
            *("--users", str(given.users), "--spawn-rate", str(given.users)),
            *("--run-time", f"{given.seconds}s", "--per-second", str(given.per_second)),
            *("--cards", str(serving.cards), "--blocked-cards", str(serving.blocked)),
            *("--poor-cards", str(serving.poor), "--exit-code-on-error", "0"),
            *("--json-file", str(figures)),
        ]
        done = subprocess.run(
            command, capture_output=True, check=False, timeout=given.seconds + GRACE_SECONDS
        )
        written = figures.with_suffix(".json")
        if not written.exists():
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise StageFailed(f"locust ended with {done.returncode}: {' / '.join(said[-3:])}")
        return msgspec.json.decode(written.read_bytes(), type=list[Row])


def load(given: argparse.Namespace) -> Report:
    """Set the stage where none is given, run Locust, audit."""
    if given.port:
        serving = Serving(given.port, [], given.cards, given.blocked_cards, given.poor_cards)
        return _report(given, run_locust(serving, given), None)
    with staged_switch(cards=given.cards) as staged:
        rows = run_locust(staged.serve(backend=given.backend, workers=given.workers), given)
        return _report(given, rows, staged.end())


def _report(given: argparse.Namespace, rows: list[Row], audit: Ended | None) -> Report:
    return Report(
        seconds=given.seconds,
        users=given.users,
        requests=sum(row.num_requests for row in rows),
        failures=sum(row.num_failures for row in rows),
        rows=sorted(rows, key=lambda row: row.name),
        audit=audit,
    )


def table(report: Report) -> str:
    """The run as text."""
    lines = [f"{'answer':<14}{'count':>9}{'failed':>8}{'p50 ms':>8}{'p99 ms':>8}"]
    lines += [
        f"{row.name:<14}{row.num_requests:>9,}{row.num_failures:>8,}"
        f"{row.percentile_ms(50):>8.0f}{row.percentile_ms(99):>8.0f}"
        for row in report.rows
    ]
    lines.append(
        f"{report.requests:,} requests of {report.users} terminals, "
        f"{report.requests / report.seconds:,.0f}/s, {report.failures:,} failed"
    )
    match report.audit:
        case None:
            lines.append("not audited: run `citycard audit` on that switch's ledger")
        case audit if audit.clean:
            lines.append(f"audit: {audit.checks} invariants, no findings")
        case audit:
            lines.append(f"audit: FINDINGS {audit.findings}")
    return "\n".join(lines)


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.load", description=__doc__)
    add = parser.add_argument
    add("--seconds", type=int, default=30)
    add("--users", type=int, default=50, help="terminals, a connection each")
    add("--per-second", type=float, default=5.0, help="payments of one terminal")
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=0, help="a switch that is up; 0 starts one")
    add("--cards", type=int, default=CARDS)
    add("--blocked-cards", type=int, default=0, help="with --port: the first indexes")
    add("--poor-cards", type=int, default=0, help="with --port: the indexes after them")
    add("--workers", type=int, default=1)
    add("--backend", choices=("asyncio", "trio"), default="asyncio")
    add("--json", type=Path, metavar="FILE")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """0 when all was answered and the audit is clean, 1 when not, 3 without a switch."""
    given = arguments().parse_args(argv)
    try:
        report = load(given)
    except StageFailed as failed:
        print(f"load: {failed}", file=sys.stderr)
        return 3
    print(table(report))
    if given.json:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    return 0 if report.sound else 1


if __name__ == "__main__":
    sys.exit(main())
