"""Forwarded requests from submission to the ledger of both sides: the host's and ours."""

from __future__ import annotations

import pytest

from loadtest.host import HostPlan
from protocols.card_number import numbered_card
from protocols.message import Kind, Outcome
from switch.config_trouble import LinkFraming
from tests.switch.net.upstream.city import CITY_B, City, Outage, renewed, request, reversal_of

SILENT, LATE, TWICE, HANG_UP, PARTIAL = 1_070, 1_071, 1_072, 1_073, 1_010


async def test_an_approval_is_posted_and_answered(city):
    reply = await city.ask(request(1_800))
    assert (reply.outcome, reply.approved_minor) == (Outcome.APPROVED, 1_800)
    assert reply.auth_code.startswith("H")
    await city.until_states("approved")
    assert await city.owed_minor() == 1_800
    (sent,) = city.host.heard("0200")
    assert (sent.amount_minor, sent.terminal) == (1_800, "T0000042")
    assert city.metric(
        "citycard_upstream_requests_total", upstream="city-b", outcome="approved"
    ) == 1  # fmt: skip


@pytest.mark.parametrize(
    ("amount_minor", "outcome"),
    [(1_005, Outcome.DO_NOT_HONOUR), (1_051, Outcome.INSUFFICIENT_FUNDS)],
)
async def test_a_decline_is_passed_on_and_moves_nothing(city, amount_minor, outcome):
    asked = request(amount_minor)
    assert (await city.ask(asked)).outcome is outcome
    await city.until_states("declined")
    assert (await city.ask(renewed(asked))).outcome is outcome, "a repeat gets the same answer"
    assert len(city.host.heard("0200")) == 1
    assert not city.host.heard("0400", "0401")


async def test_a_silent_host_is_reversed(city):
    reply = await city.ask(request(SILENT))
    assert reply.outcome is Outcome.DESTINATION_DOWN
    await city.until_states("reversed")
    (sent,), (reversal,) = city.host.heard("0200"), city.host.heard("0400")
    assert reversal.about == (sent.stan, sent.transmitted_at)
    assert reversal.stan != sent.stan


async def test_a_late_approval_is_told_apart_and_reversed(staged):
    async with staged(HostPlan(late_seconds=0.4), timeout_ms=100) as stage, stage.worker() as city:
        await city.up()
        assert (await city.ask(request(LATE))).outcome is Outcome.DESTINATION_DOWN
        await city.until_states("reversed")
        await city.until(
            lambda: city.metric("citycard_upstream_late_approvals_total", upstream="city-b")
        )


async def test_an_answer_that_comes_twice_counts_once(city):
    assert (await city.ask(request(TWICE))).outcome is Outcome.APPROVED
    assert (await city.ask(request(1_800, stan=2))).outcome is Outcome.APPROVED
    await city.until_states("approved", "approved")
    assert await city.owed_minor() == TWICE + 1_800


async def test_an_answer_to_nothing_is_counted_and_ignored(city):
    asked = request(1_800)
    assert (await city.ask(asked)).outcome.approved
    wire = city.routes.hosts["city-b"].wire
    _, octets = wire.request(request(1_800), "777777", "0102030405", None)
    await city.host.send_raw(octets.replace(b"0200", b"0210", 1))
    await city.until(
        lambda: city.metric(
            "citycard_upstream_requests_total", upstream="city-b", outcome="original_not_found"
        )
    )
    assert city.link.up


async def test_a_connection_that_is_cut_in_the_middle_reverses_what_was_under_way(city):
    silent, cut = city.submit(request(SILENT)), city.submit(request(HANG_UP, stan=2))
    await city.until(lambda: silent and cut)
    assert {silent[0].outcome, cut[0].outcome} == {Outcome.DESTINATION_DOWN}
    await city.until_states("reversed", "reversed")
    assert city.link.up, "it connected again to say so"


async def test_a_repeat_of_an_approval_gets_the_stored_answer(city):
    asked = request(1_800)
    first = await city.ask(asked)
    again = await city.ask(renewed(asked))
    assert (again.outcome, again.auth_code, again.replayed) == (
        Outcome.APPROVED, first.auth_code, True,
    )  # fmt: skip
    assert len(city.host.heard("0200")) == 1
    assert await city.owed_minor() == 1_800


async def test_a_repeat_that_comes_while_the_first_is_under_way_joins_it(city):
    asked = request(1_800)
    one, two = city.submit(asked), city.submit(renewed(asked))
    await city.until(lambda: one and two)
    assert one[0].auth_code == two[0].auth_code
    assert len(city.host.heard("0200")) == 1


async def test_a_repeat_at_another_worker_waits_for_the_first_ones_answer(staged):
    async with (
        staged(HostPlan(late_seconds=0.3), timeout_ms=2_000) as stage,
        stage.worker() as one,
        stage.worker() as two,
    ):
        await one.up()
        await two.up()
        first = one.submit(asked := request(LATE))
        await one.until(lambda: one.host.heard("0200"))
        second = await two.ask(renewed(asked))
        assert (second.outcome, second.auth_code) == (Outcome.APPROVED, first[0].auth_code)
        assert len(one.host.heard("0200")) == 1


async def test_one_key_with_another_content_is_refused(city):
    assert (await city.ask(request(1_800))).outcome.approved
    assert (await city.ask(request(1_900))).outcome is Outcome.KEY_REUSED
    assert len(city.host.heard("0200")) == 1


async def test_a_repeat_of_what_was_reversed_is_declined(city):
    asked = request(SILENT)
    assert not (await city.ask(asked)).outcome.approved
    await city.until_states("reversed")
    assert (await city.ask(renewed(asked))).outcome is Outcome.DESTINATION_DOWN
    assert len(city.host.heard("0200")) == 1


async def test_a_partial_approval_needs_a_terminal_that_takes_it(city):
    refused = await city.ask(request(PARTIAL))
    assert refused.outcome is Outcome.DO_NOT_HONOUR
    taken = await city.ask(request(PARTIAL, stan=2, partial_allowed=True))
    assert (taken.outcome, taken.approved_minor) == (Outcome.APPROVED, PARTIAL // 2)
    await city.until_states("reversed", "approved")


async def test_a_refund_goes_back_over_the_same_accounts(city):
    sale = request(1_800)
    assert (await city.ask(sale)).outcome.approved
    refund = request(800, stan=2, kind=Kind.REFUND, advice=True, original=sale)
    assert (await city.ask(refund)).outcome.approved
    await city.until_states("approved", "approved")
    (sent,), (given_back,) = city.host.heard("0200"), city.host.heard("0220")
    assert given_back.about == (sent.stan, sent.transmitted_at)
    assert await city.owed_minor() == 1_000
    city.host.approved["refund", ""] = -800


async def test_an_advice_that_got_no_answer_is_sent_again_when_it_is_repeated(city):
    sale = request(1_800)
    assert (await city.ask(sale)).outcome.approved
    refund = request(70, stan=2, kind=Kind.REFUND, advice=True, original=sale)
    assert (await city.ask(refund)).outcome is Outcome.DESTINATION_DOWN
    await city.until_states("approved", "reversed")
    assert (await city.ask(renewed(refund))).outcome is Outcome.DESTINATION_DOWN
    assert len(city.host.heard("0220")) == 2


async def test_kinds_about_the_issuers_own_purses_are_not_forwarded(city):
    assert (await city.ask(request(0, kind=Kind.INQUIRY))).outcome is Outcome.UNSUPPORTED
    assert not await city.states()


async def test_cards_of_our_own_are_never_written_down(city):
    ours = numbered_card("621234", 1)
    assert (await city.ask(request(100, card=ours))).outcome is Outcome.UNKNOWN_CARD
    assert not await city.states()


async def test_more_than_a_host_may_have_under_way_is_refused(staged):
    async with staged(in_flight_max=2, timeout_ms=1_000) as stage, stage.worker() as city:
        await city.up()
        waiting = [city.submit(request(SILENT, stan=stan)) for stan in (1, 2)]
        await city.until(lambda: len(city.host.heard("0200")) == 2)
        assert (await city.ask(request(1_800, stan=3))).outcome is Outcome.OVERLOADED
        await city.until(lambda: all(waiting))
        await city.until_states("reversed", "reversed")


async def test_a_budget_shorter_than_the_hosts_time_ends_the_wait(staged):
    """The decline is posted as the budget ends, so on a busy machine it may be later than that."""
    async with staged(timeout_ms=15_000) as stage, stage.worker() as city:
        await city.up()
        reply = await city.ask(request(SILENT, budget_ms=800))
        assert reply.outcome in (
            Outcome.DESTINATION_DOWN,
            Outcome.OUTCOME_UNKNOWN,
            Outcome.ANSWERED_LATE,
            Outcome.NO_BUDGET,
        )
        await city.until_states("reversed")


async def test_an_acquirers_reversal_is_answered_at_once_and_told_to_the_host(city: City):
    sale = request(1_800)
    assert (await city.ask(sale)).outcome.approved
    reply = await city.ask(reversal_of(sale))
    assert reply.outcome is Outcome.APPROVED
    await city.until_states("reversed")
    assert await city.owed_minor() == 0
    again = await city.ask(renewed(reversal_of(sale)))
    assert again.outcome is Outcome.APPROVED
    assert len(city.host.heard("0400", "0401")) == 1


async def test_a_partial_reversal_tells_the_host_what_stands(city: City):
    sale = request(1_800)
    assert (await city.ask(sale)).outcome.approved
    assert (await city.ask(reversal_of(sale, replacement_minor=500))).outcome.approved
    await city.until_states("approved", "reversed")
    (reversal,) = city.host.heard("0400")
    assert reversal.replacement == f"{500:012}"
    assert await city.owed_minor() == 500


async def test_a_reversal_of_what_nobody_knows_is_forwarded_all_the_same(city):
    never_came = request(1_800, stan=44)
    reply = await city.ask(reversal_of(never_came))
    assert reply.outcome is Outcome.ORIGINAL_NOT_FOUND
    await city.until_states("reversed")
    assert len(city.host.heard("0400")) == 1
    assert (await city.ask(never_came)).outcome is Outcome.REVERSED_BEFORE
    await city.until_states("reversed", "reversed")


async def test_the_reversal_of_a_request_under_way_wins(city):
    sale = request(SILENT)
    pending = city.submit(sale)
    await city.until(lambda: city.host.heard("0200"))
    await city.ask(reversal_of(sale))
    await city.until(lambda: pending)
    assert not pending[0].outcome.approved
    await city.until_states("reversed")


async def test_card_numbers_are_not_in_the_book(city):
    assert (await city.ask(request(1_800))).outcome.approved
    (row,) = await city.rows()
    assert CITY_B.encode() not in bytes(row["request"])


@pytest.fixture
async def outage(database, postgres, ledger_loop):
    made = await Outage.of(database, postgres.url_for("postgres"))
    yield made
    await made.end()
    made.close()


async def test_while_the_ledger_is_away_nothing_is_sent(staged, outage):
    async with staged() as stage, stage.worker() as city:
        await city.up()
        await outage.begin()
        await city.until(lambda: not city.book_open)
        sale = request(1_800)
        assert (await city.ask(sale)).outcome is Outcome.LEDGER_DOWN
        assert (await city.ask(reversal_of(sale))).outcome is Outcome.LEDGER_DOWN
        assert not city.host.heard("0200")
        await outage.end()
        await city.until(lambda: city.book_open)
        # the reversal was refused, so the sale may still come
        assert (await city.ask(renewed(sale))).outcome.approved


async def test_an_approval_that_cannot_be_posted_is_reversed_at_the_host(staged, outage):
    """The ledger goes away while the host thinks; nobody may keep that approval."""
    async with (
        staged(HostPlan(late_seconds=0.3), timeout_ms=2_000) as stage,
        stage.worker() as city,
    ):
        await city.up()
        pending = city.submit(request(LATE, budget_ms=1_500))
        await city.until(lambda: city.host.heard("0200"))
        await outage.begin()
        await city.until(lambda: pending)
        assert not pending[0].outcome.approved
        await outage.end()
        await city.until_states("reversed")


async def test_a_unionpay_host_is_understood_too(staged):
    framing = LinkFraming(length="binary2", tpdu=True, header_bytes=6)
    plan = HostPlan(dialect="unionpay_pos")
    terms = {"dialect": "unionpay_pos", "framing": framing, "sign_on": "none"}
    async with staged(plan, balanced=False, **terms) as stage, stage.worker() as city:
        await city.up()
        assert (await city.ask(request(1_800))).outcome.approved
        assert (await city.ask(request(SILENT, stan=2))).outcome is Outcome.DESTINATION_DOWN
        await city.until_states("approved", "reversed")
        (silent,) = [one for one in city.host.heard("0200") if one.amount_minor == SILENT]
        (reversal,) = city.host.heard("0400")
        assert reversal.stan == silent.stan
