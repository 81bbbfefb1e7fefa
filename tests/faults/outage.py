"""What an outage of the ledger was like: when it began and ended, and who was served when.

All instants are epoch milliseconds of this machine, as in the journal of the tills.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from loadtest.life_lines import LifeLine
from switch.ledger import bridge, embedded
from tests.faults.life_reckoning import ASKED_KINDS, fates_of

RESOLVED_MS_MAX = 5_000
"""So long after the ledger's return every outcome is known to its till."""
PROBE_SECONDS = 0.004
RETURN_SECONDS_MAX = 60.0


class Outage(msgspec.Struct, frozen=True):
    """One kill of the ledger, and the first `select 1` that it answered after it."""

    killed_at_ms: int
    back_at_ms: int
    pid: int

    @property
    def down_ms(self) -> int:
        return self.back_at_ms - self.killed_at_ms


class _Probe(threading.Thread):
    """Asks `select 1` over fresh connections until it is answered."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.back_at_ms = 0
        self._url = url

    def run(self) -> None:
        give_up = time.monotonic() + RETURN_SECONDS_MAX
        while not self.back_at_ms and time.monotonic() < give_up:
            try:
                bridge.run("asyncio", self._ask)
            except (*bridge.CONNECTION_LOST, *bridge.CONNECTION_REFUSED, TimeoutError):
                time.sleep(PROBE_SECONDS)
            else:
                self.back_at_ms = now_ms()

    async def _ask(self) -> None:
        connection = await bridge.connect(self._url)
        try:
            await connection.fetch("select 1")
        finally:
            connection.terminate()


def family(pid: int) -> list[int]:
    """A process and its children, itself first."""
    found = [pid]
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text()
            except OSError:
                continue
            if int(stat.rpartition(")")[2].split()[1]) == pid:
                found.append(int(folder.name))
    return found


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def crash_and_restart(directory: Path, url: str, pid: int) -> Outage:
    """kill -9 of an embedded server, all of it, and what its operator does: start it again."""
    for each in family(pid):
        # A child may be gone by itself, as soon as the postmaster is.
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
    killed_at_ms = now_ms()
    probe = _Probe(url)
    probe.start()
    with embedded.running(directory) as again:
        probe.join()
        assert probe.back_at_ms, "the ledger did not come back"
        return Outage(killed_at_ms, probe.back_at_ms, again.pid)


def first_approvals_ms(outages: Iterable[Outage], lines: list[LifeLine]) -> list[int]:
    """For each kill, when the first approval of a message that came after it was told."""
    # A reversal needs no ledger to be accepted: stand-in has it on disk.
    approvals = [line for line in lines if line.approved and line.kind != "reversal"]
    waited = []
    for outage in outages:
        told = [line.ended_at_ms for line in approvals if line.sent_at_ms > outage.killed_at_ms]
        waited.append(min(told) - outage.killed_at_ms)
    return waited


def late_resolutions(
    outages: Iterable[Outage], lines: list[LifeLine], rows: list[Any]
) -> tuple[int, int]:
    """How many outcomes were open RESOLVED_MS_MAX after a return, and how long the slowest was.

    Of messages that began before the return: each is resolved when it, or its reversal, was
    answered definitely and, where there is a row of that in the ledger, when that was posted.
    A ledger that is killed again before that has not returned: what counts is the longest
    time that it was there without a break.
    """
    outages = list(outages)
    late, slowest_ms = 0, 0
    posted_ms = {
        f"{row['terminal']}-{row['stan']}-{row['local_at']}-{row['message_class']}": (
            row["posted_at_us"] // 1000
        )
        for row in rows
        if row["kind"] in ASKED_KINDS or row["kind"] == "reversal"
    }
    fates = fates_of(lines)
    for outage in outages:
        for fate in fates:
            end = fate.reversal or fate.line
            over_ms = max(end.ended_at_ms, posted_ms.get(end.key, 0))
            began_ms = fate.line.sent_at_ms
            if outage.killed_at_ms - 2_000 < began_ms < outage.back_at_ms < over_ms:
                took_ms = _longest_up_ms(outages, outage.back_at_ms, over_ms)
                slowest_ms = max(slowest_ms, took_ms)
                late += took_ms > RESOLVED_MS_MAX
    return late, slowest_ms


def _longest_up_ms(outages: list[Outage], from_ms: int, to_ms: int) -> int:
    """The longest time without an outage between two instants."""
    longest_ms, since_ms = 0, from_ms
    for outage in outages:
        if from_ms < outage.killed_at_ms < to_ms:
            longest_ms = max(longest_ms, outage.killed_at_ms - since_ms)
            since_ms = min(outage.back_at_ms, to_ms)
    return max(longest_ms, to_ms - since_ms)


def compared(
    outages: list[Outage], bare: list[Outage], lines: list[LifeLine], slowest_ms: int
) -> tuple[float, str]:
    """First approval against the first `select 1` after the same kills, medians; and in words.

    A bare restart is that of the same cluster with nobody there: less to replay, and both
    processors to itself.
    """
    approval_ms = median(first_approvals_ms(outages, lines))
    down_ms = median(outage.down_ms for outage in outages)
    bare_ms = median(outage.down_ms for outage in bare)
    ratio = approval_ms / down_ms
    return ratio, (
        f"medians: first approval {approval_ms:.0f} ms, select 1 {down_ms:.0f} ms "
        f"(ratio {ratio:.2f}), bare restart {bare_ms:.0f} ms "
        f"(ratio {approval_ms / bare_ms:.2f}); slowest outcome {slowest_ms} ms"
    )
