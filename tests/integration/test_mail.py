"""Letters: written with what they tell of, sent by whoever gets to them, unreadable once sent."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import SecretStr

from infra.identity.letters import LANGUAGES, letter
from infra.mail import Letter, Mail
from tests.doubles.household import Household, household
from tests.doubles.smtp import SmtpDouble, smtp

LETTER = Letter("ada@example.com", "Grüße, Ada", "Ein Brief.\n.\nMit einem Punkt.\n")


def sending(home: Household, server: SmtpDouble) -> Mail:
    """Mail that is sent when the test says so."""
    told = home.settings.mail.model_copy(update={"smtp_url": SecretStr(server.url)})
    return Mail(home.pool, home.identity.vault, told)


async def states(home: Household) -> list[tuple[bool, bool, int, str]]:
    """Of every letter: sent, given up, how often tried, what is kept of it."""
    return [
        (row["sent"], row["failed"], row["tries"], row["letter_sealed"])
        for row in await home.pool.fetch(
            "select sent_at is not null as sent, failed_at is not null as failed, tries, letter_sealed"
            " from outbox order by created_at"
        )
    ]


async def test_a_letter_arrives_as_it_was_written(database_url: str) -> None:
    """COM-48: whatever its letters and dots, by whoever runs the node."""
    async with smtp() as server, household(database_url, mail_smtp_url=server.url) as home:
        user, _ = await home.person()
        await home.identity.accounts.settled()
        await arrived(server, 1)
        await home.identity.mail.put(user.id, "test", LETTER)
        await arrived(server, 2)
        sent = server.taken[-1]
        assert (sent["To"], sent["Subject"]) == ("ada@example.com", "Grüße, Ada")
        assert "no-reply@localhost" in sent["From"]
        assert sent.get_content().replace("\r\n", "\n") == LETTER.text
        assert sent["Message-ID"] != server.taken[0]["Message-ID"]


async def arrived(server: SmtpDouble, count: int) -> None:
    async with asyncio.timeout(10):
        while len(server.taken) < count:
            server.arrived.clear()
            await server.arrived.wait()


async def test_a_letter_that_was_not_taken_is_sent_again_later(database_url: str) -> None:
    """COM-48, COM-36: a mailbox that is busy for now gets it the next time, once; what was sent is kept no longer."""
    async with smtp() as server, household(database_url) as home:
        mail = sending(home, server)
        user, _ = await home.person()
        await home.identity.accounts.settled()
        await home.pool.execute("delete from outbox")
        server.answers.append("450 later")
        await mail.put(user.id, "test", LETTER)
        assert await mail.send_due() == 1
        assert await mail.send_due() == 0  # not before its time
        await home.pool.execute("update outbox set due_at = now()")
        assert await mail.send_due() == 1
        assert len(server.taken) == 1
        assert await mail.send_due() == 0
        assert await states(home) == [(True, False, 2, "")]


@pytest.mark.parametrize("answer", ["550 no such mailbox", "553 no such name"])
async def test_a_letter_that_will_never_be_taken_is_given_up(database_url: str, answer: str) -> None:
    """COM-48: and what it said is gone."""
    async with smtp() as server, household(database_url) as home:
        mail = sending(home, server)
        server.answers.append(answer)
        await mail.put(None, "test", LETTER)
        await mail.send_due()
        assert await states(home) == [(False, True, 1, "")]


async def test_two_nodes_send_each_letter_once(database_url: str) -> None:
    """COM-48: whoever claims it sends it."""
    async with smtp() as server, household(database_url) as home:
        nodes = [sending(home, server) for _ in range(3)]
        for _ in range(12):
            await nodes[0].put(None, "test", LETTER)
        while any(await asyncio.gather(*(node.send_due() for node in nodes))):
            pass
        assert len(server.taken) == 12
        assert len({sent["Message-ID"] for sent in server.taken}) == 12


async def test_a_letter_to_somebody_who_has_left_is_not_sent(database_url: str) -> None:
    """COM-51: its key is gone, and its words with it."""
    async with smtp() as server, household(database_url) as home:
        mail = sending(home, server)
        user, _ = await home.person()
        await home.identity.accounts.settled()
        await home.identity.vault.destroy(user.id)
        await mail.send_due()
        assert server.taken == []
        assert await states(home) == [(False, True, 1, "")]


async def test_without_a_server_letters_wait_where_the_demo_can_read_them(database_url: str) -> None:
    """COM-10: nothing is sent and nothing is lost."""
    async with household(database_url) as home:
        await home.identity.mail.put(None, "test", LETTER)
        assert await home.identity.mail.send_due() == 0
        assert await home.identity.mail.letters(None) == [("test", LETTER)]


@pytest.mark.parametrize("kind", ["email-code", "account-exists", "reset", "password-changed", "erased"])
def test_every_letter_is_written_in_every_language(kind: str) -> None:
    """COM-48, COM-69: and in English for whoever reads none of them."""
    values = {"code": "123456", "address": "https://x", "receipt": "r", "requested": "1", "destroyed": "2"}
    written = {language: letter(kind, language, "ada@example.com", **values) for language in (*LANGUAGES, "xx")}
    assert written["xx"] == written["en"]
    assert len({one.text for one in written.values()}) == len(LANGUAGES)
    assert all("$" not in one.text + one.subject for one in written.values())
