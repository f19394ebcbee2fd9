"""What a phone number tells: whether it is one, its country, what it costs to reach, and where its clock may stand."""

from __future__ import annotations

from dataclasses import dataclass

import phonenumbers
from phonenumbers import PhoneNumberType, timezone

TOLL_KINDS = {
    PhoneNumberType.PREMIUM_RATE: "premium",
    PhoneNumberType.SHARED_COST: "shared-cost",
    PhoneNumberType.PERSONAL_NUMBER: "personal",  # 070 in Britain: forwarded at the caller's expense
    PhoneNumberType.PAGER: "pager",
    PhoneNumberType.UAN: "universal",
    PhoneNumberType.VOICEMAIL: "voicemail",
}
REAL_KINDS = {
    PhoneNumberType.FIXED_LINE: "fixed",
    PhoneNumberType.MOBILE: "mobile",
    PhoneNumberType.FIXED_LINE_OR_MOBILE: "fixed-or-mobile",
    PhoneNumberType.TOLL_FREE: "toll-free",
    PhoneNumberType.VOIP: "voip",
}
AMERICA = 1
FICTION = "555"  # no area code: numbers of films and of the phone network simulator
PAY_PER_CALL = "976"  # an exchange that charges the caller in any North American area
UNKNOWN_ZONES = frozenset({"Etc/Unknown"})


class NotANumber(ValueError):
    """This is no phone number. Write it with its country code, such as +4915112345678."""


@dataclass(frozen=True, slots=True)
class Phone:
    """A phone number as its numbering plan knows it.

    Args:
        number: E.164.
        country: ISO code; empty for satellites and other numbers of no country.
        kind: what it is (`mobile`, `premium`, ...).
        premium: whether calling it may cost more than its country's ordinary rate.
        zones: time zones in which it may be; a guess, and empty when there is not even one.
    """

    number: str
    country: str
    kind: str
    premium: bool
    zones: tuple[str, ...]


def read_phone(written: str) -> Phone:
    """The phone number that somebody wrote with its country code.

    Raises:
        NotANumber: it is malformed, or its country has no such numbers.
    """
    try:
        parsed = phonenumbers.parse(written, None)
    except phonenumbers.NumberParseException as error:
        raise NotANumber(f"{NotANumber.__doc__}") from error
    if parsed.extension or not phonenumbers.is_possible_number(parsed):
        raise NotANumber(f"{NotANumber.__doc__}")
    number = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    national = str(parsed.national_number)
    if parsed.country_code == AMERICA and national.startswith(FICTION):
        return Phone(number, "US", "fictional", False, ())
    if not phonenumbers.is_valid_number(parsed):
        raise NotANumber("Nobody has this number: its country has no such numbers. Check each digit.")
    country = phonenumbers.region_code_for_number(parsed) or ""
    kind = phonenumbers.number_type(parsed)
    premium = kind not in REAL_KINDS
    name = TOLL_KINDS.get(kind) or REAL_KINDS.get(kind, "unknown")
    if parsed.country_code == AMERICA and national[3:6] == PAY_PER_CALL:
        premium, name = True, "premium"
    zones = tuple(zone for zone in timezone.time_zones_for_number(parsed) if zone not in UNKNOWN_ZONES)
    return Phone(number, "" if country == "001" else country, name, premium, zones)
