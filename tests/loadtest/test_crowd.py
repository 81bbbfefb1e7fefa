"""What the load is made of: shares, bursts, STANs and arrival times, from one seed."""

from collections import Counter
from itertools import pairwise
from random import Random

import pytest

from loadtest.crowd import BURST_LENGTH, Behaviour, Cards, Crowd, Mix, arrivals, parse_mix
from loadtest.population import UNKNOWN_CARD_FROM

CARDS = Cards(cards=1_000, blocked=10, poor=20)


def test_each_behaviour_uses_its_own_cards():
    crowd = Crowd(CARDS, Mix(), Random(1))
    index = {behaviour: crowd.attempt(behaviour).card_index for behaviour in Behaviour}
    assert 0 <= index[Behaviour.BLOCKED] < 10
    assert 10 <= index[Behaviour.POOR] < 30
    assert 30 <= index[Behaviour.ORDINARY] < 1_000
    assert index[Behaviour.UNKNOWN] >= UNKNOWN_CARD_FROM


def test_shares_come_out_as_asked():
    mix = Mix(blocked=0.1, poor=0.2, unknown=0.05, burst=0.0, repeat=0.15)
    crowd = Crowd(CARDS, mix, Random(2))
    drawn = Counter(crowd.draw_behaviour() for _ in range(20_000))
    assert drawn[Behaviour.BLOCKED] / 20_000 == pytest.approx(0.10, abs=0.01)
    assert drawn[Behaviour.POOR] / 20_000 == pytest.approx(0.20, abs=0.01)
    assert drawn[Behaviour.UNKNOWN] / 20_000 == pytest.approx(0.05, abs=0.01)
    assert drawn[Behaviour.REPEAT] / 20_000 == pytest.approx(0.15, abs=0.01)
    assert drawn[Behaviour.BURST] == 0


def test_a_burst_stays_on_one_card_and_terminal_with_new_stans():
    crowd = Crowd(CARDS, Mix(), Random(3))
    burst = [crowd.attempt(Behaviour.BURST)]
    while crowd.draw_behaviour() is Behaviour.BURST and len(burst) < BURST_LENGTH:
        burst.append(crowd.attempt(Behaviour.BURST))
    assert len(burst) == BURST_LENGTH
    assert len({(attempt.card_index, attempt.terminal) for attempt in burst}) == 1
    assert len({attempt.stan for attempt in burst}) == BURST_LENGTH
    assert crowd.attempt(Behaviour.BURST).card_index != burst[0].card_index


def test_stans_rise_per_terminal_and_wrap_to_one():
    crowd = Crowd(CARDS, Mix(), Random(4))
    crowd._stan["T"] = 999_998
    assert [crowd._next_stan("T") for _ in range(3)] == ["999999", "000001", "000002"]


def test_the_same_seed_is_the_same_crowd():
    def some(seed):
        crowd = Crowd(CARDS, Mix(), Random(seed))
        return [crowd.attempt(crowd.draw_behaviour()) for _ in range(200)]

    assert some(5) == some(5)
    assert some(5) != some(6)


def test_a_crowd_of_refused_cards_only_is_an_error():
    with pytest.raises(ValueError, match="no ordinary card"):
        Crowd(Cards(cards=30, blocked=10, poor=20), Mix(), Random(1))


@pytest.mark.parametrize("spacing", ["poisson", "fixed"])
def test_arrivals_keep_the_rate_and_their_bounds(spacing):
    due = list(arrivals(1_000, 5_000_000_000, 15_000_000_000, Random(8), spacing=spacing))
    assert due == sorted(due)
    assert due[0] >= 5_000_000_000
    assert due[-1] < 15_000_000_000
    assert len(due) == pytest.approx(10_000, rel=0.03)


def test_fixed_arrivals_are_equally_far_apart():
    due = list(arrivals(100, 0, 1_000_000_000, Random(9), spacing="fixed"))
    assert {later - earlier for earlier, later in pairwise(due)} <= {
        9_999_999,
        10_000_000,
        10_000_001,
    }


def test_no_rate_is_no_arrival():
    assert list(arrivals(0, 0, 10**9, Random(1))) == []


def test_a_mix_is_read_from_text():
    assert parse_mix("blocked=0.5, repeat=0") == Mix(blocked=0.5, repeat=0.0)
    assert parse_mix("") == Mix()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("blocked=lots", "not a number"),
        ("rich=0.1", "names only"),
        ("blocked=0.9,poor=0.2", "at most 1"),
        ("blocked=-0.1", "0 or more"),
    ],
)
def test_a_wrong_mix_says_what_is_wrong(text, said):
    with pytest.raises(ValueError, match=said):
        parse_mix(text)
