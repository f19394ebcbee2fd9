"""An embedded server runs exactly while somebody holds it, for root and for anybody else."""

from __future__ import annotations

import asyncio
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from infra import redis
from infra.embedded import ground
from infra.embedded.ground import EmbeddedError, leftovers
from infra.embedded.holding import Holding, backing, hold
from infra.embedded.postgres import Postgres
from infra.embedded.server import EmbeddedServer, EmbeddedStatus
from infra.embedded.valkey import Valkey

GRACE_SECONDS = 0.1
KINDS = [Postgres, Valkey]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give up its rights")


async def serve(holding: Holding) -> None:
    """One round trip through the server."""
    if isinstance(holding.server, Postgres):
        connection = await asyncpg.connect(holding.url)
        assert await connection.fetchval("select current_setting('fsync')") == "on"
        await connection.close()
    else:
        client = await redis.connect(holding.url)
        await client.aclose()


async def until_gone(pid: int | None) -> None:
    """Wait until a process that is not our child has ended."""
    assert pid is not None
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop, gone = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(handle, gone.set)
    try:
        async with asyncio.timeout(20):
            await gone.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)


@pytest.mark.parametrize("kind", KINDS)
async def test_holders_share_a_server_and_the_last_to_leave_ends_it(kind: type[EmbeddedServer], tmp_path: Path) -> None:
    """COM-05: with nothing configured there is a database and a cache; two nodes share them."""
    server = kind(tmp_path / "server")
    first, second = (hold(kind(tmp_path / "server"), grace_s=GRACE_SECONDS) for _ in range(2))
    ours, theirs = await asyncio.gather(first.__aenter__(), second.__aenter__())
    assert ours.url == theirs.url
    assert ours.status().server_pid == theirs.status().server_pid
    await first.__aexit__(None, None, None)
    await serve(theirs)
    last = theirs.status()
    await second.__aexit__(None, None, None)
    await until_gone(last.keeper_pid)
    assert leftovers(server.data, server.process_name) == []
    async with hold(server, grace_s=GRACE_SECONDS) as again:
        await serve(again)
        assert again.url == ours.url
        last = again.status()
    await until_gone(last.keeper_pid)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_can_be_reached_by_its_owner_alone(kind: type[EmbeddedServer], tmp_path: Path) -> None:
    """COM-05: nothing listens on the network, and every file is private."""
    server = kind(tmp_path / "server")
    async with hold(server, grace_s=GRACE_SECONDS) as holding:
        pid = holding.status().server_pid
        assert pid is not None
        sockets = {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()}
        tcp = Path(f"/proc/{pid}/net/tcp").read_text() + Path(f"/proc/{pid}/net/tcp6").read_text()
        numbers = {line.split()[9] for line in tcp.splitlines() if ":" in line.split()[0]}
        assert not {f"socket:[{number}]" for number in numbers} & sockets
        assert stat.S_IMODE(server.folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(server.data.stat().st_mode) == 0o700
        for name in ("keeper.sock", "lock", "server.log"):
            assert stat.S_IMODE((server.folder / name).stat().st_mode) == 0o600
        if isinstance(server, Postgres):
            assert stat.S_IMODE((server.folder / "password").stat().st_mode) == 0o600
            with pytest.raises(asyncpg.InvalidPasswordError):
                await asyncpg.connect(server.url.replace("ringdown:", "ringdown:x"))
        if os.geteuid() == 0:
            assert Path(f"/proc/{pid}").stat().st_uid != 0


async def test_a_folder_too_deep_for_a_socket_works_all_the_same(tmp_path: Path) -> None:
    """COM-05: a socket's address holds 107 bytes; the data may lie deeper."""
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    async with hold(Valkey(deep), grace_s=GRACE_SECONDS) as holding:
        await serve(holding)
        assert len(holding.url) < 107


@pytest.fixture
def out_of_reach(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place for copies that everybody can reach, while no program may be run from where it is installed."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        copies = Path(place) / "copies" / "programs"
        monkeypatch.setattr(ground, "COPIES", copies)
        monkeypatch.setattr(ground, "_is_open", lambda root: False)
        yield copies


@as_root
def test_programs_out_of_reach_are_copied_once(out_of_reach: Path, tmp_path: Path) -> None:
    """COM-05: a checkout below root's own folder works, and that folder stays closed."""
    root = tmp_path / "closed"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "tool").write_text("tool")
    (root / "other").write_text("not needed")
    account = ground.account_for(tmp_path / "data")
    copy = ground.program_for(account, root, ("bin/tool",))
    assert (copy / "bin" / "tool").read_text() == "tool"
    assert not (copy / "other").exists()
    assert ground.program_for(account, root, ("bin/tool",)) == copy
    assert [entry.name for entry in out_of_reach.iterdir()] == [copy.name]


@as_root
async def test_a_copy_of_postgres_is_complete(
    out_of_reach: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """COM-05: what is copied is all that setting up and serving need."""
    server = Postgres(tmp_path / "server")
    ground.make_private(server.folder)
    await server.prepare()
    assert (server.data / "PG_VERSION").read_text() == "18\n"
    assert server.command()[0].startswith(str(out_of_reach))


async def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    """COM-05: the last words of the server are in the error, and nothing is left running."""
    folder = tmp_path / "server"
    data = folder / "data"
    ground.make_private(data)
    (data / "PG_VERSION").write_text("17\n")
    ground.account_for(data).own(data)
    with pytest.raises(EmbeddedError, match=r"The embedded postgres cannot start: .*ended with"):
        async with hold(Postgres(folder), grace_s=GRACE_SECONDS):
            pass
    assert leftovers(data, "postgres") == []


async def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedError, match="set NODE_VAR to a folder of yours"):
        async with hold(Valkey(tmp_path / "file" / "server")):
            pass


async def test_an_address_in_the_settings_replaces_the_server(tmp_path: Path) -> None:
    """COM-05: with DATABASE_URL or REDIS_URL nothing of ours is started or written."""
    changes: list[EmbeddedStatus] = []
    async with backing("postgresql://elsewhere/name", Postgres(tmp_path / "server"), changes.append) as found:
        assert (found.url, found.embedded) == ("postgresql://elsewhere/name", None)
    assert not (tmp_path / "server").exists()
    async with backing("", Valkey(tmp_path / "valkey"), changes.append) as found:
        assert found.embedded is not None
        await serve(found.embedded)
    assert [change.state for change in changes][-1] == "ready"
