"""What a day costs: by examples, and against a naive reckoning of any day in any order."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.message import Fare, Kind, Mode
from switch.fares.pricing import class_at, maximum_of, partner_of, priced_day
from switch.posting import Entitlement, FareFacts, TapEvent
from tests.switch.fares.days import Day, always, at, book, metro, tap

MINUTE_US = 60_000_000


def test_a_concession_tap() -> None:
    """Domain §6.4 F1: bus 200, half fare."""
    fare = Day(always(1)).charge(tap(Kind.FARE, at("10:00")))
    assert fare == Fare(200, concession_minor=-100, fare_class=1, fare_version=1)
    assert fare.charged_minor == 100


def test_a_transfer_within_the_window() -> None:
    """Domain §6.4 F2: bus 200, then metro 300 with a discount of 100."""
    day = Day()
    assert day.charge(tap(Kind.FARE, at("08:00"))).charged_minor == 200
    assert day.charge(metro(Kind.TAP_ON, at("09:00"), "S01")).charged_minor == 0
    fare = day.charge(metro(Kind.TAP_OFF, at("09:30"), "S03"))
    assert (fare.nominal_minor, fare.transfer_minor, fare.charged_minor) == (300, -100, 200)
    late = Day()
    late.charge(tap(Kind.FARE, at("08:00")))
    late.charge(metro(Kind.TAP_ON, at("09:01"), "S01"))
    assert late.charge(metro(Kind.TAP_OFF, at("09:30"), "S03")).charged_minor == 300


def test_the_same_line_again_is_no_transfer_and_another_one_is() -> None:
    day = Day()
    day.charge(tap(Kind.FARE, at("08:00"), line="K1"))
    assert day.charge(tap(Kind.FARE, at("08:20"), line="K1")).charged_minor == 300
    assert day.charge(tap(Kind.FARE, at("08:40"), line="K2")).charged_minor == 200


def test_a_late_tap_pushes_the_day_over_its_cap() -> None:
    """Domain §6.4 F3: the day is reckoned anew, and the difference is posted."""
    day = Day()
    for hour in range(6, 12):
        day.charge(tap(Kind.FARE, at(f"{hour:02}:00"), line="K1"))
    assert day.charged_minor == 1_800
    capped = day.charge(tap(Kind.FARE, at("13:00"), line="K1"))
    assert (capped.nominal_minor, capped.cap_minor, capped.charged_minor) == (300, -100, 200)
    # It came late: its own fare fits under the cap, and the later taps cost 300 less.
    late = day.charge(tap(Kind.FARE, at("05:00"), line="K1"))
    assert late == Fare(300, recomputed_minor=-300, fare_version=1)
    assert day.charged_minor == 2_000


def test_a_late_tap_that_makes_a_transfer_gives_money_back() -> None:
    day = Day()
    day.charge(metro(Kind.TAP_ON, at("09:00"), "S01"))
    assert day.charge(metro(Kind.TAP_OFF, at("09:30"), "S03")).charged_minor == 300
    late = day.charge(tap(Kind.FARE, at("08:50")))
    assert (late.nominal_minor, late.recomputed_minor, late.charged_minor) == (200, -100, 100)


def test_an_exit_without_an_entry_costs_the_maximum_until_the_entry_comes() -> None:
    day = Day()
    assert day.charge(metro(Kind.TAP_OFF, at("09:30"), "S03")).charged_minor == 700
    entry = day.charge(metro(Kind.TAP_ON, at("09:00"), "S01"))
    assert (entry.nominal_minor, entry.charged_minor, day.charged_minor) == (0, -400, 300)


def test_a_late_exit_takes_the_incomplete_fare_back() -> None:
    day = Day()
    day.charge(metro(Kind.TAP_ON, at("09:00"), "S01"))
    lost = tap(Kind.INCOMPLETE_FARE, at("09:00"), mode=Mode.METRO, stop="S01", journey_id=1)
    assert day.charge(lost).charged_minor == 700
    exit_ = day.charge(metro(Kind.TAP_OFF, at("09:30"), "S03", journey_id=1))
    assert (exit_.nominal_minor, exit_.recomputed_minor, day.charged_minor) == (300, -700, 300)


def test_an_exit_ends_the_newest_entry_of_its_operator_and_mode_within_its_time() -> None:
    entries = (
        metro(Kind.TAP_ON, at("05:00"), "S01", authorization_id=1),
        metro(Kind.TAP_ON, at("08:00"), "S01", authorization_id=2),
        metro(Kind.TAP_ON, at("09:00"), "S01", authorization_id=3, acquirer="48039999"),
        tap(Kind.TAP_ON, at("09:00"), mode=Mode.PARKING, authorization_id=4),
    )

    def partner(clock: str) -> int:
        found = partner_of(metro(Kind.TAP_OFF, at(clock), "S03"), entries, book())
        return found.authorization_id if found is not None else 0

    # In one instant who leaves comes before who enters: at 08:00 the first entry is ended.
    clocks = ("04:50", "07:00", "08:00", "12:00", "12:01")
    assert [partner(clock) for clock in clocks] == [0, 1, 1, 2, 0]
    late = metro(Kind.TAP_ON, at("09:10"), "S01")
    exits = (metro(Kind.TAP_OFF, at("09:30"), "S03", authorization_id=9),)
    found = partner_of(late, exits, book())
    assert found is not None
    assert found.authorization_id == 9


def test_a_stay_over_the_end_of_the_fare_day_is_of_the_day_on_which_it_ends() -> None:
    entry = tap(Kind.TAP_ON, at("22:00", "2028-02-28"), mode=Mode.PARKING, authorization_id=1)
    exit_ = tap(Kind.TAP_OFF, at("07:30"), mode=Mode.PARKING, journey_id=1)
    fares = priced_day((entry, exit_), exit_.fare_date, (), book())
    assert [fare.charged_minor for fare in fares] == [0, 5_000]
    before = priced_day((entry, exit_), entry.fare_date, (), book())
    assert [fare.charged_minor for fare in before] == [0, 0]
    # A day later the entry is not at hand, and the exit costs what it did.
    stored = msgspec.structs.replace(exit_, authorization_id=2, fare=fares[1])
    assert priced_day((stored,), exit_.fare_date, (), book())[0].charged_minor == 5_000


def test_a_right_is_judged_at_the_instant_of_the_tap() -> None:
    student = Entitlement(1, at("08:00"), at("12:00"))
    clocks = ("07:59", "08:00", "11:59", "12:00")
    assert [class_at(at(c), Mode.BUS, (student,), book()) for c in clocks] == [0, 1, 1, 0]
    both = (always(1), always(2))
    # Tuesday's peak suspends class 2, not class 1; on Saturday there is none.
    clocks = ("07:29", "07:30", "08:59", "09:00")
    assert [class_at(at(c), Mode.BUS, both, book()) for c in clocks] == [2, 1, 1, 2]
    assert class_at(at("08:00", "2028-03-04"), Mode.BUS, both, book()) == 2
    assert class_at(at("10:00"), Mode.PARK, (always(1),), book()) == 0
    assert class_at(at("10:00"), Mode.BUS, (always(98),), book()) == 0


def test_what_is_set_aside_is_the_maximum_of_the_class() -> None:
    entry = metro(Kind.TAP_ON, at("10:00"), "S01")
    maxima = [
        maximum_of(entry, FareFacts(entitlements=rights), book())
        for rights in ((), (always(1),), (always(2),))
    ]
    assert maxima == [700, 350, 0]
    taxi = tap(Kind.TAP_ON, at("10:00"), mode=Mode.TAXI)
    assert maximum_of(taxi, FareFacts(), book()) is None


def test_where_no_table_knows_the_line_the_reader_does() -> None:
    day = Day()
    taxi = tap(Kind.FARE, at("10:00"), mode=Mode.TAXI, fare=Fare(2_350))
    assert day.charge(taxi).charged_minor == 2_350
    known = tap(Kind.FARE, at("10:10"), fare=Fare(999))
    assert day.charge(known).nominal_minor == 200


# ---- any day, in any order ------------------------------------------------------------------


class Said(msgspec.Struct, frozen=True):
    """A tap as drawn: minutes after five in the morning of the leap day."""

    kind: Kind
    minute: int
    mode: Mode
    line: str
    stop: str
    incomplete: bool


SINGLES = st.builds(
    Said,
    st.just(Kind.FARE),
    st.integers(0, 400),
    st.sampled_from([Mode.BUS, Mode.FERRY, Mode.PARK]),
    st.sampled_from(["", "K1"]),
    st.just(""),
    st.just(False),
)
JOURNEYS = st.builds(
    Said,
    st.sampled_from([Kind.TAP_ON, Kind.TAP_OFF]),
    st.integers(0, 400),
    st.just(Mode.METRO),
    st.just(""),
    st.sampled_from(["S01", "S03", "S09", "S99"]),
    st.booleans(),
)
RIGHTS = st.lists(
    st.tuples(st.sampled_from([1, 2]), st.integers(0, 300), st.integers(1, 300)), max_size=2
)


def _event(said: Said) -> TapEvent:
    return tap(
        said.kind,
        at("05:00") + said.minute * MINUTE_US,
        mode=said.mode,
        line=said.line,
        stop=said.stop,
    )


def _naive_total(day: list[Said], rights: list[tuple[int, int, int]]) -> int:
    """The day as a clerk would reckon it with the printed tariff in hand."""
    zones = {"S01": 1, "S03": 2, "S09": 5}

    def class_of(minute: int, mode: Mode) -> int:
        held = {number for number, start, length in rights if start <= minute < start + length}
        in_peak = 150 <= minute < 240
        if 2 in held and mode is not Mode.PARKING and not in_peak:
            return 2
        return 1 if 1 in held and mode is not Mode.PARK else 0

    order = {Kind.TAP_OFF: 0, Kind.FARE: 1, Kind.TAP_ON: 2}
    taps = sorted(day, key=lambda t: (t.minute, order[t.kind], t.mode, t.line, t.stop))
    inside: list[Said] = []
    ended: list[Said] = []
    rides: list[tuple[int, int, int, Mode, str, int, int]] = []
    for number, one in enumerate(taps):
        if one.kind is Kind.FARE:
            price = {Mode.BUS: 300 if one.line else 200, Mode.FERRY: 300, Mode.PARK: 1_500}
            rides.append(
                (one.minute, one.minute, number, one.mode, one.line, price[one.mode], one.minute)
            )
        elif one.kind is Kind.TAP_ON:
            inside.append(one)
        elif inside and one.minute - inside[-1].minute <= 240:
            on = inside.pop()
            ended.append(on)
            crossed = {zones.get(on.stop, 0), zones.get(one.stop, 0)}
            nominal = 200 + 100 * (max(crossed) - min(crossed))
            if crossed == {1, 5}:
                nominal = 500
            if 0 in crossed:
                nominal = 700
            if on.stop == one.stop and one.minute - on.minute <= 2:
                nominal = 0
            rides.append((on.minute, one.minute, number, one.mode, "", nominal, on.minute))
        else:
            rides.append((one.minute, one.minute, number, one.mode, "", 700, one.minute))
    rides += [
        (one.minute, one.minute, 1_000 + n, one.mode, "", 700, one.minute)
        for n, one in enumerate(inside)
        if one.incomplete
    ]
    total = capped = 0
    before: tuple[int, Mode, str] | None = None
    for start, end, _, mode, line, nominal, judged in sorted(rides, key=lambda ride: ride[:3]):
        number = class_of(judged, mode)
        fare = {0: nominal, 1: nominal // 2, 2: 0}[number]
        if before is not None and (mode, line) != before[1:] and 0 <= start - before[0] <= 60:
            off_street, metro_ = {Mode.BUS, Mode.FERRY}, Mode.METRO
            to = {Mode.BUS, metro_} if before[1] in off_street else off_street
            if before[1] in off_street | {metro_} and mode in to:
                fare = max(fare - 100, 0)
        if mode is not Mode.PARK:
            cap = {0: 2_000, 1: 1_000, 2: None}[number]
            if cap is not None:
                fare = min(fare, max(cap - capped, 0))
            capped += fare
        total += fare
        before = (end, mode, line)
    return total


@settings(max_examples=300)
@given(
    # Of two taps that say the same in one instant, nothing tells which of them was ended.
    st.lists(
        SINGLES | JOURNEYS,
        max_size=9,
        unique_by=lambda said: (said.kind, said.minute, said.mode, said.line, said.stop),
    ),
    RIGHTS,
    st.randoms(use_true_random=False),
)
def test_any_order_of_arrival_costs_what_the_clerk_reckons(
    day: list[Said], drawn: list[tuple[int, int, int]], random: object
) -> None:
    rights = [
        Entitlement(
            number,
            at("05:00") + start * MINUTE_US,
            at("05:00") + (start + length) * MINUTE_US,
        )
        for number, start, length in drawn
    ]
    arrivals = list(day)
    random.shuffle(arrivals)  # type: ignore[attr-defined]
    charged = Day(*rights)
    expired: dict[int, list[TapEvent]] = defaultdict(list)
    for place, said in enumerate(arrivals):
        charged.charge(_event(said))
        if said.kind is Kind.TAP_ON and said.incomplete:
            stored = charged.taps[-1]
            lost = msgspec.structs.replace(
                stored,
                kind=Kind.INCOMPLETE_FARE,
                authorization_id=0,
                journey_id=stored.authorization_id,
            )
            # Its hold expires at once, or after the tap that comes next.
            expired[place + place % 2].append(lost)
        for lost in expired.pop(place, []):
            charged.charge(lost)
    for left in expired.values():
        for lost in left:
            charged.charge(lost)
    assert charged.charged_minor == _naive_total(day, drawn)
    assert charged.charged_minor >= 0
    of_cap = [said for said in day if said.mode is not Mode.PARK]
    if len(of_cap) == len(day) and not drawn:
        assert charged.charged_minor <= 2_000
    for one in charged.taps:
        parts = (one.fare.concession_minor, one.fare.transfer_minor, one.fare.cap_minor)
        assert one.fare.nominal_minor >= 0
        assert all(part <= 0 for part in parts)
        assert one.fare.nominal_minor + sum(parts) >= 0


def test_two_days_do_not_touch_each_other() -> None:
    evening = tap(Kind.FARE, at("04:20"), line="K1", authorization_id=1)
    morning = tap(Kind.FARE, at("04:40"), line="K2")
    assert morning.fare_date - evening.fare_date == timedelta(days=1)
    fares = priced_day((evening, morning), morning.fare_date, (), book())
    assert [fare.charged_minor for fare in fares] == [0, 300]
