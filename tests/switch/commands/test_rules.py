"""`rules` and `operator` as people meet them: a ruleset from the first draft to a rollback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from switch.cli import main
from switch.commands.exits import Exit
from switch.ledger import bridge
from tests.switch.ledger.rulesets_staged import PEOPLE, begin, source_of

pytestmark = pytest.mark.usefixtures("process_as_before")


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.out, self.err
        return json.loads(self.out)


class Desk:
    """Runs commands on one ledger, as one of the PEOPLE or as nobody."""

    def __init__(self, database: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._where = ["--database", database]
        self._capsys = capsys
        self.folder = folder
        for name, roles in PEOPLE.items():
            made = self("operator", "add", name, "--roles", ",".join(roles), "--json")
            assert made.code == Exit.OK, made.err
            self.keep(name, made.json["token"])

    def keep(self, name: str, token: str) -> None:
        file = self.folder / f"{name}.token"
        file.touch(mode=0o600)
        file.write_text(token + "\n")

    def __call__(self, *arguments: str, who: str = "") -> Ran:
        acting = ["--token-file", str(self.folder / f"{who}.token")] if who else []
        self._capsys.readouterr()
        code = main([*arguments, *acting, *self._where])
        out, err = self._capsys.readouterr()
        return Ran(code, out, err)

    def draft(self, limit_minor: int, who: str = "ada", **more: str) -> str:
        file = self.folder / f"limit_{limit_minor}.toml"
        file.write_text(source_of(limit_minor))
        options = [word for name, value in more.items() for word in (f"--{name}", value)]
        ran = self("rules", "new", str(file), "--json", *options, who=who)
        assert ran.code == Exit.OK, ran
        return str(ran.json["hash"])

    def live(self) -> str:
        return str(self("rules", "show", "--json").json["ruleset"]["hash"])


@pytest.fixture
def desk(
    database: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Desk:
    async def with_a_live_ruleset() -> None:
        connection = await bridge.connect(database)
        await begin(connection)
        await connection.close()

    bridge.run("asyncio", with_a_live_ruleset)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CITYCARD_TOKEN", raising=False)
    return Desk(database, tmp_path, capsys)


def one_sentence(ran: Ran, *, code: Exit = Exit.FINDINGS) -> str:
    assert ran.code == code, ran
    assert ran.err.startswith("citycard: "), ran
    assert ran.err.count("\n") == 1
    return ran.err


def test_the_whole_life_of_a_ruleset(desk: Desk) -> None:
    first = desk.live()
    made = desk.draft(20_000, title="a higher limit")
    assert desk("rules", "shadow", made[:8], who="dan").code == Exit.OK
    submitted = desk("rules", "submit", made[:8], "--reason", "calm week", who="ada")
    assert submitted.out == f"ruleset {made[:12]} is submitted\n"
    assert desk("rules", "approve", made[:8], who="cyd").code == Exit.OK
    canary = desk("rules", "canary", made[:8], "--percent", "5", who="cyd")
    assert canary.out == f"ruleset {made[:12]} is canary for 5 % of the cards\n"
    assert desk("rules", "show", "canary", "--json").json["ruleset"]["hash"] == made
    promoted = desk("rules", "promote", "canary", "--json", who="cyd").json
    assert (promoted["state"], promoted["approvers"]) == ("live", ["cyd"])
    assert desk.live() == made
    back = desk("rules", "rollback", first[:8], "--reason", "complaints", who="ben")
    assert (back.code, desk.live()) == (Exit.OK, first)
    listed = {each["hash"]: each for each in desk("rules", "list", "--json").json}
    assert {hash: each["state"] for hash, each in listed.items()} == {
        first: "live",
        made: "retired",
    }
    assert listed[made]["title"] == "a higher limit"
    table = desk("rules", "list").out
    assert made[:12] in table
    assert made[:13] not in table
    events = desk("rules", "trail", "--subject", made[:8], "--json").json
    assert [event["act"] for event in events] == [
        "retire",
        "promote",
        "canary",
        "approve",
        "submit",
        "shadow",
        "write",
    ]
    assert events[4]["detail"]["backtest"]["approved"] == 0, "nothing was approved yesterday"
    text = desk("rules", "trail", "--count", "3").out
    assert "complaints" in text
    assert "ben" in text


def test_a_ruleset_as_people_read_it(desk: Desk) -> None:
    first, made = desk.live(), desk.draft(20_000)
    english = desk("rules", "show", made[:6]).out
    assert "200.00" in english
    assert "risk office" in english
    assert "µs" in english
    assert "拒绝" in desk("rules", "show", made[:6], "--zh").out
    assert desk("rules", "show", made[:6], "--source").out == source_of(20_000).rstrip("\n") + "\n"
    (rule,) = desk("rules", "show", "--json").json["rules"]
    assert (rule["id"], rule["paused"], rule["cost_ns"] > 0) == ("amount_limit", False, True)
    diff = desk("rules", "diff", "live", made[:6]).out
    assert "when.right.value: 10000 → 20000" in diff
    (change,) = desk("rules", "diff", first[:6], made[:6], "--json").json["changes"]
    assert (change["sort"], change["id"]) == ("changed", "amount_limit")
    assert desk("rules", "diff", "live", "live").out.endswith("no difference\n")


def test_four_eyes(desk: Desk) -> None:
    by_ben = desk.draft(20_000, "ben")
    made = desk.draft(30_000, "ada", parent=by_ben[:8])
    assert desk("rules", "submit", made[:8], who="ada").code == Exit.OK
    assert "ben wrote" in one_sentence(desk("rules", "approve", made[:8], who="ben"))
    assert "approver" in one_sentence(desk("rules", "approve", made[:8], who="ada"))
    assert desk("rules", "approve", made[:8], who="cyd").code == Exit.OK
    rejected = desk("rules", "reject", made[:8], "--reason", "after all not", who="ben")
    assert rejected.out == f"ruleset {made[:12]} is draft\n"


def test_who_acts_and_who_may_not(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    made = desk.draft(20_000)
    assert "token" in one_sentence(desk("rules", "shadow", made[:8]), code=Exit.USAGE)
    assert "role" in one_sentence(desk("rules", "shadow", made[:8], who="eve"))
    token = (desk.folder / "dan.token").read_text().strip()
    monkeypatch.setenv("CITYCARD_TOKEN", token)
    assert desk("rules", "shadow", made[:8]).code == Exit.OK
    assert desk("operator", "revoke", "dan").code == Exit.OK
    ran = desk("rules", "withdraw", made[:8])
    assert "token" in one_sentence(ran)
    assert token not in ran.err
    monkeypatch.setenv("CITYCARD_TOKEN", "cco_" + "0" * 12 + "_" + "A" * 43)
    one_sentence(desk("rules", "withdraw", made[:8]))
    one_sentence(desk("operator", "revoke", "dan"))
    one_sentence(desk("operator", "add", "ada", "--roles", "viewer"))
    one_sentence(desk("operator", "add", "zoe", "--roles", "owner"))
    listed = desk("operator", "list", "--json")
    assert {each["name"]: each["revoked_at"] is None for each in listed.json} == {
        "ada": True, "ben": True, "cyd": True, "dan": False, "eve": True,
    }  # fmt: skip
    assert "cco_" not in listed.out
    assert "cco_" not in desk("rules", "trail").out
    assert desk("operator", "list").out.count("\n") > 5


def test_what_is_refused_is_refused_with_a_sentence(desk: Desk) -> None:
    made = desk.draft(20_000)
    refused: list[tuple[Exit, list[str]]] = [
        (Exit.FINDINGS, ["promote", made[:8]]),
        (Exit.FINDINGS, ["canary", made[:8], "--percent", "5"]),
        (Exit.FINDINGS, ["resume", made[:8]]),
        (Exit.FINDINGS, ["rollback", made[:8], "--reason", "x"]),
        (Exit.FINDINGS, ["promote", "canary"]),
        (Exit.FINDINGS, ["promote", "f" * 64]),
        (Exit.FINDINGS, ["promote", "beef"]),
        (Exit.FINDINGS, ["reject", made[:8], "--reason", "6222021234567890128"]),
        (Exit.FINDINGS, ["pause", "no_such_rule", "--reason", "x"]),
        (Exit.FINDINGS, ["pause", "--ruleset", "live", "--reason", "x"]),
        (Exit.FINDINGS, ["lift", "amount_limit", "--reason", "x"]),
        (Exit.USAGE, ["pause", "--reason", "x"]),
        (Exit.USAGE, ["pause", "amount_limit", "--ruleset", "live", "--reason", "x"]),
        (Exit.USAGE, ["pause", "amount_limit"]),
        (Exit.USAGE, ["canary", made[:8]]),
        (Exit.USAGE, ["new", "none.toml"]),
    ]
    for code, arguments in refused:
        assert "6222" not in one_sentence(desk("rules", *arguments, who="ben"), code=code)
    assert desk("rules", "list", "--json").json[0]["state"] == "draft"


def test_one_person_stops_a_rule_and_a_ruleset(desk: Desk) -> None:
    first = desk.live()
    assert desk("rules", "pause", "amount_limit", "--reason", "too many", who="dan").code == 0
    assert "amount_limit v1 (paused)" in desk("rules", "show").out
    one_sentence(desk("rules", "pause", "amount_limit", "--reason", "again", who="dan"))
    one_sentence(desk("rules", "lift", "amount_limit", "--reason", "fine", who="dan"))
    assert desk("rules", "lift", "amount_limit", "--reason", "fine", who="ada").code == 0
    made = desk.draft(20_000)
    for act, who in (("submit", "ada"), ("approve", "cyd"), ("promote", "cyd")):
        assert desk("rules", act, made[:8], who=who).code == Exit.OK
    paused = desk("rules", "pause", "--ruleset", "live", "--reason", "wrong", who="dan")
    assert (paused.out, desk.live()) == (f"ruleset {made[:12]} is paused\n", first)
    assert desk("rules", "resume", made[:8], who="ada").code == Exit.OK


def test_no_more_shadows_than_workers_evaluate(desk: Desk) -> None:
    made = [desk.draft(20_000 + number) for number in range(4)]
    for hash in made[:3]:
        assert desk("rules", "shadow", hash[:10], who="ada").code == Exit.OK
    assert "shadows_max" in one_sentence(desk("rules", "shadow", made[3][:10], who="ada"))
    assert desk("rules", "withdraw", made[0][:10], who="ada").code == Exit.OK
    assert desk("rules", "shadow", made[3][:10], who="ada").code == Exit.OK


SPOILT: list[tuple[Callable[[str], str], str]] = [
    (lambda text: text.replace('"gt"', '"is above"'), "rules[0].when.op"),
    (lambda text: text.replace('"amount"', '"weight"'), "rules[0].when.fact"),
    (lambda text: text.replace("version = 1", ""), "rules[0].version"),
    (lambda text: text + 'colour = "blue"', "rules[0].colour"),
    (lambda text: "[" + text, ""),
]


def test_a_malformed_ruleset_is_refused_with_the_path_of_the_fault(desk: Desk) -> None:
    file = desk.folder / "spoilt.toml"
    for spoil, path in SPOILT:
        file.write_text(spoil(source_of(20_000)))
        assert main(["rules", "check", str(file)]) == Exit.FINDINGS
        ran = desk("rules", "new", str(file), "--json", who="ada")
        assert ran.code == Exit.FINDINGS, ran
        found = [each for each in ran.json if each["severity"] == "error"]
        assert path in {each["path"] for each in found}
        assert all("expected" in each["sentence"] for each in found)
        assert path in desk("rules", "new", str(file), who="ada").out
    assert len(desk("rules", "list", "--json").json) == 1


def test_a_made_up_request_is_put_to_a_ruleset(desk: Desk) -> None:
    made, file = desk.draft(20_000), desk.folder / "facts.json"
    facts = {"at": "2026-03-31T12:00:00+08:00", "kind": "purchase", "segment": "retail"}
    file.write_text(json.dumps(facts | {"amount": 15_000}))
    live = desk("rules", "simulate", "live", str(file))
    assert (live.code, live.out.splitlines()[0].startswith("Declined 61: amount_limit")) == (
        0,
        True,
    )
    assert "✓ amber amount_limit v1, declined" in live.out
    trial = desk("rules", "simulate", made[:8], str(file), "--json").json
    assert (trial["state"], trial["assessment"]["decision"]) == ("draft", "approved")
    assert [rule["holds"] for rule in trial["rules"]] == [False]
    file.write_text(json.dumps(facts | {"amount": "6222021234567890128"}))
    sentence = one_sentence(desk("rules", "simulate", "live", str(file)))
    assert "amount" in sentence
    assert "6222" not in sentence
    one_sentence(desk("rules", "simulate", "live", "none.json"), code=Exit.USAGE)
