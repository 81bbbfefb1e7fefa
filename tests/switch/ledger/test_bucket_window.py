"""What a worker knows of buckets is never below what was written when it last read them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from risk.buckets import BUCKET_US, Addition
from switch.ledger.bucket_window import BucketWindow, Read

A, B = b"A" * 8, b"B" * 8
NOW = 29_000_000
HOT = NOW - 2
REACH = 11

Cells = Counter[tuple[int, bytes, str]]


def rows(cells: Cells, first: int, until: int | None = None) -> list[Read]:
    return [
        Read(minute, series, key, amount)
        for (minute, series, key), amount in cells.items()
        if minute >= first and (until is None or minute < until)
    ]


def read(window: BucketWindow, cells: Cells, now: int = NOW) -> None:
    """All of it, as a follower does: the newest minutes, then the older ones."""
    window.asked()
    window.settle(now - 2)
    window.replaced([A, B], now - 2, None, rows(cells, now - 2))
    window.asked()
    window.replaced([A, B], now - 2 - REACH, now - 2, rows(cells, now - 2 - REACH, now - 2))
    window.read_whole([A, B])


def following(
    cells: Cells | None = None, *, since_us: int = 0, cells_max: int = 1000
) -> BucketWindow:
    window = BucketWindow(cells_max)
    window.follow({A: REACH, B: REACH})
    window.declared({A: since_us, B: since_us})
    read(window, cells or Counter())
    return window


def test_what_was_read_is_summed_from_a_minute_on() -> None:
    cells: Cells = Counter({(NOW, A, "t"): 2, (NOW - 5, A, "t"): 3, (NOW - 9, A, "t"): 4})
    cells |= Counter({(NOW, B, "t"): 7, (NOW, A, "u"): 9, (NOW + 1, A, "t"): 1})
    window = following(cells)
    assert [window.value(A, "t", NOW - back) for back in (0, 4, 5, 9)] == [3, 3, 6, 10]
    assert (window.value(B, "t", NOW - 9), window.value(A, "nobody", NOW - 9)) == (7, 0)


def test_nothing_is_known_that_was_not_declared_or_not_read() -> None:
    window = BucketWindow()
    window.follow({A: REACH})
    assert window.value(A, "t", NOW) is None
    window.declared({A: 0})
    assert window.value(A, "t", NOW) is None, "not all of it is read"
    assert window.partial == [A]
    read(window, Counter())
    assert window.value(A, "t", NOW) == 0
    assert window.value(B, "t", NOW) is None, "nobody follows it"
    assert window.value(A, "t", HOT - REACH - 1) is None, "further back than is read"
    window.distrust()
    assert window.value(A, "t", NOW) is None
    read(window, Counter())
    window.declared({})
    assert window.value(A, "t", NOW) is None, "somebody has forgotten it"


@pytest.mark.parametrize(("first", "known"), [(NOW - 3, False), (NOW - 2, False), (NOW - 1, True)])
def test_a_window_from_before_a_series_was_complete_is_unknown(first: int, known: bool) -> None:
    window = following(since_us=(NOW - 2) * BUCKET_US + 1)
    assert (window.value(A, "t", first) == 0) is known


def test_what_is_posted_is_known_at_once_and_not_twice_after_the_next_read() -> None:
    cells: Cells = Counter()
    window = following(cells)
    assert window.value(A, "t", NOW - 9) == 0
    window.posted([Addition(A, "t", NOW, 1), Addition(A, "t", NOW - 9, 5)])
    assert window.value(A, "t", NOW - 9) == 6
    cells.update({(NOW, A, "t"): 1, (NOW - 9, A, "t"): 5})
    read(window, cells)
    assert window.value(A, "t", NOW - 9) == 6


def test_what_is_posted_while_a_read_is_under_way_is_not_lost() -> None:
    window = following()
    window.asked()
    window.posted([Addition(A, "t", NOW, 1), Addition(A, "t", NOW, -1), Addition(A, "u", NOW, 1)])
    window.replaced([A, B], HOT, None, [])
    assert window.value(A, "t", NOW) == 1, "what gives back is not taken twice"
    window.asked()
    window.not_read()
    window.posted([Addition(A, "u", NOW, 1)])
    assert window.value(A, "u", NOW) == 2
    window.asked()
    window.replaced([A, B], HOT, None, [Read(NOW, A, "u", 2)])
    assert window.value(A, "u", NOW) == 2


def test_a_minute_far_ahead_keeps_nobody_waiting() -> None:
    window = following(Counter({(NOW, A, "t"): 1, (2**31 - 1, A, "t"): 2, (NOW - 9, A, "t"): 4}))
    assert window.value(A, "t", NOW - 9) == 7


def test_a_settled_minute_that_is_read_anew_counts_as_it_is_now() -> None:
    cells: Cells = Counter({(NOW - back, A, "t"): 1 for back in range(10)})
    window = following(cells)
    assert window.value(A, "t", NOW - 9) == 10
    cells[NOW - 5, A, "t"] += 1
    del cells[NOW - 7, A, "t"]
    for first in range(NOW - 9, HOT):
        window.asked()
        window.replaced([A, B], first, first + 1, rows(cells, first, first + 1))
        assert window.value(A, "t", NOW - 9) == 10 + (first >= NOW - 5) - (first >= NOW - 7)
        assert window.value(A, "t", NOW - 9) == window.value(A, "t", NOW - 10)


def test_what_the_last_read_had_is_not_given_back_twice() -> None:
    """A posting is heard of after a read that began and ended since it was written."""
    window = following(Counter({(NOW, A, "t"): 5}))
    window.asked()
    window.replaced([A, B], HOT, None, [Read(NOW, A, "t", 4)])
    window.posted([Addition(A, "t", NOW, -1)])
    assert window.value(A, "t", NOW) == 4


def test_old_minutes_are_dropped_and_another_reach_is_read_again() -> None:
    window = following(Counter({(NOW - back, A, "t"): 1 for back in range(10)}))
    assert window.cells == 10
    window.settle(HOT + REACH - 1)
    assert window.cells == 4, "the minutes that a window of then still reaches"
    window.follow({A: REACH - 1})
    assert window.series == [A]
    assert window.partial == []
    window.follow({A: REACH + 1})
    assert window.partial == [A], "further back than was read"
    now = HOT + REACH - 1
    assert window.value(A, "t", now - REACH) == 4, "what was known is, while more is read"
    assert window.value(A, "t", now - REACH - 1) is None
    window.read_whole([A])
    assert window.partial == []
    assert window.value(A, "t", now - REACH - 1) == 4
    window.distrust()
    assert window.value(A, "t", now) is None


def test_a_series_that_is_too_large_is_given_up_and_the_others_are_not() -> None:
    cells: Cells = Counter({(NOW, A, f"t{n}"): 1 for n in range(50)})
    cells[NOW, B, "t"] = 3
    window = following(cells, cells_max=20)
    assert (window.given_up, window.series, window.cells) == ({A}, [B], 1)
    assert window.value(A, "t1", NOW) is None
    assert window.value(B, "t", NOW) == 3
    window.posted([Addition(A, "t1", NOW, 1)])
    assert window.cells == 1
    window.follow({A: REACH, B: REACH})
    assert window.series == [A, B], "tried again with the next deployment"
    assert window.partial == [A]
    assert window.value(A, "t1", NOW) is None, "nothing of it was kept"


def exact(cells: Cells, series: bytes, key: str, first: int) -> int:
    found: Iterable[int] = (
        amount
        for (minute, name, of), amount in cells.items()
        if name == series and of == key and minute >= first
    )
    return sum(found)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**9), st.integers(10, 60))
def test_it_is_never_below_what_this_worker_wrote_and_what_was_there_at_the_last_read(
    seed: int, steps: int
) -> None:
    """Own and others' postings while reads are under way, whose snapshot is taken at any time."""
    dice = random.Random(seed)
    cells: Cells = Counter()
    window = following()
    now, others = NOW, Counter[tuple[int, bytes, str]]()
    snapshot: tuple[int, int | None, list[Read], Cells] | None = None
    for _ in range(steps):
        what = dice.choice(("own", "own", "others", "ask", "answer", "minute", "value"))
        cell = (now - dice.choice((0, 0, 0, 1, 4, 8)), dice.choice((A, B)), dice.choice("tu"))
        amount = dice.choice((1, 3, 3, -1))
        if what == "own":
            cells[cell] += amount
            window.posted([Addition(cell[1], cell[2], cell[0], amount)])
        elif what == "others":
            cells[cell] += abs(amount)
            others[cell] += abs(amount)
        elif what == "ask" and snapshot is None:
            window.asked()
            older = dice.random() < 0.4
            first, until = (now - 2 - REACH, now - 2) if older else (now - 2, None)
            snapshot = first, until, rows(cells, first, until), others.copy()
        elif what == "ask" and snapshot is not None and dice.random() < 0.5:
            # the server takes its snapshot later than the question
            first, until, *_ = snapshot
            snapshot = first, until, rows(cells, first, until), others.copy()
        elif what == "answer" and snapshot is not None:
            first, until, found, seen = snapshot
            window.settle(max(now - 2, first) if until is None else now - 2)
            window.replaced([A, B], first, until, found)
            inside = {m for m, _, _ in seen if m >= first and (until is None or m < until)}
            for at in [at for at in others if at[0] in inside]:
                others[at] -= seen[at]
            snapshot = None
        elif what == "minute":
            now += dice.random() < 0.2
        first = now - dice.randrange(9)
        for series in (A, B):
            for key in "tu":
                value = window.value(series, key, first)
                assert value is not None
                unseen = exact(others, series, key, first)
                assert value >= exact(cells, series, key, first) - unseen
    read(window, cells, now)
    for series in (A, B):
        for key in "tu":
            assert window.value(series, key, now - 8) == exact(cells, series, key, now - 8)
