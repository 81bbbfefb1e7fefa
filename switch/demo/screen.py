"""How a demonstration looks: a live line while it runs, tables and one story at its end.

On a terminal the line is redrawn; elsewhere a plain line is printed every five seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from protocols.money import display_minor
from switch.demo.children import CityFigures, Figures
from switch.demo.proof import Proof, Scrape
from switch.demo.traffic import Second
from switch.demo.venue_lines import Line

PLAIN_LINE_SECONDS = 5
WIDTH_MAX = 96
_BAR_WIDTH = 14


def console() -> Console:
    """Standard output, never wider than reads well."""
    made = Console(highlight=False, soft_wrap=False)
    made.width = min(made.width, WIDTH_MAX) if made.is_terminal else WIDTH_MAX
    return made


class Screen:
    """Prints the parts of a demonstration in order."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._outcomes: Counter[str] = Counter()

    def heading(self, text: str) -> None:
        self._out.print(Text(text, style="bold"))

    def line(self, text: str) -> None:
        self._out.print(Padding(Text(text), (0, 0, 0, 2)))

    def failure(self, text: str) -> None:
        self._out.print(Text(text, style="bold red"))

    @contextmanager
    def steps(self) -> Iterator[Steps]:
        """A line that is replaced by each step; plain output keeps the last one only."""
        with Live(Text(""), console=self._out, transient=True, refresh_per_second=8) as live:
            yield Steps(live if self._out.is_terminal else None)

    def follow(self, seconds: int, progress: Iterable[Second]) -> None:
        """Show the traffic until it ends."""
        if not self._out.is_terminal:
            for at in progress:
                self._outcomes.update(at.outcomes)
                if at.second % PLAIN_LINE_SECONDS == 0:
                    self.line(self._status(at, seconds).plain)
            return
        with Live(Text(""), console=self._out, refresh_per_second=4) as live:
            for at in progress:
                self._outcomes.update(at.outcomes)
                live.update(Padding(self._status(at, seconds), (0, 0, 0, 2)))

    def _status(self, at: Second, seconds: int) -> Text:
        filled = min(_BAR_WIDTH, at.second * _BAR_WIDTH // max(1, seconds))
        text = Text(no_wrap=True, overflow="ellipsis")
        if self._out.is_terminal:
            text.append("━" * filled, style="green").append("━" * (_BAR_WIDTH - filled), "dim")
            text.append(" ")
        text.append(f"{at.second:>3} s {at.answered:>4}/s  p99 ms ")
        text.append("  ".join(f"{name} {p99_ms:.0f}" for name, p99_ms in at.p99_ms.items()) + "  ")
        shown = " ".join(f"{code} {n:,}" for code, n in self._outcomes.most_common(4))
        return text.append(shown, style="dim")

    def venues(self, proof: Proof) -> None:
        """A line for each venue with its budget, and one for each segment."""
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("venue", no_wrap=True)
        table.add_column("", no_wrap=True)
        for header in ("messages", "approved", "declined", "p50 ms", "p99 ms", "budget"):
            table.add_column(header, justify="right")
        for venue in proof.venues:
            budget = f"{venue.budget_p99_ms:,} {'✓' if venue.within else '✗'}"
            table.add_row(
                f"{venue.number:>2} {venue.name}", venue.name_zh, *_figures(venue.line),
                Text(budget, style="green" if venue.within else "yellow"),
            )  # fmt: skip
        table.add_section()
        for each in proof.segments:
            table.add_row(each.segment.value, "", *_figures(each.line), style="bold")
        self._out.print(Padding(table, (0, 0, 0, 2)))

    def outcomes(self, proof: Proof, figures: Figures, city: CityFigures) -> None:
        """What became of the messages, and how long the answers of retail took."""
        table = Table(box=None, pad_edge=False, header_style="dim")
        for header, justify in (("outcome", "left"), ("DE39", "left")):
            table.add_column(header, justify=justify)  # type: ignore[arg-type]
        for header in ("count", "share", "approved"):
            table.add_column(header, justify="right")
        whole = sum(row.authorizations for row in proof.outcomes) or 1
        for row in proof.outcomes:
            table.add_row(
                row.outcome.replace("_", " "),
                row.code,
                f"{row.authorizations:,}",
                f"{100 * row.authorizations / whole:.1f} %",
                display_minor(row.approved_minor) if row.approved_minor else "",
                style="green" if row.code == "00" else "",
            )
        self._out.print(Padding(table, (0, 0, 0, 2)))
        latency = figures.latency
        self.line("")
        self.line(
            f"city     {city.answered:,} of {city.sent:,} messages answered in {city.visits:,} "
            f"visits; {sum(city.uploaded.values()):,} offline rides uploaded"
        )
        self.line(
            f"retail   {figures.answered:,} of {figures.sent:,} messages answered, "
            f"{figures.achieved_rate:,.0f}/s over {figures.links} links"
        )
        self.line(
            f"         latency from when each was due: p50 {latency.p50_ms:.1f}  "
            f"p95 {latency.p95_ms:.1f}  p99 {latency.p99_ms:.1f}  max {latency.max_ms:.1f} ms"
        )
        self.line(
            f"         {figures.repeats_sent:,} were sent twice: {figures.repeats_matched:,} got "
            f"the same answer again, {figures.duplicates_mismatched:,} another one"
        )

    def story(self, proof: Proof) -> None:
        """One declined payment, from message to answer."""
        if proof.story is None:
            self.line("nothing was declined")
            return
        table = Table.grid(padding=(0, 2))
        table.add_column(style="cyan", no_wrap=True)
        table.add_column()
        for step, text in proof.story.steps.items():
            table.add_row(step, Text(text))
        self._out.print(Padding(table, (0, 0, 0, 2)))

    def proof(self, proof: Proof, scraped: Scrape | None) -> None:
        """Metrics, the journal against the ledger, and the audit."""
        if scraped:
            self.line(f"metrics  {'  '.join(scraped.urls)}")
            shown = (
                f"{name.removeprefix('citycard_')} {value:,.0f}"
                for name, value in scraped.values.items()
            )
            self._out.print(Padding(Text("  ".join(shown), style="dim"), (0, 0, 0, 11)))
        agreement = proof.agreement
        self.line(
            f"journals {agreement.answers:,} answers held against the ledger: "
            f"{agreement.disagreements:,} disagree"
        )
        for finding in agreement.first:
            self.failure(f"           {finding}")
        bills = proof.bills
        self.line(
            f"billers  {bills.paid:,} of {bills.payments:,} payments are paid, "
            f"{display_minor(bills.paid_minor)}; {bills.disagreements:,} differ from the "
            "billers' books"
        )
        checks = proof.audit.checks
        findings = sum(check.findings for check in checks)
        self.line(
            f"audit    {len(checks)} invariants over {proof.authorizations:,} authorizations and "
            f"{proof.transfers:,} transfers: {findings:,} findings"
        )
        for check in checks:
            if check.findings:
                self.failure(
                    f"           {check.name}: {check.findings} — {', '.join(check.first)}"
                )


def _figures(line: Line) -> list[str]:
    counts = [f"{count:,}" for count in (line.messages, line.approved, line.declined)]
    return [*counts, f"{line.p50_ms:.1f}", f"{line.p99_ms:.1f}"]


class Steps:
    """One line that says what is being done."""

    def __init__(self, live: Live | None) -> None:
        self._live = live

    def __call__(self, text: str) -> None:
        if self._live:
            self._live.update(Padding(Text(text, style="dim"), (0, 0, 0, 2)))
