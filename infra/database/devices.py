"""Devices without an account: a key pair of their own, a signed token, and a proof with each request (COM-27).

A token is worth nothing without the key: each request carries `MILLISECONDS.SIGNATURE`, the Ed25519 signature of
`METHOD\\nPATH\\nDEVICE\\nMILLISECONDS`. Its time must be near ours and later than that of the last proof, so none works
twice. Once attached to an account the device keeps its id and what hangs on it.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import time
from collections.abc import Callable

from asyncpg import Pool
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from infra.database.audit import Audit
from infra.database.call_records import Row
from infra.database.queries import load
from infra.identity.tokens import TokenRefused, Tokens
from infra.ids import new_id

_SQL = load("devices", "register", "standing", "seen", "attach", "of_owner", "revoke")
TOKEN_SECONDS = 24 * 3600
DRIFT_SECONDS = 60.0
KEY_BYTES = 32


class Device(Row, frozen=True, kw_only=True):
    """A device; `owner` is None until it is attached to an account."""

    id: str
    owner: str | None
    name: str
    created_at: dt.datetime
    attached_at: dt.datetime | None


class DeviceRefused(Exception):
    """The device's token or proof is not good, or the device was revoked. Sign the request anew, or register again."""


class DeviceKnown(Exception):
    """The key is registered already, or the device belongs to an account already."""


class UnknownDevice(Exception):
    """The account has no such device."""


class Devices:
    """Registers devices, and knows them again."""

    def __init__(self, pool: Pool, tokens: Tokens, clock: Callable[[], float] = time.time) -> None:
        self._pool, self._tokens, self._clock = pool, tokens, clock
        self._audit = Audit(pool)

    async def register(self, public_key: str, name: str, proof: str) -> tuple[Device, str]:
        """A new device, by its Ed25519 key in base64url and a proof for `POST /v1/devices` of the device `new`.

        Raises:
            DeviceRefused: no key, or the proof is not made with it.
            DeviceKnown
        """
        key = _key(public_key)
        self._check(key, "POST", "/v1/devices", "new", proof)
        row = await self._pool.fetchrow(_SQL.register, new_id("device"), key, name)
        if row is None:
            raise DeviceKnown("This key is registered already.")
        return Device.read(row), self._token(row["id"])

    async def renew(self, device_id: str, method: str, path: str, proof: str) -> tuple[Device, str]:
        """A new token for a device, by its key alone.

        Raises:
            DeviceRefused
        """
        return await self._seen(device_id, method, path, proof), self._token(device_id)

    async def prove(self, token: str, method: str, path: str, proof: str) -> Device:
        """The device that sent this request.

        Raises:
            DeviceRefused: forged, expired, revoked, copied without its key, or sent before.
        """
        try:
            claims = self._tokens.read(token)
        except TokenRefused as error:
            raise DeviceRefused(str(error)) from error
        return await self._seen(claims.subject, method, path, proof)

    async def attach(self, device: Device, owner: str) -> Device:
        """The device is the owner's from now on.

        Raises:
            DeviceKnown: it is somebody's already.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(_SQL.attach, device.id, owner)
            if row is None:
                raise DeviceKnown("The device belongs to an account already.")
            await self._audit.note(owner, "device.attached", owner, {"device": device.id}, database=connection)
        return Device.read(row)

    async def of(self, owner: str) -> tuple[Device, ...]:
        """The owner's devices, newest first."""
        return tuple(Device.read(row) for row in await self._pool.fetch(_SQL.of_owner, owner))

    async def revoke(self, owner: str, device_id: str) -> None:
        """The device is known no more.

        Raises:
            UnknownDevice
        """
        async with self._pool.acquire() as connection, connection.transaction():
            if await connection.fetchval(_SQL.revoke, owner, device_id) is None:
                raise UnknownDevice("There is no such device.")
            await self._audit.note(owner, "device.revoked", owner, {"device": device_id}, database=connection)

    def _token(self, device_id: str) -> str:
        return self._tokens.issue(device_id, device_id, 0)

    async def _seen(self, device_id: str, method: str, path: str, proof: str) -> Device:
        key: bytes | None = await self._pool.fetchval(_SQL.standing, device_id)
        if key is None:
            raise DeviceRefused("There is no such device.")
        at = self._check(key, method, path, device_id, proof)
        row = await self._pool.fetchrow(_SQL.seen, device_id, at)
        if row is None:
            raise DeviceRefused("The proof was used before.")
        return Device.read(row)

    def _check(self, key: bytes, method: str, path: str, device_id: str, proof: str) -> dt.datetime:
        moment, _, signature = proof.partition(".")
        if not (moment.isascii() and moment.isdigit() and len(moment) == 13):
            raise DeviceRefused("The proof is MILLISECONDS.SIGNATURE.")
        if abs(int(moment) / 1000 - self._clock()) > DRIFT_SECONDS:
            raise DeviceRefused("The proof was made too long ago, or the device's clock is wrong.")
        try:
            signed = proof_text(method, path, device_id, int(moment))
            Ed25519PublicKey.from_public_bytes(key).verify(_from_base64(signature), signed)
        except (InvalidSignature, ValueError) as error:
            raise DeviceRefused("The proof was not made with the device's key.") from error
        return dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(milliseconds=int(moment))


def proof_text(method: str, path: str, device_id: str, milliseconds: int) -> bytes:
    """What a device signs."""
    return f"{method}\n{path}\n{device_id}\n{milliseconds}".encode()


def _key(text: str) -> bytes:
    try:
        key = _from_base64(text)
    except ValueError as error:
        raise DeviceRefused("The key is not base64url.") from error
    if len(key) != KEY_BYTES:
        raise DeviceRefused("The key is no Ed25519 public key: it has 32 bytes.")
    return key


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError("not base64url") from error
