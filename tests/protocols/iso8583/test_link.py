"""Terms of a link that no message could meet are refused when they are written down."""

from __future__ import annotations

import msgspec
import pytest

from protocols.framing import Framing
from protocols.iso8583.link import LinkTerms
from protocols.message import Segment

TERMS = LinkTerms(
    name="retail",
    dialect="unionpay_pos",
    framing=Framing(),
    acquirer="48021000",
    segment=Segment.RETAIL,
    budget_ms=800,
    currencies=("156",),
)


def test_the_key_is_that_of_the_domain_unless_agreed_otherwise() -> None:
    assert TERMS.match_key == ("acquirer", "terminal", "stan", "local_at", "message_class")


@pytest.mark.parametrize(
    "change",
    [{"budget_ms": 0}, {"currencies": ()}, {"match_key": ("acquirer", "stan")}, {"match_key": ()}],
)
def test_impossible_terms_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="; "):
        msgspec.structs.replace(TERMS, **change)
