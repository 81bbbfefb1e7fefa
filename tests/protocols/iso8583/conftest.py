"""Random messages of any format, for the properties of codec and dialect."""

from __future__ import annotations

import string
from collections.abc import Callable

import pytest
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from protocols.iso8583 import Field, FieldType, FieldValue, Message, Spec
from protocols.iso8583.spec import Coding

DIGITS = string.digits
ALPHANUMERIC = string.ascii_letters + string.digits + " "
PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))


def value_of(field: Field) -> SearchStrategy[FieldValue]:
    """Any value that this field may carry."""
    shortest = field.length_max if field.fixed else 0
    # the odd long value is enough; most stay short, so that many fields fit one message
    longest = min(field.length_max, max(shortest, 40))

    def text(alphabet: str) -> SearchStrategy[FieldValue]:
        return st.text(alphabet, min_size=shortest, max_size=longest)

    match field.type:
        case FieldType.N:
            return text(DIGITS)
        case FieldType.AN:
            return text(ALPHANUMERIC)
        case FieldType.ANS:
            return text(PRINTABLE)
        case FieldType.Z:
            return text(DIGITS + ("D" if field.coding is Coding.BCD else "=D"))
        case FieldType.XN:
            digits = st.text(DIGITS, min_size=shortest - 1, max_size=shortest - 1)
            return st.builds("{}{}".format, st.sampled_from("CD"), digits)
        case FieldType.B:
            return st.binary(min_size=shortest, max_size=longest)


def messages_of(spec: Spec) -> SearchStrategy[Message]:
    """Any message of the format, up to 24 fields, set in any order."""
    numbers = st.lists(st.sampled_from(sorted(spec.fields)), unique=True, max_size=24)
    fields = numbers.flatmap(
        lambda chosen: st.fixed_dictionaries({n: value_of(spec.fields[n]) for n in chosen})
    )
    return st.builds(Message, st.text(DIGITS, min_size=4, max_size=4), fields)


@pytest.fixture(scope="session")
def any_message() -> Callable[[Spec], SearchStrategy[Message]]:
    return messages_of
