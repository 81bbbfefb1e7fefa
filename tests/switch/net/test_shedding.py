"""More comes than can be done: plain sales are refused unread, and nothing else is."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest

from protocols.card_number import numbered_card
from protocols.iso8583.client import (
    Sale,
    completion_message,
    inquiry_message,
    preauthorization_message,
    reversal_message,
)
from protocols.message import Kind, Outcome

SALE = Sale(
    card=numbered_card("621234", 3), amount_minor=1840, stan=9, terminal="T0000042",
    merchant="SHOP42", local_at=datetime(2026, 3, 31, 12, tzinfo=UTC), mcc="5411",
    acquirer="48021000",
)  # fmt: skip


@pytest.fixture
def overloaded(serving, approver, link_terms, dialect):
    """A link in whose place load refuses every plain sale."""

    @asynccontextmanager
    async def begun(**link):
        asked = []

        def sheds(segment, budget_ns, behind):
            asked.append((segment, budget_ns))
            return Outcome.NO_BUDGET

        async with serving(
            link_terms(dialect), approver.submit, link={"sheds": sheds, **link}
        ) as edge:
            edge.asked = asked
            yield edge

    return begun


async def test_a_plain_sale_is_refused_unread_and_counted(overloaded, approver):
    async with overloaded() as edge:
        peer = await edge.peer()
        await peer.send(*(peer.sale(stan) for stan in range(1, 6)))
        answers = await peer.receive(5)
        assert [answer.text(39) for answer in answers] == ["91"] * 5
        assert [answer.text(11) for answer in answers] == [f"{stan:06}" for stan in range(1, 6)]
        assert not approver.requests
        assert edge.asked[-1] == (edge.link.terms.segment, edge.link.terms.budget_ms * 1_000_000)
        labels = {"segment": "retail", "outcome": "no_budget"}
        assert edge.metric("citycard_shed_total", **labels) == 5
        assert edge.metric("citycard_requests_total", kind="purchase", **labels) == 5


async def test_whatever_must_pass_is_read(overloaded, approver):
    async with overloaded() as edge:
        peer = await edge.peer()
        dialect = edge.link.terms.dialect
        held = preauthorization_message(dialect, SALE)
        later = {"stan": 10, "local_at": SALE.local_at, "rrn": "000000000001"}
        await peer.send(
            reversal_message(dialect, SALE, stan=10),
            completion_message(dialect, held, **later, auth_code="ABC234"),
            held,
            inquiry_message(dialect, SALE),
        )
        await peer.receive(4)
        kinds = [request.kind for request in approver.requests]
        assert kinds == [Kind.REVERSAL, Kind.COMPLETION, Kind.PREAUTHORIZATION, Kind.INQUIRY]


async def test_who_has_not_signed_on_is_told_that(overloaded, approver):
    async with overloaded() as edge:
        peer = await edge.peer(signed_on=False)
        await peer.send(peer.sale(1))
        assert await peer.codes() == ["58"]
        assert not approver.requests
