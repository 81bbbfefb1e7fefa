"""The two calls of a batch: facts out of load_batch, decisions into post_batch.

Arrays go in and rows come out; what they mean is said in the SQL functions. Each lane has
one Store with its own connection and prepared statements.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from protocols.message import Kind, Outcome, Segment
from risk.facts import HISTORY_EVENTS_MAX, HISTORY_SECONDS_MAX, History
from switch.ledger import bridge, sql
from switch.ledger.directory import Place
from switch.ledger.failures import LedgerLost, fetched, guarded
from switch.ledger.migrate import LedgerUnfit, assert_durable
from switch.posting import (
    Account,
    Directed,
    Followers,
    Loaded,
    Original,
    Posted,
    Posting,
    PurseState,
    Stored,
    Verdict,
)

_QUERIES = sql.queries("lane.sql")

CALL_SECONDS_MAX = 30.0
"""When a silent server counts as lost; far beyond any request's budget, which is kept elsewhere."""
LOCK_TIMEOUT_MS = 1_000
"""A posting holds its accounts for milliseconds; who waits longer waits for a fault."""
HISTORY_ROWS_MAX = 2 * HISTORY_EVENTS_MAX
"""An event is given back at most once, so this many rows hold the events a rule may ask for."""
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

_KINDS = {kind.value: kind for kind in Kind}
_OUTCOMES = {outcome.value: outcome for outcome in Outcome}
_SEGMENTS = {segment.value: segment for segment in Segment}
_VERDICTS = {verdict.name.lower(): verdict for verdict in Verdict}
_NO_FOLLOWERS = Followers()


class Store:
    """The ledger as one lane sees it, over one connection.

    Raises LedgerLost and LedgerRefused and nothing else of the driver.
    """

    def __init__(
        self,
        connection: bridge.Connection,
        load: bridge.Prepared,
        post: bridge.Prepared,
    ) -> None:
        self._connection = connection
        self._load = load
        self._post = post

    @classmethod
    async def open(cls, url: str, timeout_seconds: float) -> Store:
        """Connect, make sure that a commit is durable, and prepare the two calls."""
        connection, load, post = await _prepared(url, timeout_seconds, "load_batch", "post_batch")
        return cls(connection, load, post)

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
            [directed.account_id for directed in batch],
            [directed.card_id for directed in batch],
            [directed.request.key for directed in batch],
            [directed.request.original_id for directed in batch],
            seconds=CALL_SECONDS_MAX,
        )
        accounts: dict[int, Account] = {}
        return [
            _loaded(directed.account_id, row, accounts)
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
        """Write the decisions; a verdict each, in order. See post_batch for what may raise."""
        rows = await fetched(
            self._post,
            shard,
            slot,
            business_date,
            list(versions),
            list(versions.values()),
            *_columns(postings, remaining_us, ruleset),
            seconds=CALL_SECONDS_MAX,
        )
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


def _columns(
    postings: Sequence[Posting], remaining_us: Sequence[int], ruleset: str
) -> tuple[list[Any], ...]:
    requests = [posting.directed.request for posting in postings]
    transfers = [
        (row, transfer) for row, posting in enumerate(postings, 1) for transfer in posting.transfers
    ]
    return (
        [posting.directed.account_id for posting in postings],
        [posting.directed.card_id for posting in postings],
        [posting.at_us for posting in postings],
        list(remaining_us),
        [posting.key for posting in postings],
        [request.payload_hash for request in requests],
        [request.message_class for request in requests],
        [posting.kind.value for posting in postings],
        [request.segment.value for request in requests],
        [request.link for request in requests],
        [request.acquirer for request in requests],
        [request.terminal for request in requests],
        [request.merchant for request in requests],
        [request.mcc for request in requests],
        [request.entry_mode for request in requests],
        [request.stan for request in requests],
        [request.local_at for request in requests],
        [posting.rrn for posting in postings],
        [posting.auth_code for posting in postings],
        [request.amount.currency for request in requests],
        [request.amount.amount_minor for request in requests],
        [posting.approved_minor for posting in postings],
        [posting.purse for posting in postings],
        [posting.outcome.value for posting in postings],
        [posting.original_id for posting in postings],
        [ruleset] * len(postings),
        [posting.rule_results for posting in postings],
        [posting.explanation for posting in postings],
        [posting.spent_count for posting in postings],
        [posting.spent_minor for posting in postings],
        [row for row, _ in transfers],
        [transfer.debit_account_id for _, transfer in transfers],
        [transfer.credit_account_id for _, transfer in transfers],
        [transfer.amount_minor for _, transfer in transfers],
        [postings[row - 1].kind.value for row, _ in transfers],
    )


def _loaded(account_id: int, row: Any, accounts: dict[int, Account]) -> Loaded:
    account = accounts.get(account_id)
    if account is None and row["account_version"] is not None:
        account = accounts[account_id] = _account(account_id, row)
    return Loaded(
        account=account,
        card_status=row["card_status"] or "",
        expires_yymm=row["expires_yymm"] or "",
        last4=row["last4"] or "",
        stored=_stored(row),
        original=_original(row),
    )


def _account(account_id: int, row: Any) -> Account:
    history, event_ids = _history(row)
    purses = zip(
        row["purse"] or (),
        row["balance_minor"] or (),
        row["held_minor"] or (),
        row["floor_minor"] or (),
        row["month_count"] or (),
        row["month_minor"] or (),
        strict=True,
    )
    return Account(
        account_id=account_id,
        version=row["account_version"],
        status=row["account_status"],
        tier=row["tier"],
        product=row["product"],
        purses={number: PurseState(*state) for number, *state in purses},
        history=history,
        event_ids=event_ids,
    )


def _history(row: Any) -> tuple[History, list[int]]:
    kinds = row["kind"]
    if kinds is None:
        return History([], [], [], [], [], [], [], [], [], []), []
    reversal = Kind.REVERSAL.value
    if reversal not in kinds and len(kinds) <= HISTORY_EVENTS_MAX:
        return _untouched_history(row, kinds), row["authorization_id"][::-1]
    # The newest events, oldest first, without the reversals that gave some of them back.
    kept = [index for index, kind in enumerate(kinds) if kind != reversal]
    kept = kept[HISTORY_EVENTS_MAX - 1 :: -1] if len(kept) >= HISTORY_EVENTS_MAX else kept[::-1]
    ids = row["authorization_id"]
    given_back: set[int] = set()
    if len(kept) != len(kinds):
        given_back = {
            original_id
            for kind, original_id in zip(kinds, row["original_id"], strict=True)
            if kind == reversal
        }

    def column(name: str) -> list[Any]:
        values = row[name]
        return [values[index] for index in kept]

    event_ids = [ids[index] for index in kept]
    history = History(
        at_us=column("at_us"),
        card_id=column("card_id"),
        kind=[_KINDS[kinds[index]] for index in kept],
        amount_minor=column("amount_minor"),
        outcome=[_OUTCOMES[outcome] for outcome in column("outcome")],
        given_back=[event_id in given_back for event_id in event_ids],
        segment=[_SEGMENTS[segment] for segment in column("segment")],
        mcc=column("mcc"),
        merchant=column("merchant"),
        terminal=column("terminal"),
    )
    return history, event_ids


def _untouched_history(row: Any, kinds: list[str]) -> History:
    """The same where nothing was given back, which is nearly always: columns as they are."""
    return History(
        at_us=row["at_us"][::-1],
        card_id=row["card_id"][::-1],
        kind=[_KINDS[kind] for kind in kinds[::-1]],
        amount_minor=row["amount_minor"][::-1],
        outcome=[_OUTCOMES[outcome] for outcome in row["outcome"][::-1]],
        given_back=[False] * len(kinds),
        segment=[_SEGMENTS[segment] for segment in row["segment"][::-1]],
        mcc=row["mcc"][::-1],
        merchant=row["merchant"][::-1],
        terminal=row["terminal"][::-1],
    )


def _stored(row: Any) -> Stored | None:
    if row["stored_id"] is None:
        return None
    return Stored(
        authorization_id=row["stored_id"],
        payload_hash=row["stored_payload_hash"],
        outcome=_OUTCOMES[row["stored_outcome"]],
        approved_minor=row["stored_approved_minor"],
        auth_code=row["stored_auth_code"],
        rrn=row["stored_rrn"],
        at_us=row["stored_at_us"],
        followers=_followers(row["stored_followed_by"]),
    )


def _original(row: Any) -> Original | None:
    if row["original_account_id"] is None:
        return None
    return Original(
        account_id=row["original_account_id"],
        kind=_KINDS[row["original_kind"]],
        outcome=_OUTCOMES[row["original_outcome"]],
        approved_minor=row["original_approved_minor"],
        purse=row["original_purse"],
        business_date=row["original_business_date"],
        acquirer=row["original_acquirer"],
        mcc=row["original_mcc"],
        followers=_followers(row["original_followed_by"]),
    )


def _followers(words: Sequence[str] | None) -> Followers:
    if not words:
        return _NO_FOLLOWERS
    return Followers(
        reversed=Kind.REVERSAL.value in words,
        repeats=words.count(Kind.REPEAT.value),
        withdrawn=words.count("withdrawn"),
    )
