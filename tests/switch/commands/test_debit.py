"""What `citycard debit` says where it cannot do what was asked: a sentence and an exit code."""

from __future__ import annotations

import socket

import pytest

from switch.cli import main


@pytest.fixture
def key_file(tmp_path):
    path = tmp_path / "api.key"
    path.write_text("0123456789ab.secret\n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["status", "../x", "--api", "http://127.0.0.1:1"], 2, "the file id is not 1 to 64"),
        (["status", "1234567890123", "--api", "http://127.0.0.1:1"], 2, "without a long number"),
        (["status", "x", "--api", "ftp://127.0.0.1"], 2, "write http://HOST:PORT"),
        (["send", "/nowhere", "--api", "http://127.0.0.1:1"], 2, "cannot be read"),
    ],
)
def test_wrong_words_are_told(capsys, key_file, words, code, sentence):
    assert main(["debit", *words, "--key-file", str(key_file), "--biller", "water"]) == code
    assert sentence in capsys.readouterr().err


def test_an_api_that_is_away_is_told(capsys, key_file):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        api = f"http://127.0.0.1:{probe.getsockname()[1]}"
        asked = ("--api", api, "--key-file", str(key_file), "--biller", "water")
        assert main(["debit", "status", "x", *asked]) == 3
    assert "the API did not answer" in capsys.readouterr().err


def test_a_key_that_others_may_read_or_that_is_none_is_refused(capsys, key_file, tmp_path):
    asked = ["debit", "status", "x", "--api", "http://127.0.0.1:1", "--biller", "water"]
    for text, mode, sentence in (
        ("a b", 0o600, "holds no API key"),
        ("", 0o600, "holds no API key"),
        ("secret", 0o644, "run chmod 600"),
    ):
        key_file.write_text(text)
        key_file.chmod(mode)
        assert main([*asked, "--key-file", str(key_file)]) == 2
        told = capsys.readouterr().err
        assert sentence in told
        assert "secret" not in told
    assert main([*asked, "--key-file", str(tmp_path / "none")]) == 2


def test_a_mandate_is_of_a_configured_biller_and_a_possible_customer(capsys, tmp_path):
    config = tmp_path / "citycard.toml"
    config.write_text(
        '[[billers]]\nname = "water"\nurl = "http://127.0.0.1:9"\nvenue = "water"\n'
        'acquirer = "48041000"\n'
    )
    where = ("--config", str(config), "--directory", str(tmp_path))
    assert main(["debit", "mandate", "add", "gas", "C1", "7", *where]) == 2
    assert "no such biller" in capsys.readouterr().err
    assert main(["debit", "mandate", "remove", "water", "C 1", *where]) == 2
    assert "the customer is not" in capsys.readouterr().err
