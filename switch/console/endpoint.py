"""What a path of the console is: who may use it, what it takes, what it answers, and by whom.

The tables of these (in the module of each resource) are all there is about a path: the routes,
the check of roles, the OpenAPI document and the tests are made from them.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import msgspec

from switch.console.desk import Desk
from switch.console.problems import Fault
from switch.ledger.operators import Operator

BODY_BYTES_MAX = 1_048_576
IMPORT_BYTES_MAX = 16 * 1_048_576
SECONDS = 30.0
"""What a request may take once its body is there; most take milliseconds."""

ROLES = ("viewer", "analyst", "author", "approver", "auditor")
READERS = frozenset(ROLES)
"""Every role may read what a viewer may."""

A = TypeVar("A")
Q = TypeVar("Q")
PATH_NAME = re.compile(r"\{(\w+)\}")


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request: a field that it does not know is refused, not read over."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return []


class Query(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parameters of a path, after the question mark; this one has none."""


class Call(msgspec.Struct, Generic[A, Q], frozen=True):
    """One request that may be answered. `body` is that of a path that takes a text."""

    operator: Operator
    path: dict[str, str]
    asked: A
    query: Q
    body: bytes = b""


class Document(msgspec.Struct, frozen=True):
    """An answer that is no JSON of a struct."""

    octets: bytes
    media_type: str
    headers: dict[str, str] = {}


Handler = Callable[[Desk, Any], Awaitable[Any]]


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One path. `asked` is its body, None where it takes none, or one that its handler reads
    (`raw`), perhaps in the shape of `asked_as`; `answers` is None where it answers a document of
    `answer_type`. Examples are as JSON has them."""

    method: str
    path: str
    summary: str
    roles: frozenset[str]
    handler: Handler
    answers: type[msgspec.Struct] | None = None
    answer_type: str = "application/json"
    asked: type[Asked] | None = None
    asked_type: str = "application/json"
    raw: bool = False
    asked_as: type[msgspec.Struct] | None = None
    query: type[Query] = Query
    status: int = 200
    faults: tuple[Fault, ...] = ()
    body_bytes_max: int = BODY_BYTES_MAX
    seconds: float = SECONDS
    example: Any = None
    answer_example: Any = None

    @property
    def takes_body(self) -> bool:
        return self.asked is not None or self.raw

    @property
    def path_names(self) -> list[str]:
        return PATH_NAME.findall(self.path)
