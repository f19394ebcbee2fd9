"""Mail: letters are put into the outbox in the transaction that they tell of, and sent by whoever gets to it first.

A letter that an SMTP server did not take is tried again, later each time. With no server set, letters stay in the
outbox, where `Mail.letters` reads them: for development, the demo and tests. What a letter says is sealed, and gone
once it was sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncIterator
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

import aiosmtplib
import msgspec
import structlog
from asyncpg import Pool, Record

from infra.database.pool import SERVER_AWAY, Database
from infra.database.queries import load
from infra.ids import new_id
from infra.settings import Mail as MailSettings
from infra.vault import SERVER, Vault, VaultError

_SQL = load("outbox", "put", "claim", "sent", "failed", "postponed", "of_owner")
CONTEXT = "outbox.letter_sealed"
AT_ONCE = 10
TRIES = 10
FIRST_PAUSE = dt.timedelta(seconds=30)  # doubled each time: ten tries take some eight hours
SMTP_SECONDS = 20.0
LOOK_SECONDS = 5.0
REFUSED = 500  # SMTP's answers from here on are for good

log = structlog.get_logger()


class Letter(msgspec.Struct, frozen=True):
    """One letter."""

    to: str
    subject: str
    text: str


class Mail:
    """Puts letters into the outbox, and sends them while `running`."""

    def __init__(self, pool: Pool, vault: Vault, told: MailSettings) -> None:
        self._pool, self._vault, self._told = pool, vault, told
        self._url = told.smtp_url.get_secret_value()
        self._woken = asyncio.Event()

    async def put(self, owner: str | None, kind: str, letter: Letter, *, database: Database | None = None) -> str:
        """Have a letter sent; the owner's key seals it, or the server's where there is no owner any more."""
        sealed = await self._vault.seal(owner or SERVER, msgspec.json.encode(letter).decode(), CONTEXT)
        made = new_id("letter")
        await (database or self._pool).execute(_SQL.put, made, owner, kind, sealed)
        self._woken.set()
        return made

    async def letters(self, owner: str | None) -> list[tuple[str, Letter]]:
        """The unsent letters of an owner with their kinds, newest first."""
        rows = await self._pool.fetch(_SQL.of_owner, owner)
        return [(row["kind"], await self._letter(row)) for row in rows]

    async def send_due(self) -> int:
        """Send what is due, unless no server is set; how many were claimed."""
        if not self._url:
            return 0
        rows = await self._pool.fetch(_SQL.claim, AT_ONCE, FIRST_PAUSE)
        await asyncio.gather(*(self._send(row) for row in rows))
        return len(rows)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Send for the length of the block."""
        task = asyncio.create_task(self._run(), name="mail")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            try:
                while await self.send_due():
                    pass
            except SERVER_AWAY as error:
                log.debug("mail_waits_for_the_database", error=repr(error))
            except Exception:
                log.exception("mail_failed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._woken.wait()

    async def _send(self, row: Record) -> None:
        try:
            letter = await self._letter(row)
        except VaultError:
            await self._pool.execute(_SQL.failed, row["id"], "its owner's key is gone")
            return
        try:
            await self._deliver(row["id"], letter)
        except (aiosmtplib.SMTPException, OSError) as error:
            for_good = is_for_good(error)
            why = type(error).__name__
            log.warning("mail_not_sent", letter=row["id"], why=why, tries=row["tries"])
            query = _SQL.failed if for_good or row["tries"] >= TRIES else _SQL.postponed
            await self._pool.execute(query, row["id"], why)
        else:
            await self._pool.execute(_SQL.sent, row["id"])

    async def _deliver(self, letter_id: str, letter: Letter) -> None:
        there = urlsplit(self._url)
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = self._told.sender, letter.to, letter.subject
        # A letter that is sent again, its answer having been lost, is the same letter to the reader's mailbox.
        message["Message-ID"] = f"<{letter_id}@{there.hostname or 'localhost'}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(letter.text)
        tls = there.scheme == "smtps"
        await aiosmtplib.send(
            message,
            hostname=there.hostname,
            port=there.port,
            username=unquote(there.username) if there.username else None,
            password=unquote(there.password) if there.password else None,
            use_tls=tls,
            timeout=SMTP_SECONDS,
        )

    async def _letter(self, row: Record) -> Letter:
        text = await self._vault.unseal(row["owner"] or SERVER, row["letter_sealed"], CONTEXT)
        return msgspec.json.decode(text, type=Letter)


def is_for_good(error: Exception) -> bool:
    """Whether to send the letter again would be in vain."""
    match error:
        case aiosmtplib.SMTPRecipientsRefused():
            return all(is_for_good(one) for one in error.recipients)
        case aiosmtplib.SMTPResponseException():
            return error.code >= REFUSED
    return False
