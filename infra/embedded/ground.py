"""What an embedded server stands on: its folder, the account it runs as, and short paths to its sockets.

PostgreSQL refuses to run as root, and both servers should own nothing but their data. Started by root, they
run as an account that exists for nothing else (`SERVICE_UID` needs no entry in the user database). Folders of
other people are never opened up for it: a server finds its data through its own working directory
(`/proc/self/cwd`, which needs no permission on the folders above), and programs that lie out of its reach,
such as a checkout below `/root`, are copied once to `COPIES`.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import pwd
import shutil
import signal
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

SERVICE_UID = 65525  # in the range that Debian and systemd leave unassigned
SOCKET_PATH_MAX = 107  # bytes of sun_path, less its final zero
LONGEST_SOCKET = "/data/.s.PGSQL.5432"
COPIES = Path("/var/lib/ringdown/programs")
PR_SET_PDEATHSIG = 1
SWEEP_SECONDS = 10.0

_libc = ctypes.CDLL(None, use_errno=True)


class EmbeddedError(Exception):
    """An embedded server cannot run. The message names the cause; DATABASE_URL or REDIS_URL replaces it."""


@dataclass(frozen=True)
class Account:
    """The user and group a server process runs as; `drop` is false where it simply runs as ourselves."""

    uid: int
    gid: int
    drop: bool

    def own(self, path: Path) -> None:
        """Make `path` belong to this account and to nobody else."""
        if self.drop:
            os.chown(path, self.uid, self.gid)

    def popen(self) -> dict[str, int | list[int]]:
        """The arguments that make `subprocess` start a program as this account."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.drop else {}


def account_for(data: Path) -> Account:
    """Who serves `data`: ourselves, or, for root, the owner of the data or the service account."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), drop=False)
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid, drop=True)
    return Account(SERVICE_UID, SERVICE_UID, drop=True)


def named_account() -> Account:
    """An account with an entry in the user database: `initdb` insists on one, though `postgres` does not."""
    own = os.geteuid()
    try:
        entry = pwd.getpwnam("nobody") if own == 0 else pwd.getpwuid(own)
    except KeyError:
        who = "the user 'nobody'" if own == 0 else f"a user with our uid {own}"
        raise EmbeddedError(
            f"PostgreSQL cannot be set up on a system without {who}: add one or set DATABASE_URL."
        ) from None
    return Account(entry.pw_uid, entry.pw_gid, drop=own == 0)


def make_private(folder: Path) -> None:
    """Make `folder` exist, open to its owner alone.

    Raises:
        EmbeddedError: it belongs to someone else or cannot be written.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid == os.geteuid():
            folder.chmod(0o700)
        readable = os.access(folder, os.R_OK | os.W_OK | os.X_OK)
    except OSError as error:
        raise EmbeddedError(
            f"{folder} cannot be used ({error.strerror}): set NODE_VAR to a folder of yours."
        ) from error
    if not readable:
        raise EmbeddedError(f"{folder} belongs to another user: run as that user or set NODE_VAR to another folder.")


def short(folder: Path) -> Path:
    """A path to `folder` that is short enough for the sockets in it: itself, or a link in our runtime folder.

    A socket's address holds 107 bytes at most; a link to a deep folder keeps its sockets reachable.
    """
    folder = folder.absolute()
    if len(os.fsencode(folder)) + len(LONGEST_SOCKET) <= SOCKET_PATH_MAX:
        return folder
    link = _runtime_folder() / hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    fresh = link.with_name(f"{link.name}.{os.getpid()}")
    if not link.is_symlink() or link.readlink() != folder:
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(folder)
        fresh.replace(link)
    return link


def _runtime_folder() -> Path:
    uid = os.geteuid()
    session = Path("/run") if uid == 0 else Path(f"/run/user/{uid}")
    runtime = session / "ringdown" if os.access(session, os.W_OK) else Path(f"/tmp/ringdown-{uid}")
    runtime.mkdir(mode=0o700, exist_ok=True)
    seen = runtime.lstat()
    if not stat.S_ISDIR(seen.st_mode) or seen.st_uid != uid or seen.st_mode & 0o077:
        raise EmbeddedError(f"{runtime} is not a private folder of ours: remove it or shorten NODE_VAR.")
    return runtime


def program_for(account: Account, root: Path, parts: tuple[str, ...]) -> Path:
    """The folder from which `account` can run the programs in `root`: itself, or a copy of `parts` of it.

    Raises:
        EmbeddedError: out of reach, and the copy cannot be written.
    """
    if not account.drop or _is_open(root):
        return root
    mark = hashlib.sha256(f"{root}{root.stat().st_mtime_ns}{parts}".encode()).hexdigest()[:16]
    copy = COPIES / mark
    if copy.is_dir():
        return copy
    fresh = COPIES / f"{mark}.{os.getpid()}"
    try:
        for part in parts:
            source, target = root / part, fresh / part
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, symlinks=True)
            else:
                shutil.copy2(source, target)
        for path in (COPIES.parent, COPIES, fresh, *fresh.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755)  # whatever our umask, and that of the installation
        fresh.replace(copy)
    except OSError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        if not copy.is_dir():
            raise EmbeddedError(
                f"{root} is out of reach of uid {account.uid}, and no copy can be made in {COPIES} "
                f"({error.strerror}): run as an ordinary user, or set DATABASE_URL and REDIS_URL."
            ) from error
    return copy


def _is_open(root: Path) -> bool:
    return all(folder.stat().st_mode & 0o005 == 0o005 for folder in (root, *root.resolve().parents))


def die_with_parent(number: signal.Signals) -> Callable[[], None]:
    """A `preexec_fn`: the kernel sends `number` to the program when the process that starts it is gone."""
    parent = os.getpid()

    def arrange() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return arrange


def leftovers(data: Path, name: str) -> list[int]:
    """Processes called `name` that still work in `data`: what a killed server or keeper left behind."""
    home = data.stat()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            where = (entry / "cwd").stat()
            at_home = (where.st_dev, where.st_ino) == (home.st_dev, home.st_ino)
            if at_home and (entry / "comm").read_text().strip() == name:
                found.append(int(entry.name))
        except OSError:
            continue  # gone, or not ours to see
    return found


def sweep(data: Path, name: str) -> None:
    """Kill what is left of an earlier server in `data`. Only for the keeper, which alone may run one.

    Raises:
        EmbeddedError: a process would not die.
    """
    deadline = time.monotonic() + SWEEP_SECONDS
    while pids := leftovers(data, name):
        if time.monotonic() > deadline:
            raise EmbeddedError(f"Processes {pids} of an earlier {name} in {data} do not die: end them by hand.")
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.01)
