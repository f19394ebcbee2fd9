"""Booked calls and compliance over REST."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from infra.booking import MOST_WAITING, Booking, Refusal
from infra.database.schedule_records import NotChangeable
from infra.ids import new_id
from tests.doubles.customer import Customer, booking, customer
from tests.doubles.front import Front, People, front, problem

BASE = "/v1/scheduled-calls"


class Desk:
    """A gateway, and a customer at it."""

    def __init__(self, gateway: Front, one: Customer, headers: dict[str, str]) -> None:
        self.gateway, self.one, self.headers = gateway, one, headers

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and document; of a problem its kind."""
        sent = self.headers | headers
        async with self.gateway.client.request(method, path, json=body, headers=sent) as answer:
            if answer.status >= 400:
                return await problem(answer)
            return answer.status, await answer.json() if answer.status != 204 else None

    async def book(self, **fields: Any) -> tuple[int, Any]:
        return await self.ask("POST", BASE, {"persona": self.one.persona, "at": tomorrow("12:00")} | fields)

    async def another(self) -> Desk:
        one = await customer(self.gateway.connections, "+15550177002")
        return Desk(self.gateway, one, self.gateway.people.admit(one.user))


def tomorrow(time: str, days: int = 1) -> str:
    return f"{dt.datetime.now(dt.UTC).date() + dt.timedelta(days=days)}T{time}"


@pytest_asyncio.fixture
async def desk(database_url: str) -> AsyncIterator[Desk]:
    people = People()
    async with front(database_url, people=people) as gateway:
        one = await adopted(gateway, "+15550177001")
        yield Desk(gateway, one, people.admit(one.user))


async def adopted(gateway: Front, number: str) -> Customer:
    """A customer whose number this gateway's own vault has sealed."""
    return await customer(gateway.connections, number, vault=gateway.services.vault)


async def test_a_call_is_booked_read_changed_and_cancelled(desk: Desk) -> None:
    """CMB-34, CMB-35."""
    status, made = await desk.book(zone="Europe/Berlin", max_minutes=7, retries={"busy": 1, "spacing_minutes": 10})
    assert status == 201
    assert made["state"] == "pending"
    assert made["persona"] == {"id": desk.one.persona, "name": "Mia"}
    assert made["number"] == {"id": desk.one.number_id, "number": "+1 •••01"}
    assert (made["local"], made["zone"], made["max_minutes"]) == (tomorrow("12:00"), "Europe/Berlin", 7)
    assert made["retries"] == {"busy": 1, "no_answer": 0, "voicemail": 0, "spacing_minutes": 10}
    address = f"{BASE}/{made['id']}"
    assert await desk.ask("GET", address) == (200, made)
    status, changed = await desk.ask("PATCH", address, {"at": tomorrow("15:30"), "retries": None})
    assert (status, changed["local"], changed["zone"]) == (200, tomorrow("15:30"), "Europe/Berlin")
    assert changed["retries"]["busy"] == 0
    assert (await desk.ask("DELETE", address))[0] == 204
    assert (await desk.ask("DELETE", address))[0] == 204
    assert (await desk.ask("GET", address))[1]["state"] == "canceled"
    assert await desk.ask("PATCH", address, {"max_minutes": 3}) == (409, "scheduled-call-state")


async def test_a_moment_may_be_given_instead_of_a_wall_time(desk: Desk) -> None:
    """COM-75: for outside systems; the wall time is the user's."""
    await desk.gateway.connections.execute("update users set zone = 'Asia/Seoul' where id = $1", desk.one.user)
    status, made = await desk.book(at=None, due_at=tomorrow("03:00") + ":00Z")
    assert (status, made["zone"], made["local"]) == (201, "Asia/Seoul", tomorrow("12:00"))
    assert await desk.book(due_at=tomorrow("03:00") + ":00Z") == (422, "invalid-field")
    assert await desk.book(at=None) == (422, "invalid-field")


@pytest.mark.parametrize(
    ("fields", "refusal"),
    [
        ({"at": "2020-01-01T12:00"}, (422, "invalid-time")),
        ({"at": "2999-01-01T12:00"}, (422, "invalid-time")),
        ({"at": "9999-12-31T23:59", "zone": "Etc/GMT+12"}, (422, "invalid-time")),
        ({"at": "0001-01-01T00:00", "zone": "Asia/Tokyo"}, (422, "invalid-time")),
        ({"at": "2027-02-30T12:00"}, (422, "invalid-field")),
        ({"at": "tomorrow"}, (422, "invalid-field")),
        ({"zone": "Mars/Olympus"}, (422, "unknown-zone")),
        ({"persona": "persona_" + "0" * 32}, (422, "unknown-persona")),
        ({"number": "number_" + "0" * 32}, (403, "number-not-yours")),
        ({"at": tomorrow("23:30")}, (409, "quiet-hours")),
        ({"max_minutes": 61}, (422, "invalid-field")),
        ({"retries": {"busy": 3}}, (422, "invalid-field")),
        ({"repeat": {"every": "year"}}, (422, "invalid-field")),
        ({"repeat": {"every": "day", "days": ["mon"]}}, (422, "invalid-time")),
        ({"repeat": {"every": "day", "until": "2020-01-01"}}, (422, "invalid-time")),
        ({"colour": "red"}, (422, "invalid-field")),
    ],
)
async def test_what_cannot_be_is_refused_by_name(desk: Desk, fields: dict[str, Any], refusal: tuple[int, str]) -> None:
    """CMB-12, CMB-35: past times, beyond a year, quiet hours, nonsense."""
    assert await desk.book(**fields) == refusal


async def test_less_than_a_minute_ahead_is_too_soon(desk: Desk) -> None:
    """CMB-35: and a minute is enough."""
    now = dt.datetime.now(dt.UTC)
    soon = {"at": None, "outside_hours": True}
    assert (await desk.book(due_at=(now + dt.timedelta(seconds=50)).isoformat(), **soon))[0] == 422
    assert (await desk.book(due_at=(now + dt.timedelta(seconds=75)).isoformat(), **soon))[0] == 201


async def test_a_time_that_clocks_skip_is_booked_after_the_gap(desk: Desk) -> None:
    """CMB-34: what will happen is told at booking."""
    year = dt.datetime.now(dt.UTC).year + 1
    march = max(day for day in range(25, 32) if dt.date(year, 3, day).weekday() == 6)
    if dt.datetime(year, 3, march, tzinfo=dt.UTC) > dt.datetime.now(dt.UTC) + dt.timedelta(days=365):
        pytest.skip("the next change of clocks is more than a year ahead")
    status, made = await desk.book(at=f"{year}-03-{march}T02:30", zone="Europe/Berlin", outside_hours=True)
    assert (status, made["due_at"]) == (201, f"{year}-03-{march}T01:00:00Z")


async def test_an_explicit_tick_books_a_call_at_night(desk: Desk) -> None:
    """CMB-04."""
    status, made = await desk.book(at=tomorrow("23:30"), outside_hours=True)
    assert (status, made["outside_hours"]) == (201, True)


@pytest.mark.parametrize(
    ("statement", "refusal"),
    [
        ("update payment_methods set removed_at = now()", (402, "no-payment-method")),
        ("update users set adult_at = null", (403, "not-adult")),
        ("update numbers set removed_at = now()", (403, "number-not-yours")),
    ],
)
async def test_what_stands_in_the_way_of_every_call_is_told_at_booking(
    desk: Desk, statement: str, refusal: tuple[int, str]
) -> None:
    """CMB-36: a saved card is confirmed at booking."""
    await desk.gateway.connections.execute(statement)
    assert await desk.book() == refusal


async def test_a_series_may_be_ended_with_one_call_or_one_call_left_out(desk: Desk) -> None:
    """CMB-39, CMB-35."""
    _, made = await desk.book(repeat={"every": "week", "days": ["mon", "thu"], "until": tomorrow("", 300)[:10]})
    assert made["repeat"]["days"] == ["mon", "thu"]
    address = f"{BASE}/{made['id']}"
    _, ended = await desk.ask("PATCH", address, {"repeat": None})
    assert ended["repeat"] is None
    _, other = await desk.book(repeat={"every": "day"})
    assert (await desk.ask("DELETE", f"{BASE}/{other['id']}?only_this=true"))[0] == 204
    assert (await desk.ask("GET", f"{BASE}/{other['id']}"))[1]["repeat"] == {"every": "day"}


async def test_the_same_idempotency_key_gives_one_booking(desk: Desk) -> None:
    """COM-75."""
    body = {"persona": desk.one.persona, "at": tomorrow("12:00")}
    first = await desk.ask("POST", BASE, body, **{"Idempotency-Key": "k1"})
    assert await desk.ask("POST", BASE, body, **{"Idempotency-Key": "k1"}) == first
    assert len((await desk.ask("GET", BASE))[1]["items"]) == 1


async def test_a_thousand_bookings_in_one_request_have_a_result_each(desk: Desk) -> None:
    """COM-75: a bad row is no other's problem."""
    rows: list[Any] = [
        {"persona": desk.one.persona, "at": tomorrow(f"{8 + place % 13:02}:{place % 60:02}")} for place in range(1000)
    ]
    rows[10] = {"persona": desk.one.persona, "at": tomorrow("23:00")}
    rows[20] = {"persona": "persona_" + "0" * 32, "at": tomorrow("12:00")}
    rows[30] = {"persona": desk.one.persona}
    rows[40] = 7
    rows[50] = {"persona": desk.one.persona, "at": tomorrow("12:00"), "max_minutes": "many"}
    status, told = await desk.ask("POST", f"{BASE}/batch", {"items": rows})
    assert (status, told["booked"], len(told["items"])) == (200, 995, 1000)
    problems = {row["row"]: row["problem"]["kind"] for row in told["items"] if row["problem"]}
    assert problems == {
        10: "quiet-hours", 20: "unknown-persona", 30: "invalid-field", 40: "invalid-field", 50: "invalid-field",
    }  # fmt: skip
    assert all((row["scheduled"] is None) == (row["row"] in problems) for row in told["items"])
    assert (await desk.ask("POST", f"{BASE}/batch", {"items": [*rows, 1]}))[0] == 422
    assert (await desk.ask("POST", f"{BASE}/batch", {"items": []}))[0] == 422


async def test_nobody_books_without_end(desk: Desk) -> None:
    """CMB-12."""
    at = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
    rows = [booking(desk.one, at) for _ in range(MOST_WAITING - 1)]
    await desk.gateway.services.schedules.insert(desk.one.user, rows)
    one = {"persona": desk.one.persona, "at": tomorrow("12:00")}
    _, told = await desk.ask("POST", f"{BASE}/batch", {"items": [one, one]})
    assert [row["problem"] and row["problem"]["kind"] for row in told["items"]] == [None, "too-many-bookings"]


async def test_the_list_is_paged_and_filtered(desk: Desk) -> None:
    """CMB-35."""
    for hour in ("14", "10", "12"):
        await desk.book(at=tomorrow(f"{hour}:00"))
    _, first = await desk.ask("GET", f"{BASE}?limit=2")
    _, rest = await desk.ask("GET", f"{BASE}?limit=2&after={first['next']}")
    assert [row["local"][-5:] for row in first["items"] + rest["items"]] == ["10:00", "12:00", "14:00"]
    assert rest["next"] is None
    assert (await desk.ask("GET", f"{BASE}?state=over"))[1]["items"] == []
    assert (await desk.ask("GET", f"{BASE}?after=nonsense"))[0] == 422


async def test_a_stranger_finds_nothing(desk: Desk) -> None:
    """COM-24."""
    _, made = await desk.book()
    other = await desk.another()
    address = f"{BASE}/{made['id']}"
    for method, body in (("GET", None), ("PATCH", {"max_minutes": 3}), ("DELETE", None)):
        assert await other.ask(method, address, body) == (404, "scheduled-call-not-found")
    assert await other.ask("POST", f"{address}/confirm") == (404, "scheduled-call-not-found")
    assert await other.ask("POST", "/v1/opt-outs", {"number": desk.one.number_id}) == (404, "not-found")
    assert (await other.ask("GET", BASE))[1]["items"] == []


async def test_stopping_calls_drops_what_is_booked_and_refuses_more(desk: Desk) -> None:
    """CMB-05: on the web, at once."""
    await desk.book()
    status, told = await desk.ask("POST", "/v1/opt-outs", {"number": desk.one.number_id})
    assert (status, told["opted_out"], told["canceled"]) == (201, True, 1)
    assert await desk.book() == (403, "opted-out")
    assert (await desk.ask("GET", BASE))[1]["items"][0]["state"] == "skipped"
    status, told = await desk.ask("POST", f"/v1/numbers/{desk.one.number_id}/opt-in")
    assert (status, told["opted_out"]) == (200, False)
    assert (await desk.book())[0] == 201


async def test_public_tables_need_no_account(desk: Desk) -> None:
    """CMB-07, COM-49, COM-50: helplines, sub-processors, retention."""
    anybody = Desk(desk.gateway, desk.one, {})
    _, lines = await anybody.ask("GET", "/v1/helplines?country=kr")
    assert [line["number"] for line in lines["items"]] == ["109"]
    assert len((await anybody.ask("GET", "/v1/helplines"))[1]["items"]) > 10
    assert (await anybody.ask("GET", "/v1/helplines?country=nowhere"))[0] == 422
    assert (await anybody.ask("GET", "/v1/subprocessors"))[0] == 200
    names = {row["name"] for row in (await anybody.ask("GET", "/v1/retention"))[1]["items"]}
    assert {"recordings", "transcripts", "do-not-call"} <= names


async def test_a_callback_promised_in_a_call_is_booked_when_it_is_confirmed(desk: Desk) -> None:
    """CMB-39: same number, same persona; said twice it is one call."""
    services, call_id = desk.gateway.services, new_id("call")
    await services.pool.execute(
        "insert into calls (id, direction, state, persona, from_number, to_number, owner, persona_id, number_id,"
        " max_minutes) values ($1, 'outbound', 'in_progress', 'mia', '+1', 'v1.x', $2, $3, $4, 9)",
        call_id, desk.one.user, desk.one.persona, desk.one.number_id,
    )  # fmt: skip
    promises = Booking(services.schedules, services.gate)
    local = dt.datetime.fromisoformat(tomorrow("18:00"))
    proposed = await promises.propose(desk.one.user, call_id, local, "Europe/Berlin")
    assert (proposed.state, proposed.max_minutes, proposed.promised_in) == ("proposed", 9, call_id)
    assert (await asyncio.gather(*(promises.confirm(desk.one.user, proposed.id) for _ in range(3))))[
        0
    ].id == proposed.id
    assert (await desk.ask("GET", f"{BASE}/{proposed.id}"))[1]["state"] == "pending"
    await services.schedules.cancel(desk.one.user, proposed.id)
    with pytest.raises(NotChangeable):
        await promises.confirm(desk.one.user, proposed.id)
    with pytest.raises(Refusal, match="at least a minute ahead"):
        await promises.propose(desk.one.user, call_id, dt.datetime.fromisoformat("2020-01-01T10:00"), "Europe/Berlin")
