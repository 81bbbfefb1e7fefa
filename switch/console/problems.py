"""Refusals of the console: one closed list, each with its status and title, as RFC 9457 says.

A detail is one sentence that says where and what to do; it never repeats what was sent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum

import msgspec

from protocols.card_number import mask_digit_runs
from risk.findings import Finding

TYPES = "urn:citycard:problem:"
MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 1


class Fault(Enum):
    """What can be wrong: the last part of the problem's type, its HTTP status and its title."""

    BODY = ("body", 400, "The body cannot be understood")
    HEADER = ("header", 400, "A header does not fit")
    UNAUTHORIZED = ("unauthorized", 401, "Who asks is not known")
    FORBIDDEN = ("forbidden", 403, "This is not for who asks")
    NOT_FOUND = ("not-found", 404, "There is nothing here")
    METHOD = ("method", 405, "This cannot be done here")
    TOO_SLOW = ("too-slow", 408, "The request did not come to its end in time")
    STATE = ("state", 409, "It does not stand so")
    TOO_LARGE = ("too-large", 413, "The body is too large")
    FIELD = ("field", 422, "A field does not fit")
    REFUSED = ("refused", 422, "The act was refused")
    FINDINGS = ("findings", 422, "The ruleset has errors")
    TOO_MANY = ("too-many", 429, "Too many requests")
    INTERNAL = ("internal", 500, "The console has a fault")
    AWAY = ("away", 503, "The ledger cannot be asked now")

    @property
    def status(self) -> int:
        return self.value[1]

    @property
    def title(self) -> str:
        return self.value[2]


class FindingView(msgspec.Struct, frozen=True):
    """One thing that is wrong with a ruleset: `path` leads to the faulty node."""

    severity: str
    path: str
    sentence: str


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a request was refused (RFC 9457). `pointer` is the field (RFC 6901); `findings` are of a
    ruleset; `roles` are those of which one is needed."""

    type: str
    title: str
    status: int
    detail: str
    pointer: str = ""
    findings: tuple[FindingView, ...] = ()
    roles: tuple[str, ...] = ()


class Refused(Exception):
    """A request that is answered with a problem; raised where it is found, told at the edge."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.title)
        self.problem = problem


def problem(
    fault: Fault,
    detail: str,
    pointer: str = "",
    *,
    findings: Iterable[Finding] = (),
    roles: Iterable[str] = (),
) -> Problem:
    """The body of a refusal."""
    name, status, title = fault.value
    return Problem(
        TYPES + name, title, status, mask_digit_runs(detail), pointer, found(findings), tuple(roles)
    )


def refusal(fault: Fault, detail: str, pointer: str = "") -> Refused:
    """The exception that ends a request with this problem."""
    return Refused(problem(fault, detail, pointer))


def found(findings: Iterable[Finding]) -> tuple[FindingView, ...]:
    """Findings as they are shown."""
    return tuple(FindingView(each.severity.value, each.path, each.sentence) for each in findings)


def headers_of(refused: Problem) -> Mapping[str, str]:
    """What a refusal says beside its body."""
    if refused.status == Fault.UNAUTHORIZED.status:
        return {"www-authenticate": "Bearer"}
    if refused.status in (Fault.AWAY.status, Fault.TOO_MANY.status):
        return {"retry-after": str(RETRY_SECONDS)}
    return {}
