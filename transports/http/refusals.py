"""The kinds of problems with which a call is refused, whether it is to be made now or was booked for later."""

from __future__ import annotations

from transports.http.problems import problem_kinds

# As `infra.compliance.gate.decide` names them.
GATE: dict[str, tuple[int, str]] = {
    "not-adult": (403, "Calls are for adults"),
    "no-consent": (403, "Calls need your consent"),
    "number-not-yours": (403, "The number is not yours"),
    "number-not-verified": (403, "The number is not proven"),
    "opted-out": (403, "The number must not be called"),
    "premium-number": (403, "Numbers of this kind are not dialled"),
    "country-blocked": (403, "This country is not dialled"),
    "caller-not-ours": (403, "Calls come from our own numbers only"),
    "quiet-hours": (409, "It is too early or too late there"),
    "attempt-cap": (429, "The number was called often enough"),
    "already-on-call": (409, "You are on a call already"),
    "spend-cap": (403, "A spending limit is reached"),
    "no-payment-method": (402, "There is no card to pay with"),
    "gate-down": (503, "Calls cannot be checked just now"),
}
problem_kinds(GATE)
AT_ANY_DIAL = tuple(GATE)
AT_BOOKING = tuple(kind for kind in GATE if kind not in ("attempt-cap", "already-on-call", "spend-cap"))
