"""The life of a ruleset over HTTP: writing one, moving it from state to state, pausing a rule.

An act names its ruleset by hash, not as "live" or "canary": what those mean may have changed
between the look and the act. Repeating an act that is done is refused with how it stands.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import anyio
import msgspec
from msgspec import Meta

from risk.check import ruleset_findings
from risk.findings import RulesetError, Severity
from risk.findings import error as fault_of
from risk.read import RULESET_BYTES_MAX, read_ruleset
from risk.ruleset import Ruleset, ruleset_hash
from switch.backtest.submission import judged, yesterday
from switch.console.canonical import ruleset_of_json
from switch.console.desk import Desk
from switch.console.endpoint import READERS, Asked, Call, Endpoint, Handler, Query
from switch.console.fields import Hash, Percent
from switch.console.problems import Fault, FindingView, found, refusal
from switch.ledger import rulesets
from switch.ledger.rulesets import PauseView, RulesetView

WRITERS = frozenset({"author"})
SUBMIT_SECONDS = 70.0
"""Longer than a submission waits for its backtest, and shorter than a connection may be silent."""
PAUSERS = frozenset({"author", "analyst", "approver"})

ActReason = Annotated[
    str, Meta(max_length=400, description="why, in one line of at most 400 characters")
]
RequiredReason = Annotated[
    str,
    Meta(min_length=1, max_length=400, description="why, in one line of 1 to 400 characters"),
]
ACT_ROLES: dict[str, frozenset[str]] = {
    "shadow": frozenset({"author", "analyst"}),
    "withdraw": frozenset({"author", "analyst"}),
    "submit": frozenset({"author"}),
    "approve": frozenset({"approver"}),
    "reject": frozenset({"approver"}),
    "canary": frozenset({"approver"}),
    "promote": frozenset({"approver"}),
    "rollback": frozenset({"approver"}),
    "pause": PAUSERS,
    "resume": PAUSERS,
}
"""Who may try an act; by state `ledger.ruleset_move` may ask for more. A test compares both."""


Canonical = Annotated[
    msgspec.Raw, Meta(description="the ruleset as canonical JSON, where there is no TOML")
]


class RulesetAsked(Asked, frozen=True):
    """A ruleset to keep as a draft: its text, or its canonical form, and what it is made from."""

    title: Annotated[
        str, Meta(min_length=1, max_length=120, description="what is new, in 1 to 120 characters")
    ]
    toml: Annotated[
        str, Meta(max_length=RULESET_BYTES_MAX, description="the ruleset as TOML text")
    ] = ""
    ruleset: Canonical = msgspec.field(default_factory=msgspec.Raw)
    parent: Hash | None = None


class CheckAsked(Asked, frozen=True):
    """A ruleset to look at, as for keeping it."""

    toml: Annotated[
        str, Meta(max_length=RULESET_BYTES_MAX, description="the ruleset as TOML text")
    ] = ""
    ruleset: Canonical = msgspec.field(default_factory=msgspec.Raw)


class CheckView(msgspec.Struct, frozen=True):
    """What was found; `hash` is empty where it cannot be used."""

    sound: bool
    hash: str
    findings: tuple[FindingView, ...]


class ActAsked(Asked, frozen=True):
    """Why; what undoes the work of others (reject, pause, rollback) wants a reason."""

    reason: ActReason = ""


class SubmitAsked(Asked, frozen=True):
    """Why, and why it is no mistake where it declines much of what was approved yesterday."""

    reason: ActReason = ""
    override: Annotated[
        str,
        Meta(
            max_length=400, description="why declining so much is meant, in at most 400 characters"
        ),
    ] = ""


class CanaryAsked(Asked, frozen=True):
    """For how many cards of a hundred."""

    percent: Percent
    reason: ActReason = ""


class RuleActAsked(Asked, frozen=True):
    """Why the rule is paused, or why it is in force again."""

    reason: RequiredReason


class PausesView(msgspec.Struct, frozen=True):
    """The pauses that stand, oldest first."""

    pauses: list[PauseView]


class LiftedView(msgspec.Struct, frozen=True):
    """The versions of the rule that were paused."""

    rule_id: str
    versions: list[int]


async def add(desk: Desk, call: Call[RulesetAsked, Query]) -> RulesetView:
    asked = call.asked
    # a text of a megabyte takes a second to read, in which others are answered
    ruleset, source = await anyio.to_thread.run_sync(_read, asked.toml, asked.ruleset)
    async with desk.ledger.connection() as connection:
        return await rulesets.add(
            connection,
            ruleset=ruleset,
            source=source,
            title=asked.title,
            parent=asked.parent,
            actor=call.operator.name,
        )


async def look_at(desk: Desk, call: Call[CheckAsked, Query]) -> CheckView:
    try:
        ruleset, _ = await anyio.to_thread.run_sync(_read, call.asked.toml, call.asked.ruleset)
    except RulesetError as error:
        return CheckView(False, "", found(error.findings))
    outside = await rulesets.outside_lists(desk.ledger)
    check = partial(ruleset_findings, ruleset, outside=outside, now_us=desk.clock.now_us())
    findings = await anyio.to_thread.run_sync(check)
    sound = not any(each.severity is Severity.ERROR for each in findings)
    return CheckView(sound, ruleset_hash(ruleset) if sound else "", found(findings))


def _read(toml: str, canonical: msgspec.Raw) -> tuple[Ruleset, str]:
    """The ruleset and what is kept as its source. Raises Refused and RulesetError."""
    text = bytes(canonical)
    if bool(toml) == bool(text):
        raise refusal(Fault.FIELD, "give the ruleset as toml or as ruleset, one of the two")
    if text:
        ruleset = ruleset_of_json(text)
        return ruleset, msgspec.json.format(text, indent=2).decode()
    ruleset_or_none, findings = read_ruleset(toml)
    if ruleset_or_none is None:
        raise RulesetError(findings or [fault_of("", "expected a ruleset")])
    return ruleset_or_none, toml


def act(name: str) -> Handler:
    """The handler of an act on a ruleset."""

    async def handler(desk: Desk, call: Call[ActAsked | CanaryAsked, Query]) -> RulesetView:
        percent = call.asked.percent if isinstance(call.asked, CanaryAsked) else None
        async with desk.ledger.connection() as connection:
            view = await rulesets.found(connection, by_hash(call.path["ref"]))
            return await rulesets.act(
                connection,
                view.hash,
                name,
                actor=call.operator,
                reason=call.asked.reason,
                percent=percent,
            )

    return handler


def by_hash(reference: str) -> str:
    """A reference that means the same whatever is promoted meanwhile. Raises Refused."""
    if reference in ("live", "canary"):
        words = "an act names its ruleset by 6 or more digits of its hash: what is live may change"
        raise refusal(Fault.STATE, words)
    return reference


async def submit(desk: Desk, call: Call[SubmitAsked, Query]) -> RulesetView:
    """Put it before its approvers, with what it would have done to yesterday."""
    asked, actor = call.asked, call.operator
    async with desk.ledger.connection() as connection:
        view = await rulesets.found(connection, by_hash(call.path["ref"]))
        # whether it may be submitted at all is looked at first, for a backtest takes a while
        await rulesets.allowed_move(connection, view, "submit", actor)
    day = yesterday(desk.config, desk.clock.now_us())
    over_at = desk.calendar.local(desk.calendar.day_bounds_us(day)[1])
    result = await desk.backtests.of_day(view.hash, day, over_at, actor.name)
    limit_percent = desk.config.rules.declined_percent_max
    detail: dict[str, Any] = {"backtest": {"day": day.isoformat(), "approved": 0}}
    if result is not None:
        detail = judged(result, limit_percent, asked.override)
    async with desk.ledger.connection() as connection:
        return await rulesets.act(
            connection, view.hash, "submit", actor=actor, reason=asked.reason, detail=detail
        )


async def pauses(desk: Desk, _call: Call[None, Query]) -> PausesView:
    return PausesView(await rulesets.pauses(desk.ledger))


async def pause_rule(desk: Desk, call: Call[RuleActAsked, Query]) -> PausesView:
    async with desk.ledger.connection() as connection:
        made = await rulesets.pause_rule(
            connection, call.path["rule_id"], actor=call.operator.name, reason=call.asked.reason
        )
    return PausesView(made)


async def lift_pause(desk: Desk, call: Call[RuleActAsked, Query]) -> LiftedView:
    rule_id = call.path["rule_id"]
    async with desk.ledger.connection() as connection:
        versions = await rulesets.lift_pause(
            connection, rule_id, actor=call.operator.name, reason=call.asked.reason
        )
    return LiftedView(rule_id, versions)


_TOML = """\
[settings]
time_zone = "Asia/Shanghai"
service_day_start = "04:00"
currency = "156"

[[features]]
id = "card_taps_5m"
key = "card"
aggregate = "count"
basis = "attempts"
window = "5m"

[[rules]]
id = "tap_burst"
version = 2
name = "Too many taps on one card"
stage = "amber"
when = { feature = "card_taps_5m", plus = 1, op = "gt", value = 5 }
then = { decline = "count_limit", reason = "too many taps" }
"""
_ACTS = {
    "shadow": "Have it look on beside the live ruleset",
    "withdraw": "Make it a draft again",
    "approve": "Approve this hash; never by an author",
    "reject": "Send it back to its authors",
    "promote": "Have it decide, in place of the live one",
    "rollback": "Have an earlier live ruleset decide again",
    "pause": "Take it out at once; of the live one, the one before it comes back",
    "resume": "Make a paused one a draft again",
}
ENDPOINTS = (
    Endpoint(
        method="POST", path="/v1/rulesets", summary="Keep a ruleset as a draft", roles=WRITERS,
        handler=add, asked=RulesetAsked, answers=RulesetView, status=201,
        faults=(Fault.FIELD, Fault.FINDINGS),
        example={"title": "Tap burst from 6 to 5", "toml": _TOML},
    ),
    Endpoint(
        method="POST", path="/v1/rulesets/check", summary="Tell what is wrong with a ruleset",
        roles=READERS, handler=look_at, asked=CheckAsked, answers=CheckView,
        faults=(Fault.FIELD,), example={"toml": _TOML},
    ),
    *(
        Endpoint(
            method="POST", path=f"/v1/rulesets/{{ref}}/{name}", summary=summary,
            roles=ACT_ROLES[name], handler=act(name), asked=ActAsked, answers=RulesetView,
            faults=(Fault.STATE, Fault.FIELD, Fault.REFUSED), example={"reason": "as agreed"},
        )
        for name, summary in _ACTS.items()
    ),
    Endpoint(
        method="POST", path="/v1/rulesets/{ref}/submit", handler=submit, asked=SubmitAsked,
        summary="Put it before its approvers, with what it would have done to yesterday",
        roles=ACT_ROLES["submit"], answers=RulesetView, seconds=SUBMIT_SECONDS,
        faults=(Fault.STATE, Fault.FIELD, Fault.REFUSED), example={"reason": "as discussed"},
    ),
    Endpoint(
        method="POST", path="/v1/rulesets/{ref}/canary", handler=act("canary"),
        summary="Have it decide about a share of the cards", roles=ACT_ROLES["canary"],
        asked=CanaryAsked, answers=RulesetView, faults=(Fault.STATE, Fault.FIELD, Fault.REFUSED),
        example={"percent": 5, "reason": "a first look"},
    ),
    Endpoint(
        method="GET", path="/v1/rules/pauses", summary="The rules that are paused",
        roles=READERS, handler=pauses, answers=PausesView,
    ),
    Endpoint(
        method="POST", path="/v1/rules/{rule_id}/pause", roles=PAUSERS, handler=pause_rule,
        summary="Stop a rule at once, in the live ruleset and the canary", asked=RuleActAsked,
        answers=PausesView, faults=(Fault.STATE, Fault.FIELD, Fault.REFUSED),
        example={"reason": "it declines whole schools"},
    ),
    Endpoint(
        method="POST", path="/v1/rules/{rule_id}/lift", roles=PAUSERS, handler=lift_pause,
        summary="Have a paused rule in force again", asked=RuleActAsked, answers=LiftedView,
        faults=(Fault.STATE, Fault.FIELD, Fault.REFUSED), example={"reason": "mended in v3"},
    ),
)  # fmt: skip
