"""The fifteen venues, each by its real flow over its real protocol, against a served switch.

One switch for each backend, with billers' hosts beside it, serves all the tests of this file.
Each of them takes a citizen of its own, does what is done at its venue, and looks at what the
ledger holds of that card: kinds, outcomes, purse, money, acquirer and venue. The audit at the
end is over all of them.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from loadtest.city import opened_hosts
from loadtest.city_lines import CityTally
from loadtest.city_plan import Citizen, Places, read_places
from loadtest.city_readers import Place
from loadtest.city_tills import Till
from loadtest.city_visits import FLOWS, MERCHANT_CATEGORIES, Hosts, Visits, trip
from loadtest.journal import Journal
from protocols.iso8583.client import (
    cancel_message,
    load_confirmation_message,
    load_message,
    offline_sale_message,
)
from protocols.message import Kind, Mode
from protocols.tap.words import TapAnswer, TapKind
from switch import config as configuration
from switch.cli import main
from switch.config import Config
from switch.demo import city as city_stage
from switch.demo import stage
from switch.demo.children import biller_book, biller_serving, switch_serving
from switch.ledger import bridge
from switch.ledger.audit import audit
from switch.posting import Purse
from switch.venues import load_venues

PATIENCE_MS = 20_000
CROWD = stage.Crowd(cards=48, blocked=1, poor=1, riders=40, chips=2, entitled=2)
VENUES = {venue.code: venue for venue in load_venues("").venues}
TRANSIT, SITES, TAXIS = "48031000", "48033000", "48032000"
SHOPS, COUNTERS = "48021000", "48023000"
WATER, POWER, HOMES, BANK = "48041000", "48042000", "48043000", "48051000"
ROWS = """
select a.kind, a.outcome, a.purse, a.approved_minor, a.acquirer, a.venue
from ledger.authorization a
join ledger.medium m using (account_id)
where m.medium = $1 and a.link <> 'counter'
order by a.authorization_id
"""
EARNED = """
select s.owner, sum(case when t.credit_account_id = s.settlement_account_id
                         then t.amount_minor else -t.amount_minor end)::int8 as minor
from ledger.authorization a
join ledger.medium m using (account_id)
join ledger.transfer t on t.authorization_id = a.authorization_id and t.shard = a.shard
join ledger.settlement_account s
  on s.settlement_account_id in (t.credit_account_id, t.debit_account_id)
where m.medium = $1 and s.chart_code = 'ACQ'
group by s.owner
"""
PURSES = """
select p.purse, p.balance_minor, p.held_minor
from ledger.purse p join ledger.medium m using (account_id)
where m.medium = $1
"""


class Row(NamedTuple):
    """A message in the ledger; `purse` is empty where no money was asked for."""

    kind: str
    approved_minor: int
    purse: str = "GEN"
    acquirer: str = COUNTERS
    outcome: str = "approved"


class Town:
    """A served switch with its city: what a test does there, and what it finds afterwards."""

    def __init__(self, places: Places, portal: BlockingPortal, url: str, home: Path) -> None:
        self.places, self.portal, self.url, self.home = places, portal, url, home
        self.zone = ZoneInfo(places.time_zone)
        self.hosts: Hosts
        self.visits: Visits
        self.tally = CityTally(Journal(None), {code: each.segment for code, each in FLOWS.items()})

    def open(self, hosts: Hosts) -> None:
        self.hosts = hosts
        self.visits = Visits(self.places, hosts, self.tally, Random(1), "TEST")

    def citizen(self, venue: str) -> Citizen:
        """The one of this venue: ordinary ones come after those with chips and rights."""
        others = self.places.citizens[CROWD.chips + CROWD.entitled :]
        return others[VENUES[venue].number]

    @property
    def entitled(self) -> Citizen:
        return self.places.citizens[CROWD.chips]

    def till(self, venue: str) -> Till:
        links = {"taxi": self.hosts.taxis, "convenience": self.hosts.shops}
        link = links.get(venue, self.hosts.counters)
        return Till(self.tally, link, venue, MERCHANT_CATEGORIES[venue], f"T{venue[:7].upper():X<7}"
                    .replace("_", "X"))  # fmt: skip

    def fetch(self, query: str, medium: str) -> list[Any]:
        async def body() -> list[Any]:
            connection = await bridge.connect(self.url)
            try:
                return list(await connection.fetch(query, bytes.fromhex(medium)))
            finally:
                await connection.close()

        return bridge.run("asyncio", body)

    def purses(self, citizen: Citizen) -> dict[str, tuple[int, int]]:
        """Balance and held by purse, minor units."""
        return {
            Purse(row["purse"]).name: (row["balance_minor"], row["held_minor"])
            for row in self.fetch(PURSES, citizen.medium)
        }


def serving_city(backend: str, databases: Any, template: str) -> Iterator[Town]:
    with ExitStack() as open_:
        url = open_.enter_context(databases.fresh(template))
        home = Path(open_.enter_context(tempfile.TemporaryDirectory(prefix="citycard-venues-")))
        ports = {kind: open_.enter_context(biller_serving(kind, home)) for kind in city_stage.HOSTS}
        file, config = patient_configuration(home, ports)
        key = stage.card_key(config, home)
        keys = city_stage.make_keys(config, home)
        bridge.run("asyncio", stage.set_stage, url, config, key, CROWD, lambda _step: None)
        api = bridge.run("asyncio", city_stage.open_counters, url)
        with ExitStack() as served:
            ready = served.enter_context(
                switch_serving(config=file, url=url, directory=home, workers=1, backend=backend)
            )
            written = city_stage.write_places(home, ready.links, config, keys, api, key, CROWD)
            portal = served.enter_context(start_blocking_portal(backend))
            town = Town(read_places(written), portal, url, home)
            hosts = opened_hosts(town.places, town.tally, "test", 1)
            town.open(served.enter_context(portal.wrap_async_context_manager(hosts)))
            yield town
        books = {kind: biller_book(port) for kind, port in ports.items()}
        bridge.run("asyncio", check_in_the_end, url, config, books)


def patient_configuration(home: Path, ports: dict[str, int]) -> tuple[Path, Config]:
    """Budgets that are kept on a busy machine too; what they are for is tested elsewhere."""
    budgets_ms = dict.fromkeys(city_stage.BUDGETS_MS, PATIENCE_MS)
    file, _ = stage.write_configuration(home, city_stage.configuration(ports, budgets_ms))
    shops = f'name = "{stage.LINK}"\n'
    file.write_text(file.read_text().replace(shops, f"{shops}budget_ms = {PATIENCE_MS}\n"))
    return file, configuration.load(file)


async def check_in_the_end(url: str, config: Config, books: dict[str, Any]) -> None:
    """The audit is clean, and what billers hold as paid is what the ledger holds as paid."""
    connection = await bridge.connect(url)
    report = await audit(connection, balance_caps_minor=config.tiers.balance_caps_minor())
    paid = await connection.fetch(
        "select encode(serial, 'hex') as serial, amount_minor from ledger.bill_payment"
        " where state = 'paid'"
    )
    await connection.close()
    assert report.clean, report
    held = books["postpaid"] | books["prepaid"]
    assert held == {row["serial"]: row["amount_minor"] for row in paid}


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def town(request: pytest.FixtureRequest, databases: Any, template: str) -> Iterator[Town]:
    yield from serving_city(request.param, databases, template)


# ---- what is done at each venue, and what the ledger must hold of it


async def tapped(
    town: Town, venue: str, kind: TapKind, citizen: Citizen, place: Place, at_ms: int = 0
) -> TapAnswer:
    mine = (Mode.BUS, Mode.METRO, Mode.FERRY)
    readers = town.hosts.transit if place.mode in mine else town.hosts.sites
    answered = await readers.tap(venue, kind, citizen, place, event_at_ms=at_ms)
    assert answered is not None
    return answered


async def bus(town: Town, citizen: Citizen) -> list[Row]:
    """Two buses within the hour: the second ride is a transfer."""
    ride = trip(now_ms() - 90_000, 25, town.zone)
    one = Place(Mode.BUS, "BUS0001", "K9", "B01", "V0001")
    first = await tapped(town, "bus", TapKind.SINGLE, citizen, one, ride.began_ms)
    other = Place(Mode.BUS, "BUS0002", "K3", "B07", "V0002")
    second = await tapped(town, "bus", TapKind.SINGLE, citizen, other, ride.ended_ms)
    assert (first.charged_minor, second.charged_minor) == (200, 100)
    return [Row("fare", 200, "TRN", TRANSIT), Row("fare", 100, "TRN", TRANSIT)]


async def metro(town: Town, citizen: Citizen) -> list[Row]:
    """From zone 1 to zone 3; while underway the maximum is set aside."""
    ride = trip(now_ms(), 18, town.zone)
    gate = Place(Mode.METRO, "GATE0001", "M1", "S01")
    entered = await tapped(town, "metro", TapKind.ON, citizen, gate, ride.began_ms)
    assert (entered.response_code, entered.charged_minor) == ("00", 0)
    gate = Place(Mode.METRO, "GATE0002", "M1", "S05")
    left = await tapped(town, "metro", TapKind.OFF, citizen, gate, ride.ended_ms)
    assert (left.response_code, left.charged_minor) == ("00", 400)
    return [Row("tap_on", 0, "TRN", TRANSIT), Row("tap_off", 400, "TRN", TRANSIT)]


async def taxi(town: Town, citizen: Citizen) -> list[Row]:
    """The taxi tells of a ride that was paid on the road; the advice comes twice."""
    till = town.till("taxi")
    sale = till.sale(citizen, 2_350)
    for repeat in (False, True):
        made = offline_sale_message(till.dialect, sale, repeat=repeat)
        told = await till.ask(Kind.OFFLINE_SALE, made, citizen, 2_350)
        assert told is not None
        assert told.amount_minor == 2_350
    return [Row("offline_sale", 2_350, "TRN", TAXIS)]


async def ferry(town: Town, _citizen: Citizen) -> list[Row]:
    """Half fare for who has the right to it."""
    pier = Place(Mode.FERRY, "PIER0001", "F1", "P01")
    answered = await tapped(town, "ferry", TapKind.SINGLE, town.entitled, pier)
    assert (answered.charged_minor, answered.fare_class) == (150, 1)
    return [Row("fare", 150, "TRN", TRANSIT)]


async def water(town: Town, citizen: Citizen) -> list[Row]:
    await paid_bill(town, "water", "city-water", "WATER-1-4200", citizen)
    return bill_rows(4_200, WATER)


async def electricity(town: Town, citizen: Citizen) -> list[Row]:
    """A prepaid meter: a token of 20 digits, which is the same when it is asked for again."""
    desk = town.hosts.desk
    asked = await desk.inquire("electricity", "city-power", "METER-1", citizen)
    assert asked is not None
    held = await desk.pay("electricity", asked, citizen, 5_000)
    assert held is not None
    paid = await desk.confirm("electricity", held, citizen)
    assert paid is not None
    assert len(paid.token) == 20
    again = await desk.token("electricity", paid.payment, citizen)
    assert again is not None
    assert again.token == paid.token
    assert await desk.cancel("electricity", paid.payment, citizen) is None
    return bill_rows(5_000, POWER)


async def fuel(town: Town, citizen: Citizen) -> list[Row]:
    """No more is set aside than a pump may take, and no more taken than was set aside."""
    till = town.till("fuel")
    assert await town.visits.reserve(till, citizen, 40_001) is None
    hold = await town.visits.reserve(till, citizen, 30_000)
    assert hold is not None
    assert await town.visits.complete(till, hold, 30_001, advice=False) is None
    taken = await town.visits.complete(till, hold, 22_345, advice=True)
    assert taken is not None
    return [
        Row("preauthorization", 0, outcome="amount_limit"),
        Row("preauthorization", 30_000),
        Row("completion", 0, outcome="above_original"),
        Row("completion", 22_345),
    ]


async def community(town: Town, citizen: Citizen) -> list[Row]:
    """The door, and the monthly fee."""
    door = Place(Mode.COMMUNITY, "DOOR0001", "", "EAST")
    opened = await tapped(town, "community", TapKind.INSPECT, citizen, door)
    assert (opened.response_code, opened.charged_minor) == ("00", 0)
    await paid_bill(town, "community", "homes", "HOMES-1-18000", citizen)
    return [Row("inspect", 0, "", SITES), *bill_rows(18_000, HOMES)]


async def parking(town: Town, citizen: Citizen) -> list[Row]:
    """Ninety-five minutes are two hours."""
    stay = trip(now_ms(), 95, town.zone)
    barrier = Place(Mode.PARKING, "PARK0001", "", "LOT01")
    await tapped(town, "parking", TapKind.ON, citizen, barrier, stay.began_ms)
    left = await tapped(town, "parking", TapKind.OFF, citizen, barrier, stay.ended_ms)
    assert (left.response_code, left.charged_minor) == ("00", 1_000)
    return [Row("tap_on", 0, "TRN", SITES), Row("tap_off", 1_000, "TRN", SITES)]


async def tourist_centre(town: Town, citizen: Citizen) -> list[Row]:
    """A tour that is confirmed, and one that is given up."""
    till = town.till("tourist_centre")
    tour = await town.visits.reserve(till, citizen, 12_000)
    assert tour is not None
    assert await town.visits.complete(till, tour, 12_000, advice=False) is not None
    other = await town.visits.reserve(till, citizen, 9_000)
    assert other is not None
    cancel = cancel_message(
        till.dialect, other.message, stan=till.next_stan(), local_at=till.now(), rrn=other.rrn,
        auth_code=other.auth_code,
    )  # fmt: skip
    assert await till.ask(Kind.PREAUTHORIZATION_CANCEL, cancel, citizen, 9_000) is not None
    return [
        Row("preauthorization", 12_000),
        Row("completion", 12_000),
        Row("preauthorization", 9_000),
        Row("preauthorization_cancel", 9_000),
    ]


async def convenience(town: Town, citizen: Citizen) -> list[Row]:
    """A sale rung up wrongly and taken back, then right; and a load over the counter."""
    till = town.till("convenience")
    wrong = await town.visits.buy(till, citizen, 12_500)
    assert wrong is not None
    assert await town.visits.void(till, wrong) is not None
    assert await town.visits.buy(till, citizen, 1_250) is not None
    asked = load_message(till.dialect, till.sale(citizen, 5_000))
    waiting = await till.ask(Kind.LOAD_PENDING, asked, citizen, 5_000)
    assert waiting is not None
    confirmation = load_confirmation_message(
        till.dialect, waiting.message, stan=till.next_stan(), local_at=till.now(),
        rrn=waiting.rrn, auth_code=waiting.auth_code,
    )  # fmt: skip
    assert await till.ask(Kind.LOAD, confirmation, citizen, 5_000) is not None
    return [
        Row("purchase", 12_500, acquirer=SHOPS),
        Row("void", 12_500, acquirer=SHOPS),
        Row("purchase", 1_250, acquirer=SHOPS),
        Row("load_pending", 5_000, acquirer=SHOPS),
        Row("load", 5_000, acquirer=SHOPS),
    ]


async def supermarket(town: Town, _citizen: Citizen) -> list[Row]:
    """A card with 3.00 pays 3.00 of 12.00, and the rest is cash."""
    poor = town.places.poor[0]
    bought = await town.visits.buy(town.till("supermarket"), poor, 1_200)
    assert bought is not None
    assert bought.amount_minor == stage.POOR_PURSE_MINOR
    assert await town.visits.buy(town.till("supermarket"), poor, 100) is None
    return [Row("purchase", 300), Row("purchase", 0, outcome="insufficient_funds")]


async def stadium(town: Town, citizen: Citizen) -> list[Row]:
    """A ticket at the window, then in with the card."""
    assert await town.visits.buy(town.till("stadium"), citizen, 8_000) is not None
    entry = Place(Mode.STADIUM, "ENTR0001", "", "NORTH")
    assert (await tapped(town, "stadium", TapKind.INSPECT, citizen, entry)).response_code == "00"
    return [Row("purchase", 8_000), Row("inspect", 0, "", SITES)]


async def park(town: Town, citizen: Citizen) -> list[Row]:
    gate = Place(Mode.PARK, "GREN0001", "", "G01")
    answered = await tapped(town, "park", TapKind.SINGLE, citizen, gate)
    assert (answered.response_code, answered.charged_minor) == ("00", 1_500)
    return [Row("fare", 1_500, "GEN", SITES)]


async def cinema(town: Town, citizen: Citizen) -> list[Row]:
    """A ticket on the web; half of it is given back, and then no more than the other half."""
    desk = town.hosts.desk
    sold = await desk.sell("cinema", citizen, 4_500)
    assert sold is not None
    assert await desk.refund("cinema", sold, citizen, 2_000) is not None
    assert await desk.refund("cinema", sold, citizen, 2_501) is None
    return [
        Row("purchase", 4_500, acquirer=BANK),
        Row("refund", 2_000, acquirer=BANK),
        Row("refund", 0, acquirer=BANK, outcome="above_original"),
    ]


async def paid_bill(town: Town, venue: str, biller: str, bill_no: str, citizen: Citizen) -> None:
    desk = town.hosts.desk
    asked = await desk.inquire(venue, biller, bill_no, citizen)
    assert asked is not None
    assert asked.amount_minor == int(bill_no.rpartition("-")[2])
    held = await desk.pay(venue, asked, citizen, asked.amount_minor)
    assert held is not None
    assert held.state == "held"
    paid = await desk.confirm(venue, held, citizen)
    assert paid is not None
    assert (paid.payment.state, paid.token) == ("paid", "")


def bill_rows(amount_minor: int, acquirer: str) -> list[Row]:
    return [
        Row("bill_inquiry", 0, "", acquirer),
        Row("preauthorization", amount_minor, acquirer=acquirer),
        Row("completion", amount_minor, acquirer=acquirer),
    ]


def now_ms() -> int:
    return time.time_ns() // 1_000_000


Script = Callable[[Town, Citizen], Awaitable[list[Row]]]
SCRIPTS: dict[str, Script] = {
    script.__name__: script
    for script in (
        bus, metro, taxi, ferry, water, electricity, fuel, community, parking, tourist_centre,
        convenience, supermarket, stadium, park, cinema,
    )
}  # fmt: skip
SPENDING = {"fare", "tap_off", "offline_sale", "completion", "purchase"}
GIVING = {"void", "refund", "load"}


def test_every_venue_of_the_table_has_its_flow() -> None:
    assert set(SCRIPTS) == set(FLOWS) == set(VENUES)
    assert {code: flow.segment for code, flow in FLOWS.items()} == {
        code: venue.segment.value for code, venue in VENUES.items()
    }


@pytest.mark.parametrize("venue", SCRIPTS)
def test_a_venue(town: Town, venue: str) -> None:
    citizen = {"ferry": town.entitled, "supermarket": town.places.poor[0]}.get(
        venue, town.citizen(venue)
    )
    before = town.purses(citizen)
    expected = town.portal.call(SCRIPTS[venue], town, citizen)
    rows = town.fetch(ROWS, citizen.medium)
    assert [
        Row(
            row["kind"],
            row["approved_minor"],
            Purse(row["purse"]).name if row["approved_minor"] or row["kind"] == "tap_on" else "",
            row["acquirer"],
            row["outcome"],
        )
        for row in rows
    ] == [
        each if each.approved_minor or each.kind == "tap_on" else each._replace(purse="")
        for each in expected
    ]
    # A follower of a web sale has no place of its own.
    assert {row["venue"] for row in rows} - {""} == {venue}
    moved = dict.fromkeys(before, 0)
    earned: Counter[str] = Counter()
    for row in expected:
        sign = -1 if row.kind in SPENDING else 1 if row.kind in GIVING else 0
        if row.purse:
            moved[row.purse] += sign * row.approved_minor
        if row.kind != "load":  # that is owed by the agent
            earned[row.acquirer] -= sign * row.approved_minor
    after = town.purses(citizen)
    assert after == {
        purse: (balance_minor + moved[purse], held_minor)
        for purse, (balance_minor, held_minor) in before.items()
    }
    got = {row["owner"]: row["minor"] for row in town.fetch(EARNED, citizen.medium)}
    assert got == +earned


def test_a_card_that_was_reported_lost_opens_nothing(town: Town) -> None:
    lost = town.places.blocked[0]

    async def everywhere() -> set[str]:
        places = [
            ("bus", TapKind.SINGLE, Place(Mode.BUS, "BUS0001", "K9", "B01", "V0001")),
            ("metro", TapKind.ON, Place(Mode.METRO, "GATE0001", "M1", "S01")),
            ("parking", TapKind.ON, Place(Mode.PARKING, "PARK0001", "", "LOT01")),
            ("stadium", TapKind.INSPECT, Place(Mode.STADIUM, "ENTR0001", "", "NORTH")),
            ("community", TapKind.INSPECT, Place(Mode.COMMUNITY, "DOOR0001", "", "EAST")),
        ]
        codes = {
            (await tapped(town, venue, kind, lost, place)).response_code
            for venue, kind, place in places
        }
        assert await town.visits.buy(town.till("supermarket"), lost, 100) is None
        assert await town.hosts.desk.sell("cinema", lost, 100) is None
        return codes

    assert town.portal.call(everywhere) == {"62"}
    assert {row["outcome"] for row in town.fetch(ROWS, lost.medium)} == {"card_blocked"}
    assert {held for _, held in town.purses(lost).values()} == {0}


def test_the_table_of_venues_has_the_counts_of_the_day(
    town: Town, capsys: pytest.CaptureFixture[str]
) -> None:
    citizen = town.places.citizens[-1]
    gate = Place(Mode.PARK, "GREN0002", "", "G02")

    def shown() -> dict[str, Any]:
        where = ["--config", str(town.home / "citycard.toml"), "--database", town.url]
        assert main(["venues", "--json", *where]) == 0
        table = json.loads(capsys.readouterr().out)
        days: dict[str, Any] = next(
            each["day"] for each in table["venues"] if each["venue"]["code"] == "park"
        )
        return days

    before = shown()
    answered = town.portal.call(tapped, town, "park", TapKind.SINGLE, citizen, gate)
    assert answered.response_code == "00"
    assert shown() == {
        "messages": before["messages"] + 1,
        "approved": before["approved"] + 1,
        "declined": before["declined"],
        "money_minor": before["money_minor"] + 1_500,
    }
