"""What terminals say is readable by the switch, in both dialects."""

from __future__ import annotations

from datetime import datetime

import pytest

from protocols.card_number import numbered_card
from protocols.framing import Framing
from protocols.iso8583 import decode, encode
from protocols.iso8583.client import Dialect, Sale, sale_message
from protocols.iso8583.dialect import read
from protocols.iso8583.link import LinkTerms
from protocols.message import Request, Segment

both = pytest.mark.parametrize("dialect", ["unionpay_pos", "iso87_ascii"])
LOCAL_AT = datetime(2028, 2, 29, 23, 59, 59)


def terms(dialect: Dialect) -> LinkTerms:
    return LinkTerms("l", dialect, Framing(), "48021000", Segment.RETAIL, 800, ("156",))


@both
def test_a_sale_has_nineteen_fields_and_is_understood(dialect: Dialect) -> None:
    card = numbered_card("620000", 7, length=19)
    sale = Sale(card, 999_999_999_999, 999_999, "T1", "M1", LOCAL_AT, "5411", "48021000")
    message = sale_message(dialect, sale)
    assert len(message.fields) == 19
    request = read(terms(dialect), decode(dialect, encode(dialect, message)), 1)
    assert isinstance(request, Request)
    assert request.card == card
    assert request.amount.amount_minor == 999_999_999_999
    assert (request.terminal, request.merchant, request.mcc) == ("T1", "M1", "5411")
    assert (request.stan, request.local_at, request.expiry) == ("999999", "0229235959", "3012")
