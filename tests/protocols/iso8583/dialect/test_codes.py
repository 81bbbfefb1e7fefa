"""Response codes of other hosts, back to outcomes."""

from __future__ import annotations

import pytest

from protocols.iso8583.dialect import response_outcome
from protocols.message import Outcome, response_code


@pytest.mark.parametrize("outcome", [each for each in Outcome if each is not Outcome.BILL_BUSY])
def test_every_code_that_is_given_comes_back_as_one_that_gives_it(outcome: Outcome) -> None:
    code = response_code(outcome)
    assert response_code(response_outcome(code)) == code


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("00", Outcome.APPROVED),
        ("10", Outcome.APPROVED),
        ("91", Outcome.DESTINATION_DOWN),
        ("62", Outcome.CARD_BLOCKED),
        ("05", Outcome.DO_NOT_HONOUR),
        ("09", Outcome.DO_NOT_HONOUR),
        ("", Outcome.DO_NOT_HONOUR),
        ("xx", Outcome.DO_NOT_HONOUR),
    ],
)
def test_a_code_means_what_a_host_can_mean_by_it(code: str, outcome: Outcome) -> None:
    assert response_outcome(code) is outcome
