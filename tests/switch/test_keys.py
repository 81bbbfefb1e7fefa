from __future__ import annotations

import stat
from pathlib import Path

import pytest

from switch.keys import KEY_BYTES, KeyFileError, make_key, read_key


def test_a_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "card_number.key"
    assert make_key(path)
    key = read_key(path)
    assert len(key) == KEY_BYTES
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not make_key(path)
    assert read_key(path) == key
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_two_keys_differ(tmp_path: Path) -> None:
    make_key(tmp_path / "a")
    make_key(tmp_path / "b")
    assert read_key(tmp_path / "a") != read_key(tmp_path / "b")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_key_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "card_number.key"
    make_key(path)
    path.chmod(mode)
    with pytest.raises(KeyFileError, match="chmod 600"):
        read_key(path)


@pytest.mark.parametrize("content", [b"", b"00" * 31, b"00" * 33, b"zz" * 32, b"\xff" * 32])
def test_what_is_no_key_is_refused_without_being_shown(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "card_number.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="32 bytes in hex") as refused:
        read_key(path)
    assert "00" * 8 not in str(refused.value)


def test_a_missing_key_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="citycard init"):
        read_key(tmp_path / "none")
    with pytest.raises(KeyFileError, match="cannot be read"):
        read_key(tmp_path)


def test_a_place_where_no_key_can_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KeyFileError, match="cannot be written"):
        make_key(tmp_path / "file" / "card_number.key")
