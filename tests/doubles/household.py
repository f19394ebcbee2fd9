"""Accounts on a real database, with a carrier that shows the codes it sends."""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import asyncpg

from infra.database.numbers import Numbers
from infra.database.pool import pool
from infra.database.sessions import Opened
from infra.database.users import User
from infra.identity.accounts import Where
from infra.identity.house import Identity
from infra.settings import Settings, load
from infra.telephony.verify import SendChannel
from infra.vault import Vault, master_key

MASTER = base64.b64encode(bytes(range(32))).decode()
PASSWORD = "correct horse battery"
HERE = Where("web", "192.0.2.7", "Mozilla/5.0 (X11; Linux)")
COUNTRIES = ("US", "GB", "DE", "TR")


class Verifier:
    """Sends the code 4711 and counts; `failure` is raised once, by either act."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.checked: list[str] = []
        self.failure: Exception | None = None

    async def start(self, number: str, channel: SendChannel = "sms", language: str = "en") -> str:
        self._fail()
        self.sent.append(number)
        return "VE1"

    async def check(self, number: str, code: str) -> bool:
        self._fail()
        self.checked.append(number)
        return code == "4711"

    async def close(self) -> None:
        pass

    def _fail(self) -> None:
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure


@dataclass
class Household:
    """Everything of accounts, and how a test makes people."""

    identity: Identity
    pool: asyncpg.Pool
    settings: Settings
    verifier: Verifier
    made: int = 0

    async def person(self, email: str | None = None, **told: Any) -> tuple[User, Opened]:
        """Somebody with an account, signed in."""
        self.made += 1
        agreed = told.pop("agreed", {"service": True})
        return await self.identity.accounts.register(
            email or f"person{self.made}@example.com", PASSWORD, where=HERE, agreed=agreed, **told
        )

    async def proven(self, email: str | None = None) -> tuple[User, Opened]:
        """Somebody whose address is proven."""
        user, opened = await self.person(email)
        return await self.identity.accounts.prove_email(user.id, await self.code(user)), opened

    async def code(self, user: User) -> str:
        """The code of the newest letter to somebody."""
        await self.identity.accounts.settled()
        letters = [letter for kind, letter in await self.identity.mail.letters(user.id) if kind == "email-code"]
        found = re.search(r"\b\d{6}\b", letters[0].text)
        assert found is not None
        return found[0]

    async def reset_token(self, user: User) -> str:
        """The token of the newest letter that lets somebody set a password."""
        await self.identity.accounts.settled()
        letters = [letter for kind, letter in await self.identity.mail.letters(user.id) if kind == "reset"]
        found = re.search(r"token=(\S+)", letters[0].text)
        assert found is not None
        return found[1]

    async def kinds(self, user: User) -> list[str]:
        """What was written to somebody, newest first."""
        await self.identity.accounts.settled()
        return [kind for kind, _ in await self.identity.mail.letters(user.id)]

    async def actions(self, user: User) -> list[str]:
        """What the audit says was done with somebody's data."""
        return [entry.action for entry in await self.identity.audit.of(user.id)]


@contextlib.asynccontextmanager
async def household(database_url: str, **overrides: Any) -> AsyncIterator[Household]:
    """Accounts for the length of the block, as a node's processes have them."""
    told = load(environ={}, **{"vault_master_key": MASTER, "node_public_url": "https://phone.example.com"} | overrides)
    async with pool(database_url, max_size=6) as connections:
        verifier, vault = Verifier(), Vault(connections, master_key(told))
        made = Identity.of(told, connections, vault)
        identity = replace(made, verifier=verifier, numbers=Numbers(connections, vault, verifier, COUNTRIES))
        async with identity.running():
            yield Household(identity, connections, told, verifier)
        await made.verifier.close()
