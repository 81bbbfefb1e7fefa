"""How rulesets, their rules, their differences and their trail are printed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from risk.cost import EVENTS_TYPICAL, estimate
from risk.findings import Finding
from risk.ruleset import Ruleset
from risk.ruleset_diff import Change
from risk.sentences import Language, ruleset_sentences
from switch.commands.output import write, write_table
from switch.ledger.rulesets import EventView, PauseView, RulesetView

HASH_CHARACTERS = 12
DETAIL_CHARACTERS_MAX = 160


class RuleShown(msgspec.Struct, frozen=True):
    """One rule of a ruleset. `cost_ns` is an estimate of it alone, with a typical history."""

    id: str
    version: int
    stage: str
    name: str
    owner: str
    ticket: str
    expires_at: datetime | None
    paused: bool
    cost_ns: int
    forecast_ppm: int | None
    sentence: str


class RulesetShown(msgspec.Struct, frozen=True):
    """A ruleset with its rules. `cost_ns` is of the kind of request that costs most."""

    ruleset: RulesetView
    cost_ns: int
    rules: tuple[RuleShown, ...]


def ruleset_shown(
    view: RulesetView, ruleset: Ruleset, pauses: Sequence[PauseView], language: Language
) -> RulesetShown:
    """A ruleset as sentences, with what its rules are expected to cost."""
    costs = estimate(ruleset)
    said = ruleset_sentences(ruleset, language)
    paused = {(each.rule_id, each.rule_version) for each in pauses}
    rules = tuple(
        RuleShown(
            id=rule.id,
            version=rule.version,
            stage=rule.stage.value,
            name=rule.name,
            owner=rule.owner,
            ticket=rule.ticket,
            expires_at=rule.expires_at,
            paused=(rule.id, rule.version) in paused,
            cost_ns=cost_ns,
            forecast_ppm=view.forecast.get(rule.id),
            sentence=said[rule.id],
        )
        for rule, cost_ns in zip(ruleset.rules, costs.rules_ns, strict=True)
    )
    return RulesetShown(view, costs.worst_kind_ns, rules)


def write_rulesets(rulesets: Sequence[RulesetView], time_zone: str) -> None:
    """One line for each ruleset, newest first."""
    rows = [
        (
            each.hash[:HASH_CHARACTERS],
            _state(each),
            _instant(each.created_at, time_zone),
            ", ".join(each.authors),
            ", ".join(each.approvers),
            (each.parent or "")[:HASH_CHARACTERS],
            each.title,
        )
        for each in rulesets
    ]
    columns = ["ruleset", "state", "written", "authors", "approved by", "made from", "title"]
    write_table("", columns, rows)


def write_ruleset(shown: RulesetShown, time_zone: str) -> None:
    """A ruleset and its rules, each as its sentence."""
    view = shown.ruleset
    write(f"{view.hash}")
    write(f"{view.title}: {_state(view)}, written {_instant(view.created_at, time_zone)}")
    write(f"authors: {', '.join(view.authors)}; approved by: {', '.join(view.approvers) or '—'}")
    rows = [
        (
            f"{rule.id} v{rule.version}{' (paused)' if rule.paused else ''}",
            rule.stage,
            rule.owner,
            f"{rule.cost_ns / 1000:.1f}",
            rule.sentence,
        )
        for rule in shown.rules
    ]
    write_table("", ["rule", "stage", "owner", "µs>", "what it does"], rows)
    write(
        f"about {shown.cost_ns / 1000:.0f} µs for the request that costs most "
        f"(estimate, {EVENTS_TYPICAL} events of history)"
    )


def write_changes(changes: Sequence[Change]) -> None:
    """Each change with its sentences and fields."""
    if not changes:
        write("no difference")
    for change in changes:
        write(f"{change.sort.value} {change.what} {change.id}")
        for sign, sentence in (("-", change.before), ("+", change.after)):
            if sentence:
                write(f"  {sign} {sentence}")
        for field in change.fields:
            arrow = f": {field.before or '—'} → {field.after or '—'}"
            write(f"    {field.path}{arrow if field.before or field.after else ''}")


def write_trail(events: Sequence[EventView], time_zone: str) -> None:
    """The events, newest first."""
    rows = [
        (
            each.event_id,
            _instant(each.at, time_zone),
            each.actor,
            each.act,
            _subject(each.subject),
            " → ".join(state for state in (each.from_state, each.to_state) if state),
            each.reason,
            _detail(each.detail),
        )
        for each in events
    ]
    columns = ["event>", "when", "who", "act", "about", "state", "reason", "detail"]
    write_table("", columns, rows)


def write_findings(source: str, findings: Sequence[Finding]) -> None:
    """What is wrong with a ruleset, with the path of each faulty node."""
    rows = ((each.severity.value, each.path, each.sentence) for each in findings)
    write_table(source, ["severity", "where", "finding"], rows)


def _state(view: RulesetView) -> str:
    if view.canary_percent is not None:
        return f"{view.state} {view.canary_percent} %"
    return view.state


def _instant(instant: datetime, time_zone: str) -> str:
    return f"{instant.astimezone(ZoneInfo(time_zone)):%Y-%m-%d %H:%M:%S}"


def _subject(subject: str) -> str:
    return subject[:HASH_CHARACTERS] if len(subject) == 64 and " " not in subject else subject


def _detail(detail: dict[str, Any]) -> str:
    text = ", ".join(f"{name}: {_plain(value)}" for name, value in detail.items())
    if len(text) <= DETAIL_CHARACTERS_MAX:
        return text
    return text[: DETAIL_CHARACTERS_MAX - 1] + "…"


def _plain(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
