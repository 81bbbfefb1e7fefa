"""Readers of the city: gates, doors and barriers, and a depot where buses come home.

Their taps go over one connection for each operator, all devices multiplexed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec

from loadtest.chip import Chip, TacTerms
from loadtest.city_lines import CityLine, CityTally
from loadtest.city_plan import Citizen
from loadtest.depot import BatchRefused, batch_of, ridden, upload_batch
from loadtest.tap_link import LinkLost, NoAnswer, NotTaken, TapLink
from protocols.message import Kind, Mode
from protocols.tap.words import (
    Answered,
    ChipLoad,
    ChipLoadAnswer,
    ChipLoadConfirm,
    Head,
    OfflineRecord,
    RecordResult,
    RecordStatus,
    Refused,
    RefusedReason,
    Said,
    TapAnswer,
    TapKind,
    TapSaid,
)

KINDS = {
    TapKind.SINGLE: Kind.FARE,
    TapKind.ON: Kind.TAP_ON,
    TapKind.OFF: Kind.TAP_OFF,
    TapKind.INSPECT: Kind.INSPECT,
}
STAN_MODULUS = 1_000_000
_NO_TIME = (RefusedReason.OVERLOADED, RefusedReason.LEAVING)


class Place(msgspec.Struct, frozen=True):
    """Where a reader stands; codes are the operator's."""

    mode: Mode
    device: str
    line: str = ""
    stop: str = ""
    vehicle: str = ""


class Readers:
    """All readers of an operator at one connection. `zone` is the ledger's."""

    def __init__(self, tally: CityTally, link: TapLink, zone: ZoneInfo) -> None:
        self._tally = tally
        self._link = link
        self._zone = zone

    async def tap(
        self,
        venue: str,
        kind: TapKind,
        citizen: Citizen,
        place: Place,
        *,
        event_at_ms: int = 0,
        nominal_minor: int = 0,
        due_ns: int = 0,
    ) -> TapAnswer | None:
        """One tap, now or as it was kept since `event_at_ms`; None where nothing was said."""
        at_ms = event_at_ms or _now_ms()
        said = TapSaid(
            kind, citizen.medium_octets, at_ms, place.mode, place.line, place.stop,
            place.vehicle, 1, nominal_minor,
        )  # fmt: skip
        head = self._link.next_head(place.device)
        begun_ns = due_ns or time.monotonic_ns()
        answered = await self._asked(head, said)
        line = CityLine(
            venue=venue,
            kind=KINDS[kind].value,
            key=self._key(head, at_ms, "tap"),
            card=citizen.index,
            amount_minor=nominal_minor,
            due_at_ms=_now_ms() - (time.monotonic_ns() - begun_ns) // 1_000_000,
            latency_us=max(1, (time.monotonic_ns() - begun_ns) // 1000),
            code=_code(answered),
        )
        if isinstance(answered, TapAnswer):
            line = msgspec.structs.replace(line, approved_minor=answered.charged_minor)
        self._tally.over(line)
        return answered if isinstance(answered, TapAnswer) else None

    async def load_chip(
        self, venue: str, device: str, citizen: Citizen, chip: Chip, minor: int
    ) -> bool:
        """Load a chip at a reader that is online: ask, write it, confirm."""
        at_ms = _now_ms()
        head = self._link.next_head(device)
        asked = ChipLoad(chip.medium, minor, chip.counter, chip.balance_minor, at_ms)
        if (
            await self._loading(venue, Kind.LOAD_PENDING, head, asked, citizen, minor, at_ms)
            != "00"
        ):
            return False
        chip.load(minor)
        confirmed = ChipLoadConfirm(chip.medium, head.sequence, minor, True, at_ms)
        head = self._link.next_head(device)
        return await self._loading(venue, Kind.LOAD, head, confirmed, citizen, minor, at_ms) == "00"

    async def _loading(
        self,
        venue: str,
        kind: Kind,
        head: Head,
        said: ChipLoad | ChipLoadConfirm,
        citizen: Citizen,
        amount_minor: int,
        at_ms: int,
    ) -> str:
        begun_ns = time.monotonic_ns()
        code = _code(await self._asked(head, said))
        self._tally.over(
            CityLine(
                venue=venue,
                kind=kind.value,
                key=self._key(head, at_ms, "load" if kind is Kind.LOAD_PENDING else "confirm"),
                card=citizen.index,
                amount_minor=amount_minor,
                due_at_ms=at_ms,
                latency_us=max(1, (time.monotonic_ns() - begun_ns) // 1000),
                code=code,
                approved_minor=amount_minor if code == "00" else 0,
            )
        )
        return code

    async def depot(
        self,
        citizens: Sequence[Citizen],
        tac: TacTerms,
        *,
        device: str,
        load_minor: int,
        rides: int,
        amount_minor: int,
    ) -> None:
        """Load chips, ride offline, and bring the records in when the bus is home."""
        chips = [Chip(citizen.medium_octets, tac) for citizen in citizens]
        loaded = [
            (citizen, chip)
            for citizen, chip in zip(citizens, chips, strict=True)
            if await self.load_chip("bus", "LOAD0001", citizen, chip, load_minor)
        ]
        if not loaded:
            return
        index_of = {chip.medium: citizen.index for citizen, chip in loaded}
        began_at = datetime.now(self._zone) - timedelta(seconds=rides * len(loaded) + 60)
        records = ridden(
            [chip for _, chip in loaded], rides * len(loaded), amount_minor=amount_minor,
            began_at=began_at, stop="S01",
        )  # fmt: skip
        batch = batch_of(1, records, line="K9", vehicle="V0017")
        try:
            results = await upload_batch(self._link, device, batch)
        except (LinkLost, NoAnswer, NotTaken, BatchRefused):
            self._tally.not_sent += len(records)
            return
        for record, result in zip(records, results, strict=True):
            self._record(record, result, index_of[record.medium])

    def _record(self, record: OfflineRecord, result: RecordResult, index: int) -> None:
        self._tally.uploaded[result.status.name.lower()] += 1
        number = record.transaction_number % STAN_MODULUS
        taken = result.status is not RecordStatus.REJECTED
        self._tally.over(
            CityLine(
                venue="bus",
                kind=Kind.OFFLINE_FARE.value,
                key=f"{record.terminal}-{number:06}-{record.local_at[4:]}-record",
                card=index,
                amount_minor=record.amount_minor,
                due_at_ms=_now_ms(),
                code=result.response_code,
                approved_minor=record.amount_minor if taken else 0,
            )
        )

    async def _asked(self, head: Head, said: Said) -> Answered | None:
        try:
            return await self._link.ask(head, said)
        except (LinkLost, NoAnswer):
            return None

    def _key(self, head: Head, at_ms: int, message_class: str) -> str:
        local_at = datetime.fromtimestamp(at_ms // 1000, self._zone)
        return (
            f"{head.device}-{head.sequence % STAN_MODULUS:06}-{local_at:%m%d%H%M%S}-{message_class}"
        )


def _code(answered: Answered | None) -> str:
    match answered:
        case TapAnswer() | ChipLoadAnswer():
            return answered.response_code
        case Refused():
            return "91" if answered.reason in _NO_TIME else "30"
        case None:
            return ""
        case _:
            return "96"


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
