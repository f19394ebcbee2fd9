"""Leaving: everything goes, the key first, and a receipt that nobody can forge stays. And taking a copy along."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import msgspec
import pytest
import pytest_asyncio
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from infra.database.erasure import DISOWNED, KEPT, Erasures, Unfinished, UnknownReceipt, in_order, sweep_erased
from infra.database.users import UnknownUser
from infra.identity.accounts import SignInRefused
from infra.settings import load
from infra.vault import KeyDestroyed, Vault, master_key
from tests.doubles.belongings import Belongings, all_of, belongings
from tests.doubles.household import PASSWORD, Household, household
from transports.recordings import forget_recordings

# Tables that hold nobody's rows, each with its reason; a new table must be owned or stand here.
NOBODYS = {
    "users": "the person; emptied, its id stays",
    "audit": "ids and no content; kept, append-only",
    "migrations": "the schema's own",
    "nodes": "machines",
    "leases": "machines",
    "prices": "price lists",
    "cost_rates": "price lists",
    "ledger_transactions": "the books: ids and amounts, kept by law",
    "ledger_entries": "the books",
    "inbox": "events of providers, by their ids",
    "opt_outs": "digests of numbers that must not be called, whoever leaves",
    "referrals": "counts by day",
    "uptime": "whether calls could be taken, by day",
    "incidents": "when they could not",
}


@pytest_asyncio.fixture
async def home(database_url: str) -> AsyncIterator[Household]:
    async with household(database_url) as opened:
        yield opened


async def furnished(home: Household, email: str | None = None) -> Belongings:
    """Somebody with one of everything, whose calls are over."""
    user, _ = await home.person(email)
    await home.identity.accounts.settled()
    made = await belongings(home.pool, home.identity.vault, user.id)
    await home.pool.execute(
        "update calls set state = 'completed', ended_reason = 'caller_hung_up', ended_at = now()"
        " where owner = $1 and ended_at is null",
        user.id,
    )
    await home.pool.execute(
        "insert into costs (id, owner, product, feature, provider, model, unit, quantity, usd_micros)"
        " values ('cost_' || $1, $1, 'call', 'voice', 'own', '', 'second', 1, 7)",
        user.id,
    )
    return made


async def dump(connections: asyncpg.Pool) -> str:
    """Every row of every table as text: what a backup holds."""
    text = []
    for row in await connections.fetch("select tablename as name from pg_tables where schemaname = 'public'"):
        text += [one["told"] for one in await connections.fetch(f"select t::text as told from {row['name']} t")]  # noqa: S608
    return "\n".join(text)


async def test_every_table_is_somebodys_or_known_to_be_nobodys(home: Household) -> None:
    """COM-52: a table that is added later cannot be forgotten by export and erasure."""
    assert await home.identity.erasures.unaccounted(NOBODYS) == frozenset()


async def test_nothing_of_somebody_who_left_is_left(home: Household) -> None:
    """COM-51: 0 rows in every table that holds somebody's; another's rows are as they were."""
    gone, stays = await furnished(home), await furnished(home)
    before = await all_of(home.pool, stays.owner)
    erased = await home.identity.accounts.erase(gone.owner)
    left = {table: len(rows) for table, rows in (await all_of(home.pool, gone.owner)).items() if rows}
    assert set(left) == set(KEPT)
    assert await home.pool.fetchval("select count(*) from costs where owner is null and usd_micros = 7") == 1
    assert set(DISOWNED) == {"costs"}
    counted = erased.receipt.document["rows"]
    for table in ("numbers", "calls", "call_turns", "call_events", "consents", "personas", "passages", "sessions"):
        assert counted[table] > 0, table
    assert await all_of(home.pool, stays.owner) == before
    user = await home.pool.fetchrow("select * from users where id = $1", gone.owner)
    assert user is not None
    assert (user["email"], user["name"], user["password_hash"], user["adult_at"]) == (None, "", None, None)
    assert user["erased_at"] is not None
    assert await home.identity.audit.broken() is None


async def test_no_word_of_theirs_is_in_any_table_afterwards(home: Household) -> None:
    """COM-51, COM-36: name, address, number, what was said; searched for in every row of every table."""
    gone = await furnished(home, "leaves@example.com")
    number = "+1555" + "0199123"
    await home.identity.numbers.add(gone.owner, number)
    assert gone.marker in await dump(home.pool)
    await home.identity.accounts.erase(gone.owner)
    await home.identity.accounts.settled()
    text = await dump(home.pool)
    for word in (gone.marker, "leaves@example.com", number, "0199123"):
        assert word not in text


async def test_a_backup_of_the_day_before_cannot_be_read(home: Household) -> None:
    """COM-51, COM-36: the rows lie in it, sealed; the key does not, and the live key is gone."""
    gone = await furnished(home)
    vault = home.identity.vault
    backup = {
        table: await home.pool.fetch(query, gone.owner)
        for table, query in {
            "calls.to_number": "select to_number as sealed from calls where owner = $1",
            "numbers.sealed": "select sealed from numbers where owner = $1",
            "call_turns.text": "select text as sealed from call_turns join calls on id = call_id where owner = $1",
        }.items()
    }
    for context, rows in backup.items():
        assert rows
        assert await vault.unseal(gone.owner, rows[0]["sealed"], context)
    await home.identity.accounts.erase(gone.owner)
    another = Vault(home.pool, master_key(home.settings))
    for context, rows in backup.items():
        for reading in (vault, another):
            with pytest.raises(KeyDestroyed):
                await reading.unseal(gone.owner, rows[0]["sealed"], context)
    await home.identity.vault.open_user(gone.owner)  # nobody makes a new key in its place
    with pytest.raises(KeyDestroyed):
        await vault.seal(gone.owner, "x", "y")


async def test_the_receipt_proves_itself_and_the_ones_before_it(home: Household) -> None:
    """COM-51: signed, hash-chained, with the times of the request and of the destruction."""
    began = dt.datetime.now(dt.UTC)
    erasures, previous = home.identity.erasures, b""
    for _ in range(3):
        user, _ = await home.person()
        receipt = (await home.identity.accounts.erase(user.id)).receipt
        document = receipt.document
        assert document["previous"] == previous.hex()
        assert receipt.hash == hashlib.sha256(previous + msgspec.json.encode(document, order="sorted")).digest()
        Ed25519PublicKey.from_public_bytes(erasures.public_key).verify(receipt.signature, receipt.hash)
        with pytest.raises(InvalidSignature):
            Ed25519PublicKey.from_public_bytes(erasures.public_key).verify(receipt.signature, bytes(32))
        asked, done = (dt.datetime.fromisoformat(document[name]) for name in ("requested_at", "destroyed_at"))
        assert began <= asked <= done <= asked + dt.timedelta(minutes=15)
        assert await erasures.receipt(document["id"]) == receipt
        previous = receipt.hash
    assert await erasures.broken() is None
    with pytest.raises(UnknownReceipt):
        await erasures.receipt("erasure_unknown")


@pytest.mark.parametrize(
    "act",
    [
        "update erasures set document = jsonb_set(document, '{user}', '\"user_other\"') where seq = 2",
        "update erasures set hash = sha256('x') where seq = 2",
        "update erasures set signature = sha256('x') || sha256('y') where seq = 2",
        "delete from erasures where seq = 2",
    ],
)
async def test_a_receipt_that_was_tampered_with_is_found_out(home: Household, act: str) -> None:
    """COM-51: changed or removed, even past the table's own guard."""
    for _ in range(3):
        user, _ = await home.person()
        await home.identity.accounts.erase(user.id)
    await home.pool.execute("alter table erasures disable trigger erasures_stand")
    await home.pool.execute(act)
    assert await home.identity.erasures.broken() is not None


async def test_another_servers_receipts_are_not_ours(home: Household, database_url: str) -> None:
    """COM-51: the signing key follows from the master key."""
    user, _ = await home.person()
    await home.identity.accounts.erase(user.id)
    assert await Erasures(home.pool, Vault(home.pool, bytes(32))).broken() is not None


async def test_the_user_is_written_to_for_the_last_time(home: Household) -> None:
    """COM-51: a letter with the receipt, sealed for nobody's key."""
    user, _ = await home.person("leaves@example.com")
    erased = await home.identity.accounts.erase(user.id)
    [(kind, letter)] = await home.identity.mail.letters(None)
    assert (kind, letter.to) == ("erased", "leaves@example.com")
    assert erased.receipt.document["id"] in letter.text
    assert "https://phone.example.com/v1/erasures/" in letter.text


@pytest.mark.parametrize("open_thing", ["call", "hold"])
async def test_nothing_is_destroyed_while_a_call_or_its_money_is_open(home: Household, open_thing: str) -> None:
    """COM-51, COM-39: no hold is left behind at the processor; nothing at all has happened."""
    made = await furnished(home)
    if open_thing == "call":
        await home.pool.execute("insert into calls " + LIVE_CALL, "call_" + "1" * 32, made.owner)
    else:
        await home.pool.execute(
            "insert into holds (id, owner, call_id, state, amount_usd_micros, max_minutes, price_id, customer, method,"
            " provider_ref, day)"
            " values ('hold_1', $1, 'call_1', 'held', 1, 1, 'price_call_1', 'c', 'm', 'pi_1', now())",
            made.owner,
        )
    before = await all_of(home.pool, made.owner)
    for act in (
        home.identity.accounts.may_leave(made.owner, PASSWORD, dt.datetime.now(dt.UTC)),
        home.identity.accounts.erase(made.owner),
    ):
        with pytest.raises(Unfinished):
            await act
    assert await all_of(home.pool, made.owner) == before


LIVE_CALL = """(id, direction, state, persona, from_number, to_number, owner, persona_id, max_minutes)
    values ($1, 'outbound', 'in_progress', 'mia', '+15550100000', 'v1.x', $2, 'persona_1', 15)"""


async def test_an_erasure_that_fails_half_way_has_not_begun(home: Household) -> None:
    """COM-51: all or nothing, the key included."""
    made = await furnished(home)
    before = await all_of(home.pool, made.owner)

    async def fail(_database: object, _receipt: object) -> None:
        raise RuntimeError("the last step fails")

    with pytest.raises(RuntimeError):
        await home.identity.erasures.erase(made.owner, dt.datetime.now(dt.UTC), fail)
    assert await all_of(home.pool, made.owner) == before
    assert await Vault(home.pool, master_key(home.settings)).seal(made.owner, "x", "y")


async def test_what_came_too_late_is_swept_up(home: Household) -> None:
    """COM-51: a request that was under way on another node; who stays, and the receipt, are left alone."""
    gone, stays = await furnished(home), await furnished(home)
    began = dt.datetime.now(dt.UTC)
    await home.identity.accounts.erase(gone.owner)
    for owner in (gone.owner, stays.owner):
        await home.pool.execute(
            "insert into sessions (id, owner, method, idle_until, expires_at)"
            " values ('session_late_' || $1, $1, 'password', now(), now())",
            owner,
        )
        await home.identity.consents.give(owner, "marketing", True, channel="api")
    before = await all_of(home.pool, stays.owner)
    assert await sweep_erased(home.pool, began) == 2
    assert {table for table, rows in (await all_of(home.pool, gone.owner)).items() if rows} == set(KEPT)
    assert await all_of(home.pool, stays.owner) == before
    assert await sweep_erased(home.pool, began) == 0


async def test_only_who_knows_the_password_destroys_an_account_and_once(home: Household) -> None:
    """COM-51."""
    user, _ = await home.person()
    for wrong in (None, "", "wrong horse battery"):
        with pytest.raises(SignInRefused):
            await home.identity.accounts.may_leave(user.id, wrong, dt.datetime.now(dt.UTC))
    await home.identity.accounts.may_leave(user.id, PASSWORD, dt.datetime.now(dt.UTC))
    await home.identity.accounts.erase(user.id)
    for act in (
        home.identity.accounts.may_leave(user.id, PASSWORD, dt.datetime.now(dt.UTC)),
        home.identity.accounts.erase(user.id),
        home.identity.erasures.erase(user.id, dt.datetime.now(dt.UTC)),
        home.identity.erasures.export(user.id),
    ):
        with pytest.raises(UnknownUser):
            await act


async def test_a_copy_holds_every_row_of_every_table_readable(home: Household) -> None:
    """COM-52: every owned table is there; sealed texts are opened; no secret of the server is."""
    mine, theirs = await furnished(home), await furnished(home)
    number = await home.identity.numbers.list(mine.owner)
    copy = await home.identity.erasures.export(mine.owner)
    assert set(copy) >= set(await all_of(home.pool, mine.owner)) | {"users", "audit", "ledger_transactions"}
    for table, rows in (await all_of(home.pool, mine.owner)).items():
        assert len(copy[table]) == len(rows), table
    text = json.dumps(copy)
    assert mine.marker in text
    assert await home.identity.numbers.written(number[0]) in text
    assert {turn["text"] for turn in copy["call_turns"]} == {mine.marker}
    assert copy["personas"][0]["prompt_sealed"] == f"You are {mine.marker}."
    assert not [word for word in theirs.secrets if word in text]
    for hidden in ("password_hash", "digest", "wrapped", "letter_sealed", "$argon2id", "v1."):
        assert hidden not in text
    assert copy["users"][0]["id"] == mine.owner


async def test_recordings_on_this_node_go_and_nothing_else(tmp_path: Path) -> None:
    """COM-51: 0 objects; a path that leads elsewhere is not followed."""
    told = load(environ={}, node_var=str(tmp_path / "var"))
    kept, elsewhere = tmp_path / "var" / "recordings" / "call_1.wav", tmp_path / "passwd"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"RIFF")
    elsewhere.write_bytes(b"root")
    paths = [str(kept), str(elsewhere), str(tmp_path / "var" / ".." / "passwd"), str(tmp_path / "var" / "gone.wav")]
    assert await forget_recordings(told, paths) == 1
    assert not kept.exists()
    assert elsewhere.exists()


def test_tables_go_before_those_they_refer_to() -> None:
    """COM-51: children first, and a circle is found before anything is deleted."""
    links = [("turns", "calls"), ("calls", "users"), ("marks", "turns")]
    assert in_order({"calls", "turns", "marks"}, links) == ("marks", "turns", "calls")
    with pytest.raises(ValueError, match="circle"):
        in_order({"a", "b"}, [("a", "b"), ("b", "a")])
