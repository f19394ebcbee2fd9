"""Command packets between supervisor and template: one msgpack record and some descriptors per SEQPACKET datagram."""

from __future__ import annotations

import array
import os
import socket
from typing import Any, Final

import msgspec

PACKET_BYTES_MAX: Final = 64 << 10
DESCRIPTORS_MAX: Final = 64


class Preload(msgspec.Struct, tag="preload", frozen=True):
    """To the template, first: what to import and prepare."""

    modules: list[str]
    prepare: str
    told: dict[str, Any]


class Prepared(msgspec.Struct, tag="prepared", frozen=True):
    """From the template: it can fork now. `threads` should be 1."""

    error: str
    threads: int


class Fork(msgspec.Struct, tag="fork", frozen=True):
    """To the template, with link, lifeline and the entry's descriptors."""

    id: int
    name: str


class Forked(msgspec.Struct, tag="forked", frozen=True):
    """From the template, with a pidfd; pid 0 and an error when it could not."""

    id: int
    pid: int
    error: str = ""


class Exited(msgspec.Struct, tag="exited", frozen=True):
    """From the template: a child was reaped. `code` as in `subprocess`, negative for signals."""

    pid: int
    code: int


Packet = Preload | Prepared | Fork | Forked | Exited
_decoder: Final[msgspec.msgpack.Decoder[Packet]] = msgspec.msgpack.Decoder(Packet)


def send(sock: socket.socket, packet: Packet, fds: list[int]) -> None:
    """Send one packet; the descriptors stay open here. OSError when the other end is gone."""
    body = msgspec.msgpack.encode(packet)
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([body], ancillary)


def receive(sock: socket.socket) -> tuple[Packet | None, list[int]]:
    """One packet and its descriptors, close-on-exec; None when the other end is gone."""
    size = socket.CMSG_SPACE(DESCRIPTORS_MAX * array.array("i").itemsize)
    body, ancillary, _, _ = sock.recvmsg(PACKET_BYTES_MAX, size, socket.MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers = array.array("i")
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
            fds.extend(numbers)
    for fd in fds:
        os.set_inheritable(fd, False)
    return (_decoder.decode(body) if body else None), fds
