"""Lists, reviews and snoozes over HTTP."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.switch.console.conftest import Served

CSV = {"content-type": "text/csv; charset=utf-8"}
LATER_US = 3_600_000_000


def test_a_list_from_making_it_to_taking_entries_off(served: Served) -> None:
    with served.client("author") as client:
        made = client.post("/v1/lists", json={"name": "event_stops_2", "field": "stop"})
        assert made.status_code == 201
        assert (made.json()["name"], made.json()["created_by"]) == ("event_stops_2", "author.one")
        again = client.post("/v1/lists", json={"name": "event_stops_2", "field": "stop"})
        assert (again.status_code, again.json()["type"]) == (422, "urn:citycard:problem:refused")
        path = "/v1/lists/event_stops_2/entries"
        asked = {"values": ["north/7", "north/8", "north/7"], "reason": "marathon"}
        added = client.post(path, json=asked).json()
        assert added == {"name": "event_stops_2", "given": 3, "added": 2}
        ahead = client.get(path, params={"ended": "true"}).json()["entries"]
        assert {each["value"] for each in ahead} == {"north/7", "north/8"}
        assert all(each["author"] == "author.one" for each in ahead)
        removed = client.post(f"{path}/remove", json={"values": ["north/7"], "reason": "over"})
        assert removed.json() == {"name": "event_stops_2", "removed": 1, "rules": []}
        assert client.post("/v1/lists/no_such/entries", json=asked).status_code == 404
        names = [each["name"] for each in client.get("/v1/lists").json()["lists"]]
        assert "event_stops_2" in names
    with served.client("auditor") as auditor:
        events = auditor.get("/v1/trail", params={"subject": "list event_stops_2"}).json()["events"]
    assert [each["act"] for each in events] == ["list_remove", "list_add", "list_new"]


def test_a_file_is_taken_whole_or_not_at_all(served: Served) -> None:
    with served.client("author") as client:
        client.post("/v1/lists", json={"name": "imported", "field": "merchant"})
        path = "/v1/lists/imported/entries"
        good = "value,reason\n" + "".join(f"M{number:05},tested\n" for number in range(2_000))
        bad = good + "M00001,\n"
        refused = client.post(f"{path}/import", content=bad, headers=CSV)
        assert refused.status_code == 422
        assert "line 2002" in refused.json()["detail"]
        assert client.get(path, params={"ended": True}).json()["entries"] == []
        taken = client.post(f"{path}/import", content=good, headers=CSV).json()
        assert (taken["given"], taken["added"]) == (2_000, 2_000)
        said = client.post(
            f"{path}/import", content="value\nM1\n", headers=CSV, params={"reason": "by hand"}
        )
        assert said.json()["added"] == 1
        some = client.get(path, params={"ended": True, "count_max": 5}).json()["entries"]
        assert len(some) == 5
        assert client.post(f"{path}/import", content=b"\xff\xfe", headers=CSV).status_code == 422


def test_a_card_is_spared_and_no_longer(served: Served) -> None:
    served.fetch("insert into ledger.account (shard, account_id, tier) values (0, 77, 'T0')")
    served.fetch(
        "insert into ledger.card (shard, card_id, account_id, last4) values (0, 77, 77, '0013')"
    )
    served.fetch("insert into ledger.medium values (decode(repeat('ab', 16), 'hex'), 0, 77, 77)")
    until_us = time.time_ns() // 1_000 + LATER_US
    asked = {"rule_id": "tap_burst", "card_id": 77, "until_us": until_us, "reason": "a teacher"}
    with served.client("author") as client:
        made = client.post("/v1/snoozes", json=asked)
        assert made.status_code == 201, made.text
        (standing,) = client.get("/v1/snoozes", params={"card_id": 77}).json()["snoozes"]
        assert (standing["rule_id"], standing["last4"]) == ("tap_burst", "0013")
        assert standing["snooze_id"] == made.json()["snooze_id"]
        unknown = client.post("/v1/snoozes", json=asked | {"rule_id": "tap_bursts"})
        assert "perhaps tap_burst" in unknown.json()["detail"]
        lifted = client.post("/v1/snoozes/lift", json={**asked, "reason": "gone"})
        assert lifted.status_code == 422, "until_us is no field of it"
        lifted = client.post(
            "/v1/snoozes/lift", json={"rule_id": "tap_burst", "card_id": 77, "reason": "gone"}
        )
        assert lifted.json() == {"lifted": 1}


def test_a_verdict_is_given_once(served: Served) -> None:
    served.fetch(
        "insert into ledger.review (shard, authorization_id, business_date, queue, rule_id,"
        " card_id, at_us) values (0, 901, '2026-10-01', 'loads', 'load_ladder', 77, 5)"
    )
    with served.client("analyst") as client:
        told = client.get("/v1/reviews", params={"queue": "loads"}).json()
        assert [each["authorization_id"] for each in told["reviews"]] == [901]
        assert told["queues"] == [{"queue": "loads", "open_count": 1, "oldest_us": 5}]
        verdict = {"verdict": "fraud", "note": "the holder did not load"}
        closed = client.post("/v1/reviews/901/close", json=verdict)
        assert closed.json() == {"authorization_id": 901, "queues": ["loads"]}
        again = client.post("/v1/reviews/901/close", json=verdict | {"verdict": "genuine"})
        assert again.status_code == 422
        assert "closed as fraud" in again.json()["detail"]
        wrong = client.post("/v1/reviews/901/close", json={"verdict": "maybe"})
        assert wrong.json()["pointer"] == "/verdict"
