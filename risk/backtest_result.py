"""What a backtest found: figures only, so that JSON, tables and plots all tell the same.

Amounts are minor units. Shares are parts per million. Whatever could grow with the traffic
(examples, differences, the most affected) is bounded; counts are not.
"""

from __future__ import annotations

from datetime import date

import msgspec

EXAMPLES_MAX = 20
"""Of each rule, of what is gained and of what is lost."""
DIFFERENCES_MAX = 50
AFFECTED_MAX = 20
BINS_MAX = 40
SWEEP_POINTS_MAX = 41


class Example(msgspec.Struct, frozen=True):
    """One authorization; the sentence has no more of the card than its last four digits."""

    authorization_id: int
    at_us: int
    rrn: str
    kind: str
    amount_minor: int
    answered: str
    decided: str
    rule_id: str
    sentence: str


class Difference(msgspec.Struct, frozen=True):
    """A row of the same ruleset that did not come out as it was stored. There should be none."""

    authorization_id: int
    at_us: int
    what: str
    """"decision", "rule", "results" or "features"."""
    stored: str
    replayed: str


class Agreement(msgspec.Struct, frozen=True):
    """Rows that were decided by the very ruleset that is tested, and how many came out alike."""

    rows: int = 0
    equal: int = 0
    differences: tuple[Difference, ...] = ()


class Recount(msgspec.Struct, frozen=True):
    """A feature of places: how far its value on the row is from what the replay adds up."""

    feature_id: str
    rows: int
    differing: int
    furthest: int


class Labels(msgspec.Struct, frozen=True):
    """Of what a rule fired on, what people said. `missed`: fraud that it did not fire on."""

    fraud: int = 0
    genuine: int = 0
    missed: int = 0

    @property
    def precision_ppm(self) -> int | None:
        told = self.fraud + self.genuine
        return self.fraud * 1_000_000 // told if told else None

    @property
    def recall_ppm(self) -> int | None:
        fraud = self.fraud + self.missed
        return self.fraud * 1_000_000 // fraud if fraud else None


class RuleReport(msgspec.Struct, frozen=True):
    """One rule. `evaluated` are requests within its scope; `alone` those that only it declines."""

    rule_id: str
    version: int
    stage: str
    sentence: str
    evaluated: int
    fired: int
    declined: int
    alone: int
    unknown: int
    spared: int
    failed: int
    declined_minor: int
    cards: int
    labels: Labels = Labels()
    examples: tuple[Example, ...] = ()


class Overlap(msgspec.Struct, frozen=True):
    """How often two rules fire on the same request."""

    one: str
    other: str
    both: int


class DayReport(msgspec.Struct, frozen=True):
    """One business day: what was answered and what the tested ruleset says, by rules only."""

    day: date
    authorizations: int
    answered_declines: int
    tested_declines: int
    gained: int
    lost: int


class FeatureReport(msgspec.Struct, frozen=True):
    """How a feature was distributed. `edges` has one more than `counts`; the last bin is open.

    `limits` are (rule id, limit) of the rules that compare it with a constant.
    """

    feature_id: str
    unit: str
    known: int
    unknown: int
    p50: int
    p95: int
    p99: int
    highest: int
    edges: tuple[int, ...]
    counts: tuple[int, ...]
    limits: tuple[tuple[str, int], ...] = ()


class Sweep(msgspec.Struct, frozen=True):
    """How many requests a rule would decline in the whole range at other limits, alone.

    Open loop: counters as they are. `live_limit` is that of the live ruleset's rule of this id.
    """

    rule_id: str
    operand: str
    relation: str
    limits: tuple[int, ...]
    declines: tuple[int, ...]
    tested_limit: int
    live_limit: int | None = None


class Affected(msgspec.Struct, frozen=True):
    """Who loses payments that were approved: `what` is card, stop, merchant or terminal.

    A card is named by its id.
    """

    what: str
    name: str
    gained: int
    gained_minor: int


class BacktestResult(msgspec.Struct, frozen=True):
    """A ruleset on history. `rows` were read; `assessed` of them had been put to rules.

    `hours_answered` and `hours_tested` are declines by weekday (Monday first) and hour of the
    ruleset's zone: 7 rows of 24. `approved` and `approved_declined` are of what was approved:
    how many the tested ruleset would have declined. `recounted` tells which features of places
    were added up by the replay for want of a stored value.
    """

    hash: str
    title: str
    from_date: date
    to_date: date
    closed_loop: bool
    rows: int
    assessed: int
    seconds: float
    shards: int
    warm_up_from: date
    live_hashes: tuple[str, ...]
    agreement: Agreement
    approved: int
    approved_declined: int
    gained: int
    lost: int
    gained_minor: int
    lost_minor: int
    labelled: int
    rules: tuple[RuleReport, ...]
    days: tuple[DayReport, ...]
    hours_answered: tuple[tuple[int, ...], ...]
    hours_tested: tuple[tuple[int, ...], ...]
    overlaps: tuple[Overlap, ...] = ()
    features: tuple[FeatureReport, ...] = ()
    sweeps: tuple[Sweep, ...] = ()
    affected: tuple[Affected, ...] = ()
    gained_examples: tuple[Example, ...] = ()
    lost_examples: tuple[Example, ...] = ()
    recounts: tuple[Recount, ...] = ()
    cancelled: bool = False

    @property
    def approved_declined_ppm(self) -> int:
        return self.approved_declined * 1_000_000 // max(1, self.approved)
