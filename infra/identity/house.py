"""Everything that people's accounts are made of, wired once for a process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Self

from asyncpg import Pool

from infra.database.audit import Audit
from infra.database.codes import Codes
from infra.database.consents import Consents
from infra.database.devices import TOKEN_SECONDS, Devices
from infra.database.erasure import Erasures
from infra.database.numbers import Numbers
from infra.database.sessions import SessionStore
from infra.database.users import Users
from infra.identity.accounts import Accounts, Stores
from infra.identity.linking import Linking
from infra.identity.oidc import Oidc
from infra.identity.passwords import Passwords
from infra.identity.providers import read_providers
from infra.identity.tokens import DEVICE, Tokens
from infra.mail import Mail
from infra.settings import Settings
from infra.telephony.verify import Verifier, verifier_of
from infra.vault import Vault, token_secret


@dataclass(frozen=True, slots=True)
class Identity:
    """Accounts and what belongs to them; `running` sends the mail and lets go of everything at the end."""

    vault: Vault
    users: Users
    sessions: SessionStore
    accounts: Accounts
    numbers: Numbers
    consents: Consents
    devices: Devices
    erasures: Erasures
    audit: Audit
    oidc: Oidc
    linking: Linking
    mail: Mail
    verifier: Verifier

    @classmethod
    def of(cls, settings: Settings, pool: Pool, vault: Vault) -> Self:
        """As the settings say.

        Raises:
            SettingsError: the vault's key or the file of providers cannot be used.
        """
        told, secret = settings.accounts, token_secret(settings)
        users, consents, mail = Users(pool), Consents(pool), Mail(pool, vault, settings.mail)
        sessions = SessionStore(pool, Tokens(secret, told.access_seconds), told)
        erasures = Erasures(pool, vault)
        stores = Stores(pool, vault, users, sessions, consents, Codes(pool, vault), erasures, mail)
        accounts = Accounts(stores, Passwords(), settings.public_url)
        verifier = verifier_of(settings)
        countries = [country.strip().upper() for country in settings.compliance.countries.split(",")]
        return cls(
            vault=vault,
            users=users,
            sessions=sessions,
            accounts=accounts,
            numbers=Numbers(pool, vault, verifier, countries),
            consents=consents,
            devices=Devices(pool, Tokens(secret, TOKEN_SECONDS, DEVICE)),
            erasures=erasures,
            audit=Audit(pool),
            oidc=Oidc(read_providers(told.oidc_file), vault, settings.public_url),
            linking=Linking(pool, users, sessions, accounts),
            mail=mail,
            verifier=verifier,
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send letters for the length of the block."""
        try:
            async with self.mail.running():
                yield
        finally:
            await self.accounts.close()
            await self.oidc.close()
            await self.verifier.close()
