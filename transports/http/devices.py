"""Devices as a resource: a key pair instead of an account, until somebody attaches it to theirs."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

import msgspec

from infra.cursors import key_of
from infra.database.devices import TOKEN_SECONDS, Device, DeviceKnown, DeviceRefused, UnknownDevice
from transports.http.api import Ask, Page, PageQuery, Reply, operation, page
from transports.http.people import Name
from transports.http.problems import Problem, problem_kinds, translate

problem_kinds(
    {
        "device-refused": (401, "The device's token or proof is not good"),
        "device-not-found": (404, "There is no such device"),
        "device-known": (409, "The device is known already"),
    }
)
translate(DeviceRefused, lambda error: Problem("device-refused", f"{error} Sign the request anew, or register again."))
translate(DeviceKnown, lambda error: Problem("device-known", str(error)))
translate(UnknownDevice, lambda error: Problem("device-not-found", "There is no device of this id."))

PROOF_HEADER = "X-Device-Proof"
Proof = Annotated[str, msgspec.Meta(min_length=1, max_length=200, description="MILLISECONDS.SIGNATURE")]


class NewDevice(msgspec.Struct, forbid_unknown_fields=True):
    """A device's Ed25519 public key in base64url, and a proof that it holds the other half."""

    public_key: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    proof: Proof
    name: Name = ""


class DeviceProof(msgspec.Struct, forbid_unknown_fields=True):
    """The signature of `METHOD\\nPATH\\nDEVICE\\nMILLISECONDS`, after those milliseconds and a dot."""

    proof: Proof


class AttachDevice(msgspec.Struct, forbid_unknown_fields=True):
    """The device's token, and its proof for this request."""

    token: Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]
    proof: Proof


class DeviceView(msgspec.Struct, frozen=True, kw_only=True):
    """A device; `attached_at` is null until it belongs to an account."""

    id: str
    name: str
    created_at: dt.datetime
    attached_at: dt.datetime | None


class DeviceToken(msgspec.Struct, frozen=True, kw_only=True):
    """A device with its token, which works together with its key only."""

    device: DeviceView
    token: str
    expires_in: int


@operation(
    "POST",
    "/v1/devices",
    status=201,
    answers=DeviceToken,
    refuses=("device-refused", "device-known"),
    who="public",
    limit="auth",
)
async def register_device(ask: Ask, body: NewDevice) -> Reply[DeviceToken]:
    """Register a device by its key, without an account."""
    device, token = await ask.services.identity.devices.register(body.public_key, body.name, body.proof)
    return Reply(DeviceToken(device=device_view(device), token=token, expires_in=TOKEN_SECONDS))


@operation(
    "POST",
    "/v1/devices/{device}/token",
    answers=DeviceToken,
    refuses=("device-refused",),
    who="public",
    limit="auth",
)
async def renew_device(ask: Ask, device: str, body: DeviceProof) -> DeviceToken:
    """Get a new token for a device by its key."""
    found, token = await ask.services.identity.devices.renew(device, "POST", ask.request.path, body.proof)
    return DeviceToken(device=device_view(found), token=token, expires_in=TOKEN_SECONDS)


@operation("GET", "/v1/devices/current", answers=DeviceView, refuses=("device-refused",), who="public")
async def read_device(ask: Ask) -> DeviceView:
    """Read the device that asks: `Authorization: Device TOKEN`, and its proof in `X-Device-Proof`."""
    scheme, _, token = ask.request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "device":
        raise DeviceRefused("There is no Authorization: Device TOKEN.")
    proof = ask.request.headers.get(PROOF_HEADER, "")
    return device_view(await ask.services.identity.devices.prove(token.strip(), "GET", ask.request.path, proof))


@operation("POST", "/v1/devices/attach", answers=DeviceView, refuses=("device-refused", "device-known"))
async def attach_device(ask: Ask, body: AttachDevice) -> DeviceView:
    """Attach a device to your account; it keeps its id and what hangs on it."""
    devices = ask.services.identity.devices
    device = await devices.prove(body.token, "POST", ask.request.path, body.proof)
    return device_view(await devices.attach(device, ask.user.user_id))


@operation("GET", "/v1/devices", answers=Page[DeviceView])
async def list_devices(ask: Ask, query: PageQuery) -> Page[DeviceView]:
    """List your devices, newest first."""
    found = await ask.services.identity.devices.of(ask.user.user_id)
    if query.after is not None:
        beyond = key_of(query.after, dt.datetime, str)
        found = tuple(one for one in found if (one.created_at, one.id) < beyond)
    return page(found, query.limit, lambda one: (one.created_at, one.id), device_view)


@operation("DELETE", "/v1/devices/{device}", status=204, refuses=("device-not-found",))
async def revoke_device(ask: Ask, device: str) -> Reply[None]:
    """Have a device known no more."""
    await ask.services.identity.devices.revoke(ask.user.user_id, device)
    return Reply()


def device_view(device: Device) -> DeviceView:
    """A device as its owner sees it."""
    return DeviceView(id=device.id, name=device.name, created_at=device.created_at, attached_at=device.attached_at)
