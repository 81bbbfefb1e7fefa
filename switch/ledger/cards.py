"""Cards as the operator handles them: issue, find, block, show.

A card number is known here only as its medium, a keyed hash; whoever has the database
without the key has no card numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import date, datetime
from enum import StrEnum

import asyncpg
import msgspec

from protocols.card_number import PAN_DIGITS_MIN, CardNumber
from switch.ledger import sql
from switch.ledger.bridge import Connection

MEDIUM_BYTES = 16
KEY_BYTES_MIN, KEY_BYTES_MAX = 16, 64
"""Under 16 bytes a key can be guessed; BLAKE2b takes at most 64 (RFC 7693 §2.1)."""

ISSUE_CHUNK = 5_000
"""Cards of one issue_batch: one transaction of about 30,000 rows."""

CARD_ID_DIGITS_MAX = PAN_DIGITS_MIN - 1
"""What is shorter than any card number is a card id."""

_QUERIES = sql.queries()


class CardStatus(StrEnum):
    """What a medium may do; anything but active declines. Closed is for good."""

    ACTIVE = "active"
    BLOCKED = "blocked"
    LOST = "lost"
    STOLEN = "stolen"
    CLOSED = "closed"


class CardNotFound(LookupError):
    """No card of this ledger answers to the reference."""

    def __init__(self) -> None:
        super().__init__(
            "no card of this ledger has this id or number; check it, "
            "and check that the card number key is the ledger's"
        )


class CardStaysClosed(ValueError):
    """A closed card was given another status."""

    def __init__(self) -> None:
        super().__init__("a closed card stays closed; issue a new one instead")


class NewCard(msgspec.Struct, frozen=True):
    """A card to issue with an account of its own. `expires_yymm` "" never expires.

    `chip`: there is a purse on its chip, so the account gets the purse CHIP.
    """

    card: CardNumber
    expires_yymm: str = ""
    tier: str = "T0"
    product: str = "standard"
    chip: bool = False


class IssuedCard(msgspec.Struct, frozen=True):
    """Where a card of an issue is kept; `issued` is False where it had been there before."""

    card_id: int
    account_id: int
    shard: int
    last4: str
    issued: bool


class CardReference(msgspec.Struct, frozen=True):
    """A card that was found."""

    card_id: int
    account_id: int
    shard: int
    last4: str


class PurseView(msgspec.Struct, frozen=True):
    """A purse as it stands: minor units, and what was spent in the business month `month`."""

    purse: int
    balance_minor: int
    held_minor: int
    floor_minor: int
    month: date | None
    month_count: int
    month_minor: int


class AuthorizationView(msgspec.Struct, frozen=True):
    """One message of the card and why it was decided so."""

    authorization_id: int
    decided_at: datetime
    kind: str
    merchant: str
    terminal: str
    acquirer: str
    amount_minor: int
    approved_minor: int
    currency: str
    purse: int
    outcome: str
    explanation: str


class HoldView(msgspec.Struct, frozen=True):
    """An open hold of the account: money set aside, or a load that is not confirmed yet."""

    hold_id: int
    authorization_id: int
    purpose: str
    purse: int
    amount_minor: int
    currency: str
    opened_at: datetime
    expires_at: datetime
    merchant: str
    terminal: str
    acquirer: str
    rrn: str
    auth_code: str


class EntitlementView(msgspec.Struct, frozen=True):
    """A right of the account to a fare class, until before an instant, or until it was ended."""

    entitlement_id: int
    fare_class: int
    valid_from: datetime
    valid_until: datetime
    granted_by: str
    revoked_at: datetime | None


class ChipView(msgspec.Struct, frozen=True):
    """What is known of a card's chip; `missing_count` counters have not come yet."""

    highest: int
    missing_count: int
    proven_counter: int
    proven_missing_minor: int


class CardView(msgspec.Struct, frozen=True):
    """A card with its account, purses, open holds and latest authorizations, newest first."""

    card_id: int
    account_id: int
    shard: int
    last4: str
    expires_yymm: str
    status: str
    status_reason: str
    issued_at: datetime
    hotlisted: bool
    account_status: str
    tier: str
    product: str
    purses: list[PurseView]
    holds: list[HoldView]
    entitlements: list[EntitlementView]
    chip: ChipView | None
    authorizations: list[AuthorizationView]


def medium_of(card: CardNumber, key: bytes) -> bytes:
    """The keyed hash under which the directory knows a card (16 bytes, BLAKE2b, RFC 7693)."""
    return hashlib.blake2b(
        card.reveal().encode("ascii"), digest_size=MEDIUM_BYTES, key=key, person=b"citycard-medium"
    ).digest()


def card_key_fingerprint(key: bytes) -> str:
    """What a ledger remembers of its key, to refuse another one; the key can't be had from it.

    Raises ValueError for a key of another length than BLAKE2b takes or a guess could find.
    """
    if not KEY_BYTES_MIN <= len(key) <= KEY_BYTES_MAX:
        raise ValueError(
            f"the card number key is {KEY_BYTES_MIN} to {KEY_BYTES_MAX} bytes; "
            "restore the key file that belongs to this ledger"
        )
    return hashlib.blake2b(digest_size=8, key=key, person=b"citycard-key-id").hexdigest()


async def issue(
    connection: Connection,
    cards: Sequence[NewCard],
    *,
    shards: int,
    key: bytes,
    overdraft_minor: int,
) -> list[IssuedCard]:
    """Issue cards, each with an account and its purses; the answers are in the same order.

    Repeatable: a card that exists is left as it is and comes back with issued=False. Each
    chunk of ISSUE_CHUNK cards is one transaction.
    """
    issued: list[IssuedCard] = []
    for start in range(0, len(cards), ISSUE_CHUNK):
        issued += await _issue_chunk(
            connection, cards[start : start + ISSUE_CHUNK], shards, key, overdraft_minor
        )
    return issued


async def _issue_chunk(
    connection: Connection, cards: Sequence[NewCard], shards: int, key: bytes, overdraft_minor: int
) -> list[IssuedCard]:
    mediums = [medium_of(new.card, key) for new in cards]
    rows = await connection.fetch(
        _QUERIES["issue_batch"],
        shards,
        mediums,
        [new.card.last4 for new in cards],
        [new.expires_yymm for new in cards],
        [new.tier for new in cards],
        [new.product for new in cards],
        [new.chip for new in cards],
        overdraft_minor,
    )
    by_medium = {row["medium"]: row for row in rows}
    return [
        IssuedCard(
            by_medium[medium]["card_id"],
            by_medium[medium]["account_id"],
            by_medium[medium]["shard"],
            new.card.last4,
            by_medium[medium]["issued"],
        )
        for medium, new in zip(mediums, cards, strict=True)
    ]


async def find(connection: Connection, reference: str, key: bytes) -> CardReference:
    """The card with this id or number; spaces and hyphens do not matter. Raises CardNotFound."""
    digits = reference.replace(" ", "").replace("-", "")
    if not (digits.isascii() and digits.isdigit()):
        raise CardNotFound
    if len(digits) <= CARD_ID_DIGITS_MAX:
        row = await connection.fetchrow(_QUERIES["find_card"], int(digits))
    else:
        try:
            medium = medium_of(CardNumber(digits), key)
        except ValueError:
            raise CardNotFound from None
        row = await connection.fetchrow(_QUERIES["find_medium"], medium)
    if row is None:
        raise CardNotFound
    return CardReference(**dict(row))


async def set_status(
    connection: Connection, card_id: int, status: CardStatus, reason: str
) -> CardStatus:
    """Change a card's status and return the one before; decisions in flight see the change.

    Raises CardNotFound, and CardStaysClosed for a closed card.
    """
    try:
        row = await connection.fetchrow(_QUERIES["set_card_status"], card_id, status.value, reason)
    except asyncpg.CheckViolationError:
        raise CardStaysClosed from None
    if row is None:
        raise CardNotFound
    return CardStatus(row["previous_status"])


async def entitle(
    connection: Connection,
    card: CardReference,
    fare_class: int,
    *,
    from_us: int,
    until_us: int,
    granted_by: str,
) -> int:
    """Give a card's account a right to a fare class; the id of the right.

    It holds for taps at instants from `from_us` until before `until_us`; decisions in flight
    see it.
    """
    granted: int = await connection.fetchval(
        _QUERIES["grant_entitlement"],
        card.shard,
        card.account_id,
        fare_class,
        from_us,
        until_us,
        granted_by,
    )
    return granted


async def revoke(
    connection: Connection, card: CardReference, fare_class: int, *, at_us: int, revoked_by: str
) -> list[int]:
    """End an account's rights to a fare class at an instant; the ids of those that ended.

    A right is judged when the tap was made, so earlier rides keep it (domain §6.1).
    """
    rows = await connection.fetch(
        _QUERIES["revoke_entitlements"],
        card.shard,
        card.account_id,
        fare_class,
        at_us,
        revoked_by,
    )
    return sorted(row["entitlement_id"] for row in rows)


async def show(connection: Connection, card_id: int, *, authorizations_max: int = 20) -> CardView:
    """Everything about one card that its holder may ask. Raises CardNotFound."""
    card = await connection.fetchrow(_QUERIES["show_card"], card_id)
    if card is None:
        raise CardNotFound
    purses = await connection.fetch(_QUERIES["show_purses"], card["shard"], card["account_id"])
    holds = await connection.fetch(_QUERIES["show_holds"], card["shard"], card["account_id"])
    entitlements = await connection.fetch(
        _QUERIES["show_entitlements"], card["shard"], card["account_id"]
    )
    chip = await connection.fetchrow(_QUERIES["show_chip"], card["shard"], card_id)
    authorizations = await connection.fetch(
        _QUERIES["show_authorizations"],
        card["shard"],
        card["account_id"],
        card_id,
        authorizations_max,
    )
    return CardView(
        **dict(card),
        purses=[_purse_view(dict(row)) for row in purses],
        holds=[HoldView(**dict(row)) for row in holds],
        entitlements=[EntitlementView(**dict(row)) for row in entitlements],
        chip=None if chip is None else ChipView(**dict(chip)),
        authorizations=[AuthorizationView(**dict(row)) for row in authorizations],
    )


def _purse_view(row: dict[str, object]) -> PurseView:
    # '-infinity' (nothing spent yet) comes as date.min from asyncpg.
    month = row["month"]
    return msgspec.convert({**row, "month": None if month == date.min else month}, PurseView)
