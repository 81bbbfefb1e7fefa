"""What an authorization was decided on, put together again from the ledger.

The row, its stored facts and counters of places, the history that the account had then, and
the lists and snoozes in force at that instant are all that there was; so the same ruleset must
say the same, and where it does not that is told.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from protocols.message import Kind, Segment
from risk.assess import CompiledRuleset
from risk.compile import compile_ruleset
from risk.conditions import InList, leaves
from risk.facts import HISTORY_SECONDS_MAX, Facts, History, Totals, empty_history
from risk.findings import RulesetError
from risk.lists import ListBook
from risk.moments import service_day
from risk.record import AssessedFacts, Assessment, Effect
from risk.ruleset import Ruleset
from risk.snooze import Snooze, compile_snoozes
from risk.vocabulary import CURRENT_FACTS
from switch.ledger import sql
from switch.ledger.explaining import assessment_of, ruleset_of
from switch.ledger.facts import HISTORY_ROWS_MAX, loaded
from switch.ledger.rule_lists import book_fields
from switch.ledger.rules_trail import Rows

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_QUERIES = sql.queries("explaining.sql")


class Rebuilt(NamedTuple):
    """The facts, with the ruleset as it stood then: its lists, snoozes, pauses and cut-outs."""

    ruleset: Ruleset
    facts: Facts
    book: ListBook
    snoozes: tuple[Snooze, ...]
    compiled: CompiledRuleset
    stored: Assessment

    def says(self) -> Assessment:
        """What the ruleset says of these facts."""
        return self.compiled.assess(self.facts)


async def rebuilt(rows: Rows, row: Any) -> Rebuilt | None:
    """The facts of a stored row; None where no rules were asked, or they are not known here."""
    stored, ruleset = assessment_of(row), ruleset_of(row)
    if stored is None or stored.facts is None or ruleset is None:
        return None
    if row["ruleset"] != stored.ruleset_hash:
        return None
    facts = await _facts(rows, row, stored.facts, ruleset)
    facts.buckets = {
        feature.id: _number(stored.features.get(feature.id))
        for feature in ruleset.features
        if feature.bucketed
    }
    book = await _book(rows, ruleset, facts)
    snoozes = tuple(await _snoozes(rows, facts))
    try:
        compiled = compile_ruleset(ruleset, book=book).with_snoozes(compile_snoozes(snoozes))
    except RulesetError:
        return None
    compiled.hash = stored.ruleset_hash  # this version may spell out more defaults
    compiled = compiled.without(_with_effect(stored, Effect.CUT_OUT))
    compiled = compiled.paused(_with_effect(stored, Effect.PAUSED))
    return Rebuilt(ruleset, facts, book, snoozes, compiled, stored)


async def _facts(rows: Rows, row: Any, kept: AssessedFacts, ruleset: Ruleset) -> Facts:
    day = service_day(ruleset.settings, row["at_us"])
    mediums = await rows.fetch(_QUERIES["medium_of_card"], row["card_id"])
    return Facts(
        now_us=row["at_us"],
        day_start_us=day.day_start_us,
        local_second_of_day=day.local_second_of_day,
        weekday=day.weekday,
        kind=kept.kind or Kind(row["kind"]),
        segment=Segment(row["segment"]),
        amount_minor=kept.amount_minor,
        mcc=row["mcc"],
        merchant=row["merchant"],
        terminal=row["terminal"],
        acquirer=row["acquirer"],
        entry_mode=row["entry_mode"],
        medium=mediums[0]["medium"].hex() if mediums and kept.medium_known else "",
        card_id=row["card_id"],
        card_status=kept.card_status,
        tier=kept.tier,
        product=kept.product,
        balance_minor=kept.balance_minor,
        history=await _history(rows, row),
        totals=Totals(
            kept.month_count,
            kept.month_minor,
            kept.week_count,
            kept.week_minor,
            kept.lifetime_count,
            kept.lifetime_minor,
        ),
        venue=row["venue"],
        line=kept.line,
        stop=row["stop"],
        vehicle=row["vehicle"],
        mode=kept.mode,
        event_age_s=kept.event_age_s,
        channel=kept.channel,
        pin=kept.pin,
        clock_skew_s=kept.clock_skew_s,
        card_age_days=kept.card_age_days,
        holder_class=kept.holder_class,
    )


async def _history(rows: Rows, row: Any) -> History:
    """The account's history as it was loaded then, read by the code that reads it live."""
    events = await rows.fetch(
        _QUERIES["history_before"],
        row["shard"],
        row["account_id"],
        row["at_us"] - HISTORY_SECONDS_MAX * 1_000_000,
        row["business_date"],
        row["posted_at_us"],
        row["authorization_id"],
        HISTORY_ROWS_MAX,
    )
    if not events:
        return empty_history()
    columns = {name: [event[name] for event in events] for name in _EVENT_COLUMNS}
    of_account = {"account_version": 0, "account_status": "", "tier": "", "product": ""}
    found = loaded(1, _Sparse(columns | of_account), {}, row["at_us"]).account
    return found.history if found is not None else empty_history()


_EVENT_COLUMNS = (
    "at_us", "card_id", "kind", "amount_minor", "approved_minor", "outcome", "authorization_id",
    "original_id", "segment", "mcc", "merchant", "terminal", "venue", "stop", "vehicle",
)  # fmt: skip


class _Sparse(dict[str, Any]):
    """A row of load_batch of which only the history matters."""

    def __missing__(self, _key: str) -> None:
        return None


async def _book(rows: Rows, ruleset: Ruleset, facts: Facts) -> ListBook:
    """What the lists of the ledger said then of the values of this request."""
    book = ListBook()
    fields = await book_fields(rows)
    book.fields.update(fields)
    named = {*_lists(ruleset), *(named.name for named in ruleset.lists)}
    values = [str(getattr(facts, word.attribute)) for word in CURRENT_FACTS.values()]
    found = await rows.fetch(_QUERIES["entries_about"], sorted(named), values, facts.now_us)
    for each in found:
        value = int(each["value"]) if each["field"] == "card_id" else each["value"]
        book.fields.setdefault(each["list"], each["field"])
        book.put(each["list"], value, each["from_us"], each["until_us"])
    return book


def _lists(ruleset: Ruleset) -> Iterator[str]:
    for rule in ruleset.rules:
        yield from rule.scope.except_lists
        yield from (leaf.list for _, leaf in leaves(rule.when, "") if isinstance(leaf, InList))


async def _snoozes(rows: Rows, facts: Facts) -> list[Snooze]:
    found = await rows.fetch(_QUERIES["snoozes_about"], facts.card_id, facts.now_us)
    return [
        Snooze(
            row["rule_id"],
            row["card_id"],
            _EPOCH + timedelta(microseconds=row["until_us"]),
            row["reason"],
            row["author"],
            _EPOCH + timedelta(microseconds=row["from_us"]),
        )
        for row in found
    ]


def _with_effect(stored: Assessment, effect: Effect) -> list[str]:
    return [each.rule_id for each in stored.results if each.effect is effect]


def _number(value: int | str | None) -> int | None:
    return value if isinstance(value, int) else None
