"""From the rulesets of the ledger to what a worker decides by.

    ledger ── read ──▶ Standing ── composed (in a thread) ──▶ Composed: deployment, rule tables

Compiling takes tens of milliseconds, so it is done once for each text and off the loop; pauses,
snoozes and rules that were cut out are put over what was compiled. A ruleset that this version
cannot read or compile is left out where it is a canary or a draft; where it is the live one
nothing can be composed, and the worker goes on with what it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from protocols.message import Kind
from risk.assess import CompiledRuleset
from risk.compile import compile_ruleset
from risk.deployment import InForce, ReadBuckets, in_force
from risk.findings import RulesetError
from risk.lists import Lookup, compile_lists
from risk.rules import Stage
from risk.ruleset import Ruleset, ruleset_from_bytes
from risk.snooze import SNOOZES_MAX, Snoozed
from switch.ledger import sql
from switch.ledger.failures import guarded
from switch.ledger.list_feed import CALL_SECONDS_MAX, ListFeed, Rows
from switch.ledger.migrate import LedgerUnfit
from switch.ledger.rule_costs import RuleCosts, SampledDeployment

LIVE, CANARY, SHADOW = "live", "canary", "shadow"
HOTLIST = "hotlist"
"""The list of this name, where it is of mediums, is what stand-in asks too."""

_QUERIES = sql.queries("rules_follower.sql")


class RulesetUnfit(LedgerUnfit):
    """The live ruleset cannot be read or compiled by this version; the text says which one."""

    def __init__(self, hash: str) -> None:
        super().__init__(
            f"this version cannot use the live ruleset {hash[:12]}; "
            "run the version that promoted it, or roll back to an earlier ruleset"
        )


class StandingRuleset(NamedTuple):
    """A ruleset that decides or looks on; `canonical` is None where it was read before."""

    hash: str
    state: str
    canary_percent: int
    canonical: bytes | None


class Paused(NamedTuple):
    """A rule that does nothing for now, whatever ruleset has this version of it."""

    rule_id: str
    version: int
    automatic: bool


class Standing(NamedTuple):
    """What the ledger says at a revision; `snoozes` are rows as they were read."""

    revision: int
    rulesets: tuple[StandingRuleset, ...]
    pauses: tuple[Paused, ...]
    snoozes: Sequence[Any]


RuleVersions = Mapping[Kind, tuple[tuple[str, int], ...]]
"""The rules that are about a kind of request: id and version."""


class RuleTable(NamedTuple):
    """What is to be known of a ruleset's rules beside deciding by them."""

    by_kind: RuleVersions
    stages: Mapping[str, Stage]


class Composed(NamedTuple):
    """A deployment and what belongs to it.

    `tables` are by hash. `hotlisted` is the live ruleset's hotlist, None where it has none.
    `unfit` are hashes that had to be left out.
    """

    deployment: SampledDeployment
    tables: Mapping[str, RuleTable]
    paused: tuple[Paused, ...]
    hotlisted: Lookup | None
    unfit: tuple[str, ...]


class _Kept(NamedTuple):
    """A ruleset as it was compiled, with the lists that there were."""

    ruleset: Ruleset
    in_force: InForce
    fields: Mapping[str, str]
    table: RuleTable


class RulesInForce:
    """Reads and composes; what was compiled is kept while it stands."""

    def __init__(
        self, feed: ListFeed, costs: RuleCosts, *, shadows_max: int, read: ReadBuckets
    ) -> None:
        self._feed = feed
        self._costs = costs
        self._shadows_max = shadows_max
        self._read = read
        self._texts: dict[str, Ruleset | None] = {}
        """By hash; None for one that this version cannot read."""
        self._kept: dict[str, _Kept] = {}

    async def read(self, rows: Rows, revision: int, now_us: int) -> Standing:
        """What the ledger says now, which is that revision or a newer one."""
        known = list(self._texts)
        rulesets = await _asked(rows, "in_force", known)
        pauses = await _asked(rows, "pauses")
        snoozes = await _asked(rows, "snoozes", now_us, SNOOZES_MAX)
        return Standing(
            revision,
            tuple(
                StandingRuleset(
                    row["hash"], row["state"], row["canary_percent"] or 0, row["canonical"]
                )
                for row in rulesets
            ),
            tuple(Paused(*row) for row in pauses),
            snoozes,
        )

    def composed(self, standing: Standing) -> Composed | None:
        """What to decide by; None where no ruleset is live. Raises RulesetUnfit.

        To be called in a thread, while nobody else is.
        """
        chosen = self._chosen(standing.rulesets)
        self._keep(each.hash for each in chosen)
        for each in chosen:
            self._take_text(each)
        for each in chosen:
            if each.state == LIVE and (text := self._texts.get(each.hash)) is not None:
                self._feed.declare({named.name: named.field for named in text.lists}, live=True)
        ready = {each.hash: self._compiled(each.hash) for each in chosen}
        live = next((each for each in chosen if each.state == LIVE), None)
        if live is None:
            return None
        kept = {name: each for name, each in ready.items() if each is not None}
        if live.hash not in kept:
            raise RulesetUnfit(live.hash)

        snoozed = _snoozed(standing.snoozes)

        def dressed(name: str) -> InForce:
            return self._dressed(kept[name], snoozed, standing.pauses)

        canary = next((e for e in chosen if e.state == CANARY and e.hash in kept), None)
        deployment = SampledDeployment(
            dressed(live.hash),
            canary=dressed(canary.hash) if canary else None,
            canary_percent=canary.canary_percent if canary else 0,
            shadows=tuple(
                dressed(each.hash) for each in chosen if each.state == SHADOW and each.hash in kept
            ),
            revision=standing.revision,
            read=self._read,
        )
        deployment.costs = self._costs
        return Composed(
            deployment,
            {name: each.table for name, each in kept.items()},
            _concerned(standing.pauses, (kept[e.hash] for e in (live, canary) if e)),
            self._hotlist(kept[live.hash].ruleset),
            tuple(name for name, each in ready.items() if each is None),
        )

    def _chosen(self, rulesets: Sequence[StandingRuleset]) -> list[StandingRuleset]:
        """Those that decide, and as many drafts as may look on, the oldest first."""
        drafts = [each for each in rulesets if each.state == SHADOW]
        deciding = [each for each in rulesets if each.state != SHADOW]
        return [*deciding, *drafts[: self._shadows_max]]

    def _keep(self, hashes: Iterable[str]) -> None:
        names = set(hashes)
        self._texts = {name: text for name, text in self._texts.items() if name in names}
        self._kept = {name: each for name, each in self._kept.items() if name in names}

    def _take_text(self, each: StandingRuleset) -> None:
        if each.canonical is None or each.hash in self._texts:
            return
        try:
            ruleset = ruleset_from_bytes(each.canonical)
        except msgspec.DecodeError:
            self._texts[each.hash] = None
            return
        self._texts[each.hash] = ruleset
        self._feed.declare({named.name: named.field for named in ruleset.lists})

    def _compiled(self, name: str) -> _Kept | None:
        """The ruleset compiled with the lists that there are now; None where that cannot be."""
        ruleset = self._texts.get(name)
        if ruleset is None:
            return None
        fields = dict(self._feed.book.fields)
        kept = self._kept.get(name)
        if kept is not None and kept.fields == fields:
            return kept
        try:
            compiled = compile_ruleset(ruleset, book=self._feed.book)
            # Under the name that it was approved by: this version may spell out more defaults.
            compiled.hash = name
            table = RuleTable(_by_kind(compiled), {rule.id: rule.stage for rule in ruleset.rules})
            kept = _Kept(ruleset, in_force(ruleset, compiled), fields, table)
        except (RulesetError, LookupError, ValueError):
            # Also what this machine lacks, such as a time zone: a draft holds up nobody.
            return None
        self._kept[name] = kept
        return kept

    def _dressed(self, kept: _Kept, snoozed: Snoozed, pauses: Sequence[Paused]) -> InForce:
        """What was compiled, under the snoozes, pauses and cut-outs of now."""
        compiled = kept.in_force.compiled
        if snoozed:
            compiled = compiled.with_snoozes(snoozed)
        if cut := self._costs.cut_out(compiled.hash):
            compiled = compiled.without(cut)
        if paused := _concerned(pauses, [kept]):
            compiled = compiled.paused(each.rule_id for each in paused)
        return kept.in_force._replace(compiled=compiled)

    def _hotlist(self, ruleset: Ruleset) -> Lookup | None:
        if self._feed.book.fields.get(HOTLIST) != "medium":
            return None
        own = {named.name: named for named in ruleset.lists if named.name == HOTLIST}
        return compile_lists(own, self._feed.book).get(HOTLIST)


def _by_kind(compiled: CompiledRuleset) -> RuleVersions:
    plans = {kind: compiled.plan(kind) for kind in Kind}
    return {
        kind: tuple(
            (rule.id, rule.version) for rule in (*plan.red, *plan.green, *plan.amber, *plan.watch)
        )
        for kind, plan in plans.items()
    }


def _concerned(pauses: Iterable[Paused], kept: Iterable[_Kept]) -> tuple[Paused, ...]:
    """The pauses of rules that these rulesets have, in that version."""
    has = {(rule.id, rule.version) for each in kept for rule in each.ruleset.rules}
    return tuple(each for each in pauses if (each.rule_id, each.version) in has)


def _snoozed(rows: Sequence[Any]) -> Snoozed:
    spans: Snoozed = {}
    for row in rows:
        key = (row["rule_id"], row["card_id"])
        spans[key] = (*spans.get(key, ()), (row["from_us"], row["until_us"]))
    return spans


async def _asked(rows: Rows, query: str, *args: object) -> Sequence[Any]:
    return await guarded(rows.fetch, _QUERIES[query], *args, seconds=CALL_SECONDS_MAX)
