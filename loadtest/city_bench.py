"""What background work costs the gates: a depot's upload and a debit file beside steady taps.

Four phases on one switch: taps alone, with an upload of offline records, with a debit file,
and with both at once. Taps are offered at an open-loop rate, their latency is from when each
was due, and a phase lasts until its background work has ended. Everything shares this machine.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import anyio
import httpx
import msgspec

from loadtest.chip import Chip, TacTerms
from loadtest.city_plan import Citizen, Places, read_places
from loadtest.depot import Uploaded, load_chip
from loadtest.gates import GateLine, GatePlan
from loadtest.staged import Ended, Serving, StageFailed, staged_switch
from loadtest.tally import Summary
from loadtest.tap_link import connected
from protocols.message import Mode

WARM_UP_SECONDS = 2.0
PHASE_SECONDS_MAX = 1_200.0
CHIPS_MAX = 2_500
CUSTOMERS = 4_000
AT_ONCE = 32
PART_BYTES = 65_536
RIDE_MINOR = 1
BILL_MINOR = 10
BILLER = "city-water"
TARGET_P99_MS = 50.0
NO_TIME = "91"


class TapsBeside(msgspec.Struct, frozen=True):
    """Taps of a phase: their latency, and that of the accepted ones; `refused` for load.

    `p99_ratio` is to the phase without anything beside it. `per_second` is by work.
    """

    beside: str
    seconds: float
    taps: int
    p50_ms: float
    p99_ms: float
    p99_ratio: float
    refused: int
    unanswered: int
    accepted_p99_ms: float
    per_second: dict[str, float]


class CityBench(msgspec.Struct, frozen=True):
    """All phases, and the audit of their ledger."""

    rate: float
    records: int
    rows: int
    phases: list[TapsBeside]
    audit: Ended


class DebitStatus(msgspec.Struct, frozen=True):
    """How far a debit file is, as far as it is asked here."""

    row_count: int
    answered_count: int
    collected_count: int
    accepted_at: datetime | None
    ended_at: datetime | None


T = TypeVar("T")
Work = Callable[[], Awaitable[float]]
"""Background work; how much of it was done a second."""


class CityAtWork:
    """The gates of a staged city, its chips and its water company."""

    def __init__(self, places: Places, rate: float, records: int, rows: int) -> None:
        self._places = places
        self._rate = rate
        self._records = records
        self._rows = rows
        self._chips = [each for each in places.citizens if each.chip][:CHIPS_MAX]
        self._riders = [each for each in places.citizens if not each.chip]
        self._rides = -(-records // len(self._chips))
        self._uploads = self._files = 0

    async def prepare(self, uploads: int) -> None:
        """Money on the chips for all uploads, and mandates for the debit files."""
        async with connected(self._places.transit.terms(self._places.host)) as link:

            async def load(citizen: Citizen) -> None:
                amount_minor = max(1_000, self._rides * uploads * RIDE_MINOR)
                chip = Chip(citizen.medium_octets, TacTerms(bytes(16)))
                answered = await load_chip(link, "LOAD0001", chip, amount_minor)
                if answered.response_code != "00":
                    raise StageFailed(f"a chip could not be loaded: {answered.response_code}")

            await _each(self._chips, load)
        async with self._client() as client:

            async def give(numbered: tuple[int, Citizen]) -> None:
                number, citizen = numbered
                asked = {"biller": BILLER, "customer": f"C-{number}", "card": citizen.medium}
                (await client.post("/v1/mandates", json=asked)).raise_for_status()

            await _each(list(enumerate(self._riders[:CUSTOMERS])), give)

    async def phase(self, beside: str, seconds: float, works: Mapping[str, Work]) -> TapsBeside:
        """Taps for so many seconds, and for as long as the works take."""
        terms = self._places.transit.terms(self._places.host)
        plan = GatePlan(
            mediums=tuple(each.medium_octets for each in self._riders),
            rate=self._rate,
            seconds=PHASE_SECONDS_MAX,
            mode=Mode.BUS,
            line="K9",
            # without stops and vehicles no rule asks where else a card was just now
            vehicles=False,
            device="GATE",
            nominal_minor=200,
            seed=time.time_ns() % 1_000_000,
        )
        begun_ns = time.monotonic_ns() + 200_000_000
        line = GateLine(plan, terms, begun_ns)
        line.tally.measure_from_ns = begun_ns + int(WARM_UP_SECONDS * 1e9)
        per_second: dict[str, float] = {}

        async def do(name: str, work: Work) -> None:
            per_second[name] = await work()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(line.run)
            await anyio.sleep(WARM_UP_SECONDS)
            with anyio.fail_after(PHASE_SECONDS_MAX):
                async with anyio.create_task_group() as working:
                    for name, work in works.items():
                        working.start_soon(do, name, work)
                    if not works:
                        await anyio.sleep(seconds)
            elapsed = (time.monotonic_ns() - line.tally.measure_from_ns) / 1e9
            line.stop()
        summary = line.tally.summary(seconds=elapsed, cpu_seconds=0.0)
        return _told(beside, summary, per_second)

    async def upload(self) -> float:
        """All records of a depot, in a process of its own; records a second."""
        door, counter = self._places.transit, self._uploads * self._rides
        self._uploads += 1
        with TemporaryDirectory(prefix="citycard-depot-") as directory:
            where = anyio.Path(directory)
            await (where / "reader.key").write_text(door.reader_key)
            await (where / "tac.key").write_text(self._places.tac_key)
            await (where / "mediums").write_text("\n".join(each.medium for each in self._chips))
            command = [
                *(sys.executable, "-m", "loadtest.readers", "depot", "--port", str(door.port)),
                *("--acquirer", door.acquirer, "--concentrator", "DEPOT001", "--line", "K9"),
                *("--reader-key-file", str(where / "reader.key")),
                *("--tac-key-file", str(where / "tac.key"), "--mediums", str(where / "mediums")),
                *("--records", str(self._records), "--counter", str(counter)),
                *("--amount-minor", str(RIDE_MINOR), "--timeout-seconds", "60"),
                *("--patience-seconds", str(PHASE_SECONDS_MAX)),
            ]
            done = await anyio.run_process(command, check=False)
        said = done.stdout.splitlines() or [b""]
        try:
            uploaded = msgspec.json.decode(said[-1], type=Uploaded)
        except msgspec.MsgspecError:
            words = done.stderr.decode(errors="replace").strip()
            raise StageFailed(f"the depot ended with {done.returncode}: {words}") from None
        if not uploaded.sound:
            raise StageFailed(f"not every record was posted: {uploaded.codes}")
        return uploaded.records_per_second

    async def collect(self) -> float:
        """A debit file to its end; rows a second from when it was accepted."""
        self._files += 1
        path = f"/v1/debit-files/bench{self._files}"
        query = {"biller": BILLER}
        async with self._client() as client:
            sent = await client.put(path, params=query, content=_parts(self._file()))
            sent.raise_for_status()
            while True:
                found = await client.get(path, params=query)
                found.raise_for_status()
                status = msgspec.json.decode(found.content, type=DebitStatus)
                if status.ended_at is not None and status.accepted_at is not None:
                    break
                await anyio.sleep(0.5)
        if status.collected_count != status.row_count:
            raise StageFailed(f"{status.collected_count} of {status.row_count} rows collected")
        seconds = (status.ended_at - status.accepted_at).total_seconds()
        return round(status.row_count / seconds, 1)

    def _client(self) -> httpx.AsyncClient:
        api = self._places.api
        return httpx.AsyncClient(
            base_url=f"http://{self._places.host}:{api.port}",
            headers={"authorization": f"Bearer {api.debits_key}"},
            trust_env=False,
            timeout=60.0,
        )

    def _file(self) -> bytes:
        day = f"{datetime.now(UTC):%Y%m%d}"
        customers = min(CUSTOMERS, len(self._riders))
        lines = [f"{self._rows}|{self._rows * BILL_MINOR}\n"]
        lines += [
            f"{day}|B{self._files}-{number}|C-{number % customers}|{BILL_MINOR}|01|M\n"
            for number in range(self._rows)
        ]
        octets = "".join(lines).encode("ascii")
        return octets + f"sha256|{hashlib.sha256(octets).hexdigest()}\n".encode("ascii")


def bench_city(
    *, rate: float, seconds: float, records: int, rows: int, cards: int, workers: int,
    say: Callable[[str], None], beside: str = "",
) -> CityBench:  # fmt: skip
    """Stage a city and run the four phases, or the first and the one named. Raises StageFailed."""
    with staged_switch(cards=cards, city=True) as staged:
        serving: Serving = staged.serve(workers=workers)
        at_work = CityAtWork(read_places(Path(serving.places)), rate, records, rows)
        phases = anyio.run(_phases, at_work, seconds, say, beside)
        ended = staged.end()
    return CityBench(rate, records, rows, phases, ended)


async def _phases(
    at_work: CityAtWork, seconds: float, say: Callable[[str], None], only: str
) -> list[TapsBeside]:
    say("city: loading chips, giving mandates")
    await at_work.prepare(uploads=2)
    wanted: list[tuple[str, dict[str, Work]]] = [
        ("nothing", {}),
        ("upload", {"records": at_work.upload}),
        ("debit file", {"rows": at_work.collect}),
        ("both", {"records": at_work.upload, "rows": at_work.collect}),
    ]
    phases = []
    for beside, works in wanted:
        if only and beside not in ("nothing", only):
            continue
        say(f"city: taps beside {beside}")
        phases.append(await at_work.phase(beside, seconds, works))
    alone_ms = phases[0].p99_ms
    return [
        msgspec.structs.replace(
            each, p99_ratio=round(each.p99_ms / alone_ms, 2) if alone_ms else 0.0
        )
        for each in phases
    ]


def city_table(bench: CityBench) -> str:
    """The phases as text."""
    lines = [
        f"{'taps beside':<12}{'seconds':>9}{'taps':>8}{'p50 ms':>9}{'p99 ms':>9}{'ratio':>7}"
        f"{'91':>6}{'lost':>6}   done a second"
    ]
    for each in bench.phases:
        done = ", ".join(f"{rate:,.0f} {name}" for name, rate in each.per_second.items())
        lines.append(
            f"{each.beside:<12}{each.seconds:>9.1f}{each.taps:>8}{each.p50_ms:>9.1f}"
            f"{each.p99_ms:>9.1f}{each.p99_ratio:>7.2f}{each.refused:>6}{each.unanswered:>6}"
            f"   {done}"
        )
    audit = "clean" if bench.audit.clean else f"HAS FINDINGS: {bench.audit.findings}"
    worst_ms = max(each.p99_ms for each in bench.phases)
    kept = "kept" if worst_ms <= TARGET_P99_MS else "NOT kept"
    lines.append(
        f"{bench.rate:,.0f} taps/s, {bench.records:,} records, {bench.rows:,} rows; p99 within "
        f"{TARGET_P99_MS:.0f} ms {kept}; audit {audit}"
    )
    return "\n".join(lines)


def _told(beside: str, summary: Summary, per_second: dict[str, float]) -> TapsBeside:
    return TapsBeside(
        beside=beside,
        seconds=summary.seconds,
        taps=summary.sent,
        p50_ms=summary.latency.p50_ms,
        p99_ms=summary.latency.p99_ms,
        p99_ratio=1.0,
        refused=summary.outcomes.get(NO_TIME, 0),
        unanswered=summary.unanswered + summary.not_sent,
        accepted_p99_ms=summary.accepted_latency.p99_ms,
        per_second=per_second,
    )


async def _each(several: Sequence[T], do: Callable[[T], Awaitable[None]]) -> None:
    """Do it with each of them, so many at once. Raises what the first raised."""
    waiting = iter(several)
    failed: list[Exception] = []

    async def one_after_the_other() -> None:
        for each in waiting:
            if failed:
                return
            try:
                await do(each)
            except Exception as error:  # noqa: BLE001 - raised again below, out of the task group
                failed.append(error)

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(one_after_the_other)
    if failed:
        raise failed[0]


async def _parts(octets: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(octets), PART_BYTES):
        yield octets[start : start + PART_BYTES]
