"""Every field of an answer, and who is answered at all."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from protocols.card_number import numbered_card
from protocols.framing import Framing
from protocols.iso8583 import SPECS, Message, Spec, decode, encode
from protocols.iso8583.client import (
    Dialect,
    Sale,
    adjustment_message,
    completion_message,
    inquiry_message,
    preauthorization_message,
    reversal_message,
    sale_message,
)
from protocols.iso8583.dialect import (
    Totals,
    is_request,
    network_reply,
    read,
    reconciliation_reply,
    response_mti,
    write,
    write_malformed,
)
from protocols.iso8583.elements import balances_from
from protocols.iso8583.link import LinkTerms
from protocols.message import (
    Balance,
    Outcome,
    Reply,
    Request,
    Segment,
    response_code,
)

AnyMessage = Callable[[Spec], SearchStrategy[Message]]
CARD = numbered_card("620000", 12_345)
NOW = datetime(2026, 11, 22, 18, 5, 9)
SALE = Sale(CARD, 1_840, 417, "T0000042", "M0042", NOW, "5411", "48021000")
APPROVED = Reply(Outcome.APPROVED, 1_840, 7, "A1B2C3", "632618000417")
both = pytest.mark.parametrize("dialect", ["unionpay_pos", "iso87_ascii"])


def terms(dialect: Dialect = "iso87_ascii", **changes: object) -> LinkTerms:
    agreed = LinkTerms(
        "shops", dialect, Framing(), "48021000", Segment.RETAIL, 800, ("156",), default_mcc="5999"
    )
    return msgspec.structs.replace(agreed, **changes)


def sale(dialect: Dialect = "iso87_ascii", mti: str = "0200", /, **changes: str | None) -> Message:
    """A sale with fields changed (`de4="…"`) or taken out (`de4=None`)."""
    message = sale_message(
        dialect,
        Sale(CARD, 1_840, 417, "T0000042", "M0042", NOW, "5411", "48021000", mti=mti),
    )
    for name, value in changes.items():
        number = int(name.removeprefix("de"))
        message.fields.pop(number, None)
        if value is not None:
            message.fields[number] = value
    return message


def understood(message: Message, agreed: LinkTerms | None = None, **more: bytes) -> Request:
    request = read(agreed or terms(), message, 5_000, **more)
    assert isinstance(request, Request)
    return request


# ---- answers -------------------------------------------------------------------------------


@both
def test_an_approval_echoes_and_adds(dialect: Dialect) -> None:
    asked = sale(dialect, de37=None)
    answer = write(terms(dialect), asked, APPROVED, NOW, "1123")
    assert answer is not None
    assert answer.mti == "0210"
    echoed = {2, 3, 11, 12, 13, 14, 25, 32, 41, 42, 49}
    echoed |= {23, 60} if dialect == "unionpay_pos" else {7}
    assert {n: answer.fields[n] for n in echoed} == {n: asked.fields[n] for n in echoed}
    added = {4: "000000001840", 15: "1123", 37: "632618000417", 38: "A1B2C3", 39: "00"}
    assert {n: answer.fields[n] for n in added} == added
    assert set(answer.fields) == echoed | set(added)
    assert decode(dialect, encode(dialect, answer)).fields == answer.fields


@pytest.mark.parametrize(("partial", "code"), [(True, "10"), (False, "00")])
def test_an_approval_says_how_much(partial: bool, code: str) -> None:
    reply = msgspec.structs.replace(APPROVED, approved_minor=5, partial=partial)
    answer = write(terms(), sale(), reply, NOW)
    assert answer is not None
    assert (answer.text(4), answer.text(39)) == ("000000000005", code)


def test_a_refusal_is_never_partial() -> None:
    answer = write(terms(), sale(), Reply(Outcome.INSUFFICIENT_FUNDS, partial=True), NOW)
    assert answer is not None
    assert answer.text(39) == "51"


BALANCES = (Balance("TRN", 5_000, 5_000), Balance("GEN", -1, 80_000))


@both
def test_an_inquiry_is_told_balances_and_no_amount(dialect: Dialect) -> None:
    asked = inquiry_message(dialect, SALE)
    answer = write(terms(dialect), asked, Reply(Outcome.APPROVED, balances=BALANCES), NOW)
    assert answer is not None
    assert 4 not in answer.fields
    heard = decode(dialect, encode(dialect, answer))
    assert heard.mti == "0210"
    assert heard.text(54)[:40] == "6001156C0000000050006002156C000000005000"
    assert balances_from(heard.text(54)) == BALANCES


@both
def test_a_message_about_another_is_told_its_own_number(dialect: Dialect) -> None:
    """The void of a completion needs the completion's, not the preauthorization's."""
    pre = preauthorization_message(dialect, SALE)
    asked = completion_message(dialect, pre, stan=9, local_at=NOW, rrn="PREAUTHRRN01")
    answer = write(terms(dialect), asked, APPROVED, NOW)
    assert answer is not None
    assert answer.text(37) == APPROVED.rrn
    silent = write(terms(dialect), asked, Reply(Outcome.OVERLOADED), NOW)
    assert silent is not None
    assert silent.text(37) == "PREAUTHRRN01"


@both
def test_a_reversal_is_answered_in_the_words_of_its_original(dialect: Dialect) -> None:
    asked = reversal_message(dialect, SALE, stan=9, mti="0420", repeat=True)
    answer = write(terms(dialect), asked, Reply(Outcome.APPROVED, replayed=True), NOW)
    assert answer is not None
    assert answer.mti == "0430"
    for number in (4, 11, 37, 90):
        assert answer.fields.get(number) == asked.fields.get(number)


@both
def test_an_adjustment_is_answered_with_its_total(dialect: Dialect) -> None:
    asked = adjustment_message(dialect, SALE, total_minor=2_040, stan=9, local_at=NOW, rrn="R")
    answer = write(terms(dialect), asked, Reply(Outcome.APPROVED, approved_minor=200), NOW)
    assert answer is not None
    assert (answer.mti, answer.text(4)) == ("0230", "000000002040")
    assert answer.fields.get(61) == asked.fields.get(61)


@pytest.mark.parametrize("outcome", [o for o in Outcome if not o.approved])
def test_a_refusal_has_its_code_and_no_authorization(outcome: Outcome) -> None:
    reply = Reply(outcome, auth_code="A1B2C3", rrn="632618000417")
    answer = write(terms(), sale(de37=None), reply, NOW)
    assert answer is not None
    assert answer.text(39) == response_code(outcome)
    assert answer.text(4) == "000000001840"
    assert answer.text(37) == "632618000417"
    assert 38 not in answer.fields
    assert answer.text(15) == "1122"


def test_the_reference_number_of_the_terminal_is_kept() -> None:
    answer = write(terms(), sale(de37="TERMINALRRN1"), APPROVED, NOW)
    assert answer is not None
    assert answer.text(37) == "TERMINALRRN1"


def test_a_clock_is_given_to_a_terminal_that_sent_none() -> None:
    answer = write(terms(), sale(de12=None, de13=None), Reply(Outcome.MALFORMED), NOW)
    assert answer is not None
    assert (answer.text(12), answer.text(13)) == ("180509", "1122")


@pytest.mark.parametrize(
    ("asked", "answered"),
    [("0100", "0110"), ("0200", "0210"), ("0201", "0210"), ("0420", "0430"), ("0800", "0810"),
     ("1200", "1210"), ("0202", "0212"), ("0203", "0212")],
)  # fmt: skip
def test_the_answer_to_a_request(asked: str, answered: str) -> None:
    assert is_request(asked)
    assert response_mti(asked) == answered


@pytest.mark.parametrize("mti", ["0110", "0210", "0430", "0810", "0240", "02x0", "", "٠٢٠٠"])
def test_what_is_not_a_request_is_never_answered(mti: str) -> None:
    message = Message(mti, {11: "000417", 41: "T0000042"})
    assert not is_request(mti)
    assert write(terms(), message, APPROVED, NOW) is None
    assert write_malformed(terms(), message) is None


@pytest.mark.parametrize("dialect", ["unionpay_pos", "iso87_ascii"])
@settings(max_examples=150, deadline=None)
@given(sample=st.data())
def test_whatever_was_decoded_can_be_answered(
    dialect: Dialect, any_message: AnyMessage, sample: st.DataObject
) -> None:
    spec = SPECS[dialect]
    drawn = sample.draw(any_message(spec))
    mti = sample.draw(st.sampled_from(["0100", "0200", "0220", "0420", "0500", "0800", "1200"]))
    message = decode(spec, encode(spec, Message(mti, drawn.fields)))
    reply = Reply(
        sample.draw(st.sampled_from(list(Outcome))),
        approved_minor=sample.draw(st.integers(0, 999_999_999_999)),
        auth_code=sample.draw(st.text(max_size=8)),
        rrn=sample.draw(st.text(max_size=14)),
        partial=sample.draw(st.booleans()),
        balances=sample.draw(st.sampled_from([(), BALANCES, BALANCES * 4])),
    )
    read(terms(dialect), message, 1)
    for answer in (
        write(terms(dialect), message, reply, NOW),
        write_malformed(terms(dialect), message),
        network_reply(terms(dialect), message, NOW),
        reconciliation_reply(terms(dialect), message, Totals(1, 2, 3, 4, 5, 6, 7, 10**17), NOW),
    ):
        if answer is not None:
            assert decode(spec, encode(spec, answer)).fields == answer.fields


def test_a_broken_message_is_answered_30_where_it_can_be_addressed() -> None:
    partial = Message("0200", {3: "000000", 4: "000000001840", 11: "000417", 41: "T0000042"})
    assert write_malformed(terms(), partial) == Message("0210", {**partial.fields, 39: "30"})
    for missing in (11, 41):
        rest = {n: value for n, value in partial.fields.items() if n != missing}
        assert write_malformed(terms(), Message("0200", rest)) is None
    assert write_malformed(terms(), None) is None
