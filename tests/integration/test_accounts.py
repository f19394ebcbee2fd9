"""Accounts: opened, proven, signed in to, and silent about who has one."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from argon2 import PasswordHasher

from infra.database.codes import CodeWrong
from infra.identity import codes as authenticator
from infra.identity.accounts import (
    AlreadyProven,
    FactorState,
    NotRecent,
    SecondFactorNeeded,
    SecondFactorWrong,
    SignInRefused,
)
from infra.identity.passwords import Passwords, WeakPassword
from tests.doubles.household import HERE, PASSWORD, Household, household

ADA = "Ada@Example.com "
NEW = "another horse entirely"


@pytest_asyncio.fixture
async def home(database_url: str) -> AsyncIterator[Household]:
    async with household(database_url) as opened:
        yield opened


async def test_an_account_is_opened_and_signed_in_to(home: Household) -> None:
    """CMB-10, COM-24: address in one spelling, password hashed, a session, a letter with a code, an audit row."""
    user, opened = await home.person(ADA, name="Ada", zone="Europe/Berlin", adult=True)
    assert (user.email, user.email_verified_at, user.role) == ("ada@example.com", None, "user")
    assert user.adult_at is not None
    assert PASSWORD not in str(user)
    who = await home.identity.sessions.authenticate(opened.access_token)
    assert who is not None
    assert (who.user_id, who.role, who.session_id) == (user.id, "user", opened.session.id)
    again, _ = await home.identity.accounts.sign_in(" ADA@example.com", PASSWORD, None, where=HERE)
    assert again.id == user.id
    assert await home.kinds(user) == ["email-code"]
    assert await home.actions(user) == ["account.opened"]


async def test_a_code_proves_the_address_once(home: Household) -> None:
    """COM-24: six digits by mail; used, they are worth nothing."""
    user, _ = await home.person()
    code = await home.code(user)
    proven = await home.identity.accounts.prove_email(user.id, code)
    assert proven.email_verified_at is not None
    assert (await home.identity.accounts.prove_email(user.id, "000000")).id == user.id  # proven is proven
    with pytest.raises(AlreadyProven):
        await home.identity.accounts.send_email_code(user.id)


async def test_a_code_takes_five_tries_and_a_newer_one_replaces_it(home: Household) -> None:
    """COM-24: guessing ends at the fifth, the right code after it included."""
    user, _ = await home.person()
    first = await home.code(user)
    await home.identity.accounts.send_email_code(user.id)
    second = await home.code(user)
    wrong = next(code for code in ("000000", "000001", "000002") if code not in (first, second))
    for guess in ([first] if first != second else []) + [wrong] * 5:
        with pytest.raises(CodeWrong):
            await home.identity.accounts.prove_email(user.id, guess)
    with pytest.raises(CodeWrong):
        await home.identity.accounts.prove_email(user.id, second)
    await home.identity.accounts.send_email_code(user.id)
    assert await home.identity.accounts.prove_email(user.id, await home.code(user))


async def test_of_codes_that_were_asked_for_at_once_one_is_good(home: Household) -> None:
    """COM-24: two letters, one code; the others are withdrawn."""
    user, _ = await home.person()
    await asyncio.gather(*(home.identity.accounts.send_email_code(user.id) for _ in range(4)))
    code = await home.code(user)
    live = "select count(*) from one_time_codes where used_at is null and withdrawn_at is null"
    assert await home.pool.fetchval(live) == 1
    assert (await home.identity.accounts.prove_email(user.id, code)).email_verified_at


async def test_a_code_is_worth_nothing_after_half_an_hour(home: Household) -> None:
    """COM-24."""
    user, _ = await home.person()
    code = await home.code(user)
    await home.pool.execute("update one_time_codes set expires_at = now() - interval '1 second'")
    with pytest.raises(CodeWrong):
        await home.identity.accounts.prove_email(user.id, code)


async def test_of_many_who_give_a_code_at_once_five_are_heard(home: Household) -> None:
    """COM-24: guesses sent side by side are counted like guesses in a row."""
    user, _ = await home.person()
    code = await home.code(user)
    guesses = [f"{number:06}" for number in range(20) if f"{number:06}" != code]
    await asyncio.gather(
        *(home.identity.accounts.prove_email(user.id, guess) for guess in guesses), return_exceptions=True
    )
    assert await home.pool.fetchval("select max(tries) from one_time_codes") == 5
    with pytest.raises(CodeWrong):
        await home.identity.accounts.prove_email(user.id, code)


async def test_an_address_that_is_anothers_gives_an_account_that_never_proves_it(home: Household) -> None:
    """COM-24: nobody learns from opening an account who has one; the one who has it is told."""
    owner, _ = await home.proven("ada@example.com")
    other, opened = await home.person("ada@example.com")
    assert other.id != owner.id
    assert await home.identity.sessions.authenticate(opened.access_token)
    assert await home.kinds(other) == []
    assert (await home.kinds(owner))[0] == "account-exists"
    found, _ = await home.identity.accounts.sign_in("ada@example.com", PASSWORD, None, where=HERE)
    assert found.id == owner.id


async def test_of_two_who_name_one_address_the_first_to_prove_it_has_it(home: Household) -> None:
    """COM-24: whoever opened an account first with an address of somebody else's keeps nothing of it."""
    squatter, _ = await home.person("ada@example.com")
    squatters_code = await home.code(squatter)
    owner, _ = await home.person("ada@example.com")
    assert (await home.identity.accounts.prove_email(owner.id, await home.code(owner))).email_verified_at
    with pytest.raises(CodeWrong):
        await home.identity.accounts.prove_email(squatter.id, squatters_code)


class Counting(Passwords):
    """Counts what was checked."""

    def __init__(self) -> None:
        super().__init__()
        self.checked: list[bool] = []

    def _verify(self, kept: str | None, given: str) -> bool:
        self.checked.append(kept is not None)
        return super()._verify(kept, given)


@pytest.mark.parametrize("email", ["nobody@example.com", "unproven@example.com", "proven@example.com"])
async def test_a_wrong_sign_in_costs_the_same_and_says_the_same_whoever_asks(home: Household, email: str) -> None:
    """COM-24: no account enumeration, neither by words nor by time: two hashes are computed for every try."""
    await home.person("unproven@example.com")
    await home.proven("proven@example.com")
    counting = Counting()
    home.identity.accounts._passwords = counting
    with pytest.raises(SignInRefused) as refused:
        await home.identity.accounts.sign_in(email, "wrong horse battery", None, where=HERE)
    assert str(refused.value) == SignInRefused.__doc__
    assert len(counting.checked) == 2
    counting.close()


async def test_a_forgotten_password_is_set_anew_once(home: Household) -> None:
    """COM-24: the token works once; every session and every access token ends; the address is proven with it."""
    user, opened = await home.person("ada@example.com")
    home.identity.accounts.ask_reset("ada@example.com")
    token = await home.reset_token(user)
    await home.identity.accounts.reset(token, NEW)
    assert await home.identity.sessions.authenticate(opened.access_token) is None
    assert (await home.identity.users.get(user.id)).email_verified_at is not None
    with pytest.raises(CodeWrong):
        await home.identity.accounts.reset(token, "yet another horse")
    with pytest.raises(SignInRefused):
        await home.identity.accounts.sign_in("ada@example.com", PASSWORD, None, where=HERE)
    assert await home.identity.accounts.sign_in("ada@example.com", NEW, None, where=HERE)
    assert (await home.kinds(user))[0] == "password-changed"
    assert "password.reset" in await home.actions(user)


async def test_a_reset_is_refused_late_withdrawn_or_weak(home: Household) -> None:
    """COM-24: 30 minutes; a newer letter makes the older one worthless; a weak password spends nothing."""
    user, _ = await home.person("ada@example.com")
    home.identity.accounts.ask_reset("ada@example.com")
    first = await home.reset_token(user)
    home.identity.accounts.ask_reset("ada@example.com")
    second = await home.reset_token(user)
    with pytest.raises(WeakPassword):
        await home.identity.accounts.reset(second, "password1234")
    for token in (first, "reset_nonsense", ""):
        with pytest.raises(CodeWrong):
            await home.identity.accounts.reset(token, NEW)
    await home.pool.execute("update one_time_codes set expires_at = now() - interval '1 second'")
    with pytest.raises(CodeWrong):
        await home.identity.accounts.reset(second, NEW)


async def test_asking_for_a_reset_of_nobody_writes_to_nobody(home: Household) -> None:
    """COM-24: and is answered just the same, before anything is looked up."""
    home.identity.accounts.ask_reset("nobody@example.com")
    await home.identity.accounts.settled()
    assert await home.pool.fetchval("select count(*) from outbox") == 0


async def test_no_code_and_no_token_lies_in_the_tables_as_it_was_sent(home: Household) -> None:
    """COM-24, COM-36: a dump of the database lets nobody sign in."""
    user, opened = await home.person("ada@example.com")
    home.identity.accounts.ask_reset("ada@example.com")
    secrets = {await home.code(user), await home.reset_token(user), opened.refresh_token, opened.access_token, PASSWORD}
    dump = ""
    for table in ("users", "one_time_codes", "outbox", "refresh_tokens", "sessions", "audit", "user_keys"):
        dump += " ".join(str(dict(row)) for row in await home.pool.fetch(f"select * from {table}"))  # noqa: S608
    assert len(dump) > 500
    assert not [secret for secret in secrets if len(secret) > 6 and secret in dump]


async def test_a_changed_password_ends_every_other_session(home: Household) -> None:
    """COM-24, COM-26: this one goes on."""
    user, here = await home.person("ada@example.com")
    _, there = await home.identity.accounts.sign_in("ada@example.com", PASSWORD, None, where=HERE)
    accounts, sessions = home.identity.accounts, home.identity.sessions
    with pytest.raises(SignInRefused):
        await accounts.change_password(user.id, here.session.id, "wrong", NEW)
    with pytest.raises(WeakPassword):
        await accounts.change_password(user.id, here.session.id, PASSWORD, "ada@example.com")
    await accounts.change_password(user.id, here.session.id, PASSWORD, NEW)
    assert await sessions.authenticate(here.access_token)
    assert await sessions.authenticate(there.access_token) is None
    assert await accounts.sign_in("ada@example.com", NEW, None, where=HERE)


async def test_a_hash_of_an_older_setting_is_made_anew_at_sign_in(home: Household) -> None:
    """COM-24: settings rise with the years, without anybody's doing."""
    user, _ = await home.proven("ada@example.com")
    old = PasswordHasher(time_cost=1, memory_cost=8 * 1024, parallelism=1).hash(PASSWORD)
    await home.pool.execute("update users set password_hash = $2 where id = $1", user.id, old)
    await home.identity.accounts.sign_in("ada@example.com", PASSWORD, None, where=HERE)
    kept = (await home.identity.users.get(user.id)).password_hash
    assert kept is not None
    assert "m=19456,t=2,p=1" in kept


async def test_a_second_factor_is_asked_for_once_it_is_confirmed(home: Household) -> None:
    """COM-24: after the password, each code once; removed only with both."""
    user, _ = await home.proven("ada@example.com")
    accounts = home.identity.accounts

    async def sign_in(code: str | None) -> bool:
        _, opened = await accounts.sign_in("ada@example.com", PASSWORD, code, where=HERE)
        return opened.session.second_factor

    secret, uri = await accounts.offer_factor(user.id)
    assert secret in uri
    assert await sign_in(None) is False  # offered is not confirmed
    now = int(dt.datetime.now(dt.UTC).timestamp() // authenticator.STEP_SECONDS)
    early, present = authenticator.code_at(secret, now - 1), authenticator.code_at(secret, now)
    later = authenticator.code_at(secret, now + 1)
    await accounts.confirm_factor(user.id, early)
    with pytest.raises(FactorState):
        await accounts.offer_factor(user.id)
    with pytest.raises(SecondFactorNeeded):
        await sign_in(None)
    with pytest.raises(SignInRefused):  # whoever lacks the password is told nothing of the factor
        await accounts.sign_in("ada@example.com", "wrong horse battery", None, where=HERE)
    assert await sign_in(present) is True
    for used in (present, early):
        with pytest.raises(SecondFactorWrong):
            await sign_in(used)
    with pytest.raises(SignInRefused):
        await accounts.drop_factor(user.id, "wrong", later)
    await accounts.drop_factor(user.id, PASSWORD, later)
    assert await sign_in(None) is False
    assert "totp_sealed" not in str(await home.pool.fetchval("select totp_sealed from users where id = $1", user.id))


async def test_staff_are_staff_only_with_a_second_factor(home: Household) -> None:
    """COM-24: mandatory for staff roles; without it they are users like everybody."""
    user, opened = await home.proven("ada@example.com")
    await home.identity.users.set_role(user.id, "operator")
    home.identity.sessions.forget(user.id)
    assert await home.identity.sessions.authenticate(opened.access_token) is None  # the role ended the tokens
    _, plain = await home.identity.accounts.sign_in("ada@example.com", PASSWORD, None, where=HERE)
    who = await home.identity.sessions.authenticate(plain.access_token)
    assert who is not None
    assert who.role == "user"
    factored = await home.identity.sessions.open(user.id, "password", second_factor=True)
    who = await home.identity.sessions.authenticate(factored.access_token)
    assert who is not None
    assert who.role == "operator"


async def test_an_account_without_a_password_is_erased_only_after_a_fresh_sign_in(home: Household) -> None:
    """COM-51: a session left open somewhere does not destroy an account."""
    async with home.pool.acquire() as connection:
        user, opened = await home.identity.accounts.admit(
            None, method="oidc:hub", name="Ada", where=HERE, database=connection
        )
    with pytest.raises(NotRecent):
        await home.identity.accounts.may_leave(user.id, None, opened.session.created_at - dt.timedelta(minutes=11))
    await home.identity.accounts.may_leave(user.id, None, opened.session.created_at)
    assert await home.identity.accounts.erase(user.id)


async def test_the_attestation_of_age_is_kept_as_it_was_first_given(home: Household) -> None:
    """CMB-06: 18+, with the time, in the audit."""
    user, _ = await home.person()
    assert user.adult_at is None
    first = await home.identity.accounts.attest(user.id, HERE)
    assert first.adult_at is not None
    assert (await home.identity.accounts.attest(user.id, HERE)).adult_at == first.adult_at
    assert "adult.attested" in await home.actions(user)
