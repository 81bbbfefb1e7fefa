"""One request gone through: a made-up one by simulating, and a stored one by its reference."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from protocols.message import Outcome
from risk.record import AssessedFacts, Assessment, encode_results
from switch.backtest.submission import yesterday
from switch.clock import SystemClock
from switch.config import Config

if TYPE_CHECKING:
    from tests.switch.console.conftest import Served

TAP: dict[str, Any] = {
    "at": "2026-10-01T08:30:00+08:00", "kind": "fare", "segment": "transit", "amount": 200,
    "tier": "verified", "balance": 50_000, "stop": "K1/12", "line": "K1",
}  # fmt: skip


def test_a_made_up_request_is_gone_through(served: Served) -> None:
    def ago(seconds: int) -> dict[str, Any]:
        return {
            "ago_s": seconds, "kind": "fare", "segment": "transit", "amount": 200,
            "stop": f"K1/{seconds}",
        }  # fmt: skip

    with served.client("analyst") as client:
        path = "/v1/rulesets/live/simulate"
        quiet = client.post(path, json=TAP).json()
        assert quiet["assessment"]["decision"] == "approved"
        burst = [ago(20 + 10 * number) for number in range(12)]
        told = client.post(path, json=TAP | {"history": burst}).json()
        assert told["assessment"]["decision"] != "approved"
        fired = told["assessment"]["rule_id"]
        (rule,) = [each for each in told["rules"] if each["rule_id"] == fired]
        assert (rule["holds"], rule["effect"]) == (True, "declined")
        assert rule["when"]["holds"] is True
        assert fired in told["sentence"]
        for wrong, pointer in (
            ({"amount": "x"}, "/amount"),
            ({"history": [ago(5), {"ago_s": -1}]}, "/history/1/ago_s"),
            ({"colour": 1}, ""),
        ):
            answer = client.post(path, json=TAP | wrong)
            assert answer.status_code == 422, wrong
            assert answer.json().get("pointer", "").startswith(pointer), answer.text
        assert (
            client.post(path, content=b"{", headers={"content-type": "text/plain"}).status_code
            == 400
        )


def test_a_stored_authorization_is_explained(served: Served) -> None:
    day = yesterday(Config(), SystemClock().now_us()) - timedelta(days=3)
    served.fetch("select ledger.make_partitions($1)", day)
    results = encode_results(
        Assessment(
            Outcome.COUNT_LIMIT,
            served.live,
            "tap_burst",
            1,
            "too many taps",
            "7 taps in 5 min on card {card}",
            facts=AssessedFacts(200, 50_000, tier="verified", product="standard"),
        )
    )
    served.fetch(
        "insert into ledger.authorization (business_date, shard, authorization_id, account_id,"
        " card_id, at_us, posted_at_us, deadline_at_us, key, payload_hash, message_class, kind,"
        " segment, link, acquirer, terminal, merchant, mcc, entry_mode, stan, local_at, rrn,"
        " auth_code, currency, amount_minor, approved_minor, purse, outcome, original_id, ruleset,"
        " rule_results, explanation) select $1, 0, 7000 + n, 91, 91, n, n, 0,"
        " decode(lpad(to_hex(n), 32, 'f'), 'hex'), '', 'financial', 'fare', 'transit', 'r',"
        " '48021000', 'T1', 'M1', '4111', 'chip', '000001', '', '626312345678', '', '156', 200, 0,"
        " 0, 'count_limit', 0, $2, $3, 'Declined 65' from generate_series(1, 2) n",
        day,
        served.live,
        results,
    )
    with served.client("viewer") as client:
        path = "/v1/authorizations/{}/explanation"
        told = client.get(path.format(7001)).json()
        (one,) = told["authorizations"]
        assert (one["authorization_id"], one["answered"]["response_code"]) == (7001, "65")
        assert one["decider"]["hash"] == served.live
        assert one["facts"]["tier"] == "verified"
        assert told["traced"] is not None
        by_key = client.get(path.format("f" * 31 + "2")).json()
        assert [each["authorization_id"] for each in by_key["authorizations"]] == [7002]
        by_rrn = client.get(path.format("626312345678"), params={"day": f"{day}"}).json()
        assert len(by_rrn["authorizations"]) == 2
        assert by_rrn["traced"] is None, "which of them is not said"
        nothing = client.get(path.format(7777))
        assert nothing.status_code == 404
        assert "by day=" in nothing.json()["detail"]
        assert client.get(path.format("x")).status_code == 404
        assert client.get(path.format(7001), params={"day": "soon"}).status_code == 422
