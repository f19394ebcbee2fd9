"""Devices: known by a key they never show, for each request anew (COM-27)."""

from __future__ import annotations

import base64
import dataclasses
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from infra.database.devices import TOKEN_SECONDS, DeviceKnown, DeviceRefused, Devices, UnknownDevice, proof_text
from infra.identity.tokens import DEVICE, Tokens
from infra.vault import token_secret
from tests.doubles.household import Household, household

REGISTER, READ = "/v1/devices", "/v1/devices/current"


@dataclasses.dataclass
class Phone:
    """A device with its key; each of its proofs is a millisecond later than the last."""

    key: Ed25519PrivateKey = dataclasses.field(default_factory=Ed25519PrivateKey.generate)
    now_ms: int = dataclasses.field(default_factory=lambda: int(time.time() * 1000))
    id: str = "new"

    @property
    def public_key(self) -> str:
        return encoded(self.key.public_key().public_bytes_raw())

    def proof(self, method: str, path: str, *, at_ms: int | None = None, as_id: str | None = None) -> str:
        self.now_ms += 1
        moment = self.now_ms if at_ms is None else at_ms
        return f"{moment}.{encoded(self.key.sign(proof_text(method, path, as_id or self.id, moment)))}"


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest_asyncio.fixture
async def home(database_url: str) -> AsyncIterator[Household]:
    async with household(database_url) as opened:
        yield opened


@pytest_asyncio.fixture
async def phone() -> Phone:
    return Phone()


async def register(home: Household, phone: Phone) -> str:
    """The phone's token."""
    device, token = await home.identity.devices.register(phone.public_key, "my phone", phone.proof("POST", REGISTER))
    phone.id = device.id
    return token


async def test_a_device_is_known_by_its_token_and_its_key(home: Household, phone: Phone) -> None:
    """COM-27: no account is needed."""
    token = await register(home, phone)
    device = await home.identity.devices.prove(token, "GET", READ, phone.proof("GET", READ))
    assert (device.id, device.owner, device.name) == (phone.id, None, "my phone")


async def test_a_token_copied_without_its_key_is_worth_nothing(home: Household, phone: Phone) -> None:
    """COM-27: nor is a proof for another request, of another device, or one that was used."""
    token = await register(home, phone)
    thief = Phone(now_ms=phone.now_ms + 5, id=phone.id)
    used = phone.proof("GET", READ)
    await home.identity.devices.prove(token, "GET", READ, used)
    for proof in (
        thief.proof("GET", READ),
        used,
        phone.proof("POST", READ),
        phone.proof("GET", REGISTER),
        phone.proof("GET", READ, as_id="device_" + "0" * 32),
        "",
        "nonsense",
        f"{phone.now_ms + 9}.",
        f"{phone.now_ms + 9}.!!!",
        f"{phone.now_ms + 9}.{encoded(bytes(64))}",
    ):
        with pytest.raises(DeviceRefused):
            await home.identity.devices.prove(token, "GET", READ, proof)
    assert await home.identity.devices.prove(token, "GET", READ, phone.proof("GET", READ))


@pytest.mark.parametrize("off_s", [-61, 61, -3600])
async def test_a_proof_of_another_time_is_refused(home: Household, phone: Phone, off_s: int) -> None:
    """COM-27: what was signed long ago, or by a clock that is wrong."""
    token = await register(home, phone)
    proof = phone.proof("GET", READ, at_ms=phone.now_ms + off_s * 1000)
    with pytest.raises(DeviceRefused):
        await home.identity.devices.prove(token, "GET", READ, proof)


async def test_a_forged_or_expired_token_is_refused(home: Household, phone: Phone) -> None:
    """COM-27: a user's token, one of another secret, and yesterday's."""
    token = await register(home, phone)
    secret = token_secret(home.settings)
    yesterday = Tokens(secret, TOKEN_SECONDS, DEVICE, lambda: time.time() - TOKEN_SECONDS - 1)
    _, opened = await home.person()
    for forged in (
        "nonsense",
        token[:-4] + "AAAA",
        opened.access_token,
        Tokens(bytes(32), TOKEN_SECONDS, DEVICE).issue(phone.id, phone.id, 0),
        Tokens(secret, TOKEN_SECONDS).issue(phone.id, phone.id, 0),
        yesterday.issue(phone.id, phone.id, 0),
    ):
        with pytest.raises(DeviceRefused):
            await home.identity.devices.prove(forged, "GET", READ, phone.proof("GET", READ))
    assert await home.identity.sessions.authenticate(token) is None  # nor is a device's token a user's


async def test_a_key_renews_its_token(home: Household, phone: Phone) -> None:
    """COM-27: after a day the key alone is enough."""
    await register(home, phone)
    path = f"/v1/devices/{phone.id}/token"
    _, token = await home.identity.devices.renew(phone.id, "POST", path, phone.proof("POST", path))
    assert await home.identity.devices.prove(token, "GET", READ, phone.proof("GET", READ))
    with pytest.raises(DeviceRefused):
        await home.identity.devices.renew("device_" + "0" * 32, "POST", path, phone.proof("POST", path))


async def test_only_who_holds_a_key_registers_it_and_once(home: Household, phone: Phone) -> None:
    """COM-27."""
    devices = home.identity.devices
    for key in ("", "!!!", encoded(bytes(31)), encoded(bytes(33)), Phone().public_key):
        with pytest.raises(DeviceRefused):
            await devices.register(key, "", phone.proof("POST", REGISTER))
    await devices.register(phone.public_key, "", phone.proof("POST", REGISTER))
    with pytest.raises(DeviceKnown):
        await devices.register(phone.public_key, "", phone.proof("POST", REGISTER))


async def test_a_device_is_attached_once_and_keeps_what_it_is(home: Household, phone: Phone) -> None:
    """COM-27: same id, same token, same age; and it is in the owner's audit."""
    token = await register(home, phone)
    user, _ = await home.person()
    stranger, _ = await home.person()
    devices = home.identity.devices
    before = await devices.prove(token, "GET", READ, phone.proof("GET", READ))
    attached = await devices.attach(before, user.id)
    assert (attached.id, attached.owner, attached.created_at) == (before.id, user.id, before.created_at)
    with pytest.raises(DeviceKnown):
        await devices.attach(before, stranger.id)
    assert (await devices.prove(token, "GET", READ, phone.proof("GET", READ))).owner == user.id
    assert [one.id for one in await devices.of(user.id)] == [phone.id]
    assert await devices.of(stranger.id) == ()
    assert "device.attached" in await home.actions(user)


async def test_a_revoked_device_is_known_no_more(home: Household, phone: Phone) -> None:
    """COM-27: its owner says so, nobody else."""
    token = await register(home, phone)
    user, _ = await home.person()
    stranger, _ = await home.person()
    devices: Devices = home.identity.devices
    await devices.attach(await devices.prove(token, "GET", READ, phone.proof("GET", READ)), user.id)
    with pytest.raises(UnknownDevice):
        await devices.revoke(stranger.id, phone.id)
    await devices.revoke(user.id, phone.id)
    with pytest.raises(DeviceRefused):
        await devices.prove(token, "GET", READ, phone.proof("GET", READ))
    with pytest.raises(UnknownDevice):
        await devices.revoke(user.id, phone.id)
