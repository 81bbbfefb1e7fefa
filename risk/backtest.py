"""History decided again: each row that was put to rules, by the code that decides live.

A row goes by in three steps, in the order in which an account's rows were posted:

    what a worker would have loaded   the account's history before the row's batch
    what the tested ruleset says      the row, the facts stored with it, and that history
    what the row leaves               an event that later rows count, or one given back

Every counter of a card or an account is a function of that history, so with the ruleset that
decided live the same comes out, row by row. Open loop, history is what happened; closed loop,
what the tested ruleset would have declined counts as declined for what follows, and what only
rules had declined counts as approved. Balances, and refusals by anything but rules, stay as they
were. Pure: rows come from outside, in any process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any, Literal, NamedTuple, cast

import msgspec

from protocols.message import TAP_KINDS, Kind, Outcome, Segment
from risk.assess import CompiledRuleset
from risk.backtest_counting import Counting, Seen
from risk.backtest_history import AccountHistory, Shift
from risk.backtest_places import KEPT_US, PlaceHistory
from risk.backtest_probes import Probes
from risk.backtest_tally import RecountTally, Tally
from risk.buckets import first_minute, key_of, series_of
from risk.facts import Facts, Totals
from risk.features import Feature
from risk.lists import ListBook
from risk.moments import MINUTE_US, service_day
from risk.past_events import EVENT_KINDS, GIVING_BACK_KINDS
from risk.record import AssessedFacts, Effect, RuleResult
from risk.ruleset import Ruleset
from risk.snooze import Snoozed

Verdict = Literal["fraud", "genuine"]

ACCOUNTS_KEPT_MAX = 200_000
"""Accounts after which those without an event in a day are forgotten."""
_DAY_US = 86_400_000_000
_SPENDING_KINDS = TAP_KINDS | {Kind.PURCHASE, Kind.PREAUTHORIZATION, Kind.BILL}
_APPROVED = Outcome.APPROVED
_KINDS = {kind.value: kind for kind in Kind}
_OUTCOMES = {outcome.value: outcome for outcome in Outcome}
_SEGMENTS = {segment.value: segment for segment in Segment}
_EVENTS = frozenset(kind.value for kind in EVENT_KINDS)
_GIVERS = frozenset(kind.value for kind in GIVING_BACK_KINDS)
_TAPS = frozenset(kind.value for kind in TAP_KINDS)


class HistoryRow(NamedTuple):
    """One authorization, in the order of the columns that are read.

    `medium` is hex, `last4` the card's; both empty where the card is unknown, and `medium` where
    the card was found by its id. `rule_results` is empty where no rule was asked, and in a
    warm-up.
    """

    business_date: date
    authorization_id: int
    account_id: int
    card_id: int
    at_us: int
    posted_at_us: int
    kind: str
    segment: str
    acquirer: str
    terminal: str
    merchant: str
    mcc: str
    entry_mode: str
    rrn: str
    amount_minor: int
    approved_minor: int
    outcome: str
    original_id: int
    ruleset: str
    rule_results: bytes
    spent_count: int
    spent_minor: int
    spent_on: date | None
    venue: str
    stop: str
    vehicle: str
    medium: str
    last4: str


class StoredAssessment(msgspec.Struct, gc=False):
    """What is needed of a row's stored results."""

    decision: Outcome
    rule_id: str = ""
    rule_version: int = 0
    results: tuple[RuleResult, ...] = ()
    features: dict[str, int | str | None] = {}
    facts: AssessedFacts | None = None


_DECODER = msgspec.json.Decoder(StoredAssessment)


NO_SNOOZES: Snoozed = {}
NO_STORED_FEATURES: Mapping[str, Mapping[str, str]] = {}


class Subject(NamedTuple):
    """What is tested and with what beside it.

    `stored_features` are, by the hash of a row's ruleset, the features of places that it
    defines as the tested one does: tested id → stored id. `live` is for comparing limits.
    """

    ruleset: Ruleset
    book: ListBook | None = None
    snoozed: Snoozed = NO_SNOOZES
    live: Ruleset | None = None
    stored_features: Mapping[str, Mapping[str, str]] = NO_STORED_FEATURES


def alike(tested: Ruleset, other: Ruleset) -> dict[str, str]:
    """Features of places that two rulesets count alike: id in the one → id in the other."""
    known = {
        (series_of(feature), feature.window): feature.id
        for feature in other.features
        if feature.bucketed
    }
    return {
        feature.id: found
        for feature in tested.features
        if feature.bucketed and (found := known.get((series_of(feature), feature.window)))
    }


class Replay:
    """One ruleset over the rows of some shards. `tally` has what came out, after `finished()`."""

    def __init__(
        self,
        tested: Subject,
        *,
        from_date: date,
        closed_loop: bool = False,
        labels: Mapping[int, Verdict] | None = None,
        places: PlaceHistory | None = None,
    ) -> None:
        self._probes = Probes(
            tested.ruleset, book=tested.book, snoozed=tested.snoozed, live=tested.live
        )
        self._settings = tested.ruleset.settings
        self._compiled = self._probes.compiled
        self._hash = self._compiled.hash
        self._idle: dict[tuple[frozenset[str], frozenset[str]], CompiledRuleset] = {}
        self._from = from_date
        self._closed = closed_loop
        self._accounts: dict[int, AccountHistory] = {}
        self._words: dict[str, str] = {}
        self._minute = -1
        self._day = (0, 0, 0)
        self._forgotten_us = 0
        self._places = places
        self._places_forgotten_us = 0
        self.tally = Tally()
        self._counting = Counting(self.tally, tested.ruleset, labels or {}, closed_loop=closed_loop)
        self._buckets = _RowBuckets(tested, places, self.tally)

    def finished(self) -> Tally:
        """The tally with what the rules noted while they ran."""
        self._counting.finish(self._probes)
        return self.tally

    def rows(self, rows: Iterable[Sequence[Any]]) -> None:
        """Rows in the order of `HistoryRow`, by (posted_at_us, authorization_id)."""
        row = self._row
        for each in rows:
            row(each)

    def _row(self, row: Sequence[Any]) -> None:
        at_us: int = row[4]
        minute = at_us // MINUTE_US
        if minute != self._minute:
            self._begin_minute(minute)
        account_id: int = row[2]
        account = self._accounts.get(account_id)
        if account is None:
            account = self._accounts[account_id] = AccountHistory()
        account.begin_row(at_us, row[5], self._day[0])
        outcome: str = row[16]
        approved_minor: int = row[15]
        seen: Seen | None = None
        if row[0] >= self._from:
            self._counting.row(row[0])
            if row[19]:
                seen = self._assessed(row, account)
        if not account_id:
            return
        if self._closed and (seen is not None or account.gone):
            outcome, approved_minor = self._closed_loop(row, account, seen)
        kind: str = row[6]
        if kind in _EVENTS:
            self._happened(row, account, outcome, approved_minor)
        elif kind in _GIVERS and outcome == "approved" and row[17] not in account.gone:
            account.gave_back(at_us, (row[1], row[17], approved_minor))

    def _begin_minute(self, minute: int) -> None:
        day = service_day(self._settings, minute * MINUTE_US)
        self._day = (day.day_start_us, day.local_second_of_day, day.weekday)
        self._minute = minute
        now_us = minute * MINUTE_US
        if len(self._accounts) > ACCOUNTS_KEPT_MAX and now_us - self._forgotten_us > _DAY_US // 24:
            self._forgotten_us = now_us
            self._forget(now_us - _DAY_US - _DAY_US // 24)
        if self._places is not None and now_us - self._places_forgotten_us > _DAY_US // 4:
            self._places_forgotten_us = now_us
            self._places.forget(now_us - KEPT_US)

    def _forget(self, before_us: int) -> None:
        """Drop accounts that nothing can count any more; what a closed loop shifted stays."""
        self._accounts = {
            account_id: account
            for account_id, account in self._accounts.items()
            if account.posted_at_us >= before_us or account.shift is not None
        }
        self._words.clear()

    def _assessed(self, row: Sequence[Any], account: AccountHistory) -> Seen | None:
        """What the tested ruleset says of a row; None where the facts were not stored yet."""
        stored = _DECODER.decode(row[19])
        known = stored.facts
        if known is None:
            return None
        compiled = self._compiled
        same = row[18] == self._hash
        if same and stored.results:
            compiled = self._without_idle(stored.results)
        facts = self._facts(row, known, account)
        if not known.medium_known:
            facts.medium = ""
        self._buckets.begin(row, facts, stored)
        assessment = compiled.assess(facts)
        seen = Seen(row, stored, facts, assessment)
        self._counting.assessed(seen, same=same)
        return seen

    def _without_idle(self, results: tuple[RuleResult, ...]) -> CompiledRuleset:
        """The tested ruleset without what was paused or cut out when the row was decided."""
        cut = frozenset(r.rule_id for r in results if r.effect is Effect.CUT_OUT)
        paused = frozenset(r.rule_id for r in results if r.effect is Effect.PAUSED)
        if not cut and not paused:
            return self._compiled
        found = self._idle.get((cut, paused))
        if found is None:
            found = self._idle[cut, paused] = self._compiled.without(cut).paused(paused)
        return found

    def _facts(self, row: Sequence[Any], known: AssessedFacts, account: AccountHistory) -> Facts:
        day = self._day
        totals = Totals(
            known.month_count,
            known.month_minor,
            known.week_count,
            known.week_minor,
            known.lifetime_count,
            known.lifetime_minor,
        )
        if account.shift is not None:
            totals = account.shift.shifted(totals, row[0])
        return Facts(
            row[4],
            day[0],
            day[1] + (row[4] - self._minute * MINUTE_US) // 1_000_000,
            day[2],
            known.kind or _KINDS[row[6]],
            _SEGMENTS[row[7]],
            known.amount_minor,
            row[11],
            row[10],
            row[9],
            row[8],
            row[12],
            row[26],
            row[3],
            known.card_status,
            known.tier,
            known.product,
            known.balance_minor,
            account.history,
            totals,
            row[23],
            known.line,
            row[24],
            row[25],
            known.mode,
            known.event_age_s,
            known.channel,
            known.pin,
            known.clock_skew_s,
            known.card_age_days,
            known.holder_class,
            cast("Mapping[str, int | None]", self._buckets),
        )

    def _happened(
        self, row: Sequence[Any], account: AccountHistory, outcome: str, approved_minor: int
    ) -> None:
        kind, word = row[6], self._words.setdefault
        charged = kind in _TAPS and outcome == "approved"
        account.happened(
            row[1],
            approved_minor,
            row[4],
            row[3],
            _KINDS[kind],
            approved_minor if charged else row[14],
            _OUTCOMES[outcome],
            _SEGMENTS[row[7]],
            word(row[11], row[11]),
            word(row[10], row[10]),
            word(row[9], row[9]),
            word(row[23], row[23]),
            word(row[24], row[24]),
            word(row[25], row[25]),
        )

    def _closed_loop(
        self, row: Sequence[Any], account: AccountHistory, seen: Seen | None
    ) -> tuple[str, int]:
        """The row's outcome and amount as they would have been; totals are shifted by the rest."""
        outcome, approved_minor = row[16], row[15]
        day = row[22] or row[0]
        if row[17] in account.gone:
            # About a message that would not have been approved: it gives nothing back either.
            self._shift(account, day, -row[20], -row[21])
            account.gone.add(row[1])
            return outcome, approved_minor
        if seen is None or seen.facts.channel == "advice":
            return outcome, approved_minor
        decision = seen.assessment.decision
        if outcome == "approved" and decision is not _APPROVED:
            self._shift(account, day, -row[20], -row[21])
            account.gone.add(row[1])
            return decision.value, 0
        declined = seen.stored.decision
        if declined is not _APPROVED and outcome == declined.value and decision is _APPROVED:
            amount_minor = seen.facts.amount_minor
            if seen.facts.kind in _SPENDING_KINDS:
                self._shift(account, day, 1, amount_minor)
            return "approved", amount_minor
        return outcome, approved_minor

    def _shift(self, account: AccountHistory, day: date, count: int, minor: int) -> None:
        if count or minor:
            account.shift = account.shift or Shift()
            account.shift.add(day, count, minor)


class _RowBuckets:
    """`Facts.buckets` of the row in hand: looked up only where a rule asks.

    A value stored with the row is what was decided on, None included; else it is recounted.
    """

    def __init__(self, tested: Subject, places: PlaceHistory | None, tally: Tally) -> None:
        self._features: dict[str, tuple[Feature, bytes]] = {
            feature.id: (feature, series_of(feature))
            for feature in tested.ruleset.features
            if feature.bucketed
        }
        self._alike = tested.stored_features
        self._places = places
        self._tally = tally
        self._row: Sequence[Any] = ()
        self._facts: Facts | None = None
        self._stored: dict[str, int | str | None] = {}

    def begin(self, row: Sequence[Any], facts: Facts, stored: StoredAssessment) -> None:
        self._row, self._facts, self._stored = row, facts, stored.features

    def get(self, name: str, default: None = None) -> int | None:
        """What the feature came to; None where that is not known."""
        stored_name = self._alike.get(self._row[18], {}).get(name)
        recounted = self._recounted(name)
        if stored_name is None or stored_name not in self._stored:
            return recounted
        value = cast("int | None", self._stored[stored_name])
        if recounted is not None and value is not None:
            told = self._tally.recounts.setdefault(name, RecountTally())
            told.rows += 1
            if value != recounted:
                told.differing += 1
                told.furthest = max(told.furthest, abs(value - recounted))
        return value

    def _recounted(self, name: str) -> int | None:
        facts = self._facts
        if self._places is None or facts is None:
            return None
        feature, series = self._features[name]
        key = key_of(feature.key, facts.acquirer, facts.merchant, facts.terminal)
        if not key:
            return None
        first = first_minute(feature, facts.now_us, facts.day_start_us)
        return self._places.read(series, key, first, facts.now_us)
