"""The audit: every invariant of the ledger recomputed from its rows, under traffic.

The checks are SQL (functions/audit*.sql); this is the snapshot around them and the report.
"""

from __future__ import annotations

from collections.abc import Mapping

import anyio
import msgspec

from switch.ledger import sql
from switch.ledger.bridge import Connection
from switch.ledger.migrate import transaction
from switch.ledger.partitions import ARCHIVE_LOCK

_QUERIES = sql.queries()


class AuditCheck(msgspec.Struct, frozen=True):
    """One invariant: how many rows were examined, how many break it, and the first ten."""

    name: str
    invariant: str
    examined: int
    findings: int
    first: list[str]


class AuditReport(msgspec.Struct, frozen=True):
    """All checks of one snapshot."""

    checks: list[AuditCheck]

    @property
    def clean(self) -> bool:
        return all(check.findings == 0 for check in self.checks)


async def audit(
    connection: Connection,
    *,
    days: int | None = None,
    balance_caps_minor: Mapping[str, int] | None = None,
) -> AuditReport:
    """Check every invariant (domain §11.1) in one repeatable-read snapshot.

    `days` limits the checks of single rows to the newest so many business days; balances
    and positions are always summed over all. Without `balance_caps_minor` (by tier) the
    check of balance caps is left out. Takes a shared lock that keeps days from moving to
    the archive meanwhile; postings go on.
    """
    if days is not None and days < 1:
        raise ValueError("an audit looks at one business day or more; leave days out for all")
    caps = None if balance_caps_minor is None else msgspec.json.encode(balance_caps_minor).decode()
    # Taken before the snapshot, so that the snapshot sees what a detaching has just done.
    await connection.fetch(_QUERIES["lock_shared"], ARCHIVE_LOCK)
    try:
        async with transaction(connection, "begin_snapshot"):
            rows = await connection.fetch(_QUERIES["audit"], days, caps)
    finally:
        with anyio.CancelScope(shield=True):
            if not connection.closed:
                await connection.fetch(_QUERIES["unlock_shared"], ARCHIVE_LOCK)
    return AuditReport([AuditCheck(**dict(row)) for row in rows])
