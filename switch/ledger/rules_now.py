"""The rules of a ledger as they are now, for a process that decides a little and ends."""

from __future__ import annotations

import anyio.to_thread

from risk.deployment import Deployment, unknown_buckets
from risk.lists import ListBook
from switch.ledger import sql
from switch.ledger.list_feed import ListFeed, Rows
from switch.ledger.rule_costs import RuleCosts
from switch.ledger.rules_in_force import RulesInForce
from switch.metrics import Metrics

_QUERIES = sql.queries("rules_follower.sql")


async def lists_now(rows: Rows, now_us: int) -> ListBook:
    """The lists as people wrote them and as rules filled them. Raises LedgerLost."""
    feed = ListFeed()
    (row,) = await rows.fetch(_QUERIES["revision"])
    await feed.follow(rows, row["revision"], now_us)
    await feed.listings(rows, now_us)
    return feed.book


async def deployment_now(rows: Rows, now_us: int) -> Deployment | None:
    """What decides, with its lists, snoozes and pauses; None where no ruleset is live.

    Drafts in shadow do not look on, and counters of places are unknown. Raises RulesetUnfit,
    LedgerLost and LedgerRefused.
    """
    feed = ListFeed()
    (row,) = await rows.fetch(_QUERIES["revision"])
    await feed.follow(rows, row["revision"], now_us)
    # nobody times rules in a process that ends
    costs = RuleCosts(rule_ns_max=2**62, slot=0, clock_ns=lambda: 0, metrics=Metrics())
    in_force = RulesInForce(feed, costs, shadows_max=0, read=unknown_buckets)
    standing = await in_force.read(rows, row["revision"], now_us)
    await feed.listings(rows, now_us)
    composed = await anyio.to_thread.run_sync(in_force.composed, standing)
    await feed.listings(rows, now_us)  # of a list that holds something else than it did before
    return composed.deployment if composed is not None else None
