"""Reviews: what waits in which queue, and verdicts that are given once."""

from __future__ import annotations

import anyio
import pytest

from switch.ledger import bridge, reviews, rules_trail
from switch.ledger.list_acts import ActRejected

PUT = """
insert into ledger.review (shard, authorization_id, business_date, queue, rule_id, card_id, at_us)
values (1, 11, '2026-03-31', 'desk', 'ladder', 1000001, 100),
       (1, 12, '2026-03-31', 'desk', 'ladder', 1000002, 200),
       (1, 12, '2026-03-31', 'night', 'clone', 1000002, 200)
"""


async def test_what_waits_is_listed_oldest_first_and_closed_once(
    connection: bridge.Connection, database: str
) -> None:
    await connection.execute(PUT)
    waiting = await reviews.queues(connection)
    assert [(each.queue, each.open_count, each.oldest_us) for each in waiting] == [
        ("desk", 2, 100), ("night", 1, 200),
    ]  # fmt: skip
    found = await reviews.open_reviews(connection, "desk")
    assert [each.authorization_id for each in found] == [11, 12]
    assert len(await reviews.open_reviews(connection, after_us=100)) == 2
    assert len(await reviews.open_reviews(connection, count_max=1)) == 1

    with pytest.raises(ActRejected, match="verdict is one of"):
        await reviews.close(connection, 12, verdict="nice", note="", closed_by="ann")
    with pytest.raises(ActRejected, match="no such review"):
        await reviews.close(connection, 13, verdict="fraud", note="", closed_by="ann")
    with pytest.raises(ActRejected, match="long number"):
        await reviews.close(
            connection, 12, verdict="fraud", note="card 6212990000000007", closed_by="ann"
        )
    closed = await reviews.close(
        connection, 12, verdict="fraud", note="two cities", closed_by="ann", queue="night"
    )
    assert closed == ["night"]
    assert await reviews.close(connection, 12, verdict="genuine", note="", closed_by="bob") == [
        "desk"
    ]
    with pytest.raises(ActRejected, match="closed as fraud before"):
        await reviews.close(
            connection, 12, verdict="unclear", note="", closed_by="bob", queue="night"
        )
    verdicts = await reviews.of_authorization(connection, 12)
    assert [(each.queue, each.verdict, each.closed_by) for each in verdicts] == [
        ("desk", "genuine", "bob"), ("night", "fraud", "ann"),
    ]  # fmt: skip
    trail = await rules_trail.trail(connection, subject="authorization 12")
    assert [event.detail["queues"] for event in trail] == [["desk"], ["night"]]

    other, heard = await bridge.connect(database), []

    async def close(each: bridge.Connection) -> None:
        try:
            heard.append(await reviews.close(each, 11, verdict="unclear", note="", closed_by="ann"))
        except ActRejected:
            heard.append([])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(close, connection)
        tasks.start_soon(close, other)
    await other.close()
    assert sorted(heard) == [[], ["desk"]]
    assert await reviews.open_reviews(connection) == []
