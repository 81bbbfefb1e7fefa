"""The embedded server through everything that can happen to it: real processes and signals."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from switch.ledger import bridge, embedded
from switch.ledger.embedded import EmbeddedServer, running
from switch.ledger.embedded_places import (
    SOCKET_DIRECTORY_BYTES_MAX,
    EmbeddedServerError,
    search_opened_for,
)

USER = """
import sys
from pathlib import Path
from switch.ledger.embedded import running
with running(Path(sys.argv[1])) as server:
    print(server.pid, flush=True)
    sys.stdin.read()
"""
NOBODY = 65_534
AS_ROOT = os.geteuid() == 0


@pytest.fixture
def directory(switch_directory: Path) -> Path:
    return switch_directory


@pytest.fixture(scope="module")
def stopped() -> Iterator[Path]:
    """A folder where a server has run before, to be copied."""
    made = Path(tempfile.mkdtemp(prefix="citycard-"))
    with running(made):
        pass
    yield made
    shutil.rmtree(made)


@pytest.fixture
def initialised(directory: Path, stopped: Path) -> Path:
    """A folder of one's own where a server has run before."""
    subprocess.run(["cp", "-a", f"{stopped}/.", f"{directory}/"], check=True)
    return directory


def ask(server: EmbeddedServer, query: str) -> object:
    async def main() -> object:
        connection = await bridge.connect(server.url)
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    return bridge.run("asyncio", main)


def user_process(directory: Path, **more: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", USER, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        **more,  # type: ignore[call-overload]
    )


def pid_of(user: subprocess.Popen[str]) -> int:
    assert user.stdout is not None
    return int(user.stdout.readline())


def leave(user: subprocess.Popen[str]) -> None:
    user.communicate(timeout=60)
    assert user.returncode == 0


def alive(pid: int) -> bool:
    """Whether it runs; the dead whom nobody has reaped do not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@contextmanager
def ordinary_user(directory: Path) -> Iterator[Callable[[], str]]:
    """Another system user's process with a server; the call says its pid or its error.

    Forked, not executed: this Python may lie where only root can reach it.
    """
    told, tell = os.pipe()
    stay, leave_now = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(leave_now)
            os.chdir("/")
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            with running(directory) as server:
                os.write(tell, f"{server.pid}\n".encode())
                os.read(stay, 1)
        except EmbeddedServerError as error:
            os.write(tell, f"{error}\n".encode())
        finally:
            os._exit(0)
    os.close(tell)
    os.close(stay)
    with os.fdopen(told) as answers:
        yield answers.readline
        os.close(leave_now)
        os.waitpid(child, 0)


def kill_server(pid: int) -> None:
    """kill -9 of the postmaster; `running` waits for what is left of it by itself."""
    os.kill(pid, signal.SIGKILL)


def test_it_runs_with_a_database_of_ours_and_stops_after_the_last_user(directory: Path) -> None:
    with running(directory) as server:
        assert server.url.startswith("postgresql://citycard@/citycard?host=/")
        assert ask(server, "select current_database() || current_user") == "citycardcitycard"
        with running(directory) as again:
            assert again.pid == server.pid
            assert again.notices[-1].startswith("a server was already running")
        assert ask(server, "select 1") == 1
    assert not alive(server.pid)


def test_it_listens_on_its_private_socket_only_and_keeps_its_commits(initialised: Path) -> None:
    with running(initialised) as server:
        assert ask(server, "show listen_addresses") == ""
        assert oct(server.socket_directory.stat().st_mode & 0o777) == "0o700"
        assert ask(
            server,
            "select string_agg(current_setting(name), ' ') from"
            " unnest('{fsync,full_page_writes,synchronous_commit}'::text[]) name",
        ) == "on on on"  # fmt: skip
        for name in ("max_connections", "shared_buffers", "max_locks_per_transaction"):
            assert ask(server, f"show {name}") == embedded.SETTINGS[name]


def test_what_was_written_is_there_after_a_restart(initialised: Path) -> None:
    with running(initialised) as server:
        ask(server, "create table kept as select 42 as n")
    with running(initialised) as server:
        assert ask(server, "select n from kept") == 42


def test_processes_that_start_at_once_share_one_server(directory: Path) -> None:
    users = [user_process(directory) for _ in range(3)]
    pids = {pid_of(user) for user in users}
    assert len(pids) == 1
    for user in users:
        assert alive(*pids)
        leave(user)
    assert not alive(*pids)


def test_a_killed_user_leaves_no_trace_in_the_count(initialised: Path) -> None:
    killed = user_process(initialised)
    pid = pid_of(killed)
    with running(initialised) as server:
        assert server.pid == pid
        killed.kill()
        killed.communicate()
        assert ask(server, "select 1") == 1, "the server must not go with the one who started it"
    assert not alive(pid)


def test_a_server_left_running_is_adopted_and_stopped(initialised: Path) -> None:
    killed = user_process(initialised)
    pid = pid_of(killed)
    killed.kill()
    killed.communicate()
    assert alive(pid)
    with running(initialised) as server:
        assert server.pid == pid
    assert not alive(pid)


def test_an_interrupt_at_the_terminal_does_not_reach_the_server(initialised: Path) -> None:
    starter = user_process(initialised, start_new_session=True)
    pid = pid_of(starter)
    with running(initialised) as server:
        os.killpg(starter.pid, signal.SIGINT)
        starter.communicate(timeout=60)
        assert server.pid == pid
        assert ask(server, "select 1") == 1


def test_a_killed_server_recovers_at_the_next_start(initialised: Path) -> None:
    with running(initialised) as server:
        ask(server, "create table kept as select 42 as n")
        kill_server(server.pid)
    assert (initialised / "postgres/cluster/postmaster.pid").exists()
    with running(initialised) as recovered:
        assert recovered.pid != server.pid
        assert ask(recovered, "select n from kept") == 42


def test_a_server_killed_under_one_user_is_started_for_the_next(initialised: Path) -> None:
    with running(initialised) as first:
        kill_server(first.pid)
        with running(initialised) as second:
            assert ask(second, "select 1") == 1
        assert ask(second, "select 1") == 1, "the first user is still there"


def test_a_stale_pid_file_with_a_number_in_use_is_no_obstacle(initialised: Path) -> None:
    pid_file = initialised / "postgres/cluster/postmaster.pid"
    owner = (initialised / "postgres/cluster").stat()
    bystander = subprocess.Popen(
        ["sleep", "60"],
        **({"user": owner.st_uid} if AS_ROOT else {}),  # type: ignore[call-overload]
    )
    pid_file.write_text(
        f"{bystander.pid}\n{pid_file.parent}\n1\n5432\n/nowhere\n*\n  1 2\nready   \n"
    )
    try:
        with running(initialised) as server:
            assert server.pid != bystander.pid
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_an_interrupted_initdb_starts_over(directory: Path) -> None:
    unfinished = directory / "postgres/initialising"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    (directory / "postgres/cluster").mkdir()
    with running(directory) as server:
        assert ask(server, "select 1") == 1
    assert not unfinished.exists()


def test_files_that_are_no_database_are_left_alone(directory: Path) -> None:
    (directory / "postgres/cluster").mkdir(parents=True)
    (directory / "postgres/cluster/letters.txt").write_text("dear")
    with (
        pytest.raises(EmbeddedServerError, match="no PG_VERSION, so it is no database"),
        running(directory),
    ):
        pass
    assert (directory / "postgres/cluster/letters.txt").read_text() == "dear"


def test_the_folder_of_another_version_is_refused(initialised: Path) -> None:
    (initialised / "postgres/cluster/PG_VERSION").write_text("16\n")
    with (
        pytest.raises(EmbeddedServerError, match="made by PostgreSQL 16 and this citycard brings"),
        running(initialised),
    ):
        pass


def test_a_server_that_does_not_start_is_quoted(initialised: Path) -> None:
    with (initialised / "postgres/cluster/postgresql.conf").open("a") as configuration:
        configuration.write("work_mem = banana\n")
    with (
        pytest.raises(EmbeddedServerError, match=r"did not start.*banana.*start again"),
        running(initialised),
    ):
        pass


def test_a_long_path_has_its_socket_elsewhere(directory: Path) -> None:
    deep = directory / ("d" * 60) / ("e" * 60)
    with running(deep) as server:
        assert len(os.fsencode(server.socket_directory)) <= SOCKET_DIRECTORY_BYTES_MAX
        assert not server.socket_directory.is_relative_to(directory)
        assert oct(server.socket_directory.stat().st_mode & 0o777) == "0o700"
        assert ask(server, "select 1") == 1
    assert not server.socket_directory.exists(), "nothing is left outside the directory"


def test_a_path_that_no_url_can_carry_has_its_socket_elsewhere(directory: Path) -> None:
    with running(directory / "a b,c'd") as server:
        assert ask(server, "select 1") == 1


def test_two_copies_stand_side_by_side(initialised: Path) -> None:
    copy = initialised / "copy"
    copy.mkdir()
    subprocess.run(["cp", "-a", initialised / "postgres", copy / "postgres"], check=True)
    with running(initialised) as first, running(copy) as second:
        assert first.pid != second.pid
        ask(first, "create table here (n integer)")
        assert ask(second, "select to_regclass('here')") is None


def test_folders_on_the_way_are_opened_for_passing_only(directory: Path) -> None:
    inner = directory / "inner"
    inner.mkdir(mode=0o700)
    notices = search_opened_for([inner / "file"])
    assert [oct(path.stat().st_mode & 0o777) for path in (directory, inner)] == ["0o701"] * 2
    assert len(notices) == 2
    assert search_opened_for([inner / "file"]) == []


@pytest.mark.skipif(not AS_ROOT, reason="only root needs another user for the server")
def test_root_runs_it_as_an_unprivileged_user_who_owns_little(directory: Path) -> None:
    before = os.umask(0o077)
    try:
        with running(directory) as server:
            owner = os.stat(f"/proc/{server.pid}").st_uid
            assert pwd.getpwuid(owner).pw_name == "citycard_postgres"
            assert server.notices[0].startswith("others may now pass through")
        owned = {path.name for path in (directory / "postgres").iterdir() if path.stat().st_uid}
    finally:
        os.umask(before)
    assert owned == {"cluster", "socket", "server.log"}
    assert (directory / "postgres").stat().st_uid == 0


@pytest.mark.skipif(not AS_ROOT, reason="only root can become somebody else")
def test_an_ordinary_user_runs_it_and_root_may_come_later(directory: Path) -> None:
    os.chown(directory, NOBODY, NOBODY)
    with ordinary_user(directory) as answer:
        pid = int(answer())
        assert os.stat(f"/proc/{pid}").st_uid == NOBODY
        with running(directory) as server:
            assert server.pid == pid
        assert alive(pid)
    assert not alive(pid)
    with running(directory) as server:
        assert os.stat(f"/proc/{server.pid}").st_uid == NOBODY
    with ordinary_user(directory) as answer:
        assert alive(int(answer()))


@pytest.mark.skipif(not AS_ROOT, reason="only root can become somebody else")
def test_a_folder_of_root_is_refused_to_an_ordinary_user(initialised: Path) -> None:
    with ordinary_user(initialised) as answer:
        assert "belongs to another system user" in answer()
