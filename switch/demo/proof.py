"""What a demonstration proves once the traffic is over: the journal, the audit, one story.

The acquirer's journal is evidence from outside: what it was told must be what the ledger
holds, answer by answer.
"""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from protocols.message import Outcome, response_code
from protocols.money import display_minor
from switch.ledger import sql
from switch.ledger.audit import AuditReport, audit
from switch.ledger.bridge import Connection
from switch.ledger.cards import CardView, show

_QUERIES = sql.queries("demo.sql")
SCRAPE_SECONDS_MAX = 5
DISAGREEMENTS_MAX = 5
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


class Answered(msgspec.Struct, frozen=True):
    """A line of the acquirer's journal, as far as it is compared with the ledger."""

    terminal: str
    stan: str
    local_at: str
    due_at_ms: int
    code: str = ""
    rrn: str = ""
    approved_minor: int = 0
    answered_at_ms: int = 0
    repeat: bool = False


class OutcomeCount(msgspec.Struct, frozen=True):
    """Authorizations of one outcome in the ledger."""

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
    story: Story | None
    audit: AuditReport


async def prove(
    connection: Connection, journal: Path, balance_caps_minor: Mapping[str, int]
) -> Proof:
    """Read it all from the ledger; changes nothing."""
    answers = read_journal(journal)
    totals = await connection.fetchrow(_QUERIES["totals"])
    assert totals is not None
    return Proof(
        outcomes=await outcomes(connection),
        authorizations=totals["authorizations"],
        transfers=totals["transfers"],
        agreement=agree(answers, await connection.fetch(_QUERIES["purchases"])),
        story=await story(connection, answers),
        audit=await audit(connection, balance_caps_minor=balance_caps_minor),
    )


def read_journal(path: Path) -> list[Answered]:
    """The answers the acquirer got; messages that it gave up have none."""
    decoder = msgspec.json.Decoder(Answered)
    answers = [decoder.decode(line) for line in path.read_bytes().splitlines()]
    return [answer for answer in answers if answer.code]


async def outcomes(connection: Connection) -> list[OutcomeCount]:
    """Purchases in the ledger by outcome, most frequent first."""
    return [
        OutcomeCount(
            row["outcome"],
            response_code(Outcome(row["outcome"])),
            row["authorizations"],
            row["approved_minor"],
        )
        for row in await connection.fetch(_QUERIES["outcomes"])
    ]


def agree(answers: list[Answered], rows: Any) -> Agreement:
    """Hold each answer against the ledger's row under the same terminal, STAN and local time.

    An approval must be there with its amount and RRN, a refusal must not have moved money,
    and the ledger must hold no approval that the acquirer was never told of.
    """
    stored = {(row["terminal"], row["stan"], row["local_at"]): row for row in rows}
    wrong: list[str] = []
    told: set[tuple[str, str, str]] = set()
    for answer in answers:
        key = answer.terminal, answer.stan, answer.local_at
        row = stored.get(key)
        approved_minor = row["approved_minor"] if row is not None else 0
        if answer.code == "00":
            told.add(key)
            same = row is not None and row["rrn"] == answer.rrn
            if not same or approved_minor != answer.approved_minor:
                wrong.append(f"{'-'.join(key)}: approved to the acquirer, not so in the ledger")
        elif approved_minor:
            wrong.append(f"{'-'.join(key)}: answered {answer.code}, approved in the ledger")
    for key, row in stored.items():
        if row["approved_minor"] and key not in told:
            wrong.append(f"{'-'.join(key)}: approved in the ledger, never told")
    return Agreement(len(answers), len(told), len(wrong), wrong[:DISAGREEMENTS_MAX])


async def story(connection: Connection, answers: list[Answered]) -> Story | None:
    """The path of one declined authorization, the most telling there is."""
    declines = await connection.fetch(_QUERIES["declines_to_explain"])
    by_outcome = {Outcome(row["outcome"]): row for row in declines}
    told = next((by_outcome[outcome] for outcome in _WORTH_TELLING if outcome in by_outcome), None)
    if told is None:
        return None
    card = await show(connection, told["card_id"], authorizations_max=1)
    key = told["terminal"], told["stan"], told["local_at"]
    answer = next(
        (a for a in answers if (a.terminal, a.stan, a.local_at) == key and not a.repeat), None
    )
    return Story(told["authorization_id"], told["card_id"], _steps(told, card, answer))


def _steps(told: Any, card: CardView, answer: Answered | None) -> dict[str, str]:
    outcome = Outcome(told["outcome"])
    general = next(purse for purse in card.purses if purse.purse == 2)
    within = f", {answer.answered_at_ms - answer.due_at_ms} ms after it was due" if answer else ""
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
