"""Numbers, quiet hours, helplines, sub-processors and the retention table: data with rules of its own."""

# ruff: noqa: DTZ001 - wall times have no zone
from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.compliance.helplines import helpline_for, helplines
from infra.compliance.phones import NotANumber, read_phone
from infra.compliance.quiet import ORDINARY, Hours, hours_for, may_ring, next_ring, regions
from infra.compliance.retention import BOOKINGS, DECISIONS, RECORDINGS, TABLE
from infra.compliance.subprocessors import subprocessors
from infra.settings import Compliance, load

NEW_YORK, HONOLULU, GUAM = "America/New_York", "Pacific/Honolulu", "Pacific/Guam"


@pytest.mark.parametrize(
    ("written", "country", "kind", "premium"),
    [
        ("+4915112345678", "DE", "mobile", False),
        ("+442079460018", "GB", "fixed", False),
        ("+13055551234", "US", "fixed-or-mobile", False),
        ("+905321234567", "TR", "mobile", False),
        ("+821012345678", "KR", "mobile", False),
        ("+15550177001", "US", "fictional", False),
        ("+4990012345678"[:13], "DE", "premium", True),
        ("+19002345678", "US", "premium", True),
        ("+12129761234", "US", "premium", True),
        ("+491805123456", "DE", "shared-cost", True),
        ("+447012345678", "GB", "personal", True),
        ("+18767654321", "JM", "fixed-or-mobile", False),
    ],
)
def test_a_number_tells_its_country_and_what_it_may_cost(written: str, country: str, kind: str, premium: bool) -> None:
    """CMB-09: premium, shared-cost and forwarding ranges, and islands that look American."""
    phone = read_phone(written)
    assert (phone.country, phone.premium) == (country, premium)
    if not premium:
        assert phone.kind in (kind, "fixed", "mobile", "fixed-or-mobile")
    else:
        assert phone.kind == kind


@pytest.mark.parametrize(
    "written", ["", "12345", "030 1234567", "+49", "+1234", "+999123456789", "+1212555", "abc", "+4912"]
)
def test_what_is_no_number_is_refused(written: str) -> None:
    """CMB-12."""
    with pytest.raises(NotANumber):
        read_phone(written)


@given(st.text(alphabet="+0123456789 -()ext.", max_size=25))
def test_whatever_is_written_is_a_number_or_refused(written: str) -> None:
    """CMB-12: never another error."""
    try:
        phone = read_phone(written)
    except NotANumber:
        return
    assert phone.number.startswith("+")
    assert read_phone(phone.number) == phone


def test_satellites_and_other_numbers_of_no_country_are_in_none() -> None:
    """CMB-09: an allow-list of countries cannot let them through."""
    for written in ("+881612345678", "+883510012345", "+870773112345"):
        try:
            country = read_phone(written).country
        except NotANumber:
            continue
        assert country not in load(environ={}).compliance.countries.split(",")


def test_florida_ends_at_eight() -> None:
    """CMB-04: stricter regions are data."""
    assert hours_for("+13055551234", ORDINARY) == Hours(dt.time(8), dt.time(20), "Florida")
    assert hours_for("+12125551234", ORDINARY) == ORDINARY
    assert str(hours_for("+12035551234", ORDINARY)) == "09:00 to 20:00"
    narrow = Hours(dt.time(10), dt.time(18))
    assert hours_for("+13055551234", narrow) == narrow, "a region never widens what we allow"


def test_no_area_is_in_two_regions_and_every_region_leaves_hours() -> None:
    """CMB-04: of two entries for one area the later would win unseen."""
    text = (regions.__wrapped__.__defaults__ or ())[0].read_text()
    prefixes = [part.strip(' "') for block in text.split("prefixes = [")[1:] for part in block.split("]")[0].split(",")]
    assert len(prefixes) == len(set(prefixes)) == len(regions())
    assert all(hours.start < hours.end for hours in regions().values())


@pytest.mark.parametrize(
    ("local", "rings"), [("07:59", False), ("08:00", True), ("20:59", True), ("21:00", False), ("00:00", False)]
)
def test_the_hours_begin_and_end_to_the_minute(local: str, rings: bool) -> None:
    """CMB-04: 08:00 to 21:00 in the callee's local time."""
    at = dt.datetime.fromisoformat(f"2026-07-01T{local}-04:00")
    assert may_ring(at, [NEW_YORK], ORDINARY) is rings


def test_several_zones_must_agree() -> None:
    """CMB-04: the strictest intersection; a clock that nobody knows allows nothing."""
    at = dt.datetime(2026, 7, 1, 13, 0, tzinfo=dt.UTC)  # 09:00 in New York, 03:00 in Honolulu
    assert may_ring(at, [NEW_YORK], ORDINARY)
    assert not may_ring(at, [NEW_YORK, HONOLULU], ORDINARY)
    both = next_ring(at, [NEW_YORK, HONOLULU], ORDINARY)
    assert both == dt.datetime(2026, 7, 1, 18, 0, tzinfo=dt.UTC)
    assert not may_ring(at, [], ORDINARY)
    assert next_ring(at, [NEW_YORK, "Asia/Kolkata", HONOLULU], ORDINARY) is None


@given(st.datetimes(dt.datetime(2026, 1, 1), dt.datetime(2027, 1, 1), timezones=st.just(dt.UTC)))
def test_the_next_time_to_ring_is_the_first(at: dt.datetime) -> None:
    """CMB-04: no earlier quarter of an hour would do."""
    found = next_ring(at, [NEW_YORK], ORDINARY)
    assert found is not None
    assert may_ring(found, [NEW_YORK], ORDINARY)
    earlier = at
    while earlier < found:
        assert not may_ring(earlier, [NEW_YORK], ORDINARY)
        earlier += dt.timedelta(minutes=15)


def test_every_country_that_is_dialled_has_a_helpline_and_every_other_one_too() -> None:
    """CMB-07: the local helpline."""
    for country in Compliance().countries.split(","):
        assert helpline_for(country).country == country
    assert helpline_for("us").number == "988"
    assert helpline_for("ZZ") == helpline_for("") == helplines()[""]
    assert all(line.say and line.url.startswith("https://") for line in helplines().values())


def test_the_list_of_subprocessors_is_that_of_the_parts_switched_on() -> None:
    """COM-49: generated from enabled adapters."""
    none = load(environ={}, twilio_api_url="http://127.0.0.1:1")
    assert subprocessors(none) == ()
    all_on = load(
        environ={}, deepgram_api_key="k", elevenlabs_api_key="k", cerebras_api_key="k", stripe_secret_key="sk_x",
        mail_smtp_url="smtps://u:p@mail.example.com",
    )  # fmt: skip
    names = [one.name for one in subprocessors(all_on)]
    assert names == ["Twilio", "Deepgram", "ElevenLabs", "Cerebras", "Stripe", "mail.example.com"]


def test_the_public_table_says_what_the_deleting_goes_by() -> None:
    """COM-50: one truth."""
    days = {kept.name: kept.days for kept in TABLE}
    assert days["recordings"] == RECORDINGS.days == 7
    assert days["bookings"] == BOOKINGS.days
    assert days["decisions"] == DECISIONS.days
    assert days["transcripts"] == 90
