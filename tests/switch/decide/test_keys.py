"""Numbers that follow from a key: codes, derived keys, retrieval references."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from switch.decide import (
    AUTH_CODE_ALPHABET,
    auth_code_of,
    derived_key,
    rrn_of,
)
from tests.simulation.model_ledger import purchase
from tests.switch.decide.cases import (
    moment,
)


@given(st.binary(min_size=16, max_size=16))
def test_an_authorization_code_is_six_clear_characters_of_the_key(key: bytes) -> None:
    code = auth_code_of(key)
    assert len(code) == 6
    assert set(code) <= set(AUTH_CODE_ALPHABET)
    assert code == auth_code_of(key)


def test_derived_keys_keep_their_time_and_are_their_own() -> None:
    key = b"\x01\x02\x03\x04" + b"k" * 12
    keys = {key, derived_key(key, b"repeat"), derived_key(key, b"late-reversal")}
    assert len(keys) == 3
    assert all(len(one) == 16 and one[:4] == key[:4] for one in keys)


def test_the_retrieval_reference_is_the_acquirers_or_made_of_time_and_stan() -> None:
    assert rrn_of(purchase(rrn="123456789012"), moment()) == "123456789012"
    made = rrn_of(purchase(7), moment())
    assert made == "609012000007"  # year 6, day 090, hour 12, STAN
    assert len(rrn_of(purchase(stan="123456789"), moment())) == 12
