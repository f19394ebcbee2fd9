"""What is sealed is read by its owner's key, in its place, as it was, or not at all."""

from __future__ import annotations

import base64
import stat
from pathlib import Path
from typing import Any, cast

import pytest
from asyncpg import Pool
from hypothesis import given
from hypothesis import strategies as st

from infra.settings import SettingsError, load
from infra.vault import SERVER, KeyDestroyed, Unreadable, Vault, master_key, own_key, token_secret

MASTER = bytes(range(32))


class Keys:
    """The table of keys, in memory; counts how often it is asked."""

    def __init__(self) -> None:
        self.rows: dict[str, bytes | None] = {}
        self.asked = 0

    async def fetchval(self, query: str, owner: str, wrapped: bytes | None = None) -> Any:
        if wrapped is not None:
            if owner in self.rows:
                return None
            self.rows[owner] = wrapped
            return True
        self.asked += 1
        return self.rows.get(owner)

    async def execute(self, query: str, owner: str) -> None:
        self.rows[owner] = None


def vault(keys: Keys, master: bytes = MASTER) -> Vault:
    return Vault(cast(Pool, keys), master)


async def test_what_is_sealed_is_read_again_by_any_process() -> None:
    """COM-36, CMB-65."""
    keys = Keys()
    first, second = vault(keys), vault(keys)
    await first.open_user("user_1")
    sealed = await first.seal("user_1", "+15550177001", "numbers.sealed")
    assert sealed.startswith("v1.")
    assert "5550177001" not in sealed
    assert sealed != await first.seal("user_1", "+15550177001", "numbers.sealed")
    assert await second.unseal("user_1", sealed, "numbers.sealed") == "+15550177001"
    big = bytes(range(256)) * 4096
    assert await second.unseal_bytes("user_1", await first.seal_bytes("user_1", big, "recording"), "recording") == big


async def test_a_sealed_text_is_worth_nothing_elsewhere() -> None:
    """COM-36: another's row, another column, another master key, or no seal at all."""
    keys = Keys()
    sealing = vault(keys)
    await sealing.open_user("user_1")
    await sealing.open_user("user_2")
    sealed = await sealing.seal("user_1", "secret", "a.b")
    for owner, context in (("user_2", "a.b"), ("user_1", "a.c"), (SERVER, "a.b")):
        with pytest.raises(Unreadable):
            await sealing.unseal(owner, sealed, context)
    with pytest.raises(Unreadable):
        await vault(keys, bytes(32)).unseal("user_1", sealed, "a.b")
    for nonsense in ("secret", "v1.", "v1.!!!", "v1.AAAA", "v1." + "A" * 200):
        with pytest.raises(Unreadable):
            await sealing.unseal("user_1", nonsense, "a.b")
    for nonsense_bytes in (b"", b"RDV1", b"RIFF1234"):
        with pytest.raises(Unreadable):
            await sealing.unseal_bytes("user_1", nonsense_bytes, "a.b")


@given(st.text(), st.data())
def test_a_changed_seal_is_never_read(text: str, data: st.DataObject) -> None:
    """COM-36: whichever bit is changed."""
    import asyncio

    async def check() -> None:
        sealing = vault(Keys())
        sealed = await sealing.seal(SERVER, text, "a.b")
        raw = bytearray(base64.urlsafe_b64decode(sealed[3:] + "=" * (-len(sealed[3:]) % 4)))
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        with pytest.raises(Unreadable):
            await sealing.unseal(SERVER, "v1." + base64.urlsafe_b64encode(bytes(raw)).decode().rstrip("="), "a.b")
        assert await sealing.unseal(SERVER, sealed, "a.b") == text

    asyncio.run(check())


async def test_a_destroyed_key_takes_everything_with_it() -> None:
    """COM-36, COM-51: and no new key is made in its place."""
    keys = Keys()
    sealing = vault(keys)
    await sealing.open_user("user_1")
    sealed = await sealing.seal("user_1", "secret", "a.b")
    await sealing.destroy("user_1")
    await sealing.open_user("user_1")
    for act in (sealing.unseal("user_1", sealed, "a.b"), sealing.seal("user_1", "more", "a.b")):
        with pytest.raises(KeyDestroyed):
            await act
    with pytest.raises(KeyDestroyed):
        await sealing.seal("user_9", "never opened", "a.b")


async def test_a_key_is_asked_for_once_a_minute_and_no_seldomer(monkeypatch: pytest.MonkeyPatch) -> None:
    """COM-51: what another process destroyed is unreadable here within a minute."""
    keys, now = Keys(), [1000.0]
    monkeypatch.setattr("infra.vault.time.monotonic", lambda: now[0])
    await vault(keys).open_user("user_1")
    reading = vault(keys)
    sealed = await reading.seal("user_1", "secret", "a.b")
    for _ in range(5):
        await reading.unseal("user_1", sealed, "a.b")
    assert keys.asked == 1
    keys.rows["user_1"] = None
    now[0] += 60
    with pytest.raises(KeyDestroyed):
        await reading.unseal("user_1", sealed, "a.b")


def test_a_number_is_found_by_a_digest_that_cannot_be_guessed_without_the_key() -> None:
    """COM-36: keyed, and by kind."""
    first = vault(Keys())
    assert first.digest("number", "+1") == first.digest("number", "+1") != first.digest("code", "+1")
    assert vault(Keys(), bytes(32)).digest("number", "+1") != first.digest("number", "+1")


def test_the_master_key_is_32_bytes_or_the_server_does_not_start() -> None:
    """COM-35, COM-36."""
    good = base64.b64encode(MASTER).decode()
    assert master_key(load(environ={}, vault_master_key=good)) == MASTER
    for bad in ("", "short", base64.b64encode(bytes(16)).decode(), "!" * 44):
        with pytest.raises(SettingsError, match="openssl rand -base64 32"):
            master_key(load(environ={}, vault_master_key=bad))


def test_the_token_secret_is_its_own_or_follows_from_the_master_key() -> None:
    """COM-26, COM-35."""
    good = base64.b64encode(MASTER).decode()
    derived = token_secret(load(environ={}, vault_master_key=good))
    assert derived not in (MASTER, token_secret(load(environ={}, vault_master_key=good, accounts_token_secret="x")))
    assert derived == Vault(cast(Pool, Keys()), MASTER).derive("tokens")


def test_a_machine_without_a_key_makes_one_once_for_itself_alone(tmp_path: Path) -> None:
    """COM-36: a stand-in; nobody else may read the file."""
    made = own_key(tmp_path / "var")
    assert own_key(tmp_path / "var") == made
    assert len(base64.b64decode(made)) == 32
    assert stat.S_IMODE((tmp_path / "var" / "vault.key").stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "var").iterdir()] == ["vault.key"]
