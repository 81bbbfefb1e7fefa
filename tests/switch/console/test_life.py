"""A rule's life over HTTP: written, looked on, approved by another, live, rolled back, paused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

if TYPE_CHECKING:
    import httpx

    from tests.switch.console.conftest import Served


def acted(client: httpx.Client, hash_: str, act: str, **asked: Any) -> tuple[int, Any]:
    answer = client.post(f"/v1/rulesets/{hash_}/{act}", json=asked)
    return answer.status_code, answer.json()


def test_a_whole_life(served: Served) -> None:
    hash_ = served.drafted()
    short = hash_[:10]
    with (
        served.client("author") as author,
        served.client("analyst") as analyst,
        served.client("approver") as approver,
    ):
        view = author.get(f"/v1/rulesets/{short}").json()
        assert (view["state"], view["parent"], view["authors"]) == (
            "draft", served.live, ["author.one"],
        )  # fmt: skip
        assert acted(analyst, short, "shadow")[1]["state"] == "shadow"
        assert acted(approver, short, "approve")[0] == 409, "it was not submitted"
        assert acted(analyst, short, "submit")[0] == 403
        # what goes with submitting is its own test; here it went
        served.fetch("update ledger.ruleset set state = 'submitted' where hash = $1", hash_)
        status, view = acted(approver, short, "approve", reason="two days in shadow")
        assert (status, view["state"], view["approvers"]) == (200, "approved", ["approver.one"])
        status, view = acted(approver, short, "canary", percent=5)
        assert (status, view["state"], view["canary_percent"]) == (200, "canary", 5)
        assert author.get("/v1/rulesets/canary").json()["hash"] == hash_
        assert acted(approver, short, "promote")[1]["state"] == "live"
        status, again = acted(approver, short, "promote")
        assert status == 409
        assert "is live" in again["detail"]
        assert author.get("/v1/rulesets/live").json()["hash"] == hash_
        status, back = acted(approver, served.live, "rollback", reason="it declined too much")
        assert (status, back["state"]) == (200, "live")
        listed = author.get("/v1/rulesets").json()["rulesets"]
        assert {each["hash"]: each["state"] for each in listed}[hash_] == "retired"
    with served.client("auditor") as auditor:
        events = auditor.get("/v1/trail", params={"subject": hash_}).json()["events"]
    assert [each["act"] for each in events] == [
        "retire", "promote", "canary", "approve", "shadow", "write",
    ]  # fmt: skip
    assert events[3]["actor"] == "approver.one"


def test_nobody_approves_own_work(served: Served) -> None:
    hash_ = served.drafted("both")
    served.fetch("update ledger.ruleset set state = 'submitted' where hash = $1", hash_)
    with served.client("both") as client:
        status, told = acted(client, hash_, "approve")
        assert (status, told["type"]) == (409, "urn:citycard:problem:state")
        assert "both.one wrote ruleset" in told["detail"]
        # nor what somebody else made of it
        child = client.post(
            "/v1/rulesets", json={"title": "child", "toml": served.draft_toml(), "parent": hash_}
        ).json()
    assert child["authors"] == ["both.one"]


def test_an_act_names_a_hash(served: Served) -> None:
    with served.client("approver") as client:
        for reference in ("live", "canary"):
            status, told = acted(client, reference, "pause", reason="now")
            assert status == 409
            assert "digits of its hash" in told["detail"]
        assert acted(client, "000000", "approve")[0] == 404


def test_what_is_wrong_with_a_ruleset_is_told_with_its_path(served: Served) -> None:
    bad = served.draft_toml().replace('op = "gt"', 'op = "above"', 1)
    with served.client("author") as client:
        answer = client.post("/v1/rulesets", json={"title": "bad", "toml": bad})
        checked = client.post("/v1/rulesets/check", json={"toml": bad}).json()
        assert answer.status_code == 422
        findings = answer.json()["findings"]
        assert any(".op" in each["path"] for each in findings), findings
        assert checked["sound"] is False
        assert [each["path"] for each in checked["findings"]] == [f["path"] for f in findings]
        sound = client.post("/v1/rulesets/check", json={"toml": served.draft_toml()}).json()
        assert sound["sound"]
        assert len(sound["hash"]) == 64
        assert client.post("/v1/rulesets/check", json={}).status_code == 422
        for json in ('{"rules": 5}', '{"settings": {"time_zone": 1}}', "[]"):
            asked = {"ruleset": msgspec.json.decode(json)}
            told = client.post("/v1/rulesets/check", json=asked).json()
            assert not told["sound"], json


def test_canonical_json_is_the_same_ruleset(served: Served) -> None:
    hash_ = served.drafted()
    with served.client("author") as client:
        octets = client.get(f"/v1/rulesets/{hash_}/canonical").content
        again = client.post(
            "/v1/rulesets", content=b'{"title": "the same", "ruleset": ' + octets + b"}",
            headers={"content-type": "application/json"},
        )  # fmt: skip
        source = client.get(f"/v1/rulesets/{hash_}/source")
    assert again.json()["hash"] == hash_
    assert source.headers["etag"] == f'"{hash_}"'
    assert source.headers["content-type"] == "text/plain; charset=utf-8"
    assert "tap_burst" in source.text


def test_rules_are_told_in_two_languages(served: Served) -> None:
    with served.client("viewer") as client:
        told = client.get("/v1/rulesets/live/rules").json()
    assert told["state"] == "live"
    burst = next(each for each in told["rules"] if each["id"] == "tap_burst")
    assert burst["sentence"]
    assert any("\u4e00" <= letter <= "\u9fff" for letter in burst["sentence_zh"])
    assert 0 < burst["cost_ns"] <= told["cost_ns"]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_difference_is_told(served: Served, language: str) -> None:
    hash_ = served.drafted()
    with served.client("viewer") as client:
        told = client.get(f"/v1/rulesets/live/diff/{hash_}", params={"language": language}).json()
        same = client.get("/v1/rulesets/live/diff/live").json()
    (change,) = told["changes"]
    assert (change["sort"], change["what"], change["id"]) == ("changed", "rule", "tap_burst")
    assert [each["path"] for each in change["fields"]] == ["version"]
    assert same["changes"] == []


def test_a_rule_is_paused_by_one_person_and_lifted(served: Served) -> None:
    with served.client("analyst") as client:
        path = "/v1/rules/tap_burst"
        made = client.post(f"{path}/pause", json={"reason": "a school is standing there"})
        assert made.status_code == 200
        assert made.json()["pauses"][0]["paused_by"] == "analyst.one"
        assert client.post(f"{path}/pause", json={"reason": "again"}).status_code == 409
        rules = client.get("/v1/rulesets/live/rules").json()["rules"]
        assert [each["id"] for each in rules if each["paused"]] == ["tap_burst"]
        standing = client.get("/v1/rules/pauses").json()["pauses"]
        assert [each["rule_id"] for each in standing] == ["tap_burst"]
        lifted = client.post(f"{path}/lift", json={"reason": "they went in"}).json()
        assert lifted["rule_id"] == "tap_burst"
        assert client.post(f"{path}/lift", json={"reason": "again"}).status_code == 409
        unknown = client.post("/v1/rules/no_such/pause", json={"reason": "x"})
        assert unknown.status_code == 404


def test_statistics_by_the_hour_and_examples(served: Served) -> None:
    hash_ = served.drafted()
    served.fetch(
        "insert into ledger.rule_statistic (mode, hash, rule_id, rule_version, hour, slot,"
        " requests, fired, declined) select 'shadow', $1, 'tap_burst', 101,"
        " date_trunc('hour', clock_timestamp()) - make_interval(hours => h), s, 100, 3, 2"
        " from generate_series(0, 30) h, generate_series(0, 1) s",
        hash_,
    )
    served.fetch(
        "insert into ledger.shadow_example values ($1, 0, 0, 7, 5, 'tap_burst', 'approved',"
        " 'count_limit', 200, 'Declined')",
        hash_,
    )
    served.fetch(
        "update ledger.ruleset set forecast = '{\"tap_burst\": 900}' where hash = $1", hash_
    )
    with served.client("viewer") as client:
        told = client.get(f"/v1/rulesets/{hash_}/statistics", params={"hours": 4}).json()
        none = client.get(f"/v1/rulesets/{hash_}/statistics", params={"mode": "live"}).json()
        examples = client.get(f"/v1/rulesets/{hash_}/examples").json()["examples"]
    (rule,) = told["rules"]
    assert (rule["mode"], rule["rule_id"], rule["forecast_ppm"]) == ("shadow", "tap_burst", 900)
    assert (rule["fired_ppm"], rule["declined_ppm"]) == (30_000, 20_000)
    assert [each["requests"] for each in rule["hours"]] == [200] * 4
    assert none["rules"] == []
    assert [each["authorization_id"] for each in examples] == [7]


def test_the_trail_is_paged(served: Served) -> None:
    served.drafted()
    with served.client("auditor") as client:
        newest = client.get("/v1/trail", params={"count_max": 1}).json()
        before = newest["next_before"]
        older = client.get("/v1/trail", params={"count_max": 1_000, "before": before}).json()
    assert len(newest["events"]) == 1
    assert all(each["event_id"] < before for each in older["events"])
    assert older["next_before"] is None
    assert older["events"][-1]["act"] == "bootstrap"
