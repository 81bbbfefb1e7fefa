"""Requests that nobody should send are answered clearly, and quote nothing of what was sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from switch.console.backtests import BacktestAsked
from switch.console.body import question, understood
from switch.console.life import CanaryAsked, RulesetAsked
from switch.console.lists import EntriesAsked, EntriesQuery
from switch.console.problems import Problem, Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.switch.console.conftest import Served

CARD = "6212340000000000013"
JSON = {"content-type": "application/json"}
BODIES = [BacktestAsked, CanaryAsked, EntriesAsked, RulesetAsked]


@pytest.mark.parametrize(
    ("content", "status", "kind", "words"),
    [
        (b"", 400, "body", "before its end"),
        (b"{", 400, "body", "before its end"),
        (b"[1]", 400, "body", "one JSON object"),
        (b'{"reason": "x", ]', 400, "body", "at byte 16"),
        (b'{"reason": "\xff"}', 400, "body", "byte 12 is not UTF-8"),
        (b'{"reason": 5}', 422, "field", "give why"),
        (b'{"reason": "x", "reasons": 5}', 422, "field", "use reason"),
        (b'{"reason": "' + b"x" * 500 + b'"}', 422, "field", "at most 400"),
        (b"[" * 100_000, 400, "body", ""),
        (b'{"reason": ' + b"[" * 5_000 + b"]" * 5_000 + b"}", 0, "", ""),
    ],
)
def test_a_body_that_does_not_fit(
    served: Served, content: bytes, status: int, kind: str, words: str
) -> None:
    with served.client("approver") as client:
        path = f"/v1/rulesets/{served.live[:12]}/approve"
        answer = client.post(path, content=content, headers=JSON)
    assert answer.status_code == status or (not status and answer.status_code in (400, 422))
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"].startswith(f"urn:citycard:problem:{kind}")
    assert words in answer.json()["detail"]


def test_the_wrong_type_path_method_and_parameter(served: Served) -> None:
    with served.client("author") as client:
        assert client.post("/v1/rulesets/check", content=b"a = 1").status_code == 400
        assert client.get("/v1/nothing").status_code == 404
        refused = client.delete("/v1/me")
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, OPTIONS")
        for path in (
            "/v1/rulesets/xyz",
            "/v1/rulesets/abc",
            "/v1/rulesets/..%2f..",
            "/v1/reviews/1",
        ):
            assert client.get(path).status_code in (404, 405), path
        assert client.get("/v1/reviews", params={"queue": "A B"}).status_code == 422
        assert client.get("/v1/reviews", params={"count_max": "many"}).status_code == 422
        assert client.get("/v1/reviews", params={"count_max": "5000"}).status_code == 422
        assert client.get("/v1/reviews?queue=a&queue=b").status_code == 422
        assert client.get("/v1/reviews", params={"colour": "red"}).status_code == 422


def test_what_is_no_text_is_told(served: Served) -> None:
    with served.client("author") as client:
        for asked in (
            {"title": "a\0b", "toml": served.draft_toml()},
            {"title": "a", "toml": "a = 1\0"},
            {"title": "a", "toml": f"# \0\n{served.draft_toml()}"},
        ):
            assert client.post("/v1/rulesets", json=asked).status_code == 422
        values = {"values": ["a\0"], "reason": "x"}
        assert client.post("/v1/lists/hotlist/entries", json=values).status_code == 422
        half = b'{"title": "\\ud800", "toml": "a = 1"}'
        answer = client.post("/v1/rulesets", content=half, headers=JSON)
        assert answer.status_code in (400, 422)
    with served.client("auditor") as client:
        assert client.get("/v1/trail?subject=%00").status_code == 422
        assert client.get("/v1/trail?subject=%ff").status_code == 422


def test_too_much_is_not_read(served: Served) -> None:
    with served.client("author") as client:
        answer = client.post("/v1/rulesets/check", content=b" " * 10_000_000, headers=JSON)
        assert answer.status_code == 413
        answer = client.post(
            "/v1/lists/hotlist/entries/import",
            content=b"v" * 17_000_000,
            headers={"content-type": "text/csv"},
        )
        assert answer.status_code == 413
        assert client.get("/v1/me").status_code == 200, "and the console goes on"


def test_no_card_number_comes_back(served: Served) -> None:
    asked: list[tuple[str, Any]] = [
        ("/v1/lists/hotlist/entries", {"values": [CARD], "reason": "stolen"}),
        ("/v1/lists/hotlist/entries", {"values": ["a" * 32], "reason": f"card {CARD}"}),
        (f"/v1/rulesets/{served.live}/submit", {"reason": CARD}),
        ("/v1/rulesets", {"title": CARD, "toml": served.draft_toml()}),
        ("/v1/rulesets", {"title": "x", "toml": f"# {CARD}\n{served.draft_toml()}"}),
        ("/v1/rulesets/check", {"toml": f"[settings]\n{CARD} = 5"}),
        ("/v1/rulesets/check", {"ruleset": {CARD: 1}}),
        ("/v1/snoozes", {"rule_id": CARD, "card_id": 1, "until_us": 1, "reason": "x"}),
        (f"/v1/rules/{CARD}/pause", {"reason": "x"}),
    ]
    with served.client("author") as client:
        for path, body in asked:
            answer = client.post(path, json=body)
            assert CARD not in answer.text, path
            assert answer.status_code in (404, 409, 422) or not answer.json()["sound"], path


def refused_of(reading: Callable[[], object]) -> Problem | None:
    """The problem that reading ends with, None where it does not."""
    try:
        reading()
    except Refused as refused:
        return refused.problem
    return None


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=60).map(str.encode)))
def test_any_bytes_are_a_body_or_a_problem(octets: bytes) -> None:
    for wanted in BODIES:
        refused = refused_of(lambda: understood(octets, wanted))  # noqa: B023 - called at once
        assert refused is None or refused.status in (400, 422)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["values", "reason", "x", CARD]), inner, max_size=4)
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(_JSON)
def test_any_json_is_a_body_or_a_problem_that_quotes_nothing(value: Any) -> None:
    octets = msgspec.json.encode(value)
    for wanted in BODIES:
        refused = refused_of(lambda: understood(octets, wanted))  # noqa: B023 - called at once
        assert CARD not in msgspec.json.encode(refused).decode()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["ended", "count_max", CARD]), st.text(max_size=6))))
def test_any_question_is_one_or_a_problem(pairs: list[tuple[str, str]]) -> None:
    refused = refused_of(lambda: question(list(pairs), EntriesQuery))
    assert refused is None or refused.status in (400, 422)
    assert CARD not in msgspec.json.encode(refused).decode()
