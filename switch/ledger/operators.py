"""People who work with rules: their names, their roles, and the token that shows who acts.

A token is `cco_`, 12 hex digits, `_` and 256 random bits; the ledger keeps SHA-256 of it, which
is as strong as the token, since nobody can try such tokens. A name belongs to one person for
good: approvals and authorship go by it (four eyes), so a person who lost the token gets another
under the same name.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Protocol

import msgspec

from protocols.card_number import mask_digit_runs
from switch.ledger import sql
from switch.ledger.rules_trail import INIT, SWITCH

VIEWER, ANALYST, AUTHOR, APPROVER, AUDITOR = ROLES = (
    "viewer",
    "analyst",
    "author",
    "approver",
    "auditor",
)
SECRET_BYTES = 32
TOKEN_ID_BYTES = 6
TOKEN_CHARACTERS_MAX = 80
ACTOR_CHARACTERS_MAX = 80
_NAME = re.compile(r"[a-z][a-z0-9._-]{1,39}\Z")
_TOKEN = re.compile(r"cco_[0-9a-f]{12}_[A-Za-z0-9_-]{43}\Z")
_QUERIES = sql.queries("operators.sql")


class Rows(Protocol):
    """A connection, or another way to one."""

    async def fetch(self, query: str, *args: object) -> Sequence[Any]: ...


class OperatorRefused(ValueError):
    """An operator that cannot be made; the text says why and what to do."""


class NotAllowed(Exception):
    """Whoever acts has none of the roles that this takes; the text names them."""


class Operator(msgspec.Struct, frozen=True):
    """Who acts, as the token says."""

    name: str
    roles: tuple[str, ...]


class OperatorView(msgspec.Struct, frozen=True):
    """An operator as shown; `revoked_at` is None while the token is good."""

    name: str
    roles: tuple[str, ...]
    created_at: datetime
    created_by: str
    revoked_at: datetime | None


def require(operator: Operator, *roles: str) -> None:
    """Raise NotAllowed unless the operator has one of the roles."""
    if not set(roles) & set(operator.roles):
        has = ", ".join(operator.roles) or "no role"
        raise NotAllowed(
            f"this takes the role {' or '.join(roles)}, and {operator.name} has {has}; "
            "ask somebody who has it"
        )


def hash_of(token: str) -> bytes:
    """What the ledger keeps of a token (32 bytes)."""
    return hashlib.sha256(b"citycard-operator\0" + token.encode("ascii", "replace")).digest()


async def add(
    rows: Rows, name: str, roles: Sequence[str], by: str, entropy: Callable[[int], bytes]
) -> str:
    """Make an operator; the token, which is nowhere else from now on.

    A revoked name gets another token and these roles. Raises OperatorRefused for a name or a
    role that cannot be, and for a name whose token is good.
    """
    _checked(name, roles, by)
    secret = base64.urlsafe_b64encode(entropy(SECRET_BYTES)).rstrip(b"=").decode("ascii")
    token = f"cco_{entropy(TOKEN_ID_BYTES).hex()}_{secret}"
    ordered = [role for role in ROLES if role in roles]
    if not await rows.fetch(_QUERIES["add_operator"], name, ordered, hash_of(token), by):
        raise OperatorRefused(
            f"there is an operator {name} with a good token; revoke it first, or give another name"
        )
    return token


async def find(rows: Rows, token: str) -> Operator | None:
    """Who holds the token; None where nobody does, or it was revoked."""
    if len(token) > TOKEN_CHARACTERS_MAX or _TOKEN.match(token) is None:
        return None
    wanted = hash_of(token)
    found = await rows.fetch(_QUERIES["operator_by_token"], wanted)
    if not found or not hmac.compare_digest(bytes(found[0]["token_hash"]), wanted):
        return None
    return Operator(found[0]["name"], tuple(found[0]["roles"]))


async def listed(rows: Rows) -> list[OperatorView]:
    """All operators by name, the revoked ones too."""
    return [
        OperatorView(**{**dict(row), "roles": tuple(row["roles"])})
        for row in await rows.fetch(_QUERIES["operators"])
    ]


async def revoke(rows: Rows, name: str, by: str) -> bool:
    """Have an operator's token refused from now on; False where none of that name is good."""
    return bool(await rows.fetch(_QUERIES["revoke_operator"], name, by))


def _checked(name: str, roles: Sequence[str], by: str) -> None:
    if _NAME.match(name) is None or mask_digit_runs(name) != name:
        raise OperatorRefused(
            "the name is not 2 to 40 of a-z, 0-9, dot, hyphen and underscore, beginning with a "
            "letter and without a long number; give another"
        )
    if name in (INIT, SWITCH):
        raise OperatorRefused(f"{name} is what the trail calls the switch itself; give another")
    if not roles or set(roles) - set(ROLES):
        raise OperatorRefused(f"the roles are not some of {', '.join(ROLES)}; give one or more")
    if not (by.isprintable() and 1 <= len(by) <= ACTOR_CHARACTERS_MAX):
        raise OperatorRefused(
            f"who adds the operator is not 1 to {ACTOR_CHARACTERS_MAX} printable characters; "
            "say who it is"
        )
