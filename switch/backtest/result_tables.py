"""The tables of a backtest that no plot is drawn from: rules, the affected, examples, trust."""

from __future__ import annotations

from collections.abc import Iterable

from risk.backtest_result import BacktestResult, Example, RuleReport
from switch.backtest.tables import Cell, Column, Shown, Table, ppm


def result_tables(result: BacktestResult) -> dict[str, Table]:
    """Every table of this module, by slug, in the order of the page."""
    examples = [example for rule in result.rules for example in rule.examples]
    tables = (
        rules_table(result),
        affected_table(result),
        examples_table(
            "gained",
            "Newly declined",
            "The tested ruleset declines these, and rules did not when it happened.",
            result.gained_examples,
        ),
        examples_table(
            "lost",
            "No longer declined",
            "Rules declined these when it happened, and the tested ruleset does not.",
            result.lost_examples,
        ),
        examples_table("examples", "Examples of each rule", "", examples),
        differences_table(result),
        recounts_table(result),
    )
    return {table.slug: table for table in tables}


def rules_table(result: BacktestResult) -> Table:
    """One row a rule. Precision and recall are on the page only where labels exist at all."""
    labels = result.labelled > 0
    failed = any(rule.failed for rule in result.rules)
    return Table(
        slug="rules",
        title="Each rule",
        caption="Fire rate is of requests within the rule's scope; alone is what no other rule "
        "declines; unknown is where a fact was missing, so that it could not fire; spared is "
        "where an allow, a snooze or a pause kept it from declining.",
        columns=(
            Column("rule", "Rule", Shown.NAME),
            Column("version", "Version", on_page=False),
            Column("stage", "Stage", Shown.TEXT),
            Column("sentence", "Sentence", Shown.SENTENCE, on_page=False),
            Column("evaluated", "In scope"),
            Column("fired", "Fired"),
            Column("fire_rate_ppm", "Fire rate", Shown.SHARE),
            Column("declined", "Declined"),
            Column("alone", "Alone"),
            Column("declined_minor", "Money", Shown.MONEY),
            Column("cards", "Cards"),
            Column("unknown", "Unknown"),
            Column("spared", "Spared"),
            Column("failed", "Failed", on_page=failed),
            Column("precision_ppm", "Precision", Shown.SHARE, on_page=labels),
            Column("recall_ppm", "Recall", Shown.SHARE, on_page=labels),
            Column("label_coverage_ppm", "Labelled of fired", Shown.SHARE, on_page=labels),
        ),
        rows=tuple(_rule_row(rule) for rule in result.rules),
    )


def _rule_row(rule: RuleReport) -> tuple[Cell, ...]:
    return (
        rule.rule_id,
        rule.version,
        rule.stage,
        rule.sentence,
        rule.evaluated,
        rule.fired,
        ppm(rule.fired, rule.evaluated),
        rule.declined,
        rule.alone,
        rule.declined_minor,
        rule.cards,
        rule.unknown,
        rule.spared,
        rule.failed,
        rule.labels.precision_ppm,
        rule.labels.recall_ppm,
        ppm(rule.labels.fraud + rule.labels.genuine, rule.fired),
    )


def affected_table(result: BacktestResult) -> Table:
    """Who loses most payments that were approved."""
    return Table(
        slug="affected",
        title="Most affected",
        caption="Cards (by id), stops, merchants and terminals that lose most payments which "
        "were approved.",
        columns=(
            Column("what", "What", Shown.TEXT),
            Column("name", "Name", Shown.NAME),
            Column("gained", "Newly declined"),
            Column("gained_minor", "Money", Shown.MONEY),
        ),
        rows=tuple(
            (each.what, each.name, each.gained, each.gained_minor) for each in result.affected
        ),
    )


def examples_table(slug: str, title: str, caption: str, examples: Iterable[Example]) -> Table:
    """Authorizations in words; `citycard explain` tells more of each by its RRN."""
    return Table(
        slug=slug,
        title=title,
        caption=caption,
        columns=(
            Column("authorization_id", "Authorization", Shown.TEXT, on_page=False),
            Column("at", "When", Shown.MOMENT),
            Column("rrn", "RRN", Shown.NAME),
            Column("kind", "Kind", Shown.TEXT),
            Column("amount_minor", "Amount", Shown.MONEY),
            Column("answered", "Answered", Shown.TEXT),
            Column("decided", "Tested", Shown.TEXT),
            Column("rule", "Rule", Shown.NAME),
            Column("sentence", "Sentence", Shown.SENTENCE),
        ),
        rows=tuple(
            (
                each.authorization_id,
                each.at_us,
                each.rrn,
                each.kind,
                each.amount_minor,
                each.answered,
                each.decided,
                each.rule_id,
                each.sentence,
            )
            for each in examples
        ),
    )


def differences_table(result: BacktestResult) -> Table:
    """Rows of the same ruleset that did not come out as stored."""
    return Table(
        slug="differences",
        title="Rows that came out differently",
        caption="Decided by this very ruleset, and yet not the same when replayed.",
        columns=(
            Column("authorization_id", "Authorization", Shown.NAME),
            Column("at", "When", Shown.MOMENT),
            Column("what", "What", Shown.TEXT),
            Column("stored", "Stored", Shown.TEXT),
            Column("replayed", "Replayed", Shown.TEXT),
        ),
        rows=tuple(
            (each.authorization_id, each.at_us, each.what, each.stored, each.replayed)
            for each in result.agreement.differences
        ),
    )


def recounts_table(result: BacktestResult) -> Table:
    """Features of places that were added up by the replay for want of a stored value."""
    return Table(
        slug="recounts",
        title="Features of places, counted again",
        caption="Where the rows had no stored value of such a feature the replay added it up, "
        "rounding against the card; elsewhere that recount differs from what was stored so far.",
        columns=(
            Column("feature", "Feature", Shown.NAME),
            Column("rows", "Rows"),
            Column("differing", "Differing"),
            Column("furthest", "Furthest off"),
        ),
        rows=tuple(
            (each.feature_id, each.rows, each.differing, each.furthest) for each in result.recounts
        ),
    )
