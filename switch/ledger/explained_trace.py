"""The tree of every rule about an authorization, with the value of each operand: ✓ ✗ ?.

It is made of facts that are put together again, so whether they give the stored answer is told
beside it; where they do not, the tree has the counters that were stored.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

import msgspec

from protocols.card_number import mask_digit_runs
from risk.record import Assessment, Effect, RuleResult
from risk.trace import RuleTrace, TraceNode, trace
from switch.ledger import sql
from switch.ledger.explained import Explained
from switch.ledger.explained_facts import Rebuilt, rebuilt
from switch.ledger.rules_trail import Rows

_MARKS = {True: "✓", False: "✗", None: "?"}
_IDLE = frozenset({Effect.PAUSED, Effect.CUT_OUT})
_QUERIES = sql.queries("explaining.sql")


class Traced(msgspec.Struct, frozen=True):
    """Whether the facts give the stored answer again, and a sentence that says so.

    `differs` names what came out otherwise: the decision, rules, counters.
    """

    agrees: bool
    differs: tuple[str, ...]
    note: str
    rules: tuple[RuleTrace, ...] = ()


async def traced(rows: Rows, told: Explained) -> Traced | None:
    """The rules of an authorization as trees; None where no rules were asked."""
    if told.facts is None and not told.rules:
        return None
    (row,) = await rows.fetch(
        _QUERIES["authorizations"], [told.authorization_id], [told.shard], [told.business_date]
    )
    again = await rebuilt(rows, row)
    if again is None:
        return Traced(
            False,
            (),
            "The rules cannot be gone through again: the ledger lacks the ruleset's text, or "
            "facts that were not stored then.",
        )
    differs = tuple(_differences(again.stored, again.says()))
    return Traced(not differs, differs, _note(differs), _trees(again, not differs))


def _trees(again: Rebuilt, agrees: bool) -> tuple[RuleTrace, ...]:
    """The trees, each with what the rule came to when it was decided."""
    stored = {each.rule_id: each for each in again.stored.results}
    idle = [each.rule_id for each in stored.values() if each.effect in _IDLE]
    trees = trace(
        again.ruleset,
        again.facts,
        again.book,
        again.snoozes,
        paused=idle,
        counted=None if agrees else again.stored.features,
    )
    return tuple(_as_stored(tree, stored.get(tree.rule_id)) for tree in trees)


def _as_stored(tree: RuleTrace, result: RuleResult | None) -> RuleTrace:
    if result is None:
        return msgspec.structs.replace(tree, effect="", outcome=None, why="")
    why = mask_digit_runs(result.why)
    return msgspec.structs.replace(tree, effect=result.effect, outcome=result.outcome, why=why)


def _differences(stored: Assessment, said: Assessment) -> Iterator[str]:
    if stored.decision is not said.decision or stored.rule_id != said.rule_id:
        yield "the decision"
    before = {(each.rule_id, each.effect) for each in stored.results}
    after = {(each.rule_id, each.effect) for each in said.results}
    yield from sorted({f"rule {rule_id}" for rule_id, _ in before ^ after})
    for name, value in stored.features.items():
        if name in said.features and said.features[name] != value:
            yield f"counter {name}"


def _note(differs: tuple[str, ...]) -> str:
    if not differs:
        return "Gone through again from the ledger, with the same result:"
    return (
        f"Gone through again from the ledger, which gives {', '.join(differs)} otherwise; "
        "what stands above is what was decided on:"
    )


def trace_lines(traced_: Traced, columns: int) -> Iterator[str]:
    """The trees as lines of at most so many columns; a rule that does not hold is one thought."""
    for rule in traced_.rules:
        effect = f", {rule.effect}" if rule.effect else ", expired" if rule.expired else ""
        head = f"{_MARKS[rule.holds]} {rule.stage} {rule.rule_id} v{rule.version}{effect}"
        if rule.holds is False:
            why = next(_failing(rule.when), None)
            said = f"{head}: not that {_leaf(why)}" if why is not None else head
            yield from _wrapped(said, columns, 0)
        else:
            yield from _wrapped(head, columns, 0)
            for part in rule.when.parts:
                yield from _node_lines(part, columns, 2)


def _node_lines(node: TraceNode, columns: int, indent: int) -> Iterator[str]:
    said = _leaf(node) if node.form == "leaf" else node.says
    yield from _wrapped(f"{_MARKS[node.holds]} {said}", columns, indent)
    for part in node.parts:
        yield from _node_lines(part, columns, indent + 2)


def _leaf(node: TraceNode) -> str:
    return f"{node.says} (it was {node.left})" if node.left else node.says


def _failing(node: TraceNode) -> Iterator[TraceNode]:
    """The leaves for which it does not hold."""
    if node.form == "leaf" and node.holds is False:
        yield node
    for part in node.parts:
        yield from _failing(part)


def _wrapped(text: str, columns: int, indent: int) -> list[str]:
    rest = " " * (indent + 2)
    return textwrap.wrap(text, columns, initial_indent=" " * indent, subsequent_indent=rest)
