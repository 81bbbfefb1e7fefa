"""The replay on rows made by hand: loops, sweeps against brute force, shards that add up."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.message import Kind, Outcome, Segment
from risk.backtest import HistoryRow, Replay, Subject, alike
from risk.backtest_places import PlaceHistory, place_query
from risk.backtest_probes import Probes, limits_around
from risk.backtest_report import Ran, bin_edges, quantile, report
from risk.backtest_tally import Tally, binned
from risk.buckets import PlaceEvent, bucket_values, series_of
from risk.check import first_ruleset, load_ruleset
from risk.compile import compile_ruleset
from risk.record import AssessedFacts, Assessment, Effect, RuleResult, encode_results
from risk.rules import Stage
from risk.ruleset import Ruleset, ruleset_hash

DAY = date(2026, 3, 31)
NOON_US = 1_774_929_600_000_000
MINUTE_US = 60_000_000
SETTINGS = """
[settings]
time_zone = "Asia/Shanghai"
service_day_start = "00:00"
currency = "156"
"""
STOLEN = """
[[lists]]
name = "hotlist"
field = "medium"
entries = []

[[rules]]
id = "stolen"
version = 1
name = "Stolen"
stage = "red"
when = { fact = "medium", op = "in_list", list = "hotlist" }
then = { decline = "hotlisted", reason = "stolen" }
"""
PACED = """
[[features]]
id = "paid_3m"
key = "card"
aggregate = "count"
basis = "approved"
on_reversal = "restore"
window = "3m"

[[features]]
id = "spent_month"
key = "account"
aggregate = "sum"
basis = "approved"
window = "calendar_month"

[[rules]]
id = "pace"
version = 1
name = "Pace"
stage = "amber"
when = { feature = "paid_3m", plus = 1, op = "gt", value = 2 }
then = { decline = "count_limit", reason = "too fast" }

[[rules]]
id = "month"
version = 1
name = "Month"
stage = "amber"
when = { all = [
    { feature = "spent_month", plus = "amount", op = "gt", value = 100000 },
    { fact = "amount", op = "ge", value = 100 },
] }
then = { decline = "amount_limit", reason = "too much" }
"""


def ruleset(body: str) -> Ruleset:
    return load_ruleset(SETTINGS + body)


def stored(**said: Any) -> bytes:
    """Results of a row that some other ruleset approved, unless they say otherwise."""
    facts = AssessedFacts(**({"amount_minor": 500, "balance_minor": 9_000, "tier": "verified"}
                             | said.pop("facts", {})))  # fmt: skip
    usual: dict[str, Any] = {
        "decision": Outcome.APPROVED, "ruleset_hash": "ab" * 32, "facts": facts,
    }  # fmt: skip
    return encode_results(Assessment(**(usual | said)))


def row(number: int, minutes: float = 0, **said: Any) -> HistoryRow:
    at_us = NOON_US + int(minutes * MINUTE_US)
    usual: dict[str, Any] = {
        "business_date": DAY, "authorization_id": number, "account_id": 1, "card_id": 11,
        "at_us": at_us, "posted_at_us": at_us + 3_000, "kind": "purchase", "segment": "retail",
        "acquirer": "shops", "terminal": "T1", "merchant": "M1", "mcc": "5411",
        "entry_mode": "071", "rrn": f"{number:012}", "amount_minor": 500,
        "approved_minor": 500, "outcome": "approved", "original_id": 0, "ruleset": "ab" * 32,
        "rule_results": stored(), "spent_count": 1, "spent_minor": 500, "spent_on": None,
        "venue": "", "stop": "", "vehicle": "", "medium": "cd" * 16, "last4": "0042",
    }  # fmt: skip
    return HistoryRow(**(usual | said))


def replayed(tested: Ruleset, rows: list[HistoryRow], **how: Any) -> Tally:
    replay = Replay(Subject(tested), from_date=DAY, **how)
    replay.rows(rows)
    return replay.finished()


def told(tested: Ruleset, tally: Tally, live: Ruleset | None = None) -> Any:
    ran = Ran("a test", DAY, DAY, False, 1.0, 1, DAY - timedelta(days=1))
    return report(tested, tally, ran, live)


def declined_at(tally: Tally) -> set[int]:
    return {example.authorization_id for example in tally.gained_examples}


def test_open_loop_counts_what_happened_and_closed_loop_what_would_have() -> None:
    rows = [row(minute, minute) for minute in range(10)]
    tested = ruleset(PACED)
    assert declined_at(replayed(tested, rows)) == set(range(2, 10))
    approved: list[int] = []
    declined: set[int] = set()
    for minute in range(10):
        recent = sum(minute - other < 3 for other in approved)
        declined.add(minute) if recent + 1 > 2 else approved.append(minute)
    assert 0 < len(declined) < 8
    assert declined_at(replayed(tested, rows, closed_loop=True)) == declined


def test_what_a_closed_loop_declines_is_not_given_back_later() -> None:
    """The third payment would have been declined, so its reversal frees nothing."""
    rows = [row(n, n / 10) for n in range(3)]
    back = row(3, 1, kind="reversal", original_id=2, rule_results=b"", spent_minor=-500)
    rows += [back, row(4, 1.1)]
    tested = ruleset(PACED)
    # Open loop: two of three stand, so the next is one too many; and so it is in a closed loop.
    assert declined_at(replayed(tested, rows)) == {2, 4}
    assert declined_at(replayed(tested, rows, closed_loop=True)) == {2, 4}
    # Had the first been reversed, there is room again.
    rows[3] = back._replace(original_id=rows[0].authorization_id)
    assert declined_at(replayed(tested, rows, closed_loop=True)) == {2}


def test_totals_of_a_closed_loop_leave_out_what_it_declines() -> None:
    """100,000 a month: the second of 60,000 goes, and then there is room for a third of 30,000."""
    months = ((0, 60_000), (60_000, 60_000), (120_000, 30_000))
    rows = [
        row(n, n * 10, amount_minor=minor, approved_minor=minor, spent_minor=minor,
            rule_results=stored(facts={"amount_minor": minor, "month_minor": spent}))
        for n, (spent, minor) in enumerate(months)
    ]  # fmt: skip
    tested = ruleset(PACED)
    assert declined_at(replayed(tested, rows)) == {1, 2}
    assert declined_at(replayed(tested, rows, closed_loop=True)) == {1}


def test_what_only_a_rule_declined_counts_as_approved_in_a_closed_loop() -> None:
    declined = stored(
        decision=Outcome.COUNT_LIMIT, rule_id="old", rule_version=1, reason="no",
        results=(RuleResult("old", 1, "amber", Effect.DECLINED, Outcome.COUNT_LIMIT),),
    )  # fmt: skip
    lost = row(0, 0, outcome="count_limit", approved_minor=0, spent_count=0, spent_minor=0,
               rule_results=declined)  # fmt: skip
    poor = row(1, 0.1, outcome="insufficient_funds", approved_minor=0, rule_results=stored())
    rows = [lost, poor, row(2, 0.2), row(3, 0.3)]
    tested = ruleset(PACED)
    tally = replayed(tested, rows)
    assert (tally.lost, tally.gained, tally.lost_minor) == (1, 0, 500)
    assert "old v1" in tally.lost_examples[0].sentence
    assert declined_at(replayed(tested, rows, closed_loop=True)) == {3}


def test_rows_of_before_facts_were_stored_are_read_and_not_assessed() -> None:
    before = encode_results(Assessment(Outcome.APPROVED, "ab" * 32))
    tally = replayed(ruleset(PACED), [row(1, rule_results=before), row(2, 1), row(3, 2, card_id=0)])
    assert (tally.rows, tally.assessed, tally.features["paid_3m"]) == (3, 2, {1: 1, 0: 1})


def test_a_rule_that_was_paused_when_the_row_was_decided_is_paused_again() -> None:
    tested = ruleset(PACED)
    hash_ = ruleset_hash(tested)
    plain = compile_ruleset(tested)
    results = tuple(
        RuleResult(rule.id, rule.version, rule.stage, effect)
        for rule, effect in zip(tested.rules, (Effect.PAUSED, Effect.CUT_OUT), strict=True)
    )
    assert plain.hash == hash_
    idle = stored(ruleset_hash=hash_, results=results)
    rows = [row(n, n / 10, ruleset=hash_, rule_results=idle) for n in range(5)]
    tally = replayed(tested, rows)
    assert (tally.agreement_rows, tally.agreement_equal, tally.gained) == (5, 5, 0)


def test_a_request_whose_medium_nobody_knew_is_replayed_without_one() -> None:
    """A load at a counter finds the card by its id; the row's card has a medium all the same."""
    tested = ruleset(STOLEN)
    hash_ = ruleset_hash(tested)
    unknown = RuleResult("stolen", 1, Stage.RED, Effect.UNKNOWN, why="medium is missing")
    rows = [
        row(1, 0, ruleset=hash_, rule_results=stored(
            ruleset_hash=hash_, results=(unknown,), facts={"medium_known": False})),
        row(2, 1, ruleset=hash_, rule_results=stored(ruleset_hash=hash_)),
    ]  # fmt: skip
    tally = replayed(tested, rows)
    assert (tally.agreement_rows, tally.agreement_equal) == (2, 2)


OPERATIONS = st.sampled_from(["gt", "ge", "lt", "le"])


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10_000), op=OPERATIONS, limit=st.integers(1, 30),
    place=st.sampled_from(["alone", "first", "last"]),
)  # fmt: skip
def test_a_sweep_is_what_each_limit_would_have_fired(
    seed: int, op: str, limit: int, place: str
) -> None:
    def swept(value: int) -> Ruleset:
        leaf = f'{{ feature = "paid_20m", op = "{op}", value = {value} }}'
        others = (
            '{ any = [{ feature = "spent_20m", op = "lt", value = 9000 },'
            ' { fact = "stop", op = "eq", value = "S1" }] }'
        )
        parts = {"alone": [leaf], "first": [leaf, others], "last": [others, leaf]}[place]
        return ruleset(f"""
[[features]]
id = "paid_20m"
key = "account"
aggregate = "count"
basis = "approved"
window = "20m"

[[features]]
id = "spent_20m"
key = "card"
aggregate = "sum"
basis = "approved"
window = "20m"

[[rules]]
id = "swept"
version = 1
name = "Swept"
stage = "watch"
scope = {{ tiers = ["verified"] }}
when = {{ all = [{", ".join(parts)}] }}
then = {{ tag = "seen" }}
""")

    dice = random.Random(seed)
    rows = [
        row(n, n * dice.choice((0.2, 1, 3)), card_id=dice.choice((11, 12)),
            outcome=(outcome := dice.choice(("approved", "do_not_honour"))),
            approved_minor=500 if outcome == "approved" else 0, stop=dice.choice(("", "S1", "S2")),
            rule_results=stored(facts={"tier": dice.choice(("verified", "named"))}))
        for n in range(40)
    ]  # fmt: skip
    rows.sort(key=lambda each: each.at_us)
    tested = swept(limit)
    tally = replayed(tested, rows)
    (sweep,) = told(tested, tally).sweeps
    fired = dict(zip(sweep.limits, sweep.declines, strict=True))
    assert fired[limit] == tally.rules["swept"].fired
    for other in dice.sample(sweep.limits[1:], 3):
        assert fired[other] == replayed(swept(other), rows).rules["swept"].fired, other


def _city(seed: int, count: int, accounts: int) -> list[HistoryRow]:
    dice = random.Random(seed)
    rows: list[HistoryRow] = []
    for number in range(count):
        account = dice.randrange(accounts)
        back = [r for r in rows[-20:] if r.account_id == account + 1 and r.kind == "purchase"]
        said: dict[str, Any] = {"account_id": account + 1, "card_id": account + 11}
        if back and dice.random() < 0.15:
            said |= {"kind": "reversal", "original_id": back[0].authorization_id,
                     "rule_results": b"", "approved_minor": back[0].approved_minor}  # fmt: skip
        else:
            minor = dice.choice((100, 500, 12_000))
            said |= {"amount_minor": minor, "approved_minor": minor,
                     "stop": dice.choice(("", "S1")), "mcc": dice.choice(("5411", "5499")),
                     "rule_results": stored(facts={"amount_minor": minor, "tier": "anonymous"}),
                     }  # fmt: skip
        rows.append(row(number + 1, number * 0.13, **said))
    return rows


@pytest.mark.parametrize("closed_loop", [False, True])
def test_tallies_of_shards_add_up_to_the_whole(closed_loop: bool) -> None:
    rows = _city(3, 400, 6)
    tested = first_ruleset()
    labels = {number: "fraud" if number % 3 else "genuine" for number in range(1, 400, 7)}

    def part(chosen: list[HistoryRow]) -> Tally:
        tally = replayed(tested, chosen, closed_loop=closed_loop, labels=labels)
        return msgspec.json.decode(msgspec.json.encode(tally), type=Tally)

    whole = part(rows)
    together = Tally()
    for shard in range(3):
        together.add(part([each for each in rows if each.account_id % 3 == shard]))
    assert whole.gained > 20
    assert whole.labelled > 20
    assert told(tested, together) == told(tested, whole)
    assert msgspec.to_builtins(together, order="sorted") == msgspec.to_builtins(
        whole, order="sorted"
    )


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_a_probed_ruleset_says_what_the_plain_one_says(
    seed: int, make_random_facts: Callable[[random.Random], Any]
) -> None:
    dice = random.Random(seed)
    tested = first_ruleset()
    plain, probes = compile_ruleset(tested), Probes(tested)
    for _ in range(3):
        facts = make_random_facts(dice)
        assert probes.compiled.assess(facts) == plain.assess(facts)


@pytest.fixture(scope="session")
def make_random_facts(make_facts: Callable[..., Any]) -> Callable[[random.Random], Any]:
    kinds = [Kind.PURCHASE, Kind.FARE, Kind.TAP_ON, Kind.LOAD, Kind.BILL_INQUIRY, Kind.BILL]

    def made(dice: random.Random) -> Any:
        events = sorted(
            ({"ago_s": dice.randrange(1, 4_000), "kind": dice.choice(kinds),
              "stop": dice.choice(("", "M1/S01", "M1/S09")), "terminal": f"T{dice.randrange(6)}",
              "outcome": dice.choice([Outcome.APPROVED, Outcome.DO_NOT_HONOUR]),
              "given_back": dice.random() < 0.2} for _ in range(dice.randrange(25))),
            key=lambda event: -event["ago_s"],
        )  # fmt: skip
        return make_facts(
            *events, kind=dice.choice(kinds), amount_minor=dice.choice((1, 500, 60_000)),
            tier=dice.choice(("anonymous", "verified", "")), stop=dice.choice(("", "M1/S01")),
            vehicle=dice.choice(("", "V1")), venue=dice.choice(("", "taxi", "fuel")),
            medium=dice.choice(("", "ab" * 16)), pin=dice.choice(("", "none", "verified")),
            balance_minor=dice.choice((None, 500, 99_000)), mcc=dice.choice(("5499", "5411")),
        )  # fmt: skip

    return made


PLACES = """
[[features]]
id = "tries"
key = "terminal"
aggregate = "count"
basis = "declined"
codes = ["pin_wrong"]
window = "10m"

[[features]]
id = "sold"
key = "merchant"
aggregate = "sum"
basis = "approved"
window = "calendar_day"
"""


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_a_recount_is_what_the_buckets_would_have_said(
    seed: int, make_facts: Callable[..., Any]
) -> None:
    dice = random.Random(seed)
    features = ruleset(PLACES).features
    places = PlaceHistory(features)
    events: list[tuple[int, PlaceEvent]] = []
    taken: list[tuple[int, PlaceEvent]] = []
    at_us = NOON_US
    for _ in range(60):
        at_us += dice.randrange(1, 90_000_000)
        if events and dice.random() < 0.2:
            gone = dice.choice(events)[1]
            if all(gone is not other for _, other in taken):
                taken.append((at_us, gone))
                places.gave_back(gone, at_us)
            continue
        outcome = dice.choice([Outcome.APPROVED, Outcome.PIN_WRONG])
        event = PlaceEvent(
            at_us - dice.randrange(0, 3_000), "shops", "M1", f"T{dice.randrange(2)}", 1,
            Kind.PURCHASE, 700, outcome, make_facts().segment, "5411",
        )  # fmt: skip
        events.append((at_us, event))
        places.happened(event, at_us)
    now_us = at_us + dice.randrange(1, 700_000_000)
    facts = make_facts(
        now_us=now_us, day_start_us=now_us - 40 * MINUTE_US, acquirer="shops", merchant="M1",
        terminal="T0",
    )  # fmt: skip
    found = bucket_values(features, facts, lambda s, k, m: places.read(s, k, m, now_us))
    first = (now_us - 600_000_000 + 1) // MINUTE_US
    tries = sum(
        e.outcome is Outcome.PIN_WRONG and e.terminal == "T0" and e.at_us // MINUTE_US >= first
        for _, e in events
    )
    first = (now_us - 40 * MINUTE_US) // MINUTE_US
    sold = sum(
        700 for _, e in events
        if e.outcome is Outcome.APPROVED and e.at_us // MINUTE_US >= first
        and all(e is not other for _, other in taken)
    )  # fmt: skip
    assert found == {"tries": tries, "sold": sold}


def test_a_busy_place_is_recounted_on_each_of_several_days() -> None:
    """Days are fed ahead of the rows that ask for them."""
    (feature,) = ruleset(PLACES).features[1:]
    places, day_us = PlaceHistory([feature]), 24 * 60 * MINUTE_US
    for minute in range(3 * 24 * 60):
        for second in range(3):
            at_us = NOON_US + minute * MINUTE_US + second * 1_000_000
            places.happened(
                PlaceEvent(
                    at_us, "shops", "M1", "T1", 1, Kind.PURCHASE, 7, Outcome.APPROVED,
                    Segment.RETAIL, "5411",
                ),
                at_us,
            )  # fmt: skip
    series = series_of(feature)

    def of_an_hour(day: int) -> int:
        now_us = NOON_US + day * day_us + 60 * MINUTE_US
        return places.read(series, "shops/M1", now_us // MINUTE_US - 60, now_us)

    assert [of_an_hour(day) for day in range(3)] == [60 * 3 * 7] * 3
    places.forget(NOON_US + 2 * day_us)
    assert [of_an_hour(day) for day in range(3)] == [0, 0, 60 * 3 * 7]


def test_a_stored_value_of_a_place_is_used_and_compared_with_a_recount() -> None:
    body = (
        PLACES
        + """
[[rules]]
id = "tried"
version = 1
name = "Tried"
stage = "amber"
when = { feature = "tries", op = "gt", value = 5 }
then = { decline = "do_not_honour", reason = "tried" }
"""
    )
    tested, other = ruleset(body), ruleset(PLACES.replace('"tries"', '"tries_before"'))
    assert alike(tested, other) == {"tries": "tries_before", "sold": "sold"}
    known = {"ab" * 32: alike(tested, other)}
    rows = [row(1, rule_results=stored(features={"tries_before": 6})), row(2, 1)]
    replay = Replay(
        Subject(tested, stored_features=known), from_date=DAY,
        places=PlaceHistory(tested.features),
    )  # fmt: skip
    replay.rows(rows)
    tally = replay.finished()
    assert declined_at(tally) == {1}
    (recount,) = told(tested, tally).recounts
    assert (recount.rows, recount.differing, recount.furthest) == (1, 1, 6)
    query = place_query(tested.features)
    assert query is not None
    assert query.outcomes == ("approved", "pin_wrong")


def test_limits_around_a_limit_have_it_and_the_live_one() -> None:
    for limit, live in ((6, None), (6, 9), (0, None), (500_00, 123_45), (-3, None)):
        limits = limits_around(limit, live)
        assert len(limits) <= 41
        assert list(limits) == sorted(set(limits))
        assert limit in limits
        assert live is None or live in limits


@given(st.lists(st.integers(-(10**9), 10**12), min_size=1, max_size=50))
def test_bins_hold_every_value_and_quantiles_are_values(values: list[int]) -> None:
    counts: dict[int, int] = {}
    for value in values:
        place = binned(value)
        assert abs(value - place) * 250 <= abs(value)
        counts[place] = counts.get(place, 0) + 1
    places = sorted(counts)
    edges = bin_edges(places, [5])
    assert len(edges) <= 41
    assert edges[0] <= places[0]
    assert edges[-1] > places[-1]
    ordered = sorted(binned(value) for value in values)
    assert quantile(counts, places, 50) == ordered[(len(ordered) + 1) // 2 - 1]


def test_the_hour_of_a_decline_is_local() -> None:
    rows = [row(n, n / 100) for n in range(3)]
    tally = replayed(ruleset(PACED), rows)
    weekday, hour = divmod(tally.hours_tested.index(1), 24)
    local = datetime.fromtimestamp(NOON_US / 1e6, UTC) + timedelta(hours=8)
    assert (weekday, hour) == (local.weekday(), local.hour)
