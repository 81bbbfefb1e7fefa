"""What a switch tells Prometheus of its rules: which ones decide, and what they come to.

Two workers that decide by different revisions show as a difference between their series, so
drift is a question to Prometheus and nothing that a worker could know.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from risk.record import Effect
from switch.metric import Metric

RULE = "rule"
"""The label whose values are rule ids of the rulesets that decided here."""
RULE_IDS_MAX = 512
"""Rule ids of all rulesets that one process lived to see; further ones are counted as `other`."""

ROLES = ("live", "canary")
DIFFERENCES = ("gained", "lost")
"""Shadow declines what was not declined, or the other way round."""
PAUSED_BY = ("person", "switch")
OVERRUNS = ("cut_out", "let_be")
"""A rule that overran is taken out; a red one is let be up to a higher limit."""

RULE_LABELS: Mapping[str, tuple[str, ...]] = {
    RULE: (),
    "effect": tuple(Effect),
    "role": ROLES,
    "difference": DIFFERENCES,
    "paused_by": PAUSED_BY,
    "overrun": OVERRUNS,
}

RULE_METRICS: tuple[Metric, ...] = (
    Metric(
        "citycard_rules_revision",
        "gauge",
        "Revision of the ledger's rules that this process decides by; workers differ in passing.",
        once_known=True,
    ),
    Metric(
        "citycard_rules_newest_revision",
        "gauge",
        "Newest revision of the ledger's rules that this process has heard of.",
        once_known=True,
    ),
    Metric(
        "citycard_rules_looked_time_seconds",
        "gauge",
        "When this process last looked for newer rules and was answered (seconds since 1970).",
        once_known=True,
    ),
    Metric(
        "citycard_rules_load_failures_total",
        "counter",
        "Rulesets that this process could not read or compile; it went on with those before.",
    ),
    Metric(
        "citycard_rules_decisions_total",
        "counter",
        "Posted requests that rules decided about, by the role of the ruleset.",
        ("role",),
    ),
    Metric(
        "citycard_rule_results_total",
        "counter",
        "What rules came to in posted requests, where they fired or could not tell.",
        (RULE, "effect"),
    ),
    Metric(
        "citycard_shadow_evaluations_total",
        "counter",
        "Posted requests that a ruleset in shadow has looked on, once for each such ruleset.",
    ),
    Metric(
        "citycard_shadow_differences_total",
        "counter",
        "Posted requests that a ruleset in shadow would have decided otherwise.",
        ("difference",),
    ),
    Metric(
        "citycard_rules_paused",
        "gauge",
        "Rules of the rulesets in force that are paused, by who did it.",
        ("paused_by",),
        once_known=True,
    ),
    Metric(
        "citycard_rules_overrun",
        "gauge",
        "Rules that took longer than they may in this process: cut out, or red and let be.",
        ("overrun",),
        once_known=True,
    ),
    Metric(
        "citycard_rules_over_forecast",
        "gauge",
        "Red rules that decline far more than forecast; the switch never pauses these by itself.",
        once_known=True,
    ),
    Metric(
        "citycard_buckets_read_time_seconds",
        "gauge",
        "When the counters of terminals, merchants and acquirers were last read (since 1970).",
        once_known=True,
    ),
)


class RuleMetrics:
    """The part of `Metrics` about rules. `children` are by metric name; `rule_ids` may grow."""

    def __init__(self, children: Mapping[str, Callable[..., Any]], rule_ids: set[str]) -> None:
        self._rule_ids = rule_ids
        self._revision = children["rules_revision"]
        self._newest_revision = children["rules_newest_revision"]
        self._looked = children["rules_looked_time_seconds"]
        self._load_failures = children["rules_load_failures_total"]()
        self._decisions = children["rules_decisions_total"]
        self._results = children["rule_results_total"]
        self._evaluations = children["shadow_evaluations_total"]()
        self._differences = children["shadow_differences_total"]
        self._paused = children["rules_paused"]
        self._overrun = children["rules_overrun"]
        self._over_forecast = children["rules_over_forecast"]
        self._buckets_read = children["buckets_read_time_seconds"]

    def know(self, rule_ids: Iterable[str]) -> None:
        """Let these be values of the label; the ids of a deployed ruleset."""
        for rule_id in rule_ids:
            if len(self._rule_ids) < RULE_IDS_MAX:
                self._rule_ids.add(rule_id)

    def decides_by(self, revision: int) -> None:
        self._revision().set(revision)

    def looked(self, newest_revision: int, now_us: int) -> None:
        """The ledger was asked which revision is the newest."""
        self._newest_revision().set(newest_revision)
        self._looked().set(now_us / 1_000_000)

    def load_failed(self) -> None:
        self._load_failures.inc()

    def decided(self, role: str, n: int) -> None:
        """So many posted requests were decided by one of ROLES."""
        self._decisions(role).inc(n)

    def came_to(self, rule_id: str, effect: Effect, n: int) -> None:
        """A rule came to this in so many posted requests."""
        self._results(rule_id, effect).inc(n)

    def shadow(self, evaluations: int, gained: int, lost: int) -> None:
        """So many posted requests were looked on, and so many decided otherwise."""
        self._evaluations.inc(evaluations)
        self._differences("gained").inc(gained)
        self._differences("lost").inc(lost)

    def paused(self, by_person: int, by_switch: int) -> None:
        self._paused("person").set(by_person)
        self._paused("switch").set(by_switch)

    def overrun(self, cut_out: int, let_be: int) -> None:
        self._overrun("cut_out").set(cut_out)
        self._overrun("let_be").set(let_be)

    def over_forecast(self, n: int) -> None:
        self._over_forecast().set(n)

    def buckets_read(self, at_us: int) -> None:
        self._buckets_read().set(at_us / 1_000_000)
