"""The words between us and a biller: strict where it matters, silent about tokens."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.bills.biller import Absent, Bill, PaymentAnswer, PaymentOrder, TokenAnswer

SERIAL, TOKEN = "0123456789abcdef" * 2, "1234" * 5
ANSWER: dict[str, Any] = {
    "serial": SERIAL, "bill_no": "A-1", "amount_minor": 8_320, "state": "paid",
    "receipt": "R1", "token": TOKEN, "reason": "",
}  # fmt: skip


def test_an_answer_with_more_than_we_know_is_understood_and_shows_no_token() -> None:
    answer = msgspec.convert(ANSWER | {"new_in_version_2": True}, PaymentAnswer)
    assert msgspec.json.decode(msgspec.json.encode(answer), type=PaymentAnswer) == answer
    assert TOKEN not in f"{answer!r} {answer.__rich_repr__()} {TokenAnswer(SERIAL, TOKEN)!r}"


@pytest.mark.parametrize(
    "wrong",
    [
        {"serial": "0" * 31}, {"amount_minor": -1}, {"amount_minor": 83.2}, {"state": "perhaps"},
        {"token": "12"}, {"bill_no": ""}, {"bill_no": "A\n"}, {"amount_minor": 10**12},
    ],
)  # fmt: skip
def test_what_is_not_as_agreed_is_no_answer(wrong: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(ANSWER | wrong, PaymentAnswer)


def test_what_paying_takes_is_with_the_late_fee() -> None:
    assert Bill("A-1", "王*", "2026-10", 8_120, 200).total_minor == 8_320


@given(st.sampled_from([Bill, PaymentOrder, PaymentAnswer, TokenAnswer, Absent]), st.binary())
def test_octets_are_an_answer_or_a_documented_error(kind: type[Any], octets: bytes) -> None:
    try:
        said = msgspec.json.decode(octets, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return
    assert isinstance(said, kind)
