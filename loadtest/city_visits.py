"""What people do at the fifteen venues of the city (domain §5): each visit is a venue's real
flow, over the protocol that its readers, tills or counters speak.

How often each venue is visited is a proposal of the shape only: many taps, fewer shops, few
bills (domain §9).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from datetime import time as time_of_day
from random import Random
from zoneinfo import ZoneInfo

import anyio
import msgspec

from loadtest.city_desk import Desk
from loadtest.city_lines import CityTally
from loadtest.city_plan import Citizen, Places
from loadtest.city_readers import Place, Readers
from loadtest.city_tills import Approved, Till, TillLink
from protocols.iso8583 import Message
from protocols.iso8583.client import (
    cancel_message,
    completion_message,
    load_confirmation_message,
    load_message,
    offline_sale_message,
    preauthorization_message,
    sale_message,
    void_message,
)
from protocols.message import Kind, Mode
from protocols.tap.words import TapKind

FARE_DAY_START = time_of_day(4, 30)
"""Of the shipped fare tables: a ride does not go from one fare day into the next."""
METRO_STOPS = tuple(f"S{number:02}" for number in range(1, 11))
BUS_LINES = ("K3", "K5", "K9")
MERCHANT_CATEGORIES = {
    "taxi": "4121",
    "fuel": "5542",
    "tourist_centre": "4722",
    "convenience": "5499",
    "supermarket": "5411",
    "stadium": "7941",
}
TERMINALS = 4
"""Of each venue that has terminals."""


class Trip(msgspec.Struct, frozen=True):
    """From when to when, in epoch milliseconds."""

    began_ms: int
    ended_ms: int


def trip(now_ms: int, minutes: int, zone: ZoneInfo) -> Trip:
    """A trip of so many minutes that ends now, or before the fare day did that it began on."""
    ended = datetime.fromtimestamp(now_ms / 1000, zone)
    start = datetime.combine(ended.date(), FARE_DAY_START, zone)
    if start <= ended < start + timedelta(minutes=minutes + 1):
        ended = start - timedelta(minutes=1)
    ended_ms = int(ended.timestamp() * 1000)
    return Trip(ended_ms - minutes * 60_000, ended_ms)


class Hosts(msgspec.Struct, frozen=True):
    """The connections of a city."""

    shops: TillLink
    counters: TillLink
    taxis: TillLink
    transit: Readers
    sites: Readers
    desk: Desk


class Visits:
    """The flows, by venue. `run` names this run in numbers of bills, so that none comes twice."""

    def __init__(self, places: Places, hosts: Hosts, tally: CityTally, dice: Random, run: str):
        self._zone = ZoneInfo(places.time_zone)
        self._hosts = hosts
        self._dice = dice
        self._run = run
        self._bills = 0
        links = {"taxi": hosts.taxis, "convenience": hosts.shops}
        self._tills = {
            venue: [
                Till(
                    tally, links.get(venue, hosts.counters), venue, mcc,
                    f"{venue[:4].upper()}{number:04}".replace("_", "X"),
                )
                for number in range(TERMINALS)
            ]
            for venue, mcc in MERCHANT_CATEGORIES.items()
        }  # fmt: skip

    # ---- transit

    async def bus(self, citizen: Citizen, due_ns: int = 0) -> None:
        """A single tap; one in five changes buses, and both taps were kept in a tunnel."""
        if self._dice.random() >= 0.2:
            await self._board(citizen, self._dice.choice(BUS_LINES), _now_ms(), due_ns)
            return
        ride = trip(_now_ms() - 90_000, 20, self._zone)
        first, second = self._dice.sample(BUS_LINES, 2)
        await self._board(citizen, first, ride.began_ms, due_ns)
        await self._board(citizen, second, ride.ended_ms)

    async def _board(self, citizen: Citizen, line: str, at_ms: int, due_ns: int = 0) -> None:
        number = self._dice.randrange(200)
        place = Place(Mode.BUS, f"BUS{number:04}", line, f"B{number % 37:02}", f"V{number:04}")
        await self._hosts.transit.tap(
            "bus", TapKind.SINGLE, citizen, place, event_at_ms=at_ms, nominal_minor=200,
            due_ns=due_ns,
        )  # fmt: skip

    async def metro(self, citizen: Citizen, due_ns: int = 0) -> None:
        """On and off; the ride itself is not waited for."""
        ride = trip(_now_ms(), 18, self._zone)
        came, went = self._dice.sample(METRO_STOPS, 2)
        gate = self._dice.randrange(100)
        entered = await self._hosts.transit.tap(
            "metro", TapKind.ON, citizen, Place(Mode.METRO, f"GATE{gate:04}", "M1", came),
            event_at_ms=ride.began_ms, due_ns=due_ns,
        )  # fmt: skip
        if entered is not None and entered.response_code == "00":
            await self._pause(0.3)
            await self._hosts.transit.tap(
                "metro", TapKind.OFF, citizen, Place(Mode.METRO, f"GATE{gate:04}", "M1", went),
                event_at_ms=ride.ended_ms,
            )  # fmt: skip

    async def ferry(self, citizen: Citizen, due_ns: int = 0) -> None:
        """A gate at the pier."""
        pier = self._dice.randrange(4)
        place = Place(Mode.FERRY, f"PIER{pier:04}", "F1", f"P{pier:02}")
        await self._hosts.transit.tap(
            "ferry", TapKind.SINGLE, citizen, place, nominal_minor=300, due_ns=due_ns
        )

    async def taxi(self, citizen: Citizen, due_ns: int = 0) -> None:
        """The meter approved it on the road; the taxi tells of it now."""
        amount_minor = self._dice.randrange(1_000, 3_500)
        till = self._till("taxi")
        sale = till.sale(citizen, amount_minor)

        def advice(repeat: bool) -> Message:
            return offline_sale_message(till.dialect, sale, repeat=repeat)

        await till.insist(Kind.OFFLINE_SALE, advice, citizen, amount_minor, due_ns)

    async def parking(self, citizen: Citizen, due_ns: int = 0) -> None:
        """In, and out after some hours."""
        stay = trip(_now_ms(), self._dice.choice((20, 50, 95, 170)), self._zone)
        barrier = Place(Mode.PARKING, f"PARK{self._dice.randrange(20):04}", "", "LOT01")
        entered = await self._hosts.sites.tap(
            "parking", TapKind.ON, citizen, barrier, event_at_ms=stay.began_ms, due_ns=due_ns
        )
        if entered is not None and entered.response_code == "00":
            await self._pause(0.3)
            await self._hosts.sites.tap(
                "parking", TapKind.OFF, citizen, barrier, event_at_ms=stay.ended_ms
            )

    # ---- utilities

    async def water(self, citizen: Citizen, due_ns: int = 0) -> None:
        """A bill: asked for, paid, confirmed; some think better of it."""
        await self._bill("water", "city-water", citizen, due_ns)

    async def electricity(self, citizen: Citizen, due_ns: int = 0) -> None:
        """A prepaid meter: money for a token, which a bad printer makes them ask for again."""
        desk = self._hosts.desk
        asked = await desk.inquire(
            "electricity", "city-power", f"METER-{self._next_bill()}", citizen, due_ns
        )
        if asked is None:
            return
        amount_minor = self._dice.randrange(3_000, 9_000)
        held = await desk.pay("electricity", asked, citizen, amount_minor)
        if held is None:
            return
        paid = await desk.confirm("electricity", held, citizen)
        if paid is not None and paid.payment.state == "paid" and self._dice.random() < 0.3:
            await desk.token("electricity", paid.payment, citizen)

    async def community(self, citizen: Citizen, due_ns: int = 0) -> None:
        """A door, and for one in ten the monthly fee."""
        if self._dice.random() < 0.1:
            await self._bill("community", "homes", citizen, due_ns)
            return
        place = Place(Mode.COMMUNITY, f"DOOR{self._dice.randrange(50):04}", "", "EAST")
        await self._hosts.sites.tap("community", TapKind.INSPECT, citizen, place, due_ns=due_ns)

    async def _bill(self, venue: str, biller: str, citizen: Citizen, due_ns: int) -> None:
        desk, amount_minor = self._hosts.desk, self._dice.randrange(2_000, 8_000)
        bill_no = f"{venue.upper()}-{self._next_bill()}-{amount_minor}"
        asked = await desk.inquire(venue, biller, bill_no, citizen, due_ns)
        held = await desk.pay(venue, asked, citizen, asked.amount_minor) if asked else None
        if held is None:
            return
        if self._dice.random() < 0.1:
            await desk.cancel(venue, held, citizen)
        else:
            await desk.confirm(venue, held, citizen)

    # ---- counters

    async def fuel(self, citizen: Citizen, due_ns: int = 0) -> None:
        """An amount is set aside at the pump, and what was pumped is taken."""
        till = self._till("fuel")
        hold = await self.reserve(till, citizen, 30_000, due_ns)
        if hold is not None:
            await self._pause(0.5)
            await self.complete(till, hold, self._dice.randrange(8_000, 28_000), advice=True)

    async def tourist_centre(self, citizen: Citizen, due_ns: int = 0) -> None:
        """A tour is reserved and then confirmed; some don't come, some give it back."""
        till = self._till("tourist_centre")
        hold = await self.reserve(till, citizen, self._dice.randrange(5_000, 20_000), due_ns)
        if hold is None:
            return
        if self._dice.random() < 0.1:
            cancel = cancel_message(
                till.dialect, hold.message, stan=till.next_stan(), local_at=till.now(),
                rrn=hold.rrn, auth_code=hold.auth_code,
            )  # fmt: skip
            await till.ask(Kind.PREAUTHORIZATION_CANCEL, cancel, citizen, hold.amount_minor)
            return
        confirmed = await self.complete(till, hold, hold.amount_minor, advice=False)
        if confirmed is not None and self._dice.random() < 0.1:
            await self.void(till, confirmed)

    async def convenience(self, citizen: Citizen, due_ns: int = 0) -> None:
        """A sale, rung up wrongly at times; or a load with the agent behind the counter."""
        till = self._till("convenience")
        if self._dice.random() < 0.1:
            await self._load(till, citizen, due_ns)
            return
        sold = await self.buy(till, citizen, self._dice.randrange(300, 4_000), due_ns)
        if sold is not None and self._dice.random() < 0.15:
            await self.void(till, sold)

    async def _load(self, till: Till, citizen: Citizen, due_ns: int) -> None:
        amount_minor = 5_000
        asked = load_message(till.dialect, till.sale(citizen, amount_minor))
        waiting = await till.ask(Kind.LOAD_PENDING, asked, citizen, amount_minor, due_ns)
        if waiting is None:
            return
        stan, local_at = till.next_stan(), till.now()

        def confirmation(repeat: bool) -> Message:
            return load_confirmation_message(
                till.dialect, waiting.message, stan=stan, local_at=local_at, rrn=waiting.rrn,
                auth_code=waiting.auth_code, repeat=repeat,
            )  # fmt: skip

        await till.insist(Kind.LOAD, confirmation, citizen, amount_minor)

    async def supermarket(self, citizen: Citizen, due_ns: int = 0) -> None:
        """A sale; its terminals take less where there is no more, and the rest in cash."""
        await self.buy(self._till("supermarket"), citizen, self._dice.randrange(900, 9_000), due_ns)

    async def stadium(self, citizen: Citizen, due_ns: int = 0) -> None:
        """A ticket at the window, then in with the card."""
        ticket = await self.buy(self._till("stadium"), citizen, 8_000, due_ns)
        if ticket is not None:
            await self._pause(0.3)
            place = Place(Mode.STADIUM, f"ENTR{self._dice.randrange(12):04}", "", "NORTH")
            await self._hosts.sites.tap("stadium", TapKind.INSPECT, citizen, place)

    async def park(self, citizen: Citizen, due_ns: int = 0) -> None:
        """A gate that charges."""
        gate = self._dice.randrange(6)
        place = Place(Mode.PARK, f"GREN{gate:04}", "", f"G{gate:02}")
        await self._hosts.sites.tap(
            "park", TapKind.SINGLE, citizen, place, nominal_minor=1_500, due_ns=due_ns
        )

    async def cinema(self, citizen: Citizen, due_ns: int = 0) -> None:
        """A ticket on the web, given back at times."""
        desk, amount_minor = self._hosts.desk, self._dice.choice((3_500, 4_500, 6_000))
        sold = await desk.sell("cinema", citizen, amount_minor, due_ns)
        if sold is not None and self._dice.random() < 0.15:
            await desk.refund("cinema", sold, citizen, amount_minor)

    # ---- steps that several venues take

    async def buy(
        self, till: Till, citizen: Citizen, amount_minor: int, due_ns: int = 0
    ) -> Approved | None:
        message = sale_message(till.dialect, till.sale(citizen, amount_minor))
        return await till.ask(Kind.PURCHASE, message, citizen, amount_minor, due_ns)

    async def void(self, till: Till, sold: Approved) -> Approved | None:
        # What was approved is taken back, which is less than was asked for at times.
        fields = sold.message.fields | {4: f"{sold.amount_minor:012}"}
        message = void_message(
            till.dialect, Message(sold.message.mti, fields), stan=till.next_stan(),
            local_at=till.now(), rrn=sold.rrn, auth_code=sold.auth_code,
        )  # fmt: skip
        return await till.ask(Kind.VOID, message, sold.citizen, sold.amount_minor)

    async def reserve(
        self, till: Till, citizen: Citizen, amount_minor: int, due_ns: int = 0
    ) -> Approved | None:
        message = preauthorization_message(till.dialect, till.sale(citizen, amount_minor))
        return await till.ask(Kind.PREAUTHORIZATION, message, citizen, amount_minor, due_ns)

    async def complete(
        self, till: Till, hold: Approved, amount_minor: int, *, advice: bool
    ) -> Approved | None:
        stan, local_at = till.next_stan(), till.now()

        def completion(repeat: bool) -> Message:
            return completion_message(
                till.dialect, hold.message, stan=stan, local_at=local_at, rrn=hold.rrn,
                auth_code=hold.auth_code, amount_minor=amount_minor, advice=advice,
                repeat=repeat,
            )  # fmt: skip

        if advice:
            return await till.insist(Kind.COMPLETION, completion, hold.citizen, amount_minor)
        return await till.ask(Kind.COMPLETION, completion(False), hold.citizen, amount_minor)

    def _till(self, venue: str) -> Till:
        return self._dice.choice(self._tills[venue])

    def _next_bill(self) -> str:
        self._bills += 1
        return f"{self._run}{self._bills}"

    async def _pause(self, seconds_max: float) -> None:
        await anyio.sleep(self._dice.random() * seconds_max)


Visit = Callable[[Visits, Citizen, int], Awaitable[None]]


class Flow(msgspec.Struct, frozen=True):
    """How often a venue is visited, beside the others, and how many messages a visit makes."""

    segment: str
    share: float
    messages: float
    visit: Visit


FLOWS: Mapping[str, Flow] = {
    "bus": Flow("transit", 30, 1.2, Visits.bus),
    "metro": Flow("transit", 22, 2, Visits.metro),
    "taxi": Flow("transit", 3, 1, Visits.taxi),
    "ferry": Flow("transit", 4, 1, Visits.ferry),
    "water": Flow("utility", 0.7, 3, Visits.water),
    "electricity": Flow("utility", 0.7, 3.3, Visits.electricity),
    "fuel": Flow("retail", 3, 2, Visits.fuel),
    "community": Flow("utility", 5, 1.2, Visits.community),
    "parking": Flow("transit", 4, 2, Visits.parking),
    "tourist_centre": Flow("retail", 2, 2.1, Visits.tourist_centre),
    "convenience": Flow("retail", 5, 1.25, Visits.convenience),
    "supermarket": Flow("retail", 4, 1, Visits.supermarket),
    "stadium": Flow("retail", 3, 2, Visits.stadium),
    "park": Flow("retail", 4, 1, Visits.park),
    "cinema": Flow("retail", 1.2, 1.15, Visits.cinema),
}
"""The fifteen, by their codes in the venue table, with their segments there."""
_MESSAGES = sum(flow.share * flow.messages for flow in FLOWS.values())


def visit_rates(messages_rate: float) -> dict[str, float]:
    """Visits a second by venue that make this many messages a second in all."""
    return {code: messages_rate * flow.share / _MESSAGES for code, flow in FLOWS.items()}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
