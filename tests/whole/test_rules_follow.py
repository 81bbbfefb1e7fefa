"""A ruleset is promoted while two worker processes serve: both take it, and nobody restarts."""

from __future__ import annotations

import re
import time
from importlib import resources
from itertools import count

from risk.check import load_ruleset
from switch.ledger import bridge
from tests.switch.ledger.ruled import draft, people

DEAR = """
[[rules]]
id = "dear"
version = 1
name = "Nothing dear"
stage = "amber"
scope = { kinds = ["purchase"] }
when = { fact = "amount", op = "gt", value = 400 }
then = { decline = "amount_limit", reason = "too dear" }
"""


def promote(url):
    """The shipped ruleset with another rule: written, approved and live."""
    shipped = resources.files("risk").joinpath("first_ruleset.toml").read_text("utf-8")

    async def body():
        connection = await bridge.connect(url)
        try:
            await people(connection)
            return await draft(
                connection, load_ruleset(shipped + DEAR), "submit", "approve", "promote"
            )
        finally:
            await connection.close()

    return bridge.run("asyncio", body)


def test_two_workers_take_a_promotion_under_way(staged, serve, terminal, scrape, rows, eventually):
    switch = serve(staged, "--workers", "2")
    ready = switch.ready()
    lines = [terminal(ready.links["retail-1"]) for _ in range(4)]
    numbers = count(1)

    def codes():
        return {line.pay(next(numbers), 2 + n).code for n, line in enumerate(lines)}

    def revisions():
        found = [
            re.search(r"^citycard_rules_revision ([0-9.]+)$", scrape(port), re.MULTILINE)
            for port in ready.metrics
        ]
        return {float(each.group(1)) for each in found if each}

    assert codes() == {"00"}
    (before,) = revisions()
    promoted = promote(staged.url)
    begun = time.monotonic()
    eventually(lambda: codes() == {"61"} and revisions() == {before + 1})
    print(f"both workers took it within {time.monotonic() - begun:.2f} s")
    hashes = {re.search(r'ruleset_info{hash="(\w+)"}', scrape(p)).group(1) for p in ready.metrics}
    assert hashes == {promoted[:12]}
    assert set(switch.ready().workers) == set(ready.workers), "no worker was started anew"
    assert switch.end() == 0
    posted = rows(
        staged.url,
        "select shard, posted_at_us, ruleset, outcome from ledger.authorization"
        " where kind = 'purchase'",
    )
    assert len(posted) == next(numbers) - 1
    assert {row["ruleset"] == promoted for row in posted if row["outcome"] == "approved"} == {False}
    assert {row["ruleset"] for row in posted if row["outcome"] == "amount_limit"} == {promoted}
    counted = rows(
        staged.url,
        "select sum(requests)::int as requests from ledger.rule_statistic"
        " where rule_id = '' and mode = 'live'",
    )
    assert counted[0]["requests"] == len(posted), "the last sums were written on leaving"
