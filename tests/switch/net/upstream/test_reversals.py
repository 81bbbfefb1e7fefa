"""Store and forward of reversals: until the host has answered, whatever happens meanwhile."""

from __future__ import annotations

import pytest

from loadtest.host import HostPlan
from protocols.message import Outcome
from tests.switch.net.upstream.city import query, renewed, request, reversal_of

SILENT = 1_070


async def test_a_reversal_that_got_no_answer_is_said_again_with_the_repeat_bit(staged):
    plan = HostPlan(reversals_ignored=2)
    async with staged(plan, timeout_ms=100) as stage, stage.worker() as city:
        await city.up()
        await city.ask(request(SILENT))
        await city.until_states("reversed")
        first, *repeats = city.host.heard("0400", "0401")
        assert (first.mti, [one.mti for one in repeats]) == ("0400", ["0401", "0401"])
        assert {(one.stan, one.transmitted_at, one.about) for one in repeats} == {
            (first.stan, first.transmitted_at, first.about)
        }
        (row,) = await city.rows()
        assert row["tries"] == 3


async def test_a_host_that_cannot_take_it_now_is_asked_again(staged):
    plan = HostPlan(reversals_refused=1, refusal_code="91")
    async with staged(plan, timeout_ms=100) as stage, stage.worker() as city:
        await city.up()
        await city.ask(request(SILENT))
        await city.until_states("reversed")
        assert len(city.host.heard("0400", "0401")) == 2


async def test_a_refused_reversal_is_left_to_people_and_not_said_again(staged):
    plan = HostPlan(reversals_refused=9, refusal_code="12")
    async with (
        staged(plan, timeout_ms=100, balanced=False) as stage,
        stage.worker() as city,
    ):
        await city.up()
        await city.ask(request(SILENT))
        await city.until_states("given_up")
        assert len(city.host.heard("0400", "0401")) == 1


async def test_one_that_is_never_answered_does_not_hold_up_the_others(staged):
    plan = HostPlan(reversals_ignored=1)
    async with (
        staged(plan, timeout_ms=100, reversal_retry_seconds=2) as stage,
        stage.worker() as city,
    ):
        await city.up()
        await city.ask(request(SILENT, stan=1))
        await city.ask(request(SILENT, stan=2))
        await city.until_states("reversing", "reversed")
        await city.until(lambda: city.metric("citycard_forward_depth", upstream="city-b") == 1)
        await city.until_states("reversed", "reversed")
        await city.until(lambda: city.metric("citycard_forward_depth", upstream="city-b") == 0)


async def test_reversals_survive_the_process_that_wrote_them(staged):
    plan = HostPlan(reversals_ignored=1)
    async with staged(plan, timeout_ms=100) as stage:
        async with stage.worker() as city:
            await city.up()
            await city.ask(request(SILENT))
            await city.until(lambda: city.host.heard("0400"))
        async with stage.worker() as after:
            await after.up()
            await after.until_states("reversed")
            assert [one.mti for one in after.host.heard("0400", "0401")] == ["0400", "0401"]


@pytest.mark.parametrize("amount_minor", [SILENT, 1_800])
async def test_a_process_killed_between_intent_and_answer_is_reversed_by_the_next(
    staged, amount_minor
):
    """Killed before its answer came, or after the host approved and before anybody knew."""
    async with staged(HostPlan(late_seconds=0.2), timeout_ms=3_000) as stage:
        async with stage.worker() as city:
            await city.up()
            city.submit(request(1_071 if amount_minor == 1_800 else amount_minor, budget_ms=600))
            await city.until(lambda: city.host.heard("0200"))
        async with stage.worker(grace=0.3) as after:
            await after.up()
            await after.until_states("reversed")
            rows = await query(stage.database, "select outcome, kind from ledger.authorization")
            assert [(row["kind"], row["outcome"]) for row in rows] == [
                ("purchase", "destination_down")
            ]


async def test_a_process_killed_after_its_approval_was_told_loses_nothing(staged):
    async with staged() as stage:
        async with stage.worker() as city:
            await city.up()
            asked = request(1_800, budget_ms=600)
            assert (await city.ask(asked)).outcome.approved
            await query(stage.database, "update ledger.forwarded set state = 'sent' returning 1")
        async with stage.worker(grace=0.2) as after:
            await after.up()
            await after.until_states("approved")
            assert (await after.ask(renewed(asked))).outcome.approved
            assert not after.host.heard("0400")


async def test_a_host_that_is_down_at_the_start_is_asked_nothing(staged):
    async with staged(listening=False, port=1) as stage, stage.worker() as city:
        reply = await city.ask(request(1_800))
        assert reply.outcome is Outcome.DESTINATION_DOWN
        assert await city.states() == []
        assert not city.link.up


async def test_a_reversal_waits_for_a_host_that_is_down(staged):
    async with staged() as stage, stage.worker() as city:
        await city.up()
        sale = request(1_800)
        assert (await city.ask(sale)).outcome.approved
        await city.host.say("002")
        await city.until(lambda: not city.link.up)
        assert (await city.ask(reversal_of(sale))).outcome is Outcome.APPROVED
        await city.until_states("reversing")
        await city.host.hang_up()
        await city.until_states("reversed")


async def test_two_workers_send_each_reversal_once(staged):
    async with (
        staged(timeout_ms=100) as stage,
        stage.worker() as one,
        stage.worker() as two,
    ):
        await one.up()
        await two.up()
        for stan in range(1, 5):
            await (one if stan % 2 else two).ask(request(SILENT, stan=stan))
        await one.until_states(*["reversed"] * 4)
        assert len(one.host.heard("0400", "0401")) == 4
