"""Loads over the operator's own counter: cash or transfer in, value on a purse.

They take the same way as every authorization, from facts over the decision to one posting
under the account's version, only without a wire before it and a deadline behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import msgspec

from protocols.message import Kind, Reply, Request, Segment
from protocols.money import Money
from switch.calendar import BusinessCalendar
from switch.clock import Clock
from switch.decide import Terms, decide, moment_at
from switch.ledger.failures import LedgerRefused
from switch.ledger.store import Store
from switch.posting import Directed, Posting, Verdict

COUNTER = "counter"
"""Acquirer, link, terminal and merchant of what the operator does itself."""
CHUNK_MAX = 250
ROUNDS_MAX = 20
UNHURRIED_US = 60_000_000


class LoadOrder(msgspec.Struct, frozen=True):
    """Value to put on one purse ("TRN" or "GEN") of a card's account, in minor units."""

    shard: int
    account_id: int
    card_id: int
    purse: str
    amount_minor: int


async def load_purses(
    store: Store,
    orders: Sequence[LoadOrder],
    *,
    terms: Terms,
    currency: str,
    calendar: BusinessCalendar,
    clock: Clock,
    entropy: Callable[[int], bytes],
) -> list[Reply]:
    """Post the loads; a reply each, in order, approved or with the outcome that refused it.

    `entropy` gives that many random bytes and makes the idempotency keys: each order is a
    load of its own. Raises LedgerLost and LedgerRefused; what was replied for is posted.
    """
    replies: dict[int, Reply] = {}
    numbered = sorted(enumerate(orders), key=lambda one: one[1].shard)
    for shard, of_shard in groupby(numbered, key=lambda one: one[1].shard):
        waiting = [
            (index, _directed(order, currency, calendar, clock, entropy))
            for index, order in of_shard
        ]
        for start in range(0, len(waiting), CHUNK_MAX):
            chunk = waiting[start : start + CHUNK_MAX]
            for _ in range(ROUNDS_MAX):
                chunk = await _round(store, shard, chunk, terms, calendar, clock, replies)
                if not chunk:
                    break
            else:
                raise LedgerRefused("40001", "")
    return [replies[index] for index in range(len(orders))]


async def _round(
    store: Store,
    shard: int,
    chunk: list[tuple[int, Directed]],
    terms: Terms,
    calendar: BusinessCalendar,
    clock: Clock,
    replies: dict[int, Reply],
) -> list[tuple[int, Directed]]:
    """Load, decide and post once; what conflicted and must be tried again."""
    moment = moment_at(clock.now_us(), calendar, terms)
    loaded = await store.load(
        shard, moment.business_date, moment.now_us, [directed for _, directed in chunk]
    )
    postings: list[Posting] = []
    writers: list[tuple[int, Directed]] = []
    versions: dict[int, int] = {}
    for (index, directed), facts in zip(chunk, loaded, strict=True):
        decision = decide(directed, facts, terms, moment)
        if isinstance(decision, Reply):
            replies[index] = decision
            continue
        postings.append(decision)
        writers.append((index, directed))
        if facts.account is not None:
            versions[facts.account.account_id] = facts.account.version
    if not postings:
        return []
    verdicts = await store.post(
        shard,
        0,
        moment.business_date,
        versions,
        postings,
        [UNHURRIED_US] * len(postings),
        terms.rules.hash,
    )
    again = []
    for writer, posting, posted in zip(writers, postings, verdicts, strict=True):
        if posted.verdict is Verdict.POSTED:
            replies[writer[0]] = Reply(
                posting.outcome,
                posting.approved_minor,
                posted.authorization_id,
                posting.auth_code,
                posting.rrn,
            )
        else:
            again.append(writer)
    return again


def _directed(
    order: LoadOrder,
    currency: str,
    calendar: BusinessCalendar,
    clock: Clock,
    entropy: Callable[[int], bytes],
) -> Directed:
    now_us, now_ns = clock.now_us(), clock.monotonic_ns()
    local_at = f"{calendar.local(now_us):%m%d%H%M%S}"
    random_octets = entropy(12)
    request = Request(
        kind=Kind.LOAD,
        segment=Segment.RETAIL,
        acquirer=COUNTER,
        link=COUNTER,
        message_class="02",
        card=None,
        amount=Money(order.amount_minor, currency),
        terminal=COUNTER,
        merchant=COUNTER,
        mcc="",
        stan=f"{int.from_bytes(random_octets[:4], 'big') % 1_000_000:06}",
        local_at=local_at,
        rrn="",
        entry_mode="",
        expiry="",
        key=int(local_at).to_bytes(4, "big") + random_octets,
        payload_hash=random_octets[:8],
        received_ns=now_ns,
        deadline_ns=now_ns + UNHURRIED_US * 1_000,
        purse=order.purse,
    )
    return Directed(request, order.shard, order.account_id, order.card_id, b"")
