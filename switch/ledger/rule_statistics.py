"""Counts what the rules came to in what was posted, and what drafts in shadow would have said.

Only what stands in the ledger counts: a request that was decided again after a conflict counts
once, one whose answer came too late counts although it was given back. Counting is a few
additions for each posting; every two seconds the sums go to the ledger in one call, by hour,
ruleset and rule, and to the metrics. While the ledger is away they wait here, which takes no
room to speak of: nothing is posted meanwhile.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from protocols.message import Kind, Outcome
from risk.record import Assessment, Effect
from switch.ledger import sql
from switch.ledger.failures import guarded
from switch.ledger.rules_in_force import CANARY, LIVE, SHADOW, RuleVersions

if TYPE_CHECKING:
    from risk.record import RuleResult
    from switch.ledger.bridge import Connection
    from switch.ledger.rules_in_force import Composed
    from switch.ledger.shadow_examples import ShadowExamples
    from switch.metrics import Metrics
    from switch.posting import Posting

HOUR_US = 3_600_000_000
CALL_SECONDS_MAX = 10.0
TALLIES_MAX = 65_536
"""Sums that wait to be written; 4 rulesets of 256 rules for 64 hours. Beyond, none is new."""
RULESETS_KEPT_MAX = 16
"""Rulesets whose rules are known: postings may still come of one that was just replaced."""
WHOLE = ("", 0)
"""Rule id and version of the ruleset as a whole."""

_QUERIES = sql.queries("rule_statistics.sql")
_APPROVED = Outcome.APPROVED

REQUESTS, FIRED, DECLINED, UNKNOWN, SPARED, FAILED = range(6)
GAINED, LOST, GAINED_MINOR, LOST_MINOR = range(6, 10)
"""Positions in a tally, in the order of the table's columns."""
WIDTH = 10

_COUNTS: Mapping[Effect, tuple[int, ...]] = {
    Effect.DECLINED: (FIRED, DECLINED),
    Effect.CHALLENGED: (FIRED, DECLINED),
    Effect.ALLOWED: (FIRED,),
    Effect.OVERRIDDEN: (FIRED, SPARED),
    Effect.MET: (FIRED,),
    Effect.TAGGED: (FIRED,),
    Effect.QUEUED: (FIRED,),
    Effect.LISTED: (FIRED,),
    Effect.FORCED_ONLINE: (FIRED,),
    Effect.WATCHED: (FIRED,),
    Effect.SNOOZED: (FIRED, SPARED),
    Effect.HELD: (FIRED, SPARED),
    Effect.UNKNOWN: (UNKNOWN,),
    Effect.FAILED: (FAILED,),
    Effect.CUT_OUT: (),
    Effect.PAUSED: (),
}

Ruleset = tuple[str, str, int]
"""Mode, hash, hour since the epoch."""
Rule = tuple[str, int]
Tallies = dict[tuple[Ruleset, Rule], list[int]]


class RuleStatistics:
    """The sums of one worker (`slot`); a duty of the follower."""

    every_seconds = 2.0

    def __init__(self, *, slot: int, examples: ShadowExamples, metrics: Metrics) -> None:
        self._slot = slot
        self._examples = examples
        self._metrics = metrics
        self._canaries: frozenset[str] = frozenset()
        self._rules: dict[str, RuleVersions] = {}
        self._requests: dict[Ruleset, Counter[Kind]] = {}
        self._tallies: Tallies = {}
        self._untold: Counter[tuple[str, Effect]] = Counter()
        self._decided: Counter[str] = Counter()
        self._shadow = [0, 0, 0]

    def follow(self, composed: Composed) -> None:
        """Know the rules of what decides and looks on from now on."""
        canary = composed.deployment.canary
        self._canaries = frozenset([canary.compiled.hash] if canary else [])
        for name, table in composed.tables.items():
            self._rules.pop(name, None)
            self._rules[name] = table.by_kind
            self._metrics.rules.know(table.stages)
        while len(self._rules) > RULESETS_KEPT_MAX:
            del self._rules[next(iter(self._rules))]

    def posted(self, posting: Posting, authorization_id: int) -> None:
        """Count a posting that is in the ledger; nothing where rules were not asked."""
        assessment = posting.assessment
        if assessment is None:
            return
        kind = posting.directed.request.kind
        hour = posting.at_us // HOUR_US
        mode = CANARY if assessment.ruleset_hash in self._canaries else LIVE
        self._decided[mode] += 1
        for result in assessment.results:
            self._untold[result.rule_id, result.effect] += 1
        self._count((mode, assessment.ruleset_hash, hour), kind, assessment)
        for shadow in posting.shadow:
            self._count((SHADOW, shadow.ruleset_hash, hour), kind, shadow)
            self._shadow[0] += 1
            if (shadow.decision is _APPROVED) is not (assessment.decision is _APPROVED):
                self._differs(posting, authorization_id, assessment, shadow)

    async def do(self, connection: Connection) -> None:
        """Tell the metrics, and write the sums. Raises as `guarded` does, and keeps them then."""
        self.tell()
        self._spread_requests()
        tallies, self._tallies = self._tallies, {}
        try:
            if tallies:
                await guarded(
                    connection.execute,
                    _QUERIES["add"],
                    self._slot,
                    *_columns(tallies),
                    seconds=CALL_SECONDS_MAX,
                )
        except BaseException:
            self._take_back(tallies)
            raise
        await self._write_examples(connection)

    def tell(self) -> None:
        """Bring the metrics up to date."""
        told = self._metrics.rules
        for (rule_id, effect), n in self._untold.items():
            told.came_to(rule_id, effect, n)
        for role, n in self._decided.items():
            told.decided(role, n)
        if self._shadow[0]:
            told.shadow(*self._shadow)
        self._untold.clear()
        self._decided.clear()
        self._shadow = [0, 0, 0]

    def _count(self, ruleset: Ruleset, kind: Kind, assessment: Assessment) -> None:
        by_kind = self._requests.get(ruleset)
        if by_kind is None:
            by_kind = self._requests[ruleset] = Counter()
        by_kind[kind] += 1
        for result in assessment.results:
            counts = _counts(result)
            tally = self._tally(ruleset, (result.rule_id, result.version)) if counts else None
            if tally is not None:
                for position in counts:
                    tally[position] += 1
        if assessment.decision is not _APPROVED:
            whole = self._tally(ruleset, WHOLE)
            if whole is not None:
                whole[FIRED] += 1
                whole[DECLINED] += 1

    def _differs(
        self, posting: Posting, authorization_id: int, answered: Assessment, shadow: Assessment
    ) -> None:
        """Count for the ruleset and for the rule that makes the difference, and keep an example."""
        amount_minor = posting.directed.request.amount.amount_minor
        if answered.facts is not None:
            amount_minor = answered.facts.amount_minor
        ruleset = (SHADOW, shadow.ruleset_hash, posting.at_us // HOUR_US)
        gained = shadow.decision is not _APPROVED
        by = shadow if gained else answered
        for rule in (WHOLE, (by.rule_id, by.rule_version)):
            tally = self._tally(ruleset, rule)
            if tally is not None:
                tally[GAINED if gained else LOST] += 1
                tally[GAINED_MINOR if gained else LOST_MINOR] += amount_minor
        self._shadow[1 if gained else 2] += 1
        self._examples.saw(authorization_id, posting.at_us, amount_minor, answered, shadow)

    def _tally(self, ruleset: Ruleset, rule: Rule) -> list[int] | None:
        key = (ruleset, rule)
        tally = self._tallies.get(key)
        if tally is None and len(self._tallies) < TALLIES_MAX:
            tally = self._tallies[key] = [0] * WIDTH
        return tally

    def _spread_requests(self) -> None:
        """Requests of a kind are requests of each rule that is about it."""
        for ruleset, by_kind in self._requests.items():
            rules = self._rules.get(ruleset[1], {})
            for kind, n in by_kind.items():
                for rule in (WHOLE, *rules.get(kind, ())):
                    tally = self._tally(ruleset, rule)
                    if tally is not None:
                        tally[REQUESTS] += n
        self._requests.clear()

    def _take_back(self, tallies: Tallies) -> None:
        """They may be written or not, where the connection was lost; shares stay what they are."""
        for key, lost in tallies.items():
            tally = self._tally(*key)
            if tally is not None:
                tally[:] = map(sum, zip(tally, lost, strict=True))

    async def _write_examples(self, connection: Connection) -> None:
        taken = self._examples.taken()
        if not taken:
            return
        rows = sorted((name, number, *example) for (name, number), example in taken.items())
        try:
            await guarded(
                connection.execute,
                _QUERIES["keep_examples"],
                self._slot,
                *([row[place] for row in rows] for place in range(len(rows[0]))),
                seconds=CALL_SECONDS_MAX,
            )
        except BaseException:
            self._examples.give_back(taken)
            raise


def _counts(result: RuleResult) -> tuple[int, ...]:
    if result.effect is Effect.FAILED and result.outcome is not None:
        return FAILED, DECLINED
    return _COUNTS[result.effect]


def _columns(tallies: Tallies) -> list[list[object]]:
    """The columns of the statement, rows sorted by the table's key."""
    rows = sorted(
        (mode, name, rule_id, version, hour, *tally)
        for ((mode, name, hour), (rule_id, version)), tally in tallies.items()
    )
    return [list(column) for column in zip(*rows, strict=True)]
