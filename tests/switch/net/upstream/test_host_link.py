"""The link to a host: signed on, known to be alive, and given up when it is not."""

from __future__ import annotations

import pytest

from loadtest.host import HostPlan
from protocols.message import Outcome
from tests.switch.net.upstream.city import request


def state(city, name):
    return city.metric("citycard_upstream_state", upstream="city-b", state=name)


async def test_nothing_leaves_before_the_host_took_the_sign_on(staged):
    async with staged(HostPlan(sign_on_code="91")) as stage, stage.worker() as city:
        await city.until(lambda: city.host.heard("0800"))
        await city.until(lambda: state(city, "signed_off"))
        assert (await city.ask(request())).outcome is Outcome.DESTINATION_DOWN
        assert not city.host.heard("0200")


async def test_a_link_without_sign_on_is_up_at_once(staged):
    async with staged(sign_on="none") as stage, stage.worker() as city:
        await city.up()
        assert (await city.ask(request())).outcome.approved
        assert not city.host.heard("0800")


async def test_an_idle_link_is_asked_whether_it_is_alive(staged):
    async with staged(echo_idle_seconds=1) as stage, stage.worker() as city:
        await city.up()
        await city.until(lambda: len(city.host.heard("0800")) >= 2)
        assert city.link.up


async def test_a_host_that_signs_off_is_asked_nothing_more(city):
    await city.host.say("002")
    await city.until(lambda: state(city, "signed_off"))
    await city.until(lambda: city.host.heard("0810"))
    assert (await city.ask(request())).outcome is Outcome.DESTINATION_DOWN


async def test_a_hosts_echo_is_answered(city):
    await city.host.say("301")
    await city.until(lambda: city.host.heard("0810"))
    assert city.link.up


@pytest.mark.parametrize(
    "octets", [b"GET / HTTP/1.0\r\n\r\n", b"9999", b"0010ABCDEFGHIJ"], ids=repr
)
async def test_what_a_host_may_send_instead_of_answers_ends_at_most_its_connection(city, octets):
    await city.host.send_raw(octets)
    asked = request(1_800)
    await city.until(lambda: city.link.up and city.host.connections == 1)
    reply = await city.ask(asked)
    assert reply.outcome in (Outcome.APPROVED, Outcome.DESTINATION_DOWN)
    await city.until(lambda: city.link.up)
    assert (await city.ask(request(1_800, stan=2))).outcome.approved


async def test_a_lost_connection_is_made_again(city):
    await city.host.hang_up()
    await city.until(lambda: len(city.host.heard("0800")) == 2 and city.link.up)
    assert (await city.ask(request())).outcome.approved


async def test_draining_signs_off_and_answers_what_is_under_way(staged):
    async with (
        staged(HostPlan(late_seconds=0.2), timeout_ms=2_000) as stage,
        stage.worker() as city,
    ):
        await city.up()
        under_way = city.submit(request(1_071))
        await city.until(lambda: city.host.heard("0200"))
        city.routes.sign_off()
        assert (await city.ask(request(stan=2))).outcome is Outcome.DESTINATION_DOWN
        await city.until(lambda: under_way)
        assert under_way[0].outcome.approved
        await city.until(lambda: not city.routes.unwritten)
        assert len(city.host.heard("0800")) == 2
