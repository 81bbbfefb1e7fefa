"""Cards tried at one terminal through one worker are known to the other, and its next sale is not.

From the lane over the posting to the buckets, the follower and back into a decision.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import Any

import anyio
import msgspec

from protocols.card_number import CardNumber, numbered_card
from protocols.message import Outcome, Reply
from risk.assess import decode_results
from risk.check import load_ruleset
from risk.compile import compile_ruleset
from risk.deployment import Deployment, in_force
from switch.clock import Clock
from switch.ledger import bridge
from switch.ledger.audit import audit
from switch.ledger.bucket_follower import BucketFollower
from switch.posting import Posting
from tests.simulation.model_ledger import purchase
from tests.switch.ledger.test_two_workers import BUDGET_NS, City, Worker, two_workers

LIMIT = 15
"""Wrong PINs or cards at a terminal in ten minutes, by the shipped ruleset."""
FEATURE = "terminal_wrong_10m"
SERIES_SECONDS_MAX = 20


class Slow:
    """A clock by which nothing grows stale on a busy machine."""

    def __init__(self, clock: Clock) -> None:
        self.now_us = clock.now_us
        self._clock = clock

    def monotonic_ns(self) -> int:
        return self._clock.monotonic_ns() // 100


def counting(worker: Worker, database: str, clock: Clock) -> BucketFollower:
    """Let the worker decide by the shipped ruleset as deployed, and count what it posts."""

    async def connect() -> bridge.Connection:
        return await bridge.connect(database)

    follower = BucketFollower(connect, Slow(clock), interval_seconds=0.0002)
    ruleset = load_ruleset(files("risk").joinpath("first_ruleset.toml").read_text("utf-8"))
    deployment = Deployment(in_force(ruleset, compile_ruleset(ruleset)), read=follower.read)

    def count(posting: Posting, _authorization_id: int) -> None:
        follower.posted(posting.additions)

    for lane in worker.lanes:
        lane.terms = msgspec.structs.replace(lane.terms, rules=deployment)
        lane.on_posted = count
    return follower


async def answer(city: City, worker: Worker, number: int, card: CardNumber, terminal: str) -> Reply:
    now_ns = city.clock.monotonic_ns()
    heard: list[Reply] = []
    request = purchase(
        number, 100, card=card, acquirer="metro", terminal=terminal,
        received_ns=now_ns, deadline_ns=now_ns + BUDGET_NS,
    )  # fmt: skip
    worker.pipeline.submit(request, heard.append)
    await comes(lambda: bool(heard))
    return heard[0]


async def comes(true: Callable[[], bool]) -> None:
    with anyio.fail_after(SERIES_SECONDS_MAX):
        while not true():  # noqa: ASYNC110 - nobody tells
            await anyio.sleep(0.005)


async def test_what_is_tried_at_a_terminal_is_known_to_both_workers(
    books: Any, database: str
) -> None:
    async with two_workers(books, database) as city:
        one, other = city.workers
        followers = [counting(worker, database, city.clock) for worker in (one, other)]
        deployment = one.lanes[0].terms.rules
        assert isinstance(deployment, Deployment)
        ((feature,), first) = deployment.live.places, (city.clock.now_us() // 60_000_000) - 5
        assert feature.id == FEATURE
        async with anyio.create_task_group() as tasks:
            for follower in followers:
                await follower.follow(deployment)
                tasks.start_soon(follower.run)
            for number in range(1, LIMIT + 2):
                stranger = numbered_card("621299", 900_000 + number)
                reply = await answer(city, one, number, stranger, "T0000009")
                assert reply.outcome is Outcome.UNKNOWN_CARD
            again = await answer(city, one, 1, numbered_card("621299", 900_001), "T0000009")
            assert again.replayed, "a duplicate counts once"
            (series,) = [each.series for each in deployment.buckets._counters]
            for follower in followers:
                await comes(
                    lambda known=follower: known.read(series, "metro/T0000009", first) == LIMIT + 1
                )
            (card,) = await city.issue([10_000])
            for number, worker in ((101, one), (102, other)):
                refused = await answer(city, worker, number, card, "T0000009")
                assert refused.outcome is Outcome.DO_NOT_HONOUR
            passed = await answer(city, other, 103, card, "T0000010")
            assert passed.outcome is Outcome.APPROVED
            tasks.cancel_scope.cancel()
        stored = await books.connection.fetch(
            "select key, ruleset, rule_results from ledger.authorization"
            " where kind = 'purchase' and account_id <> 0 order by key"
        )
        report = await audit(books.connection)
    assert [check.first for check in report.checks if check.findings] == []
    counted = [decode_results(row["rule_results"]).features[FEATURE] for row in stored]
    assert counted == [LIMIT + 1, LIMIT + 1, 0]
    assert {row["ruleset"] for row in stored} == {deployment.hash}
