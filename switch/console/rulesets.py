"""Rulesets as they are read over HTTP: which there are, their text, their rules as sentences,
how two differ, and what they came to."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from risk.cost import EVENTS_TYPICAL, estimate
from risk.rules import Rule
from risk.ruleset import Ruleset
from risk.ruleset_diff import Change, diff
from risk.sentences import Language, ruleset_sentences
from switch.console.desk import Desk
from switch.console.endpoint import READERS, Call, Document, Endpoint, Query
from switch.console.fields import CountMax
from switch.console.problems import Fault, refusal
from switch.ledger import rulesets, sql
from switch.ledger.rulesets import RulesetView, StoredRuleset

HOURS_MAX = 168
ROWS_MAX = 50_000
PPM = 1_000_000
_QUERIES = sql.queries("console.sql")


class RulesetsView(msgspec.Struct, frozen=True):
    """The newest rulesets."""

    rulesets: list[RulesetView]


class RuleView(msgspec.Struct, frozen=True):
    """One rule for people. `cost_ns` is an estimate, with a typical history, of it alone."""

    id: str
    version: int
    name: str
    stage: str
    sentence: str
    sentence_zh: str
    owner: str
    ticket: str
    expires_at: datetime | None
    canary_percent: int | None
    cost_ns: int
    paused: bool


class RulesView(msgspec.Struct, frozen=True):
    """The rules of a ruleset in their order, and what the dearest request is expected to take."""

    hash: str
    state: str
    cost_ns: int
    history_events: int
    rules: list[RuleView]


class LanguageQuery(Query, frozen=True):
    """In which language the sentences are."""

    language: Annotated[Language, Meta(description="en or zh")] = Language.ENGLISH


class DifferenceView(msgspec.Struct, frozen=True):
    """From one ruleset to another: what was added, removed and changed."""

    before: str
    after: str
    changes: tuple[Change, ...]


class StatisticsQuery(Query, frozen=True):
    """Which hours, and of what part that the ruleset played; all three if nothing is said."""

    hours: Annotated[
        int, Meta(ge=1, le=HOURS_MAX, description=f"how many hours back: 1 to {HOURS_MAX}")
    ] = 24
    mode: Annotated[
        Literal["", "live", "canary", "shadow"], Meta(description="live, canary or shadow")
    ] = ""


class HourView(msgspec.Struct, frozen=True):
    """What a rule came to in an hour (UTC). Gained: declined here and not by what was answered."""

    hour: datetime
    requests: int
    fired: int
    declined: int
    unknown: int
    spared: int
    failed: int
    gained: int
    lost: int
    gained_minor: int
    lost_minor: int


class RuleStatistics(msgspec.Struct, frozen=True):
    """One rule in one mode; rule '' is the ruleset as a whole. Shares are of requests, in parts
    per million; None where there was no request, or no forecast."""

    mode: str
    rule_id: str
    version: int
    requests: int
    fired_ppm: int | None
    declined_ppm: int | None
    forecast_ppm: int | None
    hours: list[HourView]


class StatisticsView(msgspec.Struct, frozen=True):
    """What the rules of a ruleset came to; hours in which nothing was counted are left out."""

    hash: str
    rules: list[RuleStatistics]


class ExamplesQuery(Query, frozen=True):
    """How many."""

    count_max: CountMax = 100


class ExampleView(msgspec.Struct, frozen=True):
    """An authorization that a shadow ruleset would have decided otherwise."""

    authorization_id: int
    at_us: int
    rule_id: str
    answered: str
    shadow: str
    amount_minor: int
    sentence: str


class ExamplesView(msgspec.Struct, frozen=True):
    """Examples, newest first."""

    hash: str
    examples: list[ExampleView]


async def stored(desk: Desk, reference: str) -> StoredRuleset:
    """The text of the ruleset that is meant. Raises RulesetUnknown."""
    async with desk.ledger.connection() as connection:
        view = await rulesets.found(connection, reference)
        return await rulesets.text(connection, view.hash)


def typed(text: StoredRuleset) -> Ruleset:
    """The ruleset of a stored text. Raises Refused."""
    try:
        return text.ruleset()
    except (msgspec.ValidationError, msgspec.DecodeError):
        words = "this ruleset was written by another version of citycard; read its source"
        raise refusal(Fault.STATE, words) from None


async def every(desk: Desk, _call: Call[None, Query]) -> RulesetsView:
    return RulesetsView(await rulesets.listed(desk.ledger))


async def one(desk: Desk, call: Call[None, Query]) -> RulesetView:
    return await rulesets.found(desk.ledger, call.path["ref"])


async def source(desk: Desk, call: Call[None, Query]) -> Document:
    text = await stored(desk, call.path["ref"])
    headers = {"etag": f'"{text.hash}"'}
    return Document(text.source.encode(), "text/plain", headers)


async def canonical(desk: Desk, call: Call[None, Query]) -> Document:
    text = await stored(desk, call.path["ref"])
    return Document(text.canonical, "application/json", {"etag": f'"{text.hash}"'})


async def rules(desk: Desk, call: Call[None, Query]) -> RulesView:
    async with desk.ledger.connection() as connection:
        view = await rulesets.found(connection, call.path["ref"])
        text = await rulesets.text(connection, view.hash)
        pauses = await rulesets.pauses(connection)
    ruleset = typed(text)
    cost = estimate(ruleset)
    english = ruleset_sentences(ruleset)
    chinese = ruleset_sentences(ruleset, Language.CHINESE)
    paused = {(each.rule_id, each.rule_version) for each in pauses}

    def shown(rule: Rule, cost_ns: int) -> RuleView:
        return RuleView(
            rule.id,
            rule.version,
            rule.name,
            rule.stage.value,
            english[rule.id],
            chinese[rule.id],
            rule.owner,
            rule.ticket,
            rule.expires_at,
            rule.canary_percent,
            cost_ns,
            (rule.id, rule.version) in paused,
        )

    told = [shown(*each) for each in zip(ruleset.rules, cost.rules_ns, strict=True)]
    return RulesView(text.hash, view.state, cost.worst_kind_ns, EVENTS_TYPICAL, told)


async def difference(desk: Desk, call: Call[None, LanguageQuery]) -> DifferenceView:
    before = await stored(desk, call.path["ref"])
    after = await stored(desk, call.path["other"])
    return DifferenceView(
        before.hash, after.hash, diff(typed(before), typed(after), call.query.language)
    )


async def statistics(desk: Desk, call: Call[None, StatisticsQuery]) -> StatisticsView:
    view = await rulesets.found(desk.ledger, call.path["ref"])
    rows = await desk.ledger.fetch(
        _QUERIES["ruleset_statistics"], view.hash, call.query.hours, call.query.mode, ROWS_MAX
    )
    by_rule: dict[tuple[str, str, int], list[HourView]] = {}
    for row in rows:
        key = (row["mode"], row["rule_id"], row["rule_version"])
        hour = HourView(**{name: row[name] for name in HourView.__struct_fields__})
        by_rule.setdefault(key, []).append(hour)
    return StatisticsView(
        view.hash, [_statistics(*key, view.forecast, hours) for key, hours in by_rule.items()]
    )


def _statistics(
    mode: str, rule_id: str, version: int, forecast: dict[str, int], hours: list[HourView]
) -> RuleStatistics:
    requests = sum(hour.requests for hour in hours)
    fired = sum(hour.fired for hour in hours)
    declined = sum(hour.declined for hour in hours)
    return RuleStatistics(
        mode=mode,
        rule_id=rule_id,
        version=version,
        requests=requests,
        fired_ppm=fired * PPM // requests if requests else None,
        declined_ppm=declined * PPM // requests if requests else None,
        forecast_ppm=forecast.get(rule_id),
        hours=hours,
    )


async def examples(desk: Desk, call: Call[None, ExamplesQuery]) -> ExamplesView:
    view = await rulesets.found(desk.ledger, call.path["ref"])
    rows = await desk.ledger.fetch(_QUERIES["shadow_examples"], view.hash, call.query.count_max)
    return ExamplesView(view.hash, [ExampleView(**dict(row)) for row in rows])


_ONE = "/v1/rulesets/{ref}"
_HASH = "3fa9" + "0" * 60
_EXAMPLE: dict[str, Any] = {
    "hash": _HASH, "title": "Tap burst from 6 to 5", "state": "shadow", "parent": "9c1e" + "0" * 60,
    "canary_percent": None, "authors": ["li.wei"], "approvers": [],
    "created_at": "2026-10-01T09:00:00Z", "was_live": False, "forecast": {"tap_burst": 1200},
}  # fmt: skip
ENDPOINTS = (
    Endpoint(
        method="GET", path="/v1/rulesets", summary="The newest rulesets, and how each stands",
        roles=READERS, handler=every, answers=RulesetsView, answer_example={"rulesets": [_EXAMPLE]},
    ),
    Endpoint(
        method="GET", path=_ONE, summary="How one ruleset stands", roles=READERS, handler=one,
        answers=RulesetView, answer_example=_EXAMPLE,
    ),
    Endpoint(
        method="GET", path=f"{_ONE}/source", summary="The text as its author wrote it",
        roles=READERS, handler=source, answer_type="text/plain",
    ),
    Endpoint(
        method="GET", path=f"{_ONE}/canonical", summary="The bytes that its hash is of",
        roles=READERS, handler=canonical,
    ),
    Endpoint(
        method="GET", path=f"{_ONE}/rules", roles=READERS, handler=rules, answers=RulesView,
        summary="Its rules as sentences, English and Chinese, with owner and cost",
    ),
    Endpoint(
        method="GET", path=f"{_ONE}/diff/{{other}}", roles=READERS, handler=difference,
        summary="What the other one changes", query=LanguageQuery,
        answers=DifferenceView, faults=(Fault.FIELD,),
    ),
    Endpoint(
        method="GET", path=f"{_ONE}/statistics", roles=READERS, handler=statistics,
        summary="What its rules came to by the hour, and the forecast", query=StatisticsQuery,
        answers=StatisticsView, faults=(Fault.FIELD,),
    ),
    Endpoint(
        method="GET", path=f"{_ONE}/examples", roles=READERS, handler=examples,
        summary="What it would have decided otherwise while in shadow", query=ExamplesQuery,
        answers=ExamplesView, faults=(Fault.FIELD,),
    ),
)  # fmt: skip
