"""Bodies: whatever is sent, a struct or a problem that quotes none of it."""

from __future__ import annotations

import json

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from protocols.bills.api import Asked, BillAsked, PaymentAsked, Problem, RefundAsked, SaleAsked
from switch.net.http.body import descriptions, understood

CARD = "6212340000000018"
GOOD = {
    BillAsked: {"biller": "water", "bill_no": "A-1", "card": CARD},
    PaymentAsked: {"inquiry_id": "0" * 32, "amount_minor": 1, "card": CARD},
    SaleAsked: {
        "venue": "cinema", "merchant": "M", "terminal": "T", "amount_minor": 1, "card": CARD,
    },
    RefundAsked: {"amount_minor": 1, "card": "a" * 32},
}  # fmt: skip


def test_every_field_says_what_to_give() -> None:
    for asked in GOOD:
        assert set(descriptions(asked).values()).isdisjoint({"a value that fits"}), asked


@given(st.sampled_from(list(GOOD)), st.data())
def test_one_wrong_field_is_pointed_at(asked: type[Asked], choose: st.DataObject) -> None:
    good = GOOD[asked]
    name = choose.draw(st.sampled_from(sorted(good)))
    wrong = choose.draw(
        st.none() | st.booleans() | st.just(0.5) | st.just("9" * 40) | st.just([])
        | st.just({}) | st.text("~", min_size=1) | st.integers(max_value=0)
        | st.integers(min_value=10**12)
    )  # fmt: skip
    answer = understood(json.dumps(good | {name: wrong}).encode(), asked)
    assert isinstance(answer, Problem)
    assert answer.pointer == f"/{name}"
    assert descriptions(asked)[name] in answer.detail
    missing = understood(json.dumps({k: v for k, v in good.items() if k != name}).encode(), asked)
    assert isinstance(missing, Problem)
    assert missing.pointer == f"/{name}"


@given(st.sampled_from(list(GOOD)), st.binary() | st.text().map(str.encode), st.integers(0, 200))
def test_anything_at_all_is_taken_or_refused(asked: type[Asked], octets: bytes, cut: int) -> None:
    good = msgspec.json.encode(GOOD[asked])
    assert isinstance(understood(good, asked), asked)
    for body in (octets, good[:cut] + octets, good[:cut] + octets + good[cut:]):
        answer = understood(body, asked)
        assert isinstance(answer, asked | Problem)
        if isinstance(answer, Problem):
            assert CARD not in str(answer)
            assert answer.status in (400, 422)
