"""Whatever is sent to the card processor in a box: never a 500, and the money always adds up (COM-65, COM-66)."""

from __future__ import annotations

import asyncio
import random
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.doubles.stripe_shop import shop_at
from transports.simulator.payments.double import Config, Double, serving
from transports.simulator.payments.rest import OPERATIONS

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]

NAMES = sorted({name for operation in OPERATIONS for name in operation.shape} | {"expand", "x", ""})
TEXTS = st.one_of(
    st.sampled_from(
        ["", "true", "false", "0", "-1", "50", "625", "99999999", "1e9", "usd", "card", "pm_card_visa", "manual"]
    ),
    st.sampled_from(["pm_card_chargeDeclined", "pm_card_authenticationRequired", "data.customer", "latest_charge"]),
    st.text(max_size=20),
    st.integers().map(str),
)
KEYS = st.one_of(
    st.sampled_from(NAMES),
    st.builds(
        "{}[{}]".format, st.sampled_from(NAMES), st.one_of(st.sampled_from([*NAMES, "0", "1"]), st.text(max_size=5))
    ),
    st.builds("{}[{}][{}]".format, st.sampled_from(NAMES), st.sampled_from(NAMES), st.sampled_from([*NAMES, "0"])),
    st.text(max_size=12),
    st.sampled_from(["a[", "a]", "[a]", "a[b", "a[]", "a[][]", "[[]]", "a" + "[b]" * 40]),
)
FORMS = st.lists(st.tuples(KEYS, TEXTS), max_size=8).map(
    lambda pairs: "&".join(f"{quote(name, safe='[]')}={quote(value)}" for name, value in pairs).encode()
)
BODIES = st.one_of(FORMS, st.binary(max_size=200), st.sampled_from([b"%ff=%fe", b"a=%00", b"=" * 50, b"&" * 2000]))
TYPES = st.sampled_from(
    ["application/x-www-form-urlencoded"] * 8 + ["application/json", "multipart/form-data", "", ";"]
)
IDS = st.one_of(st.text(min_size=1, max_size=20), st.sampled_from(["pi_x", "..", "%2e%2e", "cus_\u2028", "x" * 5000]))
METHODS = st.sampled_from(["GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS", "PROPFIND"])


async def send(double: Double, method: str, path: str, body: bytes, headers: dict[str, str]) -> int:
    """One request on a connection of its own, written by hand so that nothing mends it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(double.url.rpartition(":")[2]))
    try:
        head = {"Host": "double", "Connection": "close", "Content-Length": str(len(body))} | headers
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        writer.write(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("utf-8", "surrogateescape") + body)
        async with asyncio.timeout(5):
            line = await reader.readline()
        return int(line.split()[1])
    finally:
        writer.close()


@pytest.fixture(scope="module")
def runner() -> Any:
    with asyncio.Runner() as opened:
        yield opened


def test_no_request_however_malformed_is_answered_with_a_500(runner: asyncio.Runner) -> None:
    """COM-66: methods, paths, forms, types, keys; the answer is always a Stripe error or an answer."""

    async def fuzz() -> None:
        async with serving(Config()) as double, shop_at(double.url, double.config.secret_key) as shop:
            intent = await shop.hold()
            known = [intent.id, str(intent.customer), str(intent.payment_method), str(intent.latest_charge)]
            loop = asyncio.get_running_loop()
            await asyncio.to_thread(attack, double, known, loop)

    seen: set[int] = set()

    def attack(double: Double, known: list[str], loop: asyncio.AbstractEventLoop) -> None:
        @settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(
            operation=st.sampled_from(OPERATIONS),
            method=st.one_of(st.none(), METHODS),
            identity=st.one_of(st.sampled_from(known), IDS),
            body=BODIES,
            kind=TYPES,
            key=st.one_of(st.none(), st.sampled_from(["a", "b", "k" * 300, "\u00e9", "a b"])),
            query=st.one_of(st.just(b""), FORMS),
        )
        def one(
            operation: Any, method: str | None, identity: str, body: bytes, kind: str, key: str | None, query: bytes
        ) -> None:
            names = ("customer", "method", "intent", "charge", "refund", "dispute", "transaction", "event")
            path = operation.path.format_map(dict.fromkeys(names, quote(identity, safe="%")))
            headers = {"Authorization": f"Bearer {double.config.secret_key}", "Content-Type": kind}
            if key is not None:
                headers["Idempotency-Key"] = key
            target = path + ("?" + query.decode() if query else "")
            sent = send(double, method or operation.method, target, body, headers)
            status = asyncio.run_coroutine_threadsafe(sent, loop).result(20)
            seen.add(status)
            assert status < 500, (method, target, body, headers)

        one()
        assert {200, 400, 404} <= seen

    runner.run(fuzz())


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer ", "Basic !!!", "Basic /////w==", "Digest x", "Bearer \u00e9", "a" * 5000]
)
def test_no_authorization_however_malformed_is_answered_with_a_500(runner: asyncio.Runner, authorization: str) -> None:
    """COM-66: 401, or 400 where HTTP itself is broken."""

    async def one() -> int:
        async with serving(Config()) as double:
            return await send(double, "GET", "/v1/customers", b"", {"Authorization": authorization})

    assert runner.run(one()) in (400, 401)


@pytest.mark.parametrize("seed", range(6))
def test_the_money_adds_up_whatever_is_done_in_whatever_order(runner: asyncio.Runner, seed: int) -> None:
    """COM-65: captured and released never exceed the hold, refunds never the capture, and the balance is their sum."""
    chance = random.Random(seed)

    async def walk() -> None:
        async with serving(Config(seed=seed)) as double:
            headers = {"Authorization": f"Bearer {double.config.secret_key}"}
            double.inflict(
                {"kind": "rest_lost_reply", "probability": 0.1},
                {"kind": "rest_error", "probability": 0.1, "done": True},
                {"kind": "rest_error", "probability": 0.05, "status": 503},
            )
            async with aiohttp.ClientSession(double.url, headers=headers) as http:
                held: set[str] = set()
                for _ in range(400):
                    await step(http, double, chance)
                    seen = double.state()["intents"]
                    held |= {each["id"] for each in seen if each["capturable"] or each["captured"]}
            check(double.state(), held)

    runner.run(walk())


async def step(http: aiohttp.ClientSession, double: Double, chance: random.Random) -> None:
    """One random thing."""
    intents = [each["id"] for each in double.state()["intents"]]
    any_intent = chance.choice(intents) if intents else "pi_nobody"
    amount = str(chance.randint(1, 900))
    moves: list[tuple[str, dict[str, str]]] = [
        (
            "/v1/payment_intents",
            {
                "amount": str(chance.randint(50, 900)),
                "currency": "usd",
                "confirm": "true",
                "capture_method": chance.choice(["manual", "manual", "automatic"]),
                "off_session": chance.choice(["true", "false"]),
                "payment_method": chance.choice(
                    [
                        "pm_card_visa",
                        "pm_card_mastercard",
                        "pm_card_refundFail",
                        "pm_card_createDispute",
                        "pm_card_authenticationRequired",
                        "pm_card_chargeDeclined",
                    ]
                ),
                "automatic_payment_methods[enabled]": "true",
                "automatic_payment_methods[allow_redirects]": "never",
            },
        ),
        (f"/v1/payment_intents/{any_intent}/capture", chance.choice([{}, {"amount_to_capture": amount}])),
        (f"/v1/payment_intents/{any_intent}/cancel", {}),
        ("/v1/refunds", {"payment_intent": any_intent} | chance.choice([{}, {"amount": amount}])),
    ]
    if chance.random() < 0.1:
        double.advance(chance.choice([30, 90, 86_400, 5 * 86_400]))
        return
    path, form = chance.choice(moves)
    try:
        async with http.post(path, data=form, headers={"Idempotency-Key": str(chance.randint(0, 600))}) as response:
            assert response.status in (200, 400, 402, 404, 500, 503)
    except aiohttp.ClientError:
        pass  # a lost reply


def check(state: dict[str, Any], held: set[str]) -> None:
    """What must always be true; `held` are the intents whose money was ever held."""
    assert len(held) > 20
    for each in state["intents"]:
        assert each["refunded"] <= each["captured"] <= each["amount"], each
        assert each["captured"] == each["received"], each
        whole = each["amount"] if each["id"] in held else 0
        assert each["capturable"] + each["captured"] + each["released"] == whole, each
    totals = state["totals"]
    assert totals["captured"] > 0
    moved = totals["captured"] - totals["refunded"] - totals["disputed"] - totals["fees"]
    assert totals["net"] == moved, totals
