"""The durable spool: one SQLite file that all workers of a machine write in small transactions.

What waits in a worker is written as one transaction, so one fsync carries many answers; an
answer is given only after it. SQLite's lock orders the workers, so limits and duplicates are
exact across them. The file is in WAL mode with `synchronous = FULL`, which is asserted, as a
spool that forgets what was answered would be money lost.

A row goes one way: open → posted | suspense | refused, or open → withdrawn where its answer
came too late and no posting of it was begun. Everything here blocks: call it in a thread,
one call at a time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from switch.config import Config
from switch.decide import derived_key
from switch.standin import spool_file
from switch.standin.policy import Exposure, Refusal, limit_refusal
from switch.standin.rows import (
    Answer,
    Count,
    Offer,
    RefusedRow,
    Row,
    Settled,
    State,
    Summary,
    Total,
    Verdict,
    View,
    Withdrawal,
)
from switch.standin.spool_file import FILE_NAME, SpoolUnusable, queries

T = TypeVar("T")

PRUNED_AT_ONCE = 5_000
REFUSED_SHOWN_MAX = 20


def spool_path(config: Config, directory: Path) -> Path:
    """Where the spool is, given the directory of the switch."""
    named = config.standin.spool_file
    return Path(named) if named else directory / FILE_NAME


def with_spool_file(config: Config, directory: Path) -> Config:
    """The configuration with the spool's place in it, for processes that know no directory."""
    path = spool_path(config, directory).absolute()
    standin = msgspec.structs.replace(config.standin, spool_file=str(path))
    return msgspec.structs.replace(config, standin=standin)


class Spool:
    """One process's way to the file; opened at the first use and again after a failure."""

    def __init__(self, path: Path, *, slot: int, rows_max: int, switched_on: bool = True) -> None:
        """`switched_on` is the configuration's word; the file's own flag can only narrow it."""
        self.path = path
        self._slot = slot
        self._rows_max = rows_max
        self._configured_on = switched_on
        self._connection: sqlite3.Connection | None = None
        self._seen_id = 0

    def close(self) -> None:
        """Let go of the file; the next call opens it again."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def take(self, entries: Sequence[Offer | Withdrawal]) -> list[Answer]:
        """Write all entries as one transaction; the answers to the offers, in order.

        When this returns, what was taken survives a power cut. Raises SpoolUnusable.
        """
        return self._written(lambda: list(self._answers(entries)))

    def settle(self, rows: Sequence[Settled]) -> None:
        """Note what became of posted rows. Raises SpoolUnusable."""
        values = [(row.state, row.result, row.authorization_id, row.id) for row in rows]
        self._written(lambda: self._opened().executemany(queries()["settle"], values))

    def page(self, rows_max: int) -> list[Row]:
        """The oldest open rows, marked as begun: from now on they are posted, come what may.

        Raises SpoolUnusable.
        """

        def read() -> list[Row]:
            rows = [Row(*row) for row in self._all("page", rows_max)]
            if rows:
                self._one("begin_posting", rows[0].id, rows[-1].id)
            return rows

        return self._written(read)

    def prune(self, before_us: int) -> None:
        """Forget some rows that are long posted. Raises SpoolUnusable."""
        kept = 2 * self._rows_max
        self._written(lambda: self._one("prune", before_us, kept, PRUNED_AT_ONCE))

    def switch(self, on: bool) -> None:
        """Let stand-in approve, or not, in all workers at once. Raises SpoolUnusable."""
        self._written(lambda: self._one("switch", int(on)))

    def look(self, *, complete: bool) -> View:
        """Who owes postings: all, or those added since the look before. Raises SpoolUnusable."""
        with self._guarded():
            switched_on, open_rows = self._state()
            since = 0 if complete else self._seen_id
            (newest,) = self._one("newest_id")
            mediums: frozenset[bytes] = frozenset()
            if open_rows and (complete or newest > since):
                mediums = frozenset(row[0] for row in self._all("open_mediums", since))
            self._seen_id = newest
            oldest = self._one("oldest") if open_rows else None
            return View(switched_on, open_rows, oldest[0] if oldest else 0, mediums, complete)

    def summary(self) -> Summary:
        """Everything counted. Raises SpoolUnusable."""
        with self._guarded():
            switched_on, open_rows = self._state()
            oldest = self._one("oldest")
            return Summary(
                switched_on,
                open_rows,
                oldest[0] if oldest else 0,
                tuple(Count(*row) for row in self._all("summary")),
                tuple(Total(*row) for row in self._all("totals")),
                tuple(RefusedRow(*row) for row in self._all("refused", REFUSED_SHOWN_MAX)),
            )

    def _answers(self, entries: Sequence[Offer | Withdrawal]) -> Iterator[Answer]:
        for entry in entries:
            if isinstance(entry, Withdrawal):
                self._withdraw(entry)
            else:
                yield self._answer(entry)

    def _answer(self, offer: Offer) -> Answer:
        stored = self._one("stored", offer.key)
        if stored is not None:
            return self._stored_answer(offer, stored)
        sale = offer.kind == "purchase"
        if sale and self._one("reversal_of", offer.key) is not None:
            return Answer(Verdict.REVERSED_BEFORE)
        switched_on, open_rows = self._state()
        if sale and not switched_on:
            return Answer(Refusal.SWITCHED_OFF)
        if offer.refusal is not None:
            return Answer(offer.refusal)
        if open_rows >= self._rows_max:
            return Answer(Refusal.SPOOL_FULL)
        if open_rows == 0:
            self._one("begin_outage")
        if sale and (refusal := self._expose(offer)) is not None:
            return Answer(refusal)
        self._add(offer)
        return Answer(Verdict.TAKEN, offer.amount_minor, offer.auth_code, offer.rrn)

    def _stored_answer(self, offer: Offer, stored: Sequence[Any]) -> Answer:
        payload_hash, amount_minor, auth_code, rrn = stored
        if payload_hash != offer.payload_hash:
            return Answer(Verdict.KEY_REUSED)
        if offer.kind == "purchase" and not self._given_out_again(offer.key):
            return Answer(Verdict.WITHDRAWN)
        return Answer(Verdict.STORED, amount_minor, auth_code, rrn)

    def _given_out_again(self, key: bytes) -> bool:
        """Claim the approval for one more answer; False where it was taken back."""
        return self._one("reversal_of", key) is None and self._one("claim", key) is not None

    def _expose(self, offer: Offer) -> Refusal | None:
        card = self._exposure(offer.segment, offer.medium)
        total = self._exposure(offer.segment, b"")
        refusal = limit_refusal(offer.policy, offer.amount_minor, card, total)
        if refusal is None:
            for medium in (offer.medium, b""):
                self._one("expose", offer.segment, medium, offer.amount_minor)
        return refusal

    def _exposure(self, segment: str, medium: bytes) -> Exposure:
        found = self._one("exposure", segment, medium)
        return Exposure(*found) if found is not None else Exposure()

    def _add(self, offer: Offer) -> None:
        self._one(
            "add",
            offer.key,
            offer.payload_hash,
            offer.original_key,
            offer.kind,
            offer.segment,
            offer.medium,
            offer.amount_minor,
            self._slot,
            offer.request,
            offer.card,
            offer.auth_code,
            offer.rrn,
            offer.at_us,
        )

    def _withdraw(self, withdrawal: Withdrawal) -> None:
        """Take an answer back; with the last one goes the row, or comes its reversal."""
        found = self._one("withdraw", withdrawal.key)
        if found is None or found[0] > 0:
            return
        _, begun, state = found
        if state == State.OPEN and not begun:
            self._one("withdrawn", withdrawal.key)
            return
        key = derived_key(withdrawal.key, b"late-reversal")
        self._one("add_late_reversal", key, withdrawal.at_us, withdrawal.key)

    def _state(self) -> tuple[bool, int]:
        switched_on, open_rows = self._one("state")
        return bool(switched_on) and self._configured_on, open_rows

    def _one(self, name: str, *values: object) -> Any:
        """The first row of a named query; None where there is none."""
        rows = self._all(name, *values)
        return rows[0] if rows else None

    def _all(self, name: str, *values: object) -> list[Any]:
        return self._opened().execute(queries()[name], values).fetchall()

    def _written(self, body: Callable[[], T]) -> T:
        committing = False
        with self._guarded(lambda: committing):
            connection = self._opened()
            connection.execute("begin immediate")
            result = body()
            committing = True
            connection.execute("commit")
            return result

    @contextmanager
    def _guarded(self, committing: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Make SpoolUnusable of what SQLite raises, and open the file anew next time."""
        try:
            yield
        except sqlite3.Error as error:
            in_doubt = committing()
            self._discard()
            raise SpoolUnusable(
                f"the stand-in spool {self.path} cannot be used ({_code(error)}); "
                "free its disk or mend its file",
                in_doubt=in_doubt,
            ) from None
        except BaseException:
            self._discard()
            raise

    def _discard(self) -> None:
        """Close without a commit: what was begun is rolled back."""
        try:
            self.close()
        except sqlite3.Error:
            self._connection = None

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = spool_file.opened(self.path)
        return self._connection


def _code(error: sqlite3.Error) -> str:
    """SQLite's own name of the failure; never its text, which may quote a value."""
    return getattr(error, "sqlite_errorname", None) or type(error).__name__


def summarised(path: Path) -> Summary:
    """A look at a spool from outside. Raises SpoolUnusable."""
    with closing(Spool(path, slot=0, rows_max=0)) as spool:
        return spool.summary()


def switched(path: Path, *, on: bool) -> None:
    """Switch stand-in on or off from outside. Raises SpoolUnusable."""
    with closing(Spool(path, slot=0, rows_max=0)) as spool:
        spool.switch(on)
