"""Who asks: the operator whose token came in the header, looked up each time.

So a token that is revoked is refused at once. A refusal says nothing of why, and wrong tokens
are looked up only as fast as an address may fail.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Iterable

from switch.clock import Clock
from switch.console.ledger import ConsoleLedger
from switch.console.problems import Fault, Refused, refusal
from switch.ledger import operators
from switch.ledger.operators import Operator
from switch.net.http.access import Failures

BEARER = "Bearer "
TOKEN_CHARACTERS_MAX = 80
GOOD_KEPT = 256
_TOKEN = re.compile(r"cco_[0-9a-f]{12}_[A-Za-z0-9_-]{43}\Z")
_SEND = "send a valid token as Authorization: Bearer; citycard operator add makes one"


class Gate:
    """Tells the operator of a request."""

    def __init__(self, ledger: ConsoleLedger, clock: Clock) -> None:
        self._ledger = ledger
        self._failures = Failures(clock)
        self._good: OrderedDict[bytes, None] = OrderedDict()

    async def who(self, headers: Iterable[tuple[bytes, bytes]], address: str) -> Operator:
        """The operator who asks. Raises Refused, LedgerLost and LedgerRefused."""
        token = _token_of(headers)
        if not token:
            raise refusal(Fault.UNAUTHORIZED, _SEND)  # what is no token costs no look-up
        named = hashlib.sha256(b"citycard-console\0" + token.encode("utf-8")).digest()
        # One that was good may always be looked up again, whoever else fails at its address.
        if named not in self._good and self._failures.too_many(address):
            raise _too_many()
        # The ledger finds it by its hash, so how long that takes tells nothing about a token.
        operator = await operators.find(self._ledger, token)
        if operator is None:
            self._good.pop(named, None)
            if self._failures.too_many(address):
                raise _too_many()
            self._failures.count(address)
            raise refusal(Fault.UNAUTHORIZED, _SEND)
        self._good[named] = None
        self._good.move_to_end(named)
        if len(self._good) > GOOD_KEPT:
            self._good.popitem(last=False)
        return operator


def _token_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The token that was sent; empty for what is none."""
    shown = [value for name, value in headers if name.lower() == b"authorization"]
    if len(shown) != 1 or len(shown[0]) > TOKEN_CHARACTERS_MAX:
        return ""
    said = shown[0].decode("latin-1")
    token = said.removeprefix(BEARER)
    return token if said.startswith(BEARER) and _TOKEN.match(token) else ""


def _too_many() -> Refused:
    return refusal(Fault.TOO_MANY, "too many of your tokens were refused; wait a while")
