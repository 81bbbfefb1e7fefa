"""`keys reader` and `keys tac` as a person meets them: by ceremony, or made and exported."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from switch.cli import main
from switch.clock import SystemClock
from switch.commands.exits import Exit
from switch.keystore.seam import Algorithm, Usage
from switch.keystore.software import SoftwareKeyStore

pytestmark = pytest.mark.usefixtures("process_as_before")
FIRST, SECOND = "0123456789ABCDEF" * 4, "00112233445566778899AABBCCDDEEFF" * 2
CONFIGURATION = """
[[links]]
name = "retail-1"
mac = "aes_cmac"
[[taps]]
name = "metro-1"
acquirer = "48031000"
modes = ["metro"]
"""
READER = ("reader", "install", "--acquirer", "48031000")


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)
    Path("citycard.toml").write_text(CONFIGURATION, "utf-8")

    def call(*arguments: str, stdin: str = f"{FIRST}\n{SECOND}\n") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        capsys.readouterr()
        code = main(["keys", *arguments])
        return Ran(code, *capsys.readouterr())

    assert call("init").code == Exit.OK
    return call


def store() -> SoftwareKeyStore:
    return SoftwareKeyStore(Path(".citycard/key_store.json"), SystemClock())


def test_versions_follow_one_another_and_are_shown_by_check_value(run: Run) -> None:
    first, second = (run(*READER, "--json").json for _ in range(2))
    assert (first["name"], second["name"]) == ("reader/48031000/1", "reader/48031000/2")
    ninth = run(*READER, "--version", "9")
    assert f"reader/48031000/9 installed, aes, check value {first['kcv']}" in ninth.out
    chips = run("tac", "install", "--algorithm", "tdes", stdin=f"{FIRST[:32]}\n{SECOND[:32]}")
    assert "tac/1 installed, tdes" in chips.out
    assert run("tac", "install", "--json").json["name"] == "tac/2"
    usages = {key.label: (key.usage, key.algorithm) for key in store().labelled()}
    assert usages["reader/48031000/9"] == (Usage.READER, Algorithm.AES)
    assert usages["tac/1"] == (Usage.TAC, Algorithm.TDES)


@pytest.mark.parametrize("usage", ["reader", "tac"])
def test_a_key_that_is_made_here_leaves_in_a_block_for_who_needs_it(run: Run, usage: str) -> None:
    whose = ("--acquirer", "48031000") if usage == "reader" else ()
    refused = run(usage, "generate", *whose, "--under", "retail-1")
    assert (refused.code, "zone install" in refused.err) == (Exit.USAGE, True)
    assert run("zone", "install", "--link", "retail-1").code == Exit.OK
    made = run(usage, "generate", *whose, "--under", "retail-1", "--json").json
    kept = store()
    zone = kept.find("zone/retail-1")
    assert zone is not None
    there = kept.import_block(made["block"], zone, Usage(usage), made["name"])
    assert there.kcv == made["kcv"]


@pytest.mark.parametrize(
    ("arguments", "stdin", "says"),
    [
        (("reader", "install", "--acquirer", "99"), "", "no tap link"),
        ((*READER, "--version", "256"), "", "1 to 255"),
        ((*READER, "--version", "1"), f"{FIRST}\n{SECOND}\n", "give a higher one"),
        (READER, "", "1 to 3 components"),
        (READER, FIRST, "needs its check value"),
        (READER, f"{FIRST[:-1]}x\n{SECOND}", "not hexadecimal"),
        (("tac", "install", "--algorithm", "tdes"), f"{FIRST}\n{SECOND}", "32 hex digits"),
        (("tac", "generate", "--under", "none"), "", "no zone key"),
    ],
)
def test_what_is_no_master_key_is_refused_in_one_sentence(
    run: Run, arguments: tuple[str, ...], stdin: str, says: str
) -> None:
    assert run(*READER).code == Exit.OK
    refused = run(*arguments, stdin=stdin)
    assert refused.code == Exit.USAGE
    assert says in refused.err
    assert refused.err.count("\n") == 1
    assert FIRST not in refused.err
