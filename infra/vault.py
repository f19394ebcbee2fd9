"""The vault: seals personal data at rest with a key of its owner (COM-36, CMB-65).

Each user has a data key, which lies in `user_keys` wrapped by the master key. What is sealed names its owner and its
place as authenticated data, so that a sealed text moved to another row or column cannot be read there. To destroy the
key is to make everything sealed under it unreadable, wherever copies of it lie.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import os
import time
from pathlib import Path

from asyncpg import Pool
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from infra.database.pool import Database
from infra.database.queries import load
from infra.settings import Settings, SettingsError

SERVER = "server"  # owner of what belongs to no user; its key is derived from the master's
KEY_BYTES = 32
NONCE_BYTES = 12
PREFIX = "v1."
MAGIC = b"RDV1"
CACHE_SECONDS = 60.0
CACHED_KEYS = 10_000
IN_LINE_BYTES = 256 * 1024  # more is sealed in a thread: 10 MB take 10 ms
KEY_FILE = "vault.key"

_SQL = load("vault", "open", "wrapped", "destroy")


class VaultError(Exception):
    """What is sealed cannot be read."""


class KeyDestroyed(VaultError):
    """The owner's key is gone, or there never was one: nothing of theirs can be sealed or read."""

    def __init__(self, owner: str) -> None:
        super().__init__(f"There is no key of {owner}.")
        self.owner = owner


class Unreadable(VaultError):
    """It is not sealed, or not for this owner and place, or it was changed."""


class Vault:
    """Seals and unseals by the owner's key.

    Args:
        pool: where the wrapped keys lie.
        master: 32 bytes that wrap them; everything else the server keeps secret is derived from it too.
    """

    def __init__(self, pool: Pool, master: bytes) -> None:
        if len(master) != KEY_BYTES:
            raise ValueError(f"The master key has {len(master)} bytes, not {KEY_BYTES}.")
        self._pool = pool
        self._master = master
        self._wrapping = AESGCM(self.derive("wrap"))
        self._server = AESGCM(self.derive("server"))
        self._digesting = self.derive("digest")
        self._keys: dict[str, tuple[AESGCM, float]] = {}

    def derive(self, purpose: str) -> bytes:
        """32 bytes that depend on the master key and `purpose` only."""
        return HKDFExpand(SHA256(), KEY_BYTES, b"ringdown:" + purpose.encode()).derive(self._master)

    def digest(self, kind: str, value: str) -> bytes:
        """A keyed digest, by which a value can be found without being readable."""
        return hmac.digest(self._digesting, f"{kind}\0{value}".encode(), "sha256")

    async def open_user(self, owner: str, database: Database | None = None) -> None:
        """Make the user's data key, unless there is one; a destroyed key is not made anew."""
        fresh = os.urandom(KEY_BYTES)
        wrapped = _encrypt(self._wrapping, fresh, owner.encode())
        if await (database or self._pool).fetchval(_SQL.open, owner, wrapped):
            self._remember(owner, AESGCM(fresh))  # who opens an account seals in the same transaction

    async def destroy(self, owner: str, database: Database | None = None) -> None:
        """Destroy the user's data key. Other processes may remember it for up to a minute."""
        await (database or self._pool).execute(_SQL.destroy, owner)
        self.forget(owner)

    def forget(self, owner: str) -> None:
        """Drop the key from this process's memory."""
        self._keys.pop(owner, None)

    async def seal(self, owner: str, text: str, context: str) -> str:
        """`text` as only `unseal` with the same owner and context can read it.

        Raises:
            KeyDestroyed
        """
        key = await self._key(owner)
        return PREFIX + _to_base64(_encrypt(key, text.encode(), _place(owner, context)))

    async def unseal(self, owner: str, sealed: str, context: str) -> str:
        """What was sealed.

        Raises:
            KeyDestroyed, Unreadable
        """
        if not sealed.startswith(PREFIX):
            raise Unreadable("The text is not sealed.")
        key = await self._key(owner)
        return _decrypt(key, _from_base64(sealed[len(PREFIX) :]), _place(owner, context)).decode()

    async def seal_bytes(self, owner: str, data: bytes, context: str) -> bytes:
        """As `seal`, for files.

        Raises:
            KeyDestroyed
        """
        key, place = await self._key(owner), _place(owner, context)
        if len(data) <= IN_LINE_BYTES:
            return MAGIC + _encrypt(key, data, place)
        return MAGIC + await asyncio.to_thread(_encrypt, key, data, place)

    async def unseal_bytes(self, owner: str, sealed: bytes, context: str) -> bytes:
        """As `unseal`, for files.

        Raises:
            KeyDestroyed, Unreadable
        """
        if not sealed.startswith(MAGIC):
            raise Unreadable("The file is not sealed.")
        key, place = await self._key(owner), _place(owner, context)
        if len(sealed) <= IN_LINE_BYTES:
            return _decrypt(key, sealed[len(MAGIC) :], place)
        return await asyncio.to_thread(_decrypt, key, sealed[len(MAGIC) :], place)

    async def _key(self, owner: str) -> AESGCM:
        if owner == SERVER:
            return self._server
        known = self._keys.get(owner)
        if known is not None and known[1] > time.monotonic():
            return known[0]
        wrapped: bytes | None = await self._pool.fetchval(_SQL.wrapped, owner)
        if wrapped is None:
            self.forget(owner)
            raise KeyDestroyed(owner)
        key = AESGCM(_decrypt(self._wrapping, wrapped, owner.encode()))
        self._remember(owner, key)
        return key

    def _remember(self, owner: str, key: AESGCM) -> None:
        if len(self._keys) >= CACHED_KEYS:
            self._keys.clear()
        self._keys[owner] = key, time.monotonic() + CACHE_SECONDS


def master_key(settings: Settings) -> bytes:
    """The master key that the settings hold.

    Raises:
        SettingsError: it is not set, or is not the base64 of 32 bytes.
    """
    text = settings.vault.master_key.get_secret_value()
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_BYTES:
        raise SettingsError("VAULT_MASTER_KEY must be the base64 of 32 bytes: make one with `openssl rand -base64 32`.")
    return key


def own_key(folder: Path) -> str:
    """The base64 of this machine's own master key, made on first use; a stand-in for one that is kept elsewhere."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / KEY_FILE
    made = base64.b64encode(os.urandom(KEY_BYTES))
    fresh = path.with_name(f".{KEY_FILE}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(made)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(fresh, path)  # whole or not at all, and never over another's
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
    return path.read_text()


def token_secret(settings: Settings) -> bytes:
    """What signs access tokens: the setting, or a key derived from the master key."""
    given = settings.accounts.token_secret.get_secret_value()
    if given:
        return hashlib.sha256(b"ringdown:tokens:" + given.encode()).digest()
    return HKDFExpand(SHA256(), KEY_BYTES, b"ringdown:tokens").derive(master_key(settings))


def _place(owner: str, context: str) -> bytes:
    return f"{owner}\0{context}".encode()


def _encrypt(key: AESGCM, data: bytes, place: bytes) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    return nonce + key.encrypt(nonce, data, place)


def _decrypt(key: AESGCM, sealed: bytes, place: bytes) -> bytes:
    try:
        return key.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], place)
    except (InvalidTag, ValueError) as error:
        raise Unreadable("It was sealed for another owner or place, or was changed.") from error


def _to_base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise Unreadable("The sealed text is damaged.") from error
