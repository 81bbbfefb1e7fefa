"""Whatever comes in whatever order: no approval is lost, none is posted that was withdrawn."""

from __future__ import annotations

import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from switch.config_trouble import StandinPolicy
from switch.standin.rows import Offer, Settled, State, Verdict, Withdrawal
from switch.standin.spool import Spool, summarised

POLICY = StandinPolicy(
    enabled=True,
    amount_max_minor=100,
    card_amount_max_minor=250,
    card_count_max=4,
    total_max_minor=600,
)
GIVEN_OUT = (Verdict.TAKEN, Verdict.STORED)


def sale(number: int) -> Offer:
    return Offer(
        key=number.to_bytes(16, "big"), payload_hash=b"h", kind="purchase", segment="transit",
        medium=bytes([number % 3]), amount_minor=50 + 10 * (number % 5), request=b"r", card=b"c",
        auth_code="A", rrn="R", at_us=number, policy=POLICY,
    )  # fmt: skip


def reversal(number: int) -> Offer:
    return Offer(
        key=(1_000 + number).to_bytes(16, "big"), payload_hash=b"h", kind="reversal",
        segment="transit", medium=bytes([number % 3]), amount_minor=0, request=b"r", card=b"c",
        auth_code="", rrn="R", at_us=number, original_key=number.to_bytes(16, "big"),
    )  # fmt: skip


NUMBERS = st.integers(1, 12)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("sale"), NUMBERS, st.booleans()),
        st.tuples(st.just("reversal"), NUMBERS, st.booleans()),
        st.tuples(st.just("post"), st.integers(1, 4), st.booleans()),
        st.tuples(st.just("reopen"), st.just(0), st.just(False)),
    ),
    max_size=40,
)


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_the_spool_posts_what_stands_and_nothing_else(steps):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "standin.sqlite"
        spool = Spool(path, slot=0, rows_max=1_000)
        claims: Counter[bytes] = Counter()
        posted: list[tuple[str, bytes]] = []
        for what, number, late in steps:
            match what:
                case "sale":
                    offer = sale(number)
                    (answer,) = spool.take([offer])
                    if answer.verdict in GIVEN_OUT:
                        claims[offer.key] += 1
                        if late:
                            spool.take([Withdrawal(offer.key, 9)])
                            claims[offer.key] -= 1
                case "reversal":
                    spool.take([reversal(number)])
                case "post":
                    rows = spool.page(number)
                    assert [row.id for row in rows] == sorted(row.id for row in rows)
                    # `late` is a crash: these were posted and are not marked
                    posted += [(row.kind, row.original_key or row.key) for row in rows]
                    if not late:
                        spool.settle([Settled(row.id, State.POSTED, "", row.id) for row in rows])
                case "reopen":
                    spool.close()
            assert spool.look(complete=True).open_rows == sum(
                count.rows for count in summarised(path).counts if count.state == "open"
            )
            assert all(total.amount_minor <= 600 for total in summarised(path).totals)
        while rows := spool.page(5):
            posted += [(row.kind, row.original_key or row.key) for row in rows]
            spool.settle([Settled(row.id, State.POSTED, "", row.id) for row in rows])
        with closing(spool):
            for key, standing in claims.items():
                was_posted = ("purchase", key) in posted
                taken_back = ("late_reversal", key) in posted
                assert was_posted or not standing, "an approval that was answered is lost"
                assert taken_back == (was_posted and not standing)
