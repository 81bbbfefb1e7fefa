"""`keys` and `card pin` as a person meets them, on a ledger of their own."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from protocols.card_number import numbered_card
from switch.cli import main
from switch.clock import SystemClock
from switch.commands import secret_input
from switch.commands.exits import Exit
from switch.keystore.software import PIN_VERIFICATION_LABEL, SoftwareKeyStore
from switch.ledger import bridge

pytestmark = [
    pytest.mark.usefixtures("process_as_before"),
    pytest.mark.filterwarnings("ignore:.*TripleDES"),  # psec's spelling of it
]
CARD = numbered_card("621234", 7)
FIRST, SECOND = "0123456789ABCDEFFEDCBA9876543210", "00112233445566778899AABBCCDDEEFF"
CONFIGURATION = """
[ledger]
database = "{database}"
[[links]]
name = "retail-1"
mac = "x9.19"
[[links]]
name = "retail-2"
port = 8584
mac = "aes_cmac"
[[upstreams]]
name = "city-b"
host = "192.0.2.7"
port = 8583
bins = ["622848"]
acquirer = "48021000"
"""


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    empty_database: str,
) -> Run:
    """Runs a command in a folder with a configuration; what goes in never comes out."""
    monkeypatch.chdir(tmp_path)
    Path("citycard.toml").write_text(CONFIGURATION.format(database=empty_database))

    def ran(*arguments: str, stdin: str = "") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capsys.readouterr()
        code = main(arguments)
        out, err = capsys.readouterr()
        for secret in (FIRST, SECOND, "123456", CARD.reveal()):
            assert secret not in out + err
        return Ran(code, out, err)

    return ran


@pytest.fixture
def ledger(run: Run) -> Run:
    assert run("init").code == Exit.OK
    assert run("keys", "init").code == Exit.OK
    return run


def zone(run: Run, link: str = "retail-1", *more: str, stdin: str = f"{FIRST}\n{SECOND}\n") -> Ran:
    return run("keys", "zone", "install", "--link", link, *more, stdin=stdin)


def test_the_store_is_made_once_and_only_for_its_owner(run: Run) -> None:
    assert run("keys", "init", "--json").json == {"store": ".citycard/key_store.json", "made": True}
    again = run("keys", "init")
    assert (again.code, "stays as it is" in again.out) == (Exit.OK, True)


def test_components_of_a_ceremony_make_a_zone_key(ledger: Run) -> None:
    made = zone(ledger, "retail-1", "--json").json
    assert made == {"link": "retail-1", "algorithm": "tdes", "kcv": made["kcv"]}
    wrong = zone(ledger, "retail-1", "--replace", "--kcv", "000000")
    assert (wrong.code, "check value" in wrong.err) == (Exit.USAGE, True)
    again = zone(ledger)
    assert (again.code, "--replace" in again.err) == (Exit.USAGE, True)
    assert zone(ledger, "retail-1", "--replace", "--kcv", made["kcv"]).code == Exit.OK
    aes = zone(ledger, "retail-2", stdin=f"{FIRST}{SECOND}\n{SECOND}{FIRST}\n")
    assert "aes" in aes.out
    assert zone(ledger, "city-b").code == Exit.OK


@pytest.mark.parametrize(
    ("more", "stdin", "says"),
    [
        (["none"], "", "no link or upstream"),
        (["retail-2", "--algorithm", "tdes"], "", "must be aes"),
        (["retail-1"], "", "1 to 3 components"),
        (["retail-1"], FIRST, "needs its check value"),
        (["retail-1"], f"{FIRST[:-1]}\n{SECOND}", "not hexadecimal"),
        (["retail-1"], f"{FIRST[:-2]}\n{SECOND}", "32 hex digits"),
        (["retail-1"], f"{FIRST[:-1]}x\n{SECOND}", "not hexadecimal"),
        (["retail-1"], f"{FIRST}\n" * 9, "more than 8 lines"),
    ],
)
def test_what_is_no_zone_key_is_refused_in_one_sentence(run: Run, more, stdin, says) -> None:
    assert run("keys", "init").code == Exit.OK
    refused = zone(run, *more, stdin=stdin)
    assert refused.code == Exit.USAGE
    assert says in refused.err
    assert refused.err.count("\n") == 1


def test_without_a_store_it_is_told_how_to_make_one(run: Run) -> None:
    for command in (["keys", "rotate", "--link", "retail-1"], ["keys", "list"]):
        refused = run(*command)
        assert (refused.code, "citycard keys init" in refused.err) == (Exit.USAGE, True)


def test_rotating_adds_keys_that_the_list_shows_by_check_value(ledger: Run) -> None:
    refused = ledger("keys", "rotate", "--link", "retail-1")
    assert (refused.code, "zone install" in refused.err) == (Exit.USAGE, True)
    zone(ledger)
    first, second = (
        ledger("keys", "rotate", "--link", "retail-1", "--json").json for _ in range(2)
    )
    assert (first["sequence"], second["sequence"]) == (1, 2)
    assert set(second["kcv"]) == {"mac", "pin"}
    views = ledger("keys", "list", "--json").json
    stored = {(view["name"], view["usage"], view["sequence"]): view["kcv"] for view in views}
    assert stored["retail-1", "mac", 2] == second["kcv"]["mac"]
    assert stored["retail-1", "pin", 1] == first["kcv"]["pin"]
    assert {name for name, _, _ in stored} == {"pvk", "storage", "zone/retail-1", "retail-1"}
    assert second["kcv"]["mac"] in ledger("keys", "list").out
    assert "ask it for an exchange" in ledger("keys", "rotate", "--link", "city-b").err


# ---- card pin --------------------------------------------------------------------------------


def pins(database: str) -> list[tuple[bytes, int]]:
    async def body() -> list[tuple[bytes, int]]:
        connection = await bridge.connect(database)
        rows = await connection.fetch("select pin_reference, pin_tries from ledger.card")
        await connection.close()
        return [tuple(row) for row in rows]

    return bridge.run("asyncio", body)


def test_a_pin_is_kept_as_a_reference_under_the_key_of_the_store(
    ledger: Run, empty_database: str, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(CARD.reveal()))
    assert main(["card", "issue", "--number", "-", "--json"]) == Exit.OK
    card_id = json.loads(capsys.readouterr().out)["card_id"]
    assert pins(empty_database) == [(b"", 0)]
    given = ledger("card", "pin", "-", "--json", stdin=f"{CARD.reveal()}\n123456\n")
    assert given.json == {"card_id": card_id, "has_pin": True, "pin_tries": 0}
    store = SoftwareKeyStore(Path(".citycard/key_store.json"), SystemClock())
    pvk = store.find(PIN_VERIFICATION_LABEL)
    assert pvk is not None
    assert pins(empty_database) == [(store.reference_of_chosen_pin(pvk, "123456", CARD), 0)]
    reset = ledger("card", "pin", str(card_id), "--reset-tries")
    assert reset.out == f"card {card_id} may try its PIN again\n"


@pytest.mark.parametrize(
    ("reference", "stdin", "says", "code"),
    [
        ("17", "123456", "the number instead of the id", Exit.USAGE),
        ("-", "", "the number instead of the id", Exit.USAGE),
        ("-", CARD.reveal(), "was not typed", Exit.USAGE),
        ("-", f"{CARD.reveal()}\n123456\n123457", "not the same twice", Exit.USAGE),
        ("-", f"{CARD.reveal()}\n12a456", "4 to 12 digits", Exit.USAGE),
        ("-", f"{CARD.reveal()}\n123456", "no card of this ledger", Exit.FINDINGS),
    ],
)
def test_what_is_no_pin_is_refused_in_one_sentence(
    ledger: Run, reference, stdin, says, code
) -> None:
    refused = ledger("card", "pin", reference, stdin=stdin)
    assert refused.code == code
    assert says in refused.err
    assert refused.err.count("\n") == 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_at_a_terminal_nothing_is_echoed_and_an_empty_answer_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = iter(["one", " two ", "", "three"])
    prompted: list[str] = []

    def typed(prompt: str) -> str:
        prompted.append(prompt)
        return next(answers)

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(secret_input.getpass, "getpass", typed)
    assert secret_input.secret_lines(["a", "b", "c", "d"]) == ["one", "two"]
    assert prompted == ["a: ", "b: ", "c: "]
