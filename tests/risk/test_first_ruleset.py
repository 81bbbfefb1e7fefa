"""Golden: each rule that ships, with facts on both sides of its edge."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from typing import Any

import pytest

from protocols.message import Kind, Outcome, Segment
from risk.assess import CompiledRuleset, Effect
from risk.buckets import Buckets, PlaceEvent
from risk.check import check, first_ruleset
from risk.compile import compile_ruleset
from risk.explain import explain
from risk.facts import Facts, Totals
from risk.lists import ListEntry, NamedList
from risk.record import Effects, ListAddition, listed_value

MEDIUM = "cd" * 16
COPIED = "ef" * 16


@pytest.fixture(scope="module")
def compiled() -> CompiledRuleset:
    """The shipped rules, with one card on the hotlist and one group leader."""
    lists = [
        NamedList("hotlist", "medium", (ListEntry(MEDIUM, "stolen"),)),
        NamedList("group_passes", "card_id", (ListEntry(1, "school outing"),)),
        NamedList("suspected_clone", "medium", (ListEntry(COPIED, "in two places"),)),
        NamedList("event_stops", "stop", (ListEntry("M9/S01", "the stadium"),)),
    ]
    return compile_ruleset(first_ruleset(), lists)


def test_it_has_no_finding_at_all() -> None:
    text = resources.files("risk").joinpath("first_ruleset.toml").read_text(encoding="utf-8")
    assert check(text, "first_ruleset.toml", now_us=1_780_000_000_000_000) == []


def taps(number: int, apart_s: int = 5, **changed: Any) -> list[dict[str, Any]]:
    return [{"ago_s": apart_s * (number - n), **changed} for n in range(number)]


def retail(*events: dict[str, Any], **changed: Any) -> tuple[Any, Any]:
    return events, changed


def loads(number: int, venue: str) -> list[dict[str, Any]]:
    return taps(number, 600, kind=Kind.LOAD, venue=venue)


@pytest.mark.parametrize(
    ("rule_id", "passes", "declines", "outcome"),
    [
        ("hotlist", retail(), retail(medium=MEDIUM), Outcome.HOTLISTED),
        (
            "hotlist",
            retail(kind=Kind.LOAD),
            retail(kind=Kind.LOAD, medium=MEDIUM),
            Outcome.HOTLISTED,
        ),
        ("tier_known", retail(tier="verified"), retail(tier="gold"), Outcome.DO_NOT_HONOUR),
        ("tier_known", retail(tier="anonymous"), retail(tier=""), Outcome.DO_NOT_HONOUR),
        (
            "history_full",
            retail(*taps(499, 100, card_id=2, amount_minor=1)),
            retail(*taps(500, 100, card_id=2, amount_minor=1)),
            Outcome.COUNT_LIMIT,
        ),
        (
            "anonymous_balance",
            retail(kind=Kind.LOAD, tier="anonymous", balance_minor=99_000),
            retail(kind=Kind.LOAD, tier="anonymous", balance_minor=99_001),
            Outcome.BALANCE_CAP,
        ),
        (
            "anonymous_balance",
            retail(kind=Kind.LOAD_PENDING, tier="named", balance_minor=99_001),
            retail(kind=Kind.LOAD_PENDING, tier="anonymous", balance_minor=99_001),
            Outcome.BALANCE_CAP,
        ),
        ("clone_listed", retail(), retail(medium=COPIED), Outcome.SUSPECTED_FRAUD),
        (
            "terminal_testing",
            retail(buckets={"terminal_wrong_10m": 15}),
            retail(buckets={"terminal_wrong_10m": 16}),
            Outcome.DO_NOT_HONOUR,
        ),
        (
            "taxi_pin",
            retail(venue="taxi", pin="none", amount_minor=20_000),
            retail(venue="taxi", pin="none", amount_minor=20_001),
            Outcome.PIN_REQUIRED,
        ),
        (
            "taxi_pin",
            retail(venue="taxi", pin="verified", amount_minor=20_001),
            retail(venue="taxi", pin="none", amount_minor=20_001, kind=Kind.PREAUTHORIZATION),
            Outcome.PIN_REQUIRED,
        ),
        (
            "taxi_day",
            retail(*taps(9, 600, venue="taxi"), venue="taxi"),
            retail(*taps(10, 600, venue="taxi", card_id=2), venue="taxi"),
            Outcome.COUNT_LIMIT,
        ),
        (
            "taxi_day",
            retail(*taps(10, 600, venue="taxi"), venue="metro"),
            retail(
                *taps(5, 600, venue="taxi", kind=Kind.OFFLINE_SALE),
                *taps(5, 60, venue="taxi", kind=Kind.FARE),
                venue="taxi",
                kind=Kind.FARE,
                card_id=2,
            ),
            Outcome.COUNT_LIMIT,
        ),
        (
            "fuel_day",
            retail(*taps(2, 600, venue="fuel"), venue="fuel"),
            retail(*taps(3, 600, venue="fuel", kind=Kind.PREAUTHORIZATION), venue="fuel"),
            Outcome.COUNT_LIMIT,
        ),
        (
            "fuel_day",
            retail(*taps(3, 600, venue="fuel", outcome=Outcome.INSUFFICIENT_FUNDS), venue="fuel"),
            retail(*taps(3, 13_333, venue="fuel"), venue="fuel"),
            Outcome.COUNT_LIMIT,
        ),
        (
            "fuel_day",
            retail({"ago_s": 40_001, "venue": "fuel"}, *taps(2, 9, venue="fuel"), venue="fuel"),
            retail({"ago_s": 40_000, "venue": "fuel"}, *taps(2, 9, venue="fuel"), venue="fuel"),
            Outcome.COUNT_LIMIT,
        ),
        (
            "store_loads_day",
            retail(*loads(4, "convenience"), kind=Kind.LOAD, venue="convenience"),
            retail(*loads(5, "convenience"), kind=Kind.LOAD, venue="convenience"),
            Outcome.COUNT_LIMIT,
        ),
        (
            "store_loads_day",
            retail(*loads(5, "supermarket"), kind=Kind.LOAD, venue="convenience"),
            retail(*loads(5, "convenience"), kind=Kind.LOAD_PENDING, venue="convenience"),
            Outcome.COUNT_LIMIT,
        ),
        ("card_burst", retail(*taps(9)), retail(*taps(10)), Outcome.COUNT_LIMIT),
        (
            "card_burst",
            retail(*taps(10, outcome=Outcome.COUNT_LIMIT, card_id=2)),
            retail(*taps(10, outcome=Outcome.COUNT_LIMIT)),
            Outcome.COUNT_LIMIT,
        ),
        ("card_burst", retail(*taps(10, apart_s=6)), retail(*taps(10, 5)), Outcome.COUNT_LIMIT),
        (
            "card_roaming",
            retail(*[{"ago_s": 500 - n, "terminal": f"T{n}"} for n in range(4)]),
            retail(*[{"ago_s": 500 - n, "terminal": f"T{n}"} for n in range(5)]),
            Outcome.SUSPECTED_FRAUD,
        ),
        (
            "anonymous_payment",
            retail(tier="anonymous", amount_minor=50_000),
            retail(tier="anonymous", amount_minor=50_001),
            Outcome.AMOUNT_LIMIT,
        ),
        (
            "anonymous_day",
            retail(*taps(1, amount_minor=49_000), tier="anonymous"),
            retail(*taps(1, amount_minor=49_001), tier="anonymous"),
            Outcome.AMOUNT_LIMIT,
        ),
        (
            "anonymous_day",
            retail(*taps(1, amount_minor=49_001, given_back=True), tier="anonymous"),
            retail(*taps(1, amount_minor=49_001, card_id=2), tier="anonymous"),
            Outcome.AMOUNT_LIMIT,
        ),
        (
            "named_payment",
            retail(amount_minor=100_000),
            retail(amount_minor=100_001),
            Outcome.AMOUNT_LIMIT,
        ),
        (
            "named_day",
            retail(*taps(1, amount_minor=499_000)),
            retail(*taps(1, amount_minor=499_001)),
            Outcome.AMOUNT_LIMIT,
        ),
        (
            "named_day",
            retail({"ago_s": 40_001, "amount_minor": 499_001}),
            retail({"ago_s": 40_000, "amount_minor": 499_001}),
            Outcome.AMOUNT_LIMIT,
        ),
        (
            "verified_payment",
            retail(tier="verified", amount_minor=500_000),
            retail(tier="verified", amount_minor=500_001),
            Outcome.AMOUNT_LIMIT,
        ),
        (
            "verified_day",
            retail(*taps(1, amount_minor=1_999_000), tier="verified"),
            retail(*taps(1, amount_minor=1_999_001), tier="verified"),
            Outcome.AMOUNT_LIMIT,
        ),
        (
            "verified_month",
            retail(tier="verified", totals=Totals(month_minor=9_999_000)),
            retail(tier="verified", totals=Totals(month_minor=9_999_001)),
            Outcome.AMOUNT_LIMIT,
        ),
    ],
)
def test_both_sides_of_the_edge(
    compiled: CompiledRuleset,
    make_facts: Callable[..., Facts],
    rule_id: str,
    passes: tuple[Any, Any],
    declines: tuple[Any, Any],
    outcome: Outcome,
) -> None:
    (events, changed), (worse_events, worse) = passes, declines
    assert compiled.assess(make_facts(*events, **changed)).decision is Outcome.APPROVED
    found = compiled.assess(make_facts(*worse_events, **worse))
    assert (found.decision, rule_id in {r.rule_id for r in found.results}) == (outcome, True)
    assert compiled.assess(make_facts(*worse_events, **worse)) == found


def test_loads_have_no_spending_limit(
    compiled: CompiledRuleset, make_facts: Callable[..., Facts]
) -> None:
    found = compiled.assess(make_facts(kind=Kind.LOAD, amount_minor=400_000))
    assert found.decision is Outcome.APPROVED


@pytest.mark.parametrize(
    ("amount_minor", "decision"), [(2000, Outcome.APPROVED), (2001, Outcome.COUNT_LIMIT)]
)
def test_a_group_leader_may_tap_for_all_but_only_fares(
    compiled: CompiledRuleset,
    make_facts: Callable[..., Facts],
    amount_minor: int,
    decision: Outcome,
) -> None:
    facts = make_facts(*taps(10), segment=Segment.TRANSIT, amount_minor=amount_minor)
    found = compiled.assess(facts)
    assert found.decision is decision
    effect = Effect.OVERRIDDEN if decision is Outcome.APPROVED else Effect.DECLINED
    assert [r.effect for r in found.results if r.rule_id == "card_burst"] == [effect]


@pytest.mark.parametrize("kind", [Kind.PREAUTHORIZATION, Kind.OFFLINE_SALE])
def test_money_set_aside_and_a_terminals_own_sales_are_spending_too(
    compiled: CompiledRuleset, make_facts: Callable[..., Facts], kind: Kind
) -> None:
    spent = taps(1, amount_minor=49_001, kind=kind)
    assert compiled.assess(make_facts(*spent, tier="anonymous")).decision is Outcome.AMOUNT_LIMIT
    assert compiled.assess(make_facts(*taps(10, kind=kind))).decision is Outcome.COUNT_LIMIT


def test_a_preauthorization_is_limited_like_a_purchase(
    compiled: CompiledRuleset, make_facts: Callable[..., Facts]
) -> None:
    asked = make_facts(kind=Kind.PREAUTHORIZATION, tier="anonymous", amount_minor=50_001)
    assert compiled.assess(asked).decision is Outcome.AMOUNT_LIMIT


# Taps: what a reader says, and the taps before it.


def ride(ago_s: float, **changed: Any) -> dict[str, Any]:
    """An approved single tap so long ago."""
    usual = {"kind": Kind.FARE, "segment": Segment.TRANSIT, "amount_minor": 200, "mcc": "4131"}
    return {"ago_s": ago_s, "terminal": "R1", **usual, **changed}


@pytest.fixture
def tap(
    compiled: CompiledRuleset, make_facts: Callable[..., Facts]
) -> Callable[..., tuple[Outcome, str]]:
    """A fare of line M1 at S01 after these taps: the decision and the rule that made it."""

    def decided(*events: dict[str, Any], **changed: Any) -> tuple[Outcome, str]:
        usual = {
            "kind": Kind.FARE,
            "segment": Segment.TRANSIT,
            "amount_minor": 200,
            "mcc": "4131",
            "line": "M1",
            "stop": "M1/S01",
            "mode": "bus",
            "venue": "bus",
            "vehicle": "V1",
            "card_id": 2,
        }
        past = [{"card_id": 2, **event} for event in events]
        found = compiled.assess(make_facts(*past, **{**usual, **changed}))
        return found.decision, found.rule_id

    return decided


PASSES = (Outcome.APPROVED, "")


def test_the_seventh_tap_in_five_minutes_is_one_too_many(tap: Callable[..., Any]) -> None:
    earlier = [ride(290 - 40 * n, stop=f"K1/{n}") for n in range(6)]
    assert tap(*earlier[1:]) == PASSES
    assert tap(*earlier) == (Outcome.COUNT_LIMIT, "tap_burst")
    assert tap(*earlier, kind=Kind.TAP_ON) == (Outcome.COUNT_LIMIT, "tap_burst")
    assert tap(*earlier, kind=Kind.TAP_OFF) == PASSES, "nobody is kept in"
    assert tap(ride(300, stop="K1/9"), *earlier[1:]) == PASSES, "five minutes ago is out"


def test_a_card_that_is_handed_back(tap: Callable[..., Any]) -> None:
    passback = (Outcome.COUNT_LIMIT, "passback")
    assert tap(ride(19.9, stop="M1/S01", vehicle="V1")) == passback
    assert tap(ride(19.9, stop="M1/S01", kind=Kind.TAP_ON), kind=Kind.TAP_ON) == passback
    assert tap(ride(20, stop="M1/S01", vehicle="V1")) == PASSES
    assert tap(ride(5, stop="M2/S01", vehicle="V1")) == PASSES, "the stop of another line"
    assert tap(ride(5, stop="M1/S01", outcome=Outcome.INSUFFICIENT_FUNDS)) == PASSES
    assert tap(ride(5, stop="M1/S01", kind=Kind.TAP_ON), kind=Kind.TAP_OFF) == PASSES
    assert tap(ride(5, stop="M1/S01", card_id=3)) == PASSES, "another card of the account"


def test_a_group_leader_may_hand_the_card_back(tap: Callable[..., Any]) -> None:
    again = ride(5, stop="M1/S01", card_id=1)
    assert tap(again, card_id=1) == (Outcome.APPROVED, "group_pass")
    assert tap(again, card_id=1, segment=Segment.RETAIL) == (Outcome.APPROVED, "group_pass")


def test_a_lent_card_in_two_vehicles(tap: Callable[..., Any]) -> None:
    lent = (Outcome.SUSPECTED_FRAUD, "two_vehicles")
    assert tap(ride(119.9, vehicle="V2")) == lent
    assert tap(ride(120, vehicle="V2")) == PASSES
    assert tap(ride(60, vehicle="V1")) == PASSES
    assert tap(ride(60, vehicle="V2"), vehicle="") == PASSES
    assert tap(ride(60, vehicle="")) == PASSES
    assert tap(ride(60, vehicle="V2"), kind=Kind.TAP_ON) == PASSES


def test_travel_that_nobody_can_make(tap: Callable[..., Any]) -> None:
    copied = (Outcome.SUSPECTED_FRAUD, "cloned_card")
    # S01 to S10 are 12,487 m apart: 371.5 s are 121 km/h, and a speed is rounded down
    assert tap(ride(371.5, stop="M1/S10", vehicle="V1")) == copied
    assert tap(ride(371.6, stop="M1/S10", vehicle="V1")) == PASSES
    assert tap(ride(30, stop="M1/S10", kind=Kind.TAP_OFF), kind=Kind.TAP_ON) == copied
    assert tap(ride(30, stop="M1/S10"), kind=Kind.TAP_OFF) == PASSES, "nobody is kept in"
    assert tap(ride(30, stop="M1/S10", outcome=Outcome.COUNT_LIMIT)) == PASSES


def test_a_stop_whose_place_is_not_known_leaves_travel_open(
    compiled: CompiledRuleset, make_facts: Callable[..., Facts]
) -> None:
    asked = {"kind": Kind.FARE, "segment": Segment.TRANSIT, "stop": "M1/S01", "vehicle": "V1"}
    found = compiled.assess(make_facts(ride(30, stop="K9/1", vehicle="V1"), **asked, card_id=1))
    assert found.decision is Outcome.APPROVED
    (open_rule,) = [r for r in found.results if r.effect is Effect.UNKNOWN]
    assert (open_rule.rule_id, open_rule.why) == (
        "cloned_card",
        "card_travelled_1h, card_speed_1h is missing",
    )


def test_asking_for_bill_after_bill(
    compiled: CompiledRuleset, make_facts: Callable[..., Facts]
) -> None:
    def asked(count: int) -> Outcome:
        past = taps(count, 600, kind=Kind.BILL_INQUIRY, amount_minor=0)
        facts = make_facts(*past, kind=Kind.BILL_INQUIRY, segment=Segment.UTILITY, amount_minor=0)
        return compiled.assess(facts).decision

    assert (asked(19), asked(20)) == (Outcome.APPROVED, Outcome.COUNT_LIMIT)


@pytest.mark.parametrize("kind", [Kind.FARE, Kind.TAP_ON, Kind.BILL])
def test_rides_and_bills_are_spending(
    compiled: CompiledRuleset, make_facts: Callable[..., Facts], kind: Kind
) -> None:
    spent = ride(3000, amount_minor=49_800, kind=Kind.FARE if kind is not Kind.BILL else kind)
    asked = {"kind": kind, "tier": "anonymous", "card_id": 3}
    assert compiled.assess(make_facts(spent, **asked, amount_minor=200)).decision.approved
    found = compiled.assess(make_facts(spent, **asked, amount_minor=201))
    assert (found.decision, found.rule_id) == (Outcome.AMOUNT_LIMIT, "anonymous_day")


def test_a_tap_off_and_a_chips_own_fare_are_not_asked_about_limits(
    compiled: CompiledRuleset, make_facts: Callable[..., Facts]
) -> None:
    for kind in (Kind.TAP_OFF, Kind.OFFLINE_FARE):
        facts = make_facts(
            ride(9, amount_minor=50_000), kind=kind, tier="anonymous", amount_minor=60_000
        )
        assert compiled.assess(facts).decision is Outcome.APPROVED
    chip = ride(3000, kind=Kind.OFFLINE_FARE, amount_minor=50_000)
    assert compiled.assess(make_facts(chip, tier="anonymous")).decision is Outcome.APPROVED


def test_taps_that_were_kept_and_come_late_are_not_close_together(tap: Callable[..., Any]) -> None:
    for before in (ride(1, stop="M1/S01"), ride(1, vehicle="V2"), ride(1, stop="M1/S10")):
        assert tap(before, event_age_s=60)[0] is not Outcome.APPROVED
        assert tap(before, event_age_s=61) == PASSES


def test_a_decline_says_the_one_figure_that_matters(
    compiled: CompiledRuleset, make_facts: Callable[..., Facts]
) -> None:
    asked = {"kind": Kind.FARE, "segment": Segment.TRANSIT, "stop": "M1/S01", "vehicle": "V1"}
    facts = make_facts(ride(60, stop="M1/S10", vehicle="V1", card_id=2), **asked, card_id=2)
    assert explain(compiled.assess(facts), "0042").endswith(
        ": 749 km/h from the last of the taps on card ••0042; limit 120 km/h."
    )


def test_two_taps_in_one_vehicle_within_three_seconds(tap: Callable[..., Any]) -> None:
    twice = (Outcome.COUNT_LIMIT, "vehicle_twice")
    assert tap(ride(2.999, stop="K1/1", vehicle="V1"), stop="K1/2") == twice
    assert tap(ride(3, stop="K1/1", vehicle="V1"), stop="K1/2") == PASSES
    assert tap(ride(2, vehicle="V1"), stop="", vehicle="") == PASSES
    assert tap(ride(2, vehicle="V1", outcome=Outcome.COUNT_LIMIT), stop="") == PASSES
    assert tap(ride(2, vehicle="V1"), stop="", event_age_s=61) == PASSES, "kept and sent late"
    assert tap(ride(2, vehicle="V1", card_id=1), stop="", card_id=1, amount_minor=2001) == PASSES


def test_a_copied_card_is_put_on_a_list(
    compiled: CompiledRuleset, make_facts: Callable[..., Facts]
) -> None:
    asked = {"kind": Kind.FARE, "segment": Segment.TRANSIT, "stop": "M1/S01", "vehicle": "V1"}
    facts = make_facts(ride(60, stop="M1/S10", vehicle="V1", card_id=2), **asked, card_id=2)
    found = compiled.assess(facts)
    assert found.rule_id == "cloned_card"
    assert found.effects == Effects(
        additions=(ListAddition("suspected_clone", "medium", 48 * 3600, "cloned_card"),)
    )
    assert listed_value(found.effects.additions[0], facts) == facts.medium


def queues(found: Any) -> list[tuple[str, str]]:
    assert found.decision is Outcome.APPROVED
    return [(each.queue, each.rule_id) for each in found.effects.reviews] if found.effects else []


def test_small_loads_at_many_terminals_are_looked_at(
    compiled: CompiledRuleset, make_facts: Callable[..., Facts]
) -> None:
    def after(*terminals: str, **changed: Any) -> list[tuple[str, str]]:
        past = [
            {"ago_s": 80_000 - n, "kind": Kind.LOAD, "terminal": terminal, **changed}
            for n, terminal in enumerate(terminals)
        ]
        return queues(compiled.assess(make_facts(*past, kind=Kind.LOAD, balance_minor=0)))

    assert after("T1", "T2", "T3") == [("loads", "load_ladder")]
    assert after("T1", "T2") == []
    assert after("T1", "T2", "T2") == []
    assert after("T1", "T2", "T3", outcome=Outcome.BALANCE_CAP) == []
    assert after("T1", "T2", "T3", card_id=2) == []


def test_loaded_and_spent_at_once_is_looked_at(
    compiled: CompiledRuleset, make_facts: Callable[..., Facts]
) -> None:
    def spending(
        amount: int, loaded: int = 50_001, ago_s: int = 599, spent: int = 0, mcc: str = "5499"
    ) -> list[tuple[str, str]]:
        past = [
            {"ago_s": ago_s, "kind": Kind.LOAD, "amount_minor": loaded},
            {"ago_s": 30, "amount_minor": spent, "mcc": "5499"},
        ]
        return queues(compiled.assess(make_facts(*past, amount_minor=amount, mcc=mcc)))

    watched = [("loads", "reload_then_spend")]
    # 90 % of 500.01 is 450.00 and a bit, so a cent more than 450.00 is the first above it
    assert (spending(45_000), spending(45_001)) == ([], watched)
    assert (spending(15_000, spent=30_000), spending(15_001, spent=30_000)) == ([], watched)
    assert spending(45_001, loaded=50_000) == []
    assert spending(45_001, ago_s=600) == []
    assert spending(45_001, mcc="5411") == []


def test_nobody_waits_after_an_event(tap: Callable[..., Any]) -> None:
    crowd = [ride(290 - 40 * n, stop=f"K1/{n}", vehicle="V1") for n in range(6)]
    burst, spared = (Outcome.COUNT_LIMIT, "tap_burst"), (Outcome.APPROVED, "event_day")
    at = {"stop": "M9/S01", "vehicle": ""}
    assert tap(*crowd, **at, local_second_of_day=21 * 3600) == spared
    assert tap(*crowd, **at, local_second_of_day=86_399) == spared
    assert tap(*crowd, **at, local_second_of_day=21 * 3600 - 1) == burst
    assert tap(*crowd, vehicle="", local_second_of_day=21 * 3600) == burst, "another stop"
    assert tap(*crowd, stop="", vehicle="", local_second_of_day=21 * 3600) == burst


def test_what_waits_for_buckets_is_unknown_and_harmless(
    compiled: CompiledRuleset, make_facts: Callable[..., Facts]
) -> None:
    found = compiled.assess(make_facts())
    assert found.decision is Outcome.APPROVED
    assert [(r.rule_id, r.effect, r.why) for r in found.results] == [
        ("terminal_testing", Effect.UNKNOWN, "terminal_wrong_10m is missing")
    ]


def test_a_terminal_that_tries_cards_adds_to_its_buckets() -> None:
    buckets = Buckets(first_ruleset().features)
    usual: dict[str, Any] = {
        "at_us": 1_780_000_000_000_000,
        "acquirer": "shops",
        "merchant": "M1",
        "terminal": "T1",
        "card_id": 0,
        "kind": Kind.PURCHASE,
        "amount_minor": 100,
        "segment": Segment.RETAIL,
        "mcc": "5411",
    }
    wrong = (Outcome.PIN_WRONG, Outcome.UNKNOWN_CARD)
    for outcome in (*wrong, Outcome.APPROVED, Outcome.PIN_REQUIRED):
        added = buckets.additions(PlaceEvent(**usual, outcome=outcome))
        assert [(each.key, each.amount) for each in added] == (
            [("shops/T1", 1)] if outcome in wrong else []
        )


def test_the_sixteenth_wrong_card_or_pin_at_a_terminal_closes_it(
    compiled: CompiledRuleset, make_facts: Callable[..., Facts]
) -> None:
    """By its minute buckets, which somebody has added up."""
    for wrong, decision in ((15, Outcome.APPROVED), (16, Outcome.DO_NOT_HONOUR)):
        found = compiled.assess(make_facts(buckets={"terminal_wrong_10m": wrong}))
        assert found.decision is decision
        assert found.features["terminal_wrong_10m"] == wrong
