"""The commands as a person meets them: what they print, how they fail, what they exit with."""

from __future__ import annotations

import io
import json
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from protocols.card_number import luhn_check_digit
from switch.cli import app, main
from switch.commands.card import minor_units
from switch.commands.exits import CommandFailed, Exit
from switch.config import Config, load

CARD = "6222021234567890128"
LONG_RUN = re.compile(r"\d{13}")
SALE = {
    "mti": "0200",
    "fields": {
        "2": CARD,
        "3": "000000",
        "4": "000000001250",
        "11": "000001",
        "41": "T0000001",
        "64": "0011aabbccddeeff",
    },
}

pytestmark = pytest.mark.usefixtures("process_as_before")


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.out, self.err
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs a command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def ran(*arguments: str, stdin: str = "") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capsys.readouterr()
        code = main(arguments)
        out, err = capsys.readouterr()
        return Ran(code, out, err)

    return ran


@pytest.fixture
def ledger(run: Run, empty_database: str) -> Run:
    """Runs a command in a folder that `init` prepared, on a ledger of its own."""
    assert run("init", "--database", empty_database).code == Exit.OK
    return run


def commands() -> Iterator[list[str]]:
    for name in app:
        if name.startswith("-"):
            continue
        yield [name]
        yield from ([name, inner] for inner in app[name] if not inner.startswith("-"))


def one_sentence(err: str) -> bool:
    return err.startswith("citycard: ") and err.count("\n") == 1 and "Traceback" not in err


@pytest.mark.parametrize("command", list(commands()), ids=" ".join)
def test_every_command_has_help(run: Run, command: list[str]) -> None:
    ran = run(*command, "--help")
    assert ran.code == Exit.OK
    assert f"Usage: citycard {' '.join(command)}" in ran.out
    assert ran.err == ""


def test_no_flag_has_a_negative_twin(run: Run) -> None:
    for command in commands():
        assert "--no-" not in run(*command, "--help").out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["frobnicate"], "no such command"),
        (["card", "frobnicate"], "no such command"),
        (["card", "show"], "requires an argument"),
        (["card", "show", CARD, "more"], "Unused Tokens"),
        (["card", "block", "1", "--resaon", "x"], "--resaon"),
        (["serve", "--workers", CARD + "x"], "--workers"),
        (["serve", "--backend", "uvloop"], "asyncio"),
        (["card", "load", "1", CARD], "above zero"),
        (["card", "issue", "--expires", "2913"], "YYMM"),
        (["card", "issue", "--bin", "0123"], "6 to 8 digits"),
        (["card", "show", "1", "--last", "-1"], "0 to 1000"),
        (["audit", "--days", "0"], "1 to 36500"),
        (["partitions", "detach", "--before", "soon"], "YYYY-MM-DD"),
        (["demo", "--seconds", "0"], "--seconds"),
        (["decode", "0200", "--spec", "iso99"], "unionpay_pos"),
        (["decode", "02 zz"], "not hex"),
        (["decode", "0" * 70_000], "over 65536"),
        (["encode", "{"], "not of the form"),
        (["encode", '{"mti": "0200", "fields": {"x": "1"}}'], "not of the form"),
        (["encode", "[" * 20_000], "not of the form"),
        (["rules", "check", "none.toml"], "cannot be read"),
        (["config", "check", "none.toml"], "no configuration"),
        (["config", "check"], "citycard init"),
        (["card", "show", "1"], "citycard init"),
        (["audit", "--config", "none.toml"], "No such file"),
        (["audit", "--database", "mysql://u:secret@h/x"], "postgresql://USER"),
        (["audit", "--database", "postgresql://u:se/cret@h:x/x"], "postgresql://USER"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_wrong_usage_is_one_sentence(run: Run, arguments: list[str], says: str) -> None:
    ran = run(*arguments)
    assert ran.code == Exit.USAGE
    assert one_sentence(ran.err)
    assert says in ran.err
    assert ran.out == ""
    assert not LONG_RUN.search(ran.err)
    assert "cret" not in ran.err


def test_a_ledger_that_is_away_is_exit_3_without_the_password(run: Run) -> None:
    ran = run("audit", "--database", "postgresql://user:secret@127.0.0.1:1/city")
    assert ran.code == Exit.LEDGER_UNREACHABLE
    assert ran.err == (
        "citycard: the ledger at 127.0.0.1:1/city can't be reached (connection refused); "
        "start it or give another with --database\n"
    )


def test_a_database_that_does_not_exist_is_exit_3(run: Run, postgres: Any) -> None:
    ran = run("audit", "--database", postgres.url_for("no_such_database"))
    assert ran.code == Exit.LEDGER_UNREACHABLE
    assert one_sentence(ran.err)


def test_a_database_that_is_no_ledger_is_told_so(run: Run, empty_database: str) -> None:
    for command in (["audit"], ["partitions"]):
        ran = run(*command, "--database", empty_database)
        assert ran.code == Exit.USAGE
        assert one_sentence(ran.err)
        assert "citycard init" in ran.err


def test_debug_adds_the_traceback_without_digits(run: Run) -> None:
    ran = run("--debug", "decode", "--spec", CARD, "00")
    assert ran.code == Exit.USAGE
    assert "Traceback" in ran.err
    assert not LONG_RUN.search(ran.err)


def test_init_makes_everything_once(run: Run, tmp_path: Path, empty_database: str) -> None:
    first = run("init", "--database", empty_database, "--json").json
    assert first["config_written"] is True
    assert first["key_written"] is True
    assert "0001_initial" in first["migrations"]
    assert len(first["partitions"]) == 9
    key = tmp_path / ".citycard" / "card_number.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes(), (tmp_path / "citycard.toml").read_bytes()
    second = run("init", "--json").json
    assert second == {
        **first,
        "config_written": False,
        "key_written": False,
        "migrations": [],
        "partitions": [],
    }
    assert (key.read_bytes(), (tmp_path / "citycard.toml").read_bytes()) == before


def test_init_writes_the_database_but_never_its_password(
    run: Run, tmp_path: Path, empty_database: str
) -> None:
    run("init", "--database", empty_database)
    assert load(tmp_path / "citycard.toml").ledger.database == empty_database
    ran = run("init", "--config", "other.toml", "--database", "postgresql://u:secret@127.0.0.1:1/x")
    assert ran.code == Exit.LEDGER_UNREACHABLE
    assert "password was not written" in ran.err
    assert "secret" not in (tmp_path / "other.toml").read_text() + ran.err
    assert load(tmp_path / "other.toml") == Config()


def test_a_ledger_refuses_another_key(ledger: Run, tmp_path: Path) -> None:
    (tmp_path / ".citycard" / "card_number.key").unlink()
    ran = ledger("init")
    assert ran.code == Exit.USAGE
    assert one_sentence(ran.err)
    assert "card_key_fingerprint" in ran.err


def test_a_card_from_issue_to_block(ledger: Run) -> None:
    issued = ledger("card", "issue", "--tier", "T1", "--json").json
    number, card_id = issued["card_number"], str(issued["card_id"])
    assert re.fullmatch(r"621299\d{10}", number)
    assert luhn_check_digit(number[:-1]) == number[-1]

    loaded = ledger("card", "load", "-", "12.5", "--json", stdin=f"{number}\n").json
    assert (loaded["card_id"], loaded["amount_minor"]) == (issued["card_id"], 1_250)
    over = ledger("card", "load", card_id, "5000")
    assert over.code == Exit.FINDINGS
    assert "balance_cap" in over.err

    blocked = ledger(
        "card", "block", card_id, "--status", "stolen", "--reason", f"held {CARD}", "--json"
    ).json
    assert (blocked["status"], blocked["previous_status"]) == ("stolen", "active")
    view = ledger("card", "show", "-", "--json", stdin=number).json
    assert view["status"] == "stolen"
    assert view["status_reason"] == "held [19 digits masked]"
    assert {purse["purse"]: purse["balance_minor"] for purse in view["purses"]} == {1: 0, 2: 1_250}
    assert [row["outcome"] for row in view["authorizations"]] == ["balance_cap", "approved"]

    shown = ledger("card", "show", card_id)
    assert "12.50" in shown.out
    assert number[-4:] in shown.out
    assert not LONG_RUN.search(shown.out)
    assert ledger("card", "unblock", card_id).out == f"card {card_id} is active; it was stolen\n"
    assert ledger("audit").code == Exit.OK


def test_a_load_is_decided_by_the_ledgers_live_ruleset(ledger: Run, tmp_path: Path) -> None:
    card_id = str(ledger("card", "issue", "--json").json["card_id"])
    file = tmp_path / "citycard.toml"
    head, rules, rest = file.read_text().partition("[rules]")
    file.write_text(head + rules + rest.replace('\nfile = ""', '\nfile = "rules.toml"', 1))
    live = ledger("rules", "list", "--json").json[0]["hash"]
    assert ledger("card", "load", card_id, "1").code == Exit.OK
    shown = ledger("card", "show", card_id, "--json").json["authorizations"]
    assert [row["outcome"] for row in shown] == ["approved"]
    # what the configuration says is for a ledger that has none yet, and init says so
    (tmp_path / "rules.toml").write_text(ledger("rules", "show", "--source").out + "# other")
    assert ledger("init").err == ""
    (tmp_path / "rules.toml").write_text("[settings]\n")
    ran = ledger("init")
    assert (ran.code, one_sentence(ran.err)) == (Exit.OK, True)
    assert live[:8] in ran.err
    assert ledger("audit").code == Exit.OK


def test_a_card_is_issued_once_and_its_number_checked(ledger: Run) -> None:
    assert ledger("card", "issue", "--number", "-", stdin=CARD).code == Exit.OK
    again = ledger("card", "issue", "--number", "-", stdin=CARD)
    assert again.code == Exit.FINDINGS
    assert "issued before" in again.err
    mistyped = ledger("card", "issue", "--number", "-", stdin=CARD[:-1] + "0")
    assert mistyped.code == Exit.USAGE
    assert "check digit" in mistyped.err
    assert not LONG_RUN.search(again.err + mistyped.err)


def test_an_unknown_card_is_exit_1(ledger: Run) -> None:
    for reference in (CARD, "999", "x" + CARD):
        ran = ledger("card", "show", reference)
        assert ran.code == Exit.FINDINGS
        assert one_sentence(ran.err)
        assert not LONG_RUN.search(ran.err)


def test_partitions_are_listed_and_kept(ledger: Run) -> None:
    listed = ledger("partitions", "--json").json
    assert listed == ledger("partitions", "list", "--json").json
    assert len({row["business_date"] for row in listed}) == 9
    assert ledger("partitions", "ahead", "--json").json == []
    refused = ledger("partitions", "detach", "--before", "2999-01-01")
    assert refused.code == Exit.FINDINGS
    assert one_sentence(refused.err)
    assert ledger("partitions", "detach", "--before", "2000-01-01", "--json").json == []


def test_an_audit_with_a_finding_is_exit_1(ledger: Run, empty_database: str) -> None:
    from switch.ledger import bridge

    async def tamper() -> None:
        connection = await bridge.connect(empty_database)
        await connection.execute("update ledger.purse set balance_minor = 1 where purse = 2")
        await connection.close()

    ledger("card", "issue")
    assert ledger("audit", "--json").json["clean"] is True
    bridge.run("asyncio", tamper)
    ran = ledger("audit", "--json")
    assert ran.code == Exit.FINDINGS
    assert ran.json["clean"] is False
    assert "purse_balance" in {row["name"] for row in ran.json["checks"] if row["findings"]}
    assert ledger("audit").code == Exit.FINDINGS


def test_what_encode_prints_decode_reads(run: Run) -> None:
    for spec in ("unionpay_pos", "iso87_ascii", "iso87_binary"):
        encoded = run("encode", "--spec", spec, json.dumps(SALE))
        assert encoded.code == Exit.OK
        assert run("decode", "--spec", spec, encoded.out.strip()).json == SALE
        assert run("decode", "--spec", spec, "-", stdin=encoded.out).json == SALE


def test_decode_can_mask(run: Run) -> None:
    encoded = run("encode", "-", stdin=json.dumps(SALE)).out.strip()
    masked = run("decode", "--mask", encoded)
    assert masked.json["fields"]["2"] == "[19 characters masked]"
    assert masked.json["fields"]["4"] == "000000001250"
    assert not LONG_RUN.search(masked.out)


def test_decode_takes_a_whole_frame_off_a_link(run: Run, tmp_path: Path) -> None:
    (tmp_path / "citycard.toml").write_text(
        '[[links]]\n[[links]]\nname = "ascii"\nport = 1\n'
        'framing = { length = "ascii4", tpdu = false, header_bytes = 0 }\n'
    )
    payload = bytes.fromhex(run("encode", json.dumps(SALE)).out)
    tpdu_and_header = bytes.fromhex("6000060000" + "603100311003")
    lead = tpdu_and_header + payload
    frame = len(lead).to_bytes(2, "big") + lead
    assert run("decode", "--frame", frame.hex()).json == SALE
    ascii_frame = b"%04d" % len(payload) + payload
    assert run("decode", "--frame", "--link", "ascii", ascii_frame.hex()).json == SALE
    assert run("decode", "--frame", "--link", "none", frame.hex()).code == Exit.USAGE
    assert run("decode", "--frame", (frame + frame).hex()).code == Exit.USAGE
    assert run("decode", "--frame", frame[:-1].hex()).code == Exit.USAGE
    lost = run("decode", "--frame", "0001ff")
    assert lost.code == Exit.FINDINGS
    assert "frame.length" in lost.err


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(octets=st.binary(max_size=80))
@example(octets=b"\x02\x00" + b"\xff" * 40)
def test_whatever_is_decoded_ends_in_json_or_a_sentence(run: Run, octets: bytes) -> None:
    ran = run("decode", octets.hex() or "00", "--mask")
    if ran.code == Exit.OK:
        assert ran.json["mti"]
    else:
        assert ran.code == Exit.FINDINGS
        assert one_sentence(ran.err)
        assert not LONG_RUN.search(ran.err)


def test_a_value_that_the_format_cannot_carry_is_exit_1(run: Run) -> None:
    for fields in ({"4": CARD}, {"200": CARD}, {"64": "zz"}):
        ran = run("encode", json.dumps({"mti": "0200", "fields": fields}))
        assert ran.code == Exit.FINDINGS
        assert one_sentence(ran.err)
        assert f"DE{next(iter(fields))}" in ran.err
        assert not LONG_RUN.search(ran.err)


def test_config_check_knows_the_venues(run: Run, tmp_path: Path) -> None:
    (tmp_path / "citycard.toml").write_text(
        '[[links]]\nvenues = ["fuel", "moon"]\n[[billers]]\nname = "w"\nacquirer = "1"\n'
        'url = "http://127.0.0.1:9"\nvenue = "warter"\n'
    )
    ran = run("config", "check", "--json")
    assert ran.code == Exit.FINDINGS
    problems = [(each["key"], each["problem"]) for each in ran.json["problems"]]
    assert problems == [
        ("links[0].venues", "there is no venue moon"),
        ("billers[0].venue", "there is no venue warter"),
    ]


def test_config_check_lists_every_problem(run: Run, tmp_path: Path) -> None:
    (tmp_path / "citycard.toml").write_text('[ledger]\nshards = 0\ncurrency = "CNY"\n')
    ran = run("config", "check", "--json")
    assert ran.code == Exit.FINDINGS
    assert [problem["key"] for problem in ran.json["problems"]] == [
        "ledger.shards",
        "ledger.currency",
    ]
    shown = run("config", "check", "citycard.toml")
    assert "ledger.shards" in shown.out
    assert "from 1 to 64" in shown.out
    # any other command refuses the file, one line for each problem
    refused = run("audit")
    assert refused.code == Exit.USAGE
    assert refused.err.count("\n") == 2


def test_config_check_notes_what_deserves_a_look(run: Run, tmp_path: Path) -> None:
    (tmp_path / "open.toml").write_text('[server]\nhost = "0.0.0.0"\n')
    ran = run("config", "check", "open.toml")
    assert ran.code == Exit.OK
    assert "server.host" in ran.out
    assert "no problems" in ran.out


def test_rules_check_tells_errors_from_none(run: Run, tmp_path: Path) -> None:
    from importlib.resources import files

    shipped = files("risk").joinpath("first_ruleset.toml").read_text(encoding="utf-8")
    (tmp_path / "shipped.toml").write_text(shipped)
    assert run("rules", "check", "shipped.toml").code == Exit.OK
    (tmp_path / "broken.toml").write_text(shipped + '\n[[rules]]\nid = "x"\n')
    ran = run("rules", "check", "broken.toml", "--json")
    assert ran.code == Exit.FINDINGS
    assert any(finding["severity"] == "error" for finding in ran.json)
    assert run("rules", "check", "broken.toml").out.count("error") >= 1


@pytest.mark.parametrize(
    ("amount", "minor"),
    [("1", 100), ("0.01", 1), ("12.5", 1_250), ("9999999999.99", 999_999_999_999)],
)
def test_amounts_are_read_exactly(amount: str, minor: int) -> None:
    assert minor_units(amount) == minor


@pytest.mark.parametrize(
    "amount", ["", "0", "0.00", "-1", "1.234", "1e3", "١", "1,000", "10000000000", " 1", "1\n"]
)
def test_what_is_no_amount_is_refused(amount: str) -> None:
    with pytest.raises(CommandFailed):
        minor_units(amount)


def test_the_installed_command_runs_and_survives_a_closed_pipe(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("citycard")
    version = subprocess.run([program, "--version"], capture_output=True, text=True, cwd=tmp_path)
    assert version.returncode == 0
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", version.stdout)
    unknown = subprocess.run([program, "nope"], capture_output=True, text=True, cwd=tmp_path)
    assert unknown.returncode == Exit.USAGE
    assert one_sentence(unknown.stderr)
    reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    reader.wait()
    assert reader.stdin is not None
    piped = subprocess.run(
        [program, "decode", "08000020000000000000000001"],
        stdout=reader.stdin,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    reader.stdin.close()
    assert (piped.returncode, piped.stderr) == (Exit.OK, "")
