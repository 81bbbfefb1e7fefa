"""Where the embedded server lives and as whom: the parts of its start that touch the machine.

PostgreSQL refuses to run as root, so for root it runs as an unprivileged system user, who
must be able to search the folders on the way. Nothing else of the machine is changed.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

SYSTEM_USER = "citycard_postgres"

SOCKET_DIRECTORY_BYTES_MAX = 85
"""A socket address has 104 bytes on macOS (108 on Linux), `/.s.PGSQL.5432` takes 15."""

_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./+-]+")


class EmbeddedServerError(Exception):
    """The embedded server cannot run; the text is one sentence that says what to do."""


class SystemUser(NamedTuple):
    """The unprivileged user that runs the server for root."""

    uid: int
    gid: int


def server_user(cluster: Path, notices: list[str]) -> SystemUser | None:
    """Who runs the server: this process's own user (None), or for root an unprivileged one.

    A cluster that an ordinary user made stays that user's. Makes the system user where it is
    missing and says so in `notices`.
    """
    if os.geteuid() != 0:
        return None
    if cluster.exists() and (owner := cluster.stat()).st_uid != 0:
        return SystemUser(owner.st_uid, owner.st_gid)
    try:
        entry = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        _make_user()
        notices.append(f"the system user {SYSTEM_USER} was made to run the database server")
        entry = pwd.getpwnam(SYSTEM_USER)
    return SystemUser(entry.pw_uid, entry.pw_gid)


def _make_user() -> None:
    program = shutil.which("useradd", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is not None:
        made = subprocess.run(  # noqa: S603 - a fixed command
            [program, "--system", "--no-create-home", "--shell", "/bin/false", SYSTEM_USER],
            capture_output=True,
            check=False,
        )
        # 9: somebody else made it in the meantime (useradd(8)).
        if made.returncode in (0, 9):
            return
    raise EmbeddedServerError(
        f"PostgreSQL does not run as root and the system user {SYSTEM_USER} could not be made; "
        "make that user, or run citycard as an ordinary user"
    )


def search_opened_for(paths: Iterable[Path]) -> list[str]:
    """Let others pass through (not list) the parent folders of the paths; say where it did."""
    notices = []
    for parent in dict.fromkeys(parent for path in paths for parent in path.resolve().parents):
        mode = stat.S_IMODE(parent.stat().st_mode)
        if not mode & stat.S_IXOTH:
            parent.chmod(mode | stat.S_IXOTH)
            notices.append(f"others may now pass through {parent} (o+x) to reach the database")
    return notices


def socket_directory(home: Path) -> Path:
    """Where the socket goes: a path short and plain enough for a socket address and a URL."""
    inside = home / "socket"
    if _fits(inside):
        return inside
    name = f"citycard-{hashlib.blake2b(os.fsencode(home), digest_size=6).hexdigest()}"
    for parent in (Path(tempfile.gettempdir()), Path("/tmp")):  # noqa: S108 - made private
        if _fits(parent / name):
            return parent / name
    raise EmbeddedServerError(
        "no folder has a short enough path for the database socket; "
        "set TMPDIR to a folder with a path of under 60 characters"
    )


def _fits(path: Path) -> bool:
    return (
        len(os.fsencode(path)) <= SOCKET_DIRECTORY_BYTES_MAX
        and _PLAIN_PATH.fullmatch(str(path)) is not None
    )


def make_private(path: Path, user: SystemUser | None) -> None:
    """Make the folder for the server's user alone; not take one that another user laid there."""
    uid = os.geteuid() if user is None else user.uid
    path.mkdir(mode=0o700, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (uid, os.geteuid()):
        raise EmbeddedServerError(
            f"{path} belongs to another system user; remove it, it only holds a socket"
        )
    if user is not None:
        os.chown(path, user.uid, user.gid, follow_symlinks=False)
    path.chmod(0o700)
