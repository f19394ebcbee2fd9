"""Accounts: opening one, proving who one is, changing the password, leaving.

Nobody learns from here whether an address has an account (COM-24). Opening one with an address that is another's gives
a new account, which can never prove the address; its owner is written to. A sign-in checks as many passwords whoever
asks, and a forgotten password is answered before anything is looked up.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from asyncpg import Pool

from infra.database.audit import Audit
from infra.database.codes import Codes, CodeWrong
from infra.database.consents import Channel, Consent, Consents, Purpose
from infra.database.erasure import Erased, Erasures, Receipt
from infra.database.pool import SERVER_AWAY, Database
from infra.database.sessions import Opened, SessionStore
from infra.database.users import EmailTaken, UnknownUser, User, Users
from infra.identity.codes import address, new_secret, step_of
from infra.identity.letters import letter
from infra.identity.passwords import Passwords, check_strength
from infra.mail import Mail
from infra.vault import Vault

TOTP = "users.totp_sealed"
RECENT = dt.timedelta(minutes=10)

log = structlog.get_logger()


class SignInRefused(Exception):
    """Address and password do not belong together. Try again, or ask for a new password."""


class SecondFactorNeeded(Exception):
    """The password is right; send it with the code that the authenticator app shows."""


class SecondFactorWrong(Exception):
    """The code is wrong, or was used before. Wait for the next one."""


class FactorState(Exception):
    """There is a second factor already, or none."""


class NotRecent(Exception):
    """The account has no password, so this needs a sign-in of the last ten minutes. Sign in again."""


class AlreadyProven(Exception):
    """The account's address is proven already."""


@dataclass(frozen=True, slots=True)
class Where:
    """Where a request came from."""

    channel: Channel = "api"
    ip: str | None = None
    agent: str = ""


@dataclass(frozen=True, slots=True)
class Stores:
    """What accounts are made of."""

    pool: Pool
    vault: Vault
    users: Users
    sessions: SessionStore
    consents: Consents
    codes: Codes
    erasures: Erasures
    mail: Mail


class Accounts:
    """Everything one does with an account but use it; close it when the server stops.

    Args:
        public_url: where the letters' addresses lead.
    """

    def __init__(self, stores: Stores, passwords: Passwords, public_url: str) -> None:
        self._stores, self._passwords, self._url = stores, passwords, public_url
        self._audit = Audit(stores.pool)
        self._later: set[asyncio.Task[None]] = set()

    async def register(
        self,
        email: str,
        password: str,
        *,
        where: Where,
        name: str = "",
        zone: str = "UTC",
        language: str = "en",
        adult: bool = False,
        agreed: Mapping[Purpose, bool],
    ) -> tuple[User, Opened]:
        """Open an account and sign in to it. The address is proven later, by a code.

        Raises:
            WeakPassword, TooManyAtOnce
        """
        check_strength(password, email)
        hashed = await self._passwords.hash(password)
        stores = self._stores
        async with stores.pool.acquire() as connection, connection.transaction():
            user = await stores.users.create(
                email, hashed, name=name, zone=zone, language=language, adult=adult, database=connection
            )
            await stores.vault.open_user(user.id, connection)
            for purpose, granted in agreed.items():
                await self._consent(user.id, purpose, granted, where, connection)
            opened = await self._open(user, "password", where, False, connection)
            context = {"adult": adult, "by": "password"}
            await self._audit.note(user.id, "account.opened", user.id, context, database=connection)
        self._do_later(self._greet(user))
        return user, opened

    async def admit(
        self, email: str | None, *, method: str, name: str, where: Where, database: Database
    ) -> tuple[User, Opened]:
        """Open an account for somebody whose address another has vouched for, and sign in to it.

        Raises:
            EmailTaken
        """
        stores = self._stores
        user = await stores.users.create(email, None, name=name, proven=email is not None, database=database)
        await stores.vault.open_user(user.id, database)
        opened = await self._open(user, method, where, False, database)
        await self._audit.note(user.id, "account.opened", user.id, {"by": method}, database=database)
        return user, opened

    async def sign_in(self, email: str, password: str, code: str | None, *, where: Where) -> tuple[User, Opened]:
        """A new session for who knows the password, and has the second factor where there is one.

        Raises:
            SignInRefused, SecondFactorNeeded, SecondFactorWrong, TooManyAtOnce
        """
        users = self._stores.users
        candidates = (await users.by_email(email), await users.unproven(email))
        checks = (self._passwords.verify(user.password_hash if user else None, password) for user in candidates)
        right = await asyncio.gather(*checks)
        user = next((user for user, good in zip(candidates, right, strict=True) if user and good), None)
        if user is None:
            raise SignInRefused(f"{SignInRefused.__doc__}")
        if user.totp_at is not None:
            if code is None:
                raise SecondFactorNeeded(f"{SecondFactorNeeded.__doc__}")
            await self._take_factor(user, code)
        if user.password_hash and self._passwords.is_old(user.password_hash):
            await users.set_password(user.id, await self._passwords.hash(password), end_tokens=False)
        return user, await self._open(user, "password", where, user.totp_at is not None)

    async def send_email_code(self, user_id: str) -> None:
        """Write to the account's address a code that proves it.

        Raises:
            AlreadyProven
        """
        user = await self._stores.users.get(user_id)
        if user.email is None or user.email_verified_at is not None:
            raise AlreadyProven(f"{AlreadyProven.__doc__}")
        await self._greet(user)

    async def prove_email(self, user_id: str, code: str) -> User:
        """The code from the letter proves the account's address.

        Raises:
            CodeWrong
        """
        stores = self._stores
        user = await stores.users.get(user_id)
        if user.email_verified_at is not None:
            return user
        await stores.codes.take_email_code(user.id, user.email or "", code)  # a wrong try counts, so it is no part
        try:
            async with stores.pool.acquire() as connection, connection.transaction():
                user = await stores.users.prove_email(user.id, connection)
                await self._audit.note(user.id, "email.proven", user.id, database=connection)
        except EmailTaken as error:
            raise CodeWrong(f"{CodeWrong.__doc__}") from error
        return user

    def ask_reset(self, email: str) -> None:
        """Write to the address, if it has an account, how to set a new password. It is done after the answer."""
        self._do_later(self._write_reset(email))

    async def reset(self, token: str, password: str) -> None:
        """Set the password by the token from the letter; every session ends, and the address is proven.

        Raises:
            CodeWrong, WeakPassword, TooManyAtOnce
        """
        check_strength(password, "")
        hashed = await self._passwords.hash(password)
        stores = self._stores
        try:
            async with stores.pool.acquire() as connection, connection.transaction():
                owner = await stores.codes.take_reset_token(token, connection)
                user = await stores.users.prove_email(owner, connection)
                await stores.users.set_password(owner, hashed, end_tokens=True, database=connection)
                await stores.sessions.end_all(owner, "password", database=connection)
                await self._tell(user, "password-changed", connection)
                await self._audit.note(owner, "password.reset", owner, database=connection)
        except (EmailTaken, UnknownUser) as error:
            raise CodeWrong(f"{CodeWrong.__doc__}") from error
        stores.sessions.forget(owner)

    async def change_password(self, user_id: str, session: str, current: str, new: str) -> None:
        """Set another password; every other session ends.

        Raises:
            SignInRefused: the current one is wrong.
            WeakPassword, TooManyAtOnce
        """
        user = await self._stores.users.get(user_id)
        check_strength(new, user.email or "")
        if not await self._passwords.verify(user.password_hash, current):
            raise SignInRefused("The current password is wrong.")
        hashed = await self._passwords.hash(new)
        stores = self._stores
        async with stores.pool.acquire() as connection, connection.transaction():
            await stores.users.set_password(user_id, hashed, end_tokens=False, database=connection)
            await stores.sessions.end_all(user_id, "password", spare=session, database=connection)
            await stores.codes.withdraw(user_id, "reset", connection)
            await self._tell(user, "password-changed", connection)
            await self._audit.note(user_id, "password.changed", user_id, database=connection)
        stores.sessions.forget(user_id)

    async def leave_everywhere(self, user_id: str) -> None:
        """End every session of the user and every access token."""
        stores = self._stores
        async with stores.pool.acquire() as connection, connection.transaction():
            await stores.users.raise_epoch(user_id, connection)
            await stores.sessions.end_all(user_id, "signed_out", database=connection)
        stores.sessions.forget(user_id)

    async def attest(self, user_id: str, where: Where) -> User:
        """The user says that they are 18 or older."""
        stores = self._stores
        async with stores.pool.acquire() as connection, connection.transaction():
            user = await stores.users.attest(user_id, connection)
            context = {"channel": where.channel}
            await self._audit.note(user_id, "adult.attested", user_id, context, database=connection)
        return user

    async def consent(self, user_id: str, purpose: Purpose, granted: bool, where: Where) -> Consent:
        """The user agrees to something, or takes it back."""
        async with self._stores.pool.acquire() as connection, connection.transaction():
            given = await self._consent(user_id, purpose, granted, where, connection)
            context = {"purpose": purpose, "granted": granted, "consent": given.id}
            await self._audit.note(user_id, "consent.given", user_id, context, database=connection)
        return given

    async def offer_factor(self, user_id: str) -> tuple[str, str]:
        """A secret for an authenticator app, and the address that holds it; it counts once confirmed.

        Raises:
            FactorState: there is one.
        """
        user, secret = await self._stores.users.get(user_id), new_secret()
        sealed = await self._stores.vault.seal(user_id, secret, TOTP)
        if not await self._stores.users.offer_factor(user_id, sealed):
            raise FactorState("There is a second factor already. Remove it first.")
        return secret, address(secret, user.email or user.id)

    async def confirm_factor(self, user_id: str, code: str) -> None:
        """The app shows this code; from now on every sign-in needs one.

        Raises:
            SecondFactorWrong
            FactorState: none was offered, or it was confirmed.
        """
        user = await self._stores.users.get(user_id)
        if user.totp_sealed is None or user.totp_at is not None:
            raise FactorState("There is no second factor to confirm.")
        await self._take_factor(user, code)
        await self._audit.note(user_id, "factor.added", user_id)

    async def drop_factor(self, user_id: str, password: str, code: str) -> None:
        """Sign in by the password alone again.

        Raises:
            SignInRefused, SecondFactorWrong
            FactorState: there is none.
        """
        user = await self._stores.users.get(user_id)
        if user.totp_at is None:
            raise FactorState("There is no second factor.")
        if not await self._passwords.verify(user.password_hash, password):
            raise SignInRefused("The password is wrong.")
        await self._take_factor(user, code)
        await self._stores.users.drop_factor(user_id)
        await self._audit.note(user_id, "factor.removed", user_id)

    async def may_leave(self, user_id: str, password: str | None, session_began: dt.datetime) -> None:
        """Whether who asks may destroy the account, now.

        Raises:
            SignInRefused: the password is wrong.
            NotRecent: there is no password, and the session is older than ten minutes.
            Unfinished
        """
        user = await self._stores.users.get(user_id)
        if user.password_hash is None:
            if dt.datetime.now(dt.UTC) - session_began > RECENT:
                raise NotRecent(f"{NotRecent.__doc__}")
        elif not await self._passwords.verify(user.password_hash, password or ""):
            raise SignInRefused("The password is wrong.")
        await self._stores.erasures.check(user_id)

    async def erase(self, user_id: str) -> Erased:
        """Destroy the account with everything in it. The receipt is the proof, and is written to the user.

        Raises:
            Unfinished
        """
        requested_at = dt.datetime.now(dt.UTC)
        user = await self._stores.users.get(user_id)

        async def farewell(database: Database, receipt: Receipt) -> None:
            if user.email is None:
                return
            told = receipt.document
            times = {"requested": told["requested_at"], "destroyed": told["destroyed_at"]}
            there = f"{self._url}/v1/erasures/{told['id']}"
            text = letter("erased", user.language, user.email, receipt=told["id"], address=there, **times)
            await self._stores.mail.put(None, "erased", text, database=database)

        erased = await self._stores.erasures.erase(user_id, requested_at, farewell)
        self._stores.sessions.forget(user_id)
        return erased

    async def settled(self) -> None:
        """Wait until everything that was put off has been done."""
        while self._later:
            await asyncio.gather(*self._later, return_exceptions=True)

    async def close(self) -> None:
        """Do what was put off, and let go of the threads."""
        await self.settled()
        self._passwords.close()

    async def _open(
        self, user: User, method: str, where: Where, second_factor: bool, database: Database | None = None
    ) -> Opened:
        return await self._stores.sessions.open(
            user.id, method, ip=where.ip, agent=where.agent, second_factor=second_factor, database=database
        )

    async def _consent(
        self, user_id: str, purpose: Purpose, granted: bool, where: Where, database: Database
    ) -> Consent:
        return await self._stores.consents.give(
            user_id, purpose, granted, channel=where.channel, ip=where.ip, database=database
        )

    async def _take_factor(self, user: User, code: str) -> None:
        secret = await self._stores.vault.unseal(user.id, user.totp_sealed or "", TOTP)
        step = step_of(secret, code, user.totp_step)
        if step is None or not await self._stores.users.take_step(user.id, step):
            raise SecondFactorWrong(f"{SecondFactorWrong.__doc__}")

    async def _greet(self, user: User) -> None:
        """Send the code that proves the address, or tell its owner that somebody else tried to use it."""
        stores, email = self._stores, user.email or ""
        holder = await stores.users.by_email(email)
        if holder is not None and holder.id != user.id:
            await self._tell(holder, "account-exists")
            return
        async with stores.pool.acquire() as connection, connection.transaction():
            code = await stores.codes.email_code(user.id, email, connection)
            text = letter("email-code", user.language, email, code=code)
            await stores.mail.put(user.id, "email-code", text, database=connection)

    async def _write_reset(self, email: str) -> None:
        stores = self._stores
        user = await stores.users.by_email(email) or await stores.users.unproven(email)
        if user is None or user.email is None:
            return
        async with stores.pool.acquire() as connection, connection.transaction():
            token = await stores.codes.reset_token(user.id, connection)
            # Behind a # it is sent to no server and written into no log.
            text = letter("reset", user.language, user.email, address=f"{self._url}/#/reset?token={token}")
            await stores.mail.put(user.id, "reset", text, database=connection)

    async def _tell(self, user: User, kind: str, database: Database | None = None) -> None:
        if user.email is not None:
            await self._stores.mail.put(user.id, kind, letter(kind, user.language, user.email), database=database)

    def _do_later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(_quietly(work))
        self._later.add(task)
        task.add_done_callback(self._later.discard)


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except SERVER_AWAY as error:
        log.warning("letter_not_written", why=repr(error))
    except Exception:
        log.exception("letter_not_written")
