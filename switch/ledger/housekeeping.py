"""Keeps the days ahead, the hotlist's end of entries, old counters and the audit's gauge right."""

from __future__ import annotations

import functools

import anyio

from switch.calendar import BusinessCalendar
from switch.clock import Clock
from switch.config import Config
from switch.ledger import bridge, partitions
from switch.ledger.audit import audit
from switch.ledger.bucket_follower import drop_old_buckets
from switch.ledger.failures import LedgerLost, LedgerRefused, guarded
from switch.ledger.hotlist_publishing import HotlistJumps, HotlistUnproven, publish_expired
from switch.logs import get as get_log
from switch.metrics import Metrics

FIRST_SECONDS = 60
INTERVAL_SECONDS = 600
MISSING_AGAIN_SECONDS = 1.0
AUDITED_DAYS = 1
AUDIT_SECONDS_MAX = 300
PUBLISH_SECONDS_MAX = 60
BUCKETS_SECONDS_MAX = 60
BUCKET_CHUNKS_MAX = 100
"""Half hours of buckets that one look deletes: two days of them."""

_log = get_log("worker")


class Housekeeping:
    """Every ten minutes: partitions for the days ahead and, in one worker, expiry and audit."""

    def __init__(
        self,
        config: Config,
        url: str,
        *,
        audits: bool,
        calendar: BusinessCalendar,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._config = config
        self._url = url
        self._audits = audits
        self._calendar = calendar
        self._clock = clock
        self._metrics = metrics
        self._day_missing = anyio.Event()

    def day_missing(self) -> None:
        """A posting found no partition for its day: look now, not in ten minutes."""
        self._day_missing.set()

    async def run(self) -> None:
        """Keep house until cancelled; what a ledger that is away puts off is done next time."""
        wait_seconds = FIRST_SECONDS
        while True:
            with anyio.move_on_after(wait_seconds):
                await self._day_missing.wait()
            self._day_missing = anyio.Event()
            wait_seconds = INTERVAL_SECONDS
            try:
                connection = await bridge.connect(self._url)
                try:
                    await self._make_partitions(connection)
                    if self._audits:
                        await self._publish_expired(connection)
                        await self._drop_old_buckets(connection)
                        await self._audit(connection)
                finally:
                    connection.terminate()
            except (LedgerLost, LedgerRefused, *bridge.CONNECTION_LOST, TimeoutError) as error:
                _log.warning("housekeeping was put off", reason=type(error).__name__)
            # Once a second at most, however many postings miss their day.
            await anyio.sleep(MISSING_AGAIN_SECONDS)

    async def _make_partitions(self, connection: bridge.Connection) -> None:
        made = await guarded(
            partitions.make_ahead,
            connection,
            self._calendar.business_date(self._clock.now_us()),
            self._config.ledger.partitions_ahead_days,
            seconds=self._config.ledger.connect_timeout_seconds,
        )
        if made:
            _log.info("partitions made", days=[day.isoformat() for day in made])

    async def _publish_expired(self, connection: bridge.Connection) -> None:
        """Hotlist entries whose time is over come off the readers' list; one worker does it."""
        try:
            version = await guarded(publish_expired, connection, seconds=PUBLISH_SECONDS_MAX)
        except (HotlistJumps, HotlistUnproven) as error:
            _log.critical("the hotlist was not published", reason=str(error))
            return
        if version is not None:
            _log.info("hotlist published", version=version.version, entries=version.entries)

    async def _drop_old_buckets(self, connection: bridge.Connection) -> None:
        """Counters of places that no window reaches any more go, a little at a time."""
        now_us, seconds = self._clock.now_us(), BUCKETS_SECONDS_MAX
        for _ in range(BUCKET_CHUNKS_MAX):
            if not await guarded(drop_old_buckets, connection, now_us, seconds=seconds):
                break

    async def _audit(self, connection: bridge.Connection) -> None:
        """Balances over all that is stored, single rows of the newest day; one worker does it."""
        report = await guarded(
            functools.partial(
                audit,
                days=AUDITED_DAYS,
                balance_caps_minor=self._config.tiers.balance_caps_minor(),
            ),
            connection,
            seconds=AUDIT_SECONDS_MAX,
        )
        self._metrics.ledger_findings(sum(check.findings for check in report.checks))
        for check in report.checks:
            if check.findings:
                _log.critical("the audit found", check=check.name, first=check.first)
