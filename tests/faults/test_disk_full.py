"""The disk of the write-ahead log is full: Postgres gives up, and nothing it told is lost.

pg_wal moves to a small file system of its own, which a ballast fills under traffic. Postgres
ends itself (PANIC) when it cannot make the next segment. Then the operator makes room and
starts it again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from switch.ledger import bridge, embedded

WAL_MIB = 160
MIB = 1024 * 1024
GONE_SECONDS_MAX = 60.0
BALLAST = "ballast"


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """A file system of WAL_MIB in memory; skips the test where none may be mounted."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={WAL_MIB}m,mode=0755", "tmpfs", str(place)]
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("only root may mount a small disk for the write-ahead log; run as root")
    mounted = subprocess.run(mount, stderr=subprocess.PIPE)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted: {mounted.stderr.decode().strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def move_log(cluster: Path, disk: Path) -> None:
    """pg_wal of a stopped server onto the small disk, with the owner that it had."""
    log = cluster / "pg_wal"
    owner = log.stat()
    moved = disk / "pg_wal"
    shutil.copytree(log, moved)
    for path in (moved, *moved.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
    moved.chmod(0o700)
    shutil.rmtree(log)
    log.symlink_to(moved)


def fill(disk: Path) -> None:
    with (disk / BALLAST).open("wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(MIB))
        except OSError:
            pass


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def until_gone(url: str, pid: int) -> None:
    """Ask for segment after segment, as traffic would in the end, until the server has gone."""

    async def use_up() -> None:
        connection = await bridge.connect(url, timeout_seconds=5)
        try:
            while True:
                await connection.execute(
                    "select pg_logical_emit_message(false, 'fault', repeat('x', 1000000))"
                )
                await connection.execute("select pg_switch_wal()")
        finally:
            connection.terminate()

    give_up = time.monotonic() + GONE_SECONDS_MAX
    while not is_gone(pid):
        assert time.monotonic() < give_up, "the server lives on without a disk"
        try:
            bridge.run("asyncio", use_up)
        except Exception:  # noqa: BLE001 - whatever a dying server says
            time.sleep(0.05)


def test_disk_full_for_the_log(own_ledger, life_setting, life, judged):
    with small_disk(own_ledger / "disk") as disk:
        with embedded.running(own_ledger):
            pass
        move_log(own_ledger / "postgres" / "cluster", disk)
        with embedded.running(own_ledger) as server:
            staged = life_setting(server.url)
            with staged.serving(workers=2) as ready:
                tills = life(staged, ready.links["retail-1"], "--rate", "60")
                tills.approved(40)
                fill(disk)
                until_gone(server.url, server.pid)
                (disk / BALLAST).unlink()
                with embedded.running(own_ledger):
                    tills.approved(40)
                    summary = tills.stop()
            log = (own_ledger / "postgres" / "server.log").read_text("utf-8", errors="replace")
            assert "No space left on device" in log
            assert not summary.mismatched
            judged(tills, "disk full for the write-ahead log", 1)
