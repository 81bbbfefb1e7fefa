"""What a demonstration proves once the traffic is over: journals, billers' books, audit, a story.

The journals of the load generators are evidence from outside: what tills, gates and counters
were told must be what the ledger holds, answer by answer; and what a biller's book holds as
paid must be what the ledger took for it.
"""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from protocols.message import Outcome, response_code
from protocols.money import display_minor
from switch.config import Config, doors
from switch.demo.answered import Answered, read_journal
from switch.demo.venue_lines import SegmentLine, VenueLine, segment_lines, venue_lines
from switch.ledger import sql
from switch.ledger.audit import AuditReport, audit
from switch.ledger.bridge import Connection
from switch.ledger.cards import CardView, show
from switch.venues import VenueTable

_QUERIES = sql.queries("demo.sql")
SCRAPE_SECONDS_MAX = 5
DISAGREEMENTS_MAX = 5
SALE_CLASS = "02"
SCRAPED = (
    "citycard_ledger_up",
    "citycard_requests_total",
    "citycard_duplicates_total",
    "citycard_late_answers_total",
    "citycard_shed_total",
)
_WORTH_TELLING = (
    Outcome.COUNT_LIMIT,
    Outcome.SUSPECTED_FRAUD,
    Outcome.AMOUNT_LIMIT,
    Outcome.INSUFFICIENT_FUNDS,
    Outcome.CARD_BLOCKED,
)
"""Declines by how much their explanation shows, best first."""


class OutcomeCount(msgspec.Struct, frozen=True):
    """Messages of one outcome in the ledger."""

    outcome: str
    code: str
    authorizations: int
    approved_minor: int


class Agreement(msgspec.Struct, frozen=True):
    """Journal against ledger: how many answers were compared, and which disagree, by key."""

    answers: int
    approvals: int
    disagreements: int
    first: list[str]


class BillAgreement(msgspec.Struct, frozen=True):
    """Bill payments against the books of the billers' hosts, by serial and amount."""

    payments: int
    paid: int
    paid_minor: int
    disagreements: int


class Scrape(msgspec.Struct, frozen=True):
    """Some values of the metrics endpoints, summed over workers and labels."""

    urls: list[str]
    values: dict[str, float]


class Story(msgspec.Struct, frozen=True):
    """One declined authorization from message to answer, a line a step."""

    authorization_id: int
    card_id: int
    steps: dict[str, str]


class Proof(msgspec.Struct, frozen=True):
    """Everything that was looked up after the traffic."""

    outcomes: list[OutcomeCount]
    authorizations: int
    transfers: int
    agreement: Agreement
    bills: BillAgreement
    venues: list[VenueLine]
    segments: list[SegmentLine]
    story: Story | None
    audit: AuditReport

    @property
    def sound(self) -> bool:
        """Nothing disagrees, and no invariant is broken."""
        return self.audit.clean and not (self.agreement.disagreements or self.bills.disagreements)


async def prove(
    connection: Connection,
    config: Config,
    venues: VenueTable,
    journals: Iterable[Path],
    book_minor: Mapping[str, int],
    retail_link: str,
) -> Proof:
    """Read it all from the ledger; changes nothing.

    `book_minor` is what the billers' books hold as paid, by serial.
    """
    answers = [answer for journal in journals for answer in read_journal(journal)]
    apis = [api.name for api in config.apis]
    links = [name for name, _port in doors(config)]
    totals = await connection.fetchrow(_QUERIES["totals"])
    assert totals is not None
    lines = venue_lines(answers, venues)
    return Proof(
        outcomes=await outcomes(connection, links),
        authorizations=totals["authorizations"],
        transfers=totals["transfers"],
        agreement=agree(answers, await connection.fetch(_QUERIES["messages"], links, apis)),
        bills=agree_on_bills(answers, await connection.fetch(_QUERIES["bills"]), book_minor),
        venues=lines,
        segments=segment_lines(answers, venues),
        story=await story(connection, answers, retail_link),
        audit=await audit(connection, balance_caps_minor=config.tiers.balance_caps_minor()),
    )


async def outcomes(connection: Connection, links: list[str]) -> list[OutcomeCount]:
    """Messages in the ledger by outcome, most frequent first."""
    return [
        OutcomeCount(
            row["outcome"],
            response_code(Outcome(row["outcome"])),
            row["authorizations"],
            row["approved_minor"],
        )
        for row in await connection.fetch(_QUERIES["outcomes"], links)
    ]


def agree(answers: Iterable[Answered], rows: Iterable[Any]) -> Agreement:
    """Hold each answer against the ledger's row under the same key.

    An approval must be there with its amount and RRN and must stand, a refusal must not have
    moved money that still stands, and the ledger must hold no approval that nobody was told.
    """
    stored = {row["key"]: row for row in rows}
    compared = [answer for answer in answers if _is_compared(answer)]
    told = {answer.key for answer in compared if answer.approved}
    wrong: list[str] = []
    for answer in compared:
        row = stored.get(answer.key)
        if answer.approved:
            if not _same(answer, row):
                wrong.append(f"{answer.key}: approved to whoever asked, not so in the ledger")
        elif answer.key not in told and row and _stands(row):
            # what was refused for load may be sent again, and approved then
            wrong.append(f"{answer.key}: answered {answer.code}, approved in the ledger")
    wrong += [
        f"{key}: approved in the ledger, never told"
        for key, row in stored.items()
        if _stands(row) and key not in told
    ]
    return Agreement(len(compared), len(told), len(wrong), wrong[:DISAGREEMENTS_MAX])


def _is_compared(answer: Answered) -> bool:
    """A bill's steps are held against the payment; what was refused over HTTP has no key."""
    return answer.kind != "reversal" and bool(answer.key) and not answer.key.startswith("bill-")


def _stands(row: Any) -> bool:
    """Whether it moved money that was not taken back; an inspection moves none, however late."""
    return bool(row["approved"]) and not row["taken_back"] and row.get("kind") != "inspect"


def _same(answer: Answered, row: Any) -> bool:
    if row is None or not row["approved"] or row["approved_minor"] != answer.approved_minor:
        return False
    return not answer.rrn or answer.rrn == row["rrn"]


def agree_on_bills(
    answers: Iterable[Answered], rows: Iterable[Any], book_minor: Mapping[str, int]
) -> BillAgreement:
    """Hold the payments of the ledger against the billers' books, and against what was told."""
    rows = list(rows)
    paid_minor = {row["serial"]: row["amount_minor"] for row in rows if row["state"] == "paid"}
    told_minor = {
        answer.key.removeprefix("bill-"): answer.approved_minor
        for answer in answers
        if answer.kind == "bill_confirm" and answer.code == "00"
    }
    differing = [
        serial
        for serial in paid_minor.keys() | book_minor.keys()
        if paid_minor.get(serial) != book_minor.get(serial)
    ]
    differing += [serial for serial in told_minor if paid_minor.get(serial) != told_minor[serial]]
    return BillAgreement(len(rows), len(paid_minor), sum(paid_minor.values()), len(differing))


async def story(connection: Connection, answers: Iterable[Answered], link: str) -> Story | None:
    """The path of one declined authorization, the most telling there is."""
    declines = await connection.fetch(_QUERIES["declines_to_explain"], link)
    by_outcome = {Outcome(row["outcome"]): row for row in declines}
    told = next((by_outcome[outcome] for outcome in _WORTH_TELLING if outcome in by_outcome), None)
    if told is None:
        return None
    card = await show(connection, told["card_id"], authorizations_max=1)
    key = f"{told['terminal']}-{told['stan']}-{told['local_at']}-{SALE_CLASS}"
    answer = next((a for a in answers if a.key == key and not a.repeat), None)
    return Story(told["authorization_id"], told["card_id"], _steps(told, card, answer))


def _steps(told: Any, card: CardView, answer: Answered | None) -> dict[str, str]:
    outcome = Outcome(told["outcome"])
    general = next(purse for purse in card.purses if purse.purse == 2)
    took_ms = answer.latency_us // 1000 if answer else 0
    within = f", {took_ms} ms after it was due" if took_ms else ""
    clock = re.sub(r"^(..)(..)(..)(..)(..)$", r"\1-\2 \3:\4:\5", told["local_at"])
    return {
        "message": (
            f"0200 sale of {display_minor(told['amount_minor'])} on link {told['link']}, "
            f"terminal {told['terminal']}, STAN {told['stan']}, terminal time {clock}, "
            f"MCC {told['mcc']}"
        ),
        "card": (
            f"card {card.card_id} (••{card.last4}), {card.status}, tier {card.tier}, shard "
            f"{card.shard}; GEN holds {display_minor(general.balance_minor)}"
        ),
        "decision": told["explanation"],
        "ledger": (
            f"authorization {told['authorization_id']}, outcome {outcome}, no transfer, "
            f"written {told['posting_us'] / 1000:.1f} ms after the decision, "
            f"{told['left_us'] // 1000} ms of the budget left"
        ),
        "answer": f"0210 with DE39 {response_code(outcome)}{within}",
    }


def scrape(host: str, ports: list[int]) -> Scrape:
    """Read the metrics of all workers over HTTP, as Prometheus does."""
    urls = [f"http://{host}:{port}/metrics" for port in ports]
    values = dict.fromkeys(SCRAPED, 0.0)
    for url in urls:
        with urllib.request.urlopen(url, timeout=SCRAPE_SECONDS_MAX) as response:  # noqa: S310 - http, built here
            text = response.read().decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name in values:
                    values[sample.name] += sample.value
    return Scrape(urls, values)
