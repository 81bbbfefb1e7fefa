"""Readers of a transit operator as a command: gates that tap, a depot that uploads, a hotlist.

    python -m loadtest.readers gates --port 8600 --acquirer 48031000 --reader-key-file KEY \\
        --mediums FILE --rate 200 --seconds 10
    python -m loadtest.readers depot … --tac-key-file KEY --records 100000
    python -m loadtest.readers hotlist … --out FILE

Keys are in files, in hex; the file of mediums has one card a line, 32 hexadecimal
characters. The figures are printed as one JSON line at the end.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import anyio
import msgspec

from loadtest.chip import Chip, TacTerms
from loadtest.depot import Batch, BatchRefused, Uploaded, batch_of, load_chip, ridden, upload
from loadtest.gates import GatePlan, RideKind, tap
from loadtest.list_reader import download
from loadtest.tally import Summary
from loadtest.tap_link import LinkLost, NoAnswer, NotTaken, TapTerms, connected
from protocols.errors import DecodeError
from protocols.message import Mode
from protocols.tap.hotlist import HotlistFile, digest_of, read_list, whole_bytes
from protocols.tap.tac import TacMethod
from protocols.tap.words import MEDIUM_BYTES

EXIT_SOUND, EXIT_FINDINGS, EXIT_USAGE = 0, 1, 2
RECORDS_PER_CHIP_MAX = 60_000
"""A counter of two bytes wraps after 65,536."""
DAY_SECONDS = 28_800
"""A bus has been out for eight hours when it comes back."""


class DepotPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Records of a depot: the chips' rides in turn, spread over buses, in batches of so many.

    `counter` is where the chips' counters stand, `load_minor` what each is loaded with before
    it rides (0: not at all). The rides fill DAY_SECONDS before `until`, a local time.
    """

    mediums: tuple[bytes, ...]
    tac: TacTerms
    records: int
    until: datetime
    per_batch: int = 1_000
    buses: int = 4
    device: str = "BUS"
    line: str = ""
    amount_minor: int = 200
    counter: int = 0
    load_minor: int = 0
    patience_seconds: float = 600.0

    def __repr__(self) -> str:
        return f"DepotPlan(records={self.records}, buses={self.buses})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [("records", self.records), ("buses", self.buses)]


class Listed(msgspec.Struct, frozen=True):
    """The hotlist that readers have now; version 0 where the switch has none."""

    version: int
    entries: int
    digest: str


async def bring_in(terms: TapTerms, plan: DepotPlan) -> Uploaded:
    """Load the chips where that is wanted, ride, and upload it all. Raises as uploads do."""
    chips = [Chip(medium, plan.tac, counter=plan.counter) for medium in plan.mediums]
    buses = batches_of(plan, chips)
    async with connected(terms) as link:
        if plan.load_minor:
            for chip in chips:
                # it is loaded as it was before it rode
                before = Chip(chip.medium, plan.tac, counter=plan.counter)
                answered = await load_chip(link, "LOAD0001", before, plan.load_minor)
                if answered.response_code != "00":
                    raise NotTaken(f"a chip could not be loaded: {answered.response_code}")
        return await upload(link, buses, patience_seconds=plan.patience_seconds)


def batches_of(plan: DepotPlan, chips: Sequence[Chip]) -> list[tuple[str, list[Batch]]]:
    """All batches of a plan by bus, made before the first is sent."""
    buses: list[tuple[str, list[Batch]]] = [
        (f"{plan.device}{number:04}", []) for number in range(plan.buses)
    ]
    began_at = plan.until - timedelta(seconds=DAY_SECONDS)
    for number, first in enumerate(range(0, plan.records, plan.per_batch)):
        count = min(plan.per_batch, plan.records - first)
        records = ridden(
            [chips[place % len(chips)] for place in range(first, first + count)],
            count,
            amount_minor=plan.amount_minor,
            began_at=began_at + timedelta(seconds=DAY_SECONDS * first // plan.records),
            seconds_apart=0,
            first_number=first + 1,
        )
        device, batches = buses[number % plan.buses]
        batches.append(batch_of(number + 1, records, line=plan.line, vehicle=f"V{device[-4:]}"))
    return buses


async def fetch(
    terms: TapTerms, have: HotlistFile | None, chunk_bytes: int, out: Path | None
) -> Listed:
    """Download and acknowledge the newest hotlist; `out` gets its bytes."""
    async with connected(terms) as link:
        newest = await download(link, terms.concentrator, have, chunk_bytes=chunk_bytes)
    if newest is None:
        return Listed(0, 0, "")
    octets = whole_bytes(newest)
    if out is not None:
        await anyio.Path(out).write_bytes(octets)
    return Listed(newest.version, newest.count, digest_of(octets).hex())


def arguments() -> argparse.ArgumentParser:
    """The command line, with units and defaults."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.readers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    modes = parser.add_subparsers(dest="what", required=True)
    gates = modes.add_parser("gates", help="taps at an open-loop rate")
    depot = modes.add_parser("depot", help="an upload of offline records")
    listed = modes.add_parser("hotlist", help="a download of the hotlist")
    for each in (gates, depot, listed):
        _add_common(each)
    _add_gates(gates)
    _add_depot(depot)
    listed.add_argument("--have", type=Path, metavar="FILE", help="the list that is there already")
    listed.add_argument("--out", type=Path, metavar="FILE", help="write the list there")
    listed.add_argument("--chunk-bytes", type=int, default=32_768)
    return parser


def _add_common(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, required=True)
    add("--acquirer", required=True, help="DE32")
    add("--reader-key-file", type=Path, required=True, help="the reader master key in hex")
    add("--key-version", type=int, default=1)
    add("--concentrator", default="CONC0001")
    add("--timeout-seconds", type=float, default=5.0, help="how long an answer is waited for")
    add("--json", type=Path, metavar="FILE", help="write the figures there as well")
    add("--backend", choices=("asyncio", "trio"), default="asyncio")


def _add_gates(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--mediums", type=Path, required=True, metavar="FILE")
    add("--rate", type=float, default=100.0, help="taps a second")
    add("--seconds", type=float, default=10.0)
    add("--warm-up-seconds", type=float, default=0.0, help="first seconds left out of latency")
    add("--kind", choices=get_args(RideKind), default="single")
    add("--mode", choices=[mode.value for mode in Mode], default="bus")
    add("--line", default="")
    add("--stops", default="", help="codes of stops, with commas between them")
    add("--fixed-place", dest="vehicles", action="store_false", help="gates have no vehicle")
    add("--devices", type=int, default=32)
    add("--device", default="GATE", help="what names of devices begin with, up to 4 characters")
    add("--nominal-minor", type=int, default=0, help="the fare that the readers know")
    add("--fare-version", type=int, default=1)
    add("--spacing", choices=("poisson", "fixed"), default="poisson")
    add("--seed", type=int, default=1)
    add("--progress", action="store_true", help="print a JSON line each second")


def _add_depot(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--mediums", type=Path, required=True, metavar="FILE")
    add("--tac-key-file", type=Path, required=True, help="the TAC master key in hex")
    add("--tac-method", choices=get_args(TacMethod), default="aes_cmac")
    add("--tac-key-version", type=int, default=1)
    add("--records", type=int, default=10_000)
    add("--per-batch", type=int, default=1_000)
    add("--buses", type=int, default=4, help="buses that upload at the same time")
    add("--device", default="BUS", help="what names of devices begin with, up to 4 characters")
    add("--line", default="")
    add("--amount-minor", type=int, default=200)
    add("--counter", type=int, default=0, help="where the chips' counters stand")
    add("--load-minor", type=int, default=0, help="load each chip with so much before")
    add("--time-zone", default="Asia/Shanghai", help="of the clocks in the vehicles")
    add("--patience-seconds", type=float, default=600.0)


def main(argv: list[str] | None = None) -> int:
    """Do it and print the figures; 0 when all went well, 1 when not, 2 for usage."""
    given = arguments().parse_args(argv)
    try:
        run, arguments_of_run = _work_of(given)
    except (ValueError, OSError, DecodeError) as wrong:
        print(f"readers: {wrong}", file=sys.stderr)
        return EXIT_USAGE
    figures: Summary | Uploaded | Listed
    try:
        figures = anyio.run(run, *arguments_of_run, backend=given.backend)
    except (LinkLost, NoAnswer, NotTaken, BatchRefused) as failed:
        print(f"readers: {failed}", file=sys.stderr)
        return EXIT_FINDINGS
    _print_line(figures)
    if given.json:
        given.json.write_bytes(msgspec.json.format(msgspec.json.encode(figures)) + b"\n")
    sound = isinstance(figures, Listed) or figures.sound
    return EXIT_SOUND if sound else EXIT_FINDINGS


def _print_line(line: msgspec.Struct) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


def _work_of(given: argparse.Namespace) -> tuple[Any, tuple[object, ...]]:
    """What to run and with what. Raises ValueError, OSError and DecodeError for wrong input."""
    terms = TapTerms(
        host=given.host,
        port=given.port,
        acquirer=given.acquirer,
        reader_key=_key(given.reader_key_file),
        key_version=given.key_version,
        concentrator=given.concentrator,
        timeout_seconds=given.timeout_seconds,
    )
    if given.what == "gates":
        report = _print_line if given.progress else None
        return partial(tap, stop_on_signals=True), (terms, gate_plan_of(given), report)
    if given.what == "depot":
        return bring_in, (terms, depot_plan_of(given))
    have = read_list(given.have.read_bytes()) if given.have else None
    return fetch, (terms, have, given.chunk_bytes, given.out)


def gate_plan_of(given: argparse.Namespace) -> GatePlan:
    """The plan that a command line asks for. Raises ValueError with what to mend."""
    if given.rate <= 0 or given.seconds <= given.warm_up_seconds or given.devices < 1:
        raise ValueError("rate and devices are above 0, and seconds above those of the warm-up")
    if len(given.device) > 4 or given.devices > 10_000:
        raise ValueError("a device has at most 4 characters here, and there are at most 10000")
    return GatePlan(
        mediums=read_mediums(given.mediums),
        rate=given.rate,
        seconds=given.seconds,
        kind=given.kind,
        mode=Mode(given.mode),
        line=given.line,
        stops=tuple(filter(None, given.stops.split(","))),
        vehicles=given.vehicles,
        devices=given.devices,
        device=given.device,
        nominal_minor=given.nominal_minor,
        fare_version=given.fare_version,
        spacing=given.spacing,
        warm_up_seconds=given.warm_up_seconds,
        seed=given.seed,
    )


def depot_plan_of(given: argparse.Namespace) -> DepotPlan:
    """The plan that a command line asks for. Raises ValueError with what to mend."""
    mediums = read_mediums(given.mediums)
    try:
        zone = ZoneInfo(given.time_zone)
    except (ZoneInfoNotFoundError, ValueError):
        raise ValueError("there is no such time zone; give one like Asia/Shanghai") from None
    if given.records < 1 or given.per_batch < 1 or not 1 <= given.buses <= 10_000:
        raise ValueError("records, per batch and buses are 1 or more, and buses at most 10000")
    if given.records > len(mediums) * RECORDS_PER_CHIP_MAX:
        raise ValueError("there are too few chips for so many records; give more mediums")
    return DepotPlan(
        mediums=mediums,
        tac=TacTerms(_key(given.tac_key_file), given.tac_method, given.tac_key_version),
        records=given.records,
        per_batch=given.per_batch,
        buses=given.buses,
        device=given.device,
        line=given.line,
        amount_minor=given.amount_minor,
        counter=given.counter,
        load_minor=given.load_minor,
        until=datetime.now(zone),
        patience_seconds=given.patience_seconds,
    )


def read_mediums(file: Path) -> tuple[bytes, ...]:
    """The mediums of a file, one a line in hex. Raises ValueError, without any of them."""
    try:
        mediums = tuple(bytes.fromhex(line) for line in file.read_text("ascii").split())
    except ValueError:
        mediums = ()
    if not mediums or any(len(medium) != MEDIUM_BYTES for medium in mediums):
        raise ValueError("the mediums are not 32 hexadecimal characters a line; write them so")
    return mediums


def _key(file: Path) -> bytes:
    try:
        return bytes.fromhex(file.read_text("ascii").strip())
    except ValueError:
        raise ValueError("a key file is not hex; write two characters for each byte") from None


if __name__ == "__main__":
    sys.exit(main())
