"""Numbers: proven by a code before anybody dials them, sealed, and one account's at a time."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from infra.database.codes import CodeWrong
from infra.database.numbers import NumberLimit, NumberRefused, NumberTaken, UnknownNumber, masked
from infra.settings import load
from infra.telephony.carrier import CarrierBusy, CarrierDown, CarrierRefused
from infra.telephony.verify import TwilioVerifier, verifier_of
from tests.doubles.household import Household, household
from transports.simulator.faults import Fault, Reach
from transports.simulator.network import Config, Network, serving

NUMBER = "+1 (555) 017-7001"
PLAIN = "+15550177001"
CODE = "4711"


@pytest_asyncio.fixture
async def home(database_url: str) -> AsyncIterator[Household]:
    async with household(database_url) as opened:
        yield opened


async def test_a_code_proves_a_number(home: Household) -> None:
    """CMB-01: sent to the number, given back by its owner; written in E.164 whatever was typed."""
    user, _ = await home.person()
    number = await home.identity.numbers.add(user.id, NUMBER)
    assert home.verifier.sent == [PLAIN]
    assert number.verified_at is None
    assert await home.identity.numbers.primary(user.id) is None
    proven = await home.identity.numbers.verify(user.id, number.id, CODE)
    assert proven.verified_at is not None
    assert await home.identity.numbers.written(proven) == PLAIN
    primary = await home.identity.numbers.primary(user.id)
    assert primary is not None
    assert primary.id == number.id
    assert (await home.identity.numbers.verify(user.id, number.id, "0000")).verified_at == proven.verified_at
    assert "number.verified" in await home.actions(user)


async def test_no_number_lies_in_the_tables_as_it_is(home: Household) -> None:
    """COM-36, CMB-65: sealed, found by a keyed digest, shown by its last two digits."""
    user, _ = await home.person()
    number = await home.identity.numbers.add(user.id, NUMBER)
    await home.identity.numbers.verify(user.id, number.id, CODE)
    dump = await written_down(home, "numbers") + await written_down(home, "audit")
    for form in (PLAIN, PLAIN[1:], "0177001", base64.b64encode(PLAIN.encode()).decode(), PLAIN.encode().hex()):
        assert form not in dump
    assert number.masked == "+1…01"


async def written_down(home: Household, table: str) -> str:
    """A table as a dump shows it."""
    found = await home.pool.fetch(f"select * from {table}")  # noqa: S608
    return " ".join(str(dict(row)) for row in found)


async def test_five_wrong_codes_are_enough(home: Household) -> None:
    """CMB-01: then the carrier is not even asked; to have the code sent again within the ten minutes gives no more."""
    user, _ = await home.person()
    number = await home.identity.numbers.add(user.id, NUMBER)
    for _ in range(5):
        with pytest.raises(CodeWrong):
            await home.identity.numbers.verify(user.id, number.id, "0000")
    await home.identity.numbers.add(user.id, NUMBER)
    with pytest.raises(CodeWrong):
        await home.identity.numbers.verify(user.id, number.id, CODE)
    assert len(home.verifier.checked) == 5
    await home.pool.execute("update numbers set code_until = now() - interval '1 second'")
    again = await home.identity.numbers.add(user.id, NUMBER)
    assert again.id == number.id
    assert (await home.identity.numbers.verify(user.id, number.id, CODE)).verified_at


async def test_guesses_at_once_are_five_guesses(home: Household) -> None:
    """CMB-01: counted before they are asked."""
    user, _ = await home.person()
    number = await home.identity.numbers.add(user.id, NUMBER)
    guesses = (home.identity.numbers.verify(user.id, number.id, f"{guess:04}") for guess in range(12))
    await asyncio.gather(*guesses, return_exceptions=True)
    assert len(home.verifier.checked) == 5


async def test_a_code_is_worth_nothing_after_ten_minutes(home: Household) -> None:
    """CMB-01."""
    user, _ = await home.person()
    number = await home.identity.numbers.add(user.id, NUMBER)
    left = await home.pool.fetchval("select extract(epoch from code_until - now())::int from numbers")
    assert 595 <= left <= 600
    await home.pool.execute("update numbers set code_until = now() - interval '1 second'")
    with pytest.raises(CodeWrong):
        await home.identity.numbers.verify(user.id, number.id, CODE)
    assert home.verifier.checked == []


async def test_a_number_is_one_accounts_until_it_is_removed_there(home: Household) -> None:
    """CMB-01: found by its digest; who only claims it holds nobody up."""
    first, _ = await home.person()
    second, _ = await home.person()
    mine = await home.identity.numbers.add(first.id, NUMBER)
    theirs = await home.identity.numbers.add(second.id, PLAIN)
    await home.identity.numbers.verify(first.id, mine.id, CODE)
    with pytest.raises(NumberTaken):
        await home.identity.numbers.verify(second.id, theirs.id, CODE)
    await home.identity.numbers.remove(first.id, mine.id)
    assert (await home.identity.numbers.verify(second.id, theirs.id, CODE)).verified_at


async def test_of_two_who_prove_a_number_at_once_one_has_it(home: Household) -> None:
    """CMB-01: the table decides."""
    people = [(await home.person())[0] for _ in range(4)]
    added = [await home.identity.numbers.add(user.id, NUMBER) for user in people]
    outcomes = await asyncio.gather(
        *(home.identity.numbers.verify(one.owner, one.id, CODE) for one in added), return_exceptions=True
    )
    assert sorted(isinstance(one, NumberTaken) for one in outcomes) == [False, True, True, True]


async def test_a_removed_number_is_gone_and_unreadable(home: Household) -> None:
    """CMB-01, COM-36."""
    user, _ = await home.person()
    number = await home.identity.numbers.add(user.id, NUMBER)
    await home.identity.numbers.remove(user.id, number.id)
    for act in (
        home.identity.numbers.get(user.id, number.id),
        home.identity.numbers.verify(user.id, number.id, CODE),
        home.identity.numbers.remove(user.id, number.id),
    ):
        with pytest.raises(UnknownNumber):
            await act
    assert await home.pool.fetchval("select sealed || masked from numbers") == ""


async def test_a_strangers_number_is_unknown(home: Household) -> None:
    """COM-30: to read, prove, remove and allow again."""
    user, _ = await home.person()
    stranger, _ = await home.person()
    number = await home.identity.numbers.add(user.id, NUMBER)
    for act in (
        home.identity.numbers.get(stranger.id, number.id),
        home.identity.numbers.verify(stranger.id, number.id, CODE),
        home.identity.numbers.remove(stranger.id, number.id),
        home.identity.numbers.allow_again(stranger.id, number.id),
    ):
        with pytest.raises(UnknownNumber):
            await act
    assert await home.pool.fetchval("select tries from numbers") == 0


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("12", "no phone number"),
        ("0151 234567", "no phone number"),
        ("+999123456789", "no phone number"),
        ("+1900 5551234", "cost more|Nobody has"),
        ("+44 70 1234 5678", "cost more|Nobody has"),
        ("+33 6 12 34 56 78", "of this country"),
    ],
)
async def test_a_number_that_could_not_be_called_is_sent_no_code(home: Household, written: str, sentence: str) -> None:
    """CMB-12, CMB-09: malformed, dear, or of a country that is not on the list."""
    user, _ = await home.person()
    with pytest.raises(NumberRefused, match=sentence):
        await home.identity.numbers.add(user.id, written)
    assert home.verifier.sent == []


async def test_nobodys_phone_is_flooded_with_codes(home: Household) -> None:
    """CMB-09: ten a day to a number, over all accounts; ten numbers to an account, removed ones of the day included."""
    people = [(await home.person())[0] for _ in range(3)]
    sent = 0
    for user in people * 5:
        try:
            await home.identity.numbers.add(user.id, NUMBER)
            sent += 1
        except NumberLimit:
            continue
    assert sent == len(home.verifier.sent) == 10
    user, _ = await home.person()
    for line in range(10):
        number = await home.identity.numbers.add(user.id, f"+1555018{line:04}")
        await home.identity.numbers.remove(user.id, number.id)
    with pytest.raises(NumberLimit):
        await home.identity.numbers.add(user.id, "+15550190000")


async def test_the_carriers_troubles_are_told_apart(home: Household) -> None:
    """CMB-15: a number that cannot be reached is the user's to change, a carrier that is away is ours."""
    user, _ = await home.person()
    home.verifier.failure = CarrierRefused("landline", status=400, code=60205)
    with pytest.raises(NumberRefused):
        await home.identity.numbers.add(user.id, NUMBER)
    home.verifier.failure = CarrierDown("away")
    with pytest.raises(CarrierDown):
        await home.identity.numbers.add(user.id, NUMBER)
    number = await home.identity.numbers.add(user.id, NUMBER)
    home.verifier.failure = CarrierDown("away")
    with pytest.raises(CarrierDown):
        await home.identity.numbers.verify(user.id, number.id, CODE)
    assert (await home.identity.numbers.verify(user.id, number.id, CODE)).verified_at


async def test_calls_are_welcome_again_when_their_owner_says_so(home: Household) -> None:
    """CMB-05: only to a number that is proven."""
    user, _ = await home.person()
    numbers = home.identity.numbers
    number = await numbers.add(user.id, NUMBER)
    with pytest.raises(UnknownNumber):
        await numbers.allow_again(user.id, number.id)
    number = await numbers.verify(user.id, number.id, CODE)
    await home.pool.execute("insert into opt_outs (digest, stopped, channel) select digest, true, 'voice' from numbers")
    assert await numbers.stopped(number)
    await numbers.allow_again(user.id, number.id)
    assert not await numbers.stopped(number)


def test_a_number_is_shown_by_its_country_and_last_digits() -> None:
    """COM-56."""
    assert [masked(number) for number in ("+15550177001", "+4915112345678")] == ["+1…01", "+49…78"]


# --- Twilio Verify itself, by its SDK, on the phone network ---


@pytest_asyncio.fixture
async def network() -> AsyncIterator[Network]:
    async with serving(Config()) as opened:
        yield opened


@pytest_asyncio.fixture
async def verifier(network: Network) -> AsyncIterator[TwilioVerifier]:
    opened = verifier_of(load(environ={}, twilio_api_url=network.url))
    yield opened
    await opened.close()


async def codes(network: Network, to: str = PLAIN) -> list[str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{network.url}/simulator/messages?to=%2B{to[1:]}") as got,
    ):
        return [message["code"] for message in (await got.json())["messages"]]


async def test_the_code_that_the_phone_shows_is_the_code(network: Network, verifier: TwilioVerifier) -> None:
    """CMB-01, COM-79: Verifications and VerificationCheck by the twilio package; used once."""
    assert (await verifier.start(PLAIN)).startswith("VE")
    [code] = await codes(network)
    assert len(code) == 6
    wrong = f"{(int(code) + 1) % 1_000_000:06}"
    assert not await verifier.check(PLAIN, wrong)
    assert not await verifier.check("+15550177002", code)
    assert await verifier.check(PLAIN, code)
    assert not await verifier.check(PLAIN, code)


async def test_a_code_that_is_still_valid_is_sent_again(network: Network, verifier: TwilioVerifier) -> None:
    """CMB-01: as Twilio does, so that the first message to arrive is right."""
    await verifier.start(PLAIN)
    await verifier.start(PLAIN, "call")
    first, second = await codes(network)
    assert first == second


async def test_twilios_limits_are_busy_and_its_refusals_refusals(network: Network, verifier: TwilioVerifier) -> None:
    """CMB-15: five sends, five checks, and what is no number."""
    with pytest.raises(CarrierRefused):
        await verifier.start("12")
    for _ in range(5):
        await verifier.start(PLAIN)
    with pytest.raises(CarrierBusy):
        await verifier.start(PLAIN)
    [code, *_] = await codes(network)
    for _ in range(5):
        assert not await verifier.check(PLAIN, f"{(int(code) + 1) % 1_000_000:06}")
    with pytest.raises(CarrierBusy):
        await verifier.check(PLAIN, code)


@pytest.mark.parametrize("kind", ["rest_error", "rest_lost_reply", "rest_too_many"])
async def test_a_carrier_that_fails_is_away_and_may_be_asked_again(
    network: Network, verifier: TwilioVerifier, kind: str
) -> None:
    """COM-79, CMB-66: 5xx, 429 and a lost answer, to either request."""
    network.inflict(Fault(kind, Reach(times=1)))
    with pytest.raises(CarrierDown):
        await verifier.start(PLAIN)
    await verifier.start(PLAIN)
    network.inflict(Fault(kind, Reach(times=1)))
    with pytest.raises(CarrierDown):
        await verifier.check(PLAIN, "000000")
    code = (await codes(network))[-1]
    assert await verifier.check(PLAIN, code) or kind == "rest_lost_reply"


async def test_a_wrong_account_is_refused(network: Network) -> None:
    """COM-79."""
    verifier = verifier_of(load(environ={}, twilio_api_url=network.url, twilio_auth_token="wrong"))
    with pytest.raises(CarrierRefused):
        await verifier.start(PLAIN)
    await verifier.close()
