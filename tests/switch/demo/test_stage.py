"""The stage agrees with the load generator's population, and keeps within the tiers' caps."""

from collections import Counter

import pytest

from loadtest.population import CITY_CARD_BIN, population_card
from loadtest.wire import CARD_EXPIRY
from switch.config import parse
from switch.demo import stage
from switch.demo.run import run


def test_both_sides_mean_the_same_card_by_an_index():
    assert stage.CITY_CARD_BIN == CITY_CARD_BIN
    assert stage.CARD_EXPIRES_YYMM == CARD_EXPIRY
    for index in (0, 199, 19_999):
        assert stage.new_card(index).card == population_card(index)


def test_purses_are_within_the_caps_of_their_tiers():
    caps = parse("", "defaults").tiers.balance_caps_minor()
    for tier, purse_minor in stage.PURSE_MINOR.items():
        assert stage.POOR_PURSE_MINOR < purse_minor <= caps[tier]


def test_tiers_are_mixed():
    assert Counter(stage.tier_of(index) for index in range(100)) == {"T0": 60, "T1": 30, "T2": 10}


def test_the_crowd_keeps_ordinary_cards():
    crowd = stage.crowd_of(200)
    assert (crowd.blocked, crowd.poor) == (2, 4)


def test_a_city_has_riders_with_chips_and_with_rights():
    for cards in (200, 20_000):
        crowd = stage.city_crowd_of(cards)
        assert crowd.first_rider + crowd.riders <= cards
        assert 0 < crowd.chips + crowd.entitled < crowd.riders


async def test_riders_have_transit_money_chips_and_rights(database, connection):
    crowd = stage.Crowd(cards=40, blocked=1, poor=1, riders=20, chips=4, entitled=3)
    await stage.set_stage(database, parse("", "defaults"), b"k" * 32, crowd, lambda _step: None)
    purses = await connection.fetch("select purse, balance_minor from ledger.purse")
    transit = Counter(row["balance_minor"] for row in purses if row["purse"] == 1)
    assert transit[stage.TRANSIT_MINOR] == 20
    assert sum(row["purse"] == 3 for row in purses) == 4
    classes = await connection.fetch("select fare_class from ledger.entitlement")
    assert [row["fare_class"] for row in classes] == [stage.HALF_FARE_CLASS] * 3


async def test_a_stage_is_loaded_blocked_and_poor_as_said(database, connection):
    crowd = stage.crowd_of(300)
    steps = []
    await stage.set_stage(database, parse("", "defaults"), b"k" * 32, crowd, steps.append)
    blocked = await connection.fetchval("select count(*) from ledger.card where status = 'blocked'")
    purses = await connection.fetch("select balance_minor from ledger.purse where purse = 2")
    balances = Counter(row["balance_minor"] for row in purses)
    assert blocked == crowd.blocked == 3
    assert balances[stage.POOR_PURSE_MINOR] == crowd.poor == 6
    assert sum(balances.values()) == 300
    assert steps[-1] == "3 cards blocked, 6 left nearly empty"


def test_a_directory_with_a_real_ledger_is_refused(tmp_path):
    (tmp_path / "postgres").mkdir()
    with (
        pytest.raises(stage.StageNotSet, match="no demonstration made"),
        stage.own_directory(tmp_path),
    ):
        pass


def test_a_directory_is_for_one_demonstration_at_a_time(tmp_path):
    with stage.own_directory(tmp_path):
        (tmp_path / "postgres").mkdir()
        with (
            pytest.raises(stage.StageNotSet, match="another demonstration"),
            stage.own_directory(tmp_path),
        ):
            pass
    with stage.own_directory(tmp_path):
        pass


@pytest.mark.parametrize("wrong", [{"seconds": 0}, {"cards": 10}, {"workers": 0}, {"rate": 0.0}])
def test_wrong_arguments_are_one_sentence(wrong, capsys, tmp_path):
    assert run(**{"directory": tmp_path / "demo", **wrong}) == 2
    assert capsys.readouterr().err.startswith("citycard demo: ")
    assert not (tmp_path / "demo").exists()
