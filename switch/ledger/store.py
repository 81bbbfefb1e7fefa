"""The two calls of a batch: facts out of load_batch, decisions into post_batch.

Arrays go in (columns.py, related.py) and rows come out (facts.py); what they mean is said in
the SQL functions. Each lane has one Store with its own connection and prepared statements.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from datetime import date

from risk.facts import HISTORY_SECONDS_MAX
from switch.fares.book import EMPTY_FARE_BOOK, fare_date
from switch.ledger import bridge, sql
from switch.ledger.columns import columns, with_tombstones
from switch.ledger.directory import Place
from switch.ledger.facts import HISTORY_ROWS_MAX, loaded
from switch.ledger.failures import LedgerLost, fetched, guarded
from switch.ledger.migrate import LedgerUnfit, assert_durable
from switch.ledger.related import HOLDS_LOADED_MAX, REFUND_DAYS_MAX, related_columns
from switch.posting import Account, Directed, Loaded, Posted, Posting, Verdict

_QUERIES = sql.queries("lane.sql")

CALL_SECONDS_MAX = 30.0
"""When a silent server counts as lost; far beyond any request's budget, which is kept elsewhere."""
LOCK_TIMEOUT_MS = 1_000
"""A posting holds its accounts for milliseconds; who waits longer waits for a fault."""
LANE_SETTINGS = {
    "application_name": "citycard lane",
    "synchronous_commit": "on",
    "lock_timeout": f"{LOCK_TIMEOUT_MS}ms",
    # The plans of the two functions are index look-ups whatever the tables hold today. A
    # partition is empty when its day begins, so plans made from statistics would be wrong
    # by noon; these settings leave the planner nothing but the indexes.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_material": "off",
    "jit": "off",
}
"""Session settings of a connection that loads and posts."""

FareDateOf = Callable[[int], date]
"""The fare day of an instant: the city's service day by its fare tables."""
_PLAIN_FARE_DATE: FareDateOf = functools.partial(fare_date, EMPTY_FARE_BOOK)

_VERDICTS = {verdict.name.lower(): verdict for verdict in Verdict}


class Store:
    """The ledger as one lane sees it, over one connection.

    Raises LedgerLost and LedgerRefused and nothing else of the driver.
    """

    def __init__(
        self,
        connection: bridge.Connection,
        load: bridge.Prepared,
        post: bridge.Prepared,
        refund_days_max: int = REFUND_DAYS_MAX,
        fare_date_of: FareDateOf = _PLAIN_FARE_DATE,
    ) -> None:
        self._connection = connection
        self._load = load
        self._post = post
        self._refund_days_max = refund_days_max
        self._fare_date_of = fare_date_of

    @classmethod
    async def open(
        cls,
        url: str,
        timeout_seconds: float,
        *,
        refund_days_max: int = REFUND_DAYS_MAX,
        fare_date_of: FareDateOf = _PLAIN_FARE_DATE,
    ) -> Store:
        """Connect, make sure that a commit is durable, and prepare the two calls.

        `refund_days_max` bounds the search for the sale of a refund that names no day.
        `fare_date_of` is the fare day of a tap's instant, by the fare tables in force.
        """
        connection, load, post = await _prepared(url, timeout_seconds, "load_batch", "post_batch")
        return cls(connection, load, post, refund_days_max, fare_date_of)

    async def load(
        self, shard: int, business_date: date, now_us: int, batch: Sequence[Directed]
    ) -> list[Loaded]:
        """Facts for each request, in order; requests of one account share its Account."""
        rows = await fetched(
            self._load,
            shard,
            business_date,
            now_us - HISTORY_SECONDS_MAX * 1_000_000,
            HISTORY_ROWS_MAX,
            HOLDS_LOADED_MAX,
            [directed.account_id for directed in batch],
            [directed.card_id for directed in batch],
            [directed.request.key for directed in batch],
            *related_columns(batch, business_date, self._refund_days_max, self._fare_date_of),
            seconds=CALL_SECONDS_MAX,
        )
        accounts: dict[int, Account] = {}
        return [
            loaded(directed.account_id, row, accounts, now_us)
            for directed, row in zip(batch, rows, strict=True)
        ]

    async def post(
        self,
        shard: int,
        slot: int,
        business_date: date,
        versions: dict[int, int],
        postings: Sequence[Posting],
        remaining_us: Sequence[int],
        ruleset: str,
    ) -> list[Posted]:
        """Write the decisions; a verdict each, in order. See post_batch for what may raise.

        A posting's tombstone is written with it or not at all, and has no verdict of its own.
        """
        written, budgets, own = with_tombstones(postings, remaining_us)
        rows = await fetched(
            self._post,
            shard,
            slot,
            business_date,
            list(versions),
            list(versions.values()),
            *columns(written, budgets, ruleset),
            seconds=CALL_SECONDS_MAX,
        )
        if own is not None:
            rows = [rows[index] for index in own]
        return [Posted(_VERDICTS[row[0]], row[1]) for row in rows]

    def terminate(self) -> None:
        """Drop the connection at once."""
        self._connection.terminate()


class MediumStore:
    """The directory's look-ups over a connection of their own."""

    def __init__(
        self, connection: bridge.Connection, find: bridge.Prepared, newest: bridge.Prepared
    ) -> None:
        self._connection = connection
        self._find = find
        self._newest = newest

    @classmethod
    async def open(cls, url: str, timeout_seconds: float) -> MediumStore:
        """Connect and prepare the look-ups."""
        connection, find, newest = await _prepared(
            url, timeout_seconds, "find_mediums", "newest_mediums"
        )
        return cls(connection, find, newest)

    async def find(self, mediums: list[bytes]) -> dict[bytes, Place]:
        """The places of those mediums that are in the directory."""
        rows = await fetched(self._find, mediums, seconds=CALL_SECONDS_MAX)
        return {row[0]: Place(row[1], row[2], row[3]) for row in rows}

    async def newest(self, below_card_id: int, count_max: int) -> list[tuple[bytes, Place]]:
        """The mediums of the newest cards below an id, newest first."""
        rows = await fetched(self._newest, below_card_id, count_max, seconds=CALL_SECONDS_MAX)
        return [(row[0], Place(row[1], row[2], row[3])) for row in rows]

    def terminate(self) -> None:
        """Drop the connection at once."""
        self._connection.terminate()


async def _prepared(
    url: str, timeout_seconds: float, first: str, second: str
) -> tuple[bridge.Connection, bridge.Prepared, bridge.Prepared]:
    """A connection fit for the hot path and its two prepared queries, by name."""
    connection = await _open(url, timeout_seconds)
    try:
        statements = [
            await guarded(connection.prepare, _QUERIES[name], seconds=timeout_seconds)
            for name in (first, second)
        ]
    except BaseException:
        connection.terminate()
        raise
    return connection, statements[0], statements[1]


async def _open(url: str, timeout_seconds: float) -> bridge.Connection:
    async def connect() -> bridge.Connection:
        return await bridge.connect(url, timeout_seconds=timeout_seconds, settings=LANE_SETTINGS)

    connection = await guarded(connect, seconds=timeout_seconds)
    try:
        await guarded(assert_durable, connection, seconds=timeout_seconds)
    except LedgerUnfit as unfit:
        # Nothing may be approved on a server that forgets, so it is as good as away.
        connection.terminate()
        raise LedgerLost(str(unfit)) from unfit
    except BaseException:
        connection.terminate()
        raise
    return connection
