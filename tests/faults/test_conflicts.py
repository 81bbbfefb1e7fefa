"""Somebody raises the versions of all accounts all the time: every posting meets conflicts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

from switch.demo import stage
from switch.ledger import bridge

HOT_CARDS = 120
RAISE_VERSIONS = "update ledger.account set version = version + 1 where account_id % 3 = $1"
PAUSE_SECONDS = 0.002
CONFLICTS_MIN = 20


class Meddler:
    """Raises account versions, a third of them at a time, until told to stop."""

    def __init__(self, url: str) -> None:
        self.rounds = 0
        self._url = url
        self._stop = threading.Event()

    def run(self) -> None:
        bridge.run("asyncio", self._meddle)

    async def _meddle(self) -> None:
        connection = await bridge.connect(self._url)
        try:
            while not self._stop.is_set():
                await connection.fetch(RAISE_VERSIONS, self.rounds % 3)
                self.rounds += 1
                await anyio.sleep(PAUSE_SECONDS)
        finally:
            await connection.close()

    @contextmanager
    def meddling(self) -> Iterator[None]:
        thread = threading.Thread(target=self.run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join(10)


def test_version_conflicts_forced(database, life_setting, life, judged, patiently, faults, scraped):
    staged = life_setting(database, crowd=stage.Crowd(HOT_CARDS, 1, 3))
    meddler = Meddler(database)
    with staged.serving(workers=2) as ready:
        tills = life(staged, ready.links["retail-1"], "--rate", "50")
        tills.approved(10)

        def conflicts() -> float:
            name = "citycard_posting_conflicts_total"
            return sum(scraped(port, name) for port in ready.metrics)

        with meddler.meddling():
            patiently(lambda: conflicts() >= CONFLICTS_MIN * faults, 30 + 5 * faults)
            tills.approved(10)
            met = int(conflicts())
            summary = tills.stop()
    assert not summary.mismatched
    judged(tills, "version conflict forced", met)
