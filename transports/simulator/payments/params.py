"""Parameters of the operations: which there are, what they may be, and Stripe's words where they are not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from .errors import ApiError, invalid

_WHOLE: Final = re.compile(r"-?\d{1,18}", re.ASCII)
_BOUNDS: Final = ("gt", "gte", "lt", "lte")


class Field(Protocol):
    """What one parameter may be."""

    @property
    def required(self) -> bool:
        """Whether there is none without it."""
        ...

    def read(self, value: Any, name: str) -> Any:
        """The value behind what was sent; ApiError if it has none."""
        ...


Shape = Mapping[str, Field]


@dataclass(frozen=True)
class Text:
    """A string. The empty string unsets where that is possible, and reads as None."""

    required: bool = False
    most: int = 5000
    clearable: bool = False

    def read(self, value: Any, name: str) -> str | None:
        if not isinstance(value, str):
            raise invalid("Invalid string: " + _shown(value), name)
        if not value and self.clearable:
            return None
        if not value:
            raise invalid(
                f"You passed an empty string for '{name}'. An empty value unsets a parameter, and '{name}' cannot be "
                "unset: leave it out or give it a value.",
                name,
                "parameter_invalid_empty",
            )
        if len(value) > self.most:
            raise invalid(
                f"Invalid string: {value[:20]}...; must be at most {self.most} characters",
                name,
                "parameter_invalid_string_too_long" if self.most < 500 else None,
            )
        return value


@dataclass(frozen=True)
class Whole:
    """An integer."""

    required: bool = False
    least: int = 0
    most: int = 99_999_999

    def read(self, value: Any, name: str) -> int:
        if not isinstance(value, str) or not _WHOLE.fullmatch(value):
            raise invalid(f"Invalid integer: {_shown(value)}", name, "parameter_invalid_integer")
        number = int(value)
        if number < self.least:
            raise invalid(
                f"This value must be greater than or equal to {self.least}.", name, "parameter_invalid_integer"
            )
        if number > self.most:
            raise invalid(
                f"This value must be less than or equal to {self.most} (it currently is '{number}').",
                name,
                "parameter_invalid_integer",
            )
        return number


@dataclass(frozen=True)
class Truth:
    """A boolean."""

    required: bool = False

    def read(self, value: Any, name: str) -> bool:
        if value not in ("true", "false"):
            raise invalid(f"Invalid boolean: {_shown(value)}", name)
        return bool(value == "true")


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]
    required: bool = False
    clearable: bool = False

    def read(self, value: Any, name: str) -> str | None:
        if value == "" and self.clearable:
            return None
        if not isinstance(value, str) or value not in self.words:
            raise invalid(f"Invalid {name}: must be one of {', '.join(self.words)}", name)
        return value


@dataclass(frozen=True)
class Away:
    """`off_session`: a boolean, or why the customer is away."""

    required: bool = False

    def read(self, value: Any, name: str) -> bool:
        if value not in ("true", "false", "one_off", "recurring"):
            raise invalid(f"Invalid {name}: must be one of true, false, one_off, recurring", name)
        return bool(value != "false")


@dataclass(frozen=True)
class Words:
    """A list of strings."""

    required: bool = False

    def read(self, value: Any, name: str) -> list[str]:
        if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
            raise invalid("Invalid array", name)
        return list(value.values())


@dataclass(frozen=True)
class Group:
    """A group of parameters."""

    shape: Shape
    required: bool = False
    clearable: bool = False

    def read(self, value: Any, name: str) -> dict[str, Any] | None:
        if value == "" and self.clearable:
            return None
        if not isinstance(value, dict):
            raise invalid("Invalid object", name)
        return read(self.shape, value, name)


@dataclass(frozen=True)
class Metadata:
    """Up to 50 names with values. An empty value takes a name away, an empty whole all of them (None)."""

    required: bool = False

    def read(self, value: Any, name: str) -> dict[str, str] | None:
        if value == "":
            return None
        if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
            raise invalid("Invalid metadata: must be a hash of strings", name)
        for key, text in value.items():
            if len(key) > 40:
                raise invalid(f"Metadata keys can be up to 40 characters long: {key[:40]}", name)
            if len(text) > 500:
                raise invalid(f"Metadata values can be up to 500 characters long ({key}).", name)
        if len(value) > 50:
            raise invalid("Metadata can have at most 50 keys.", name)
        return dict(value)


@dataclass(frozen=True)
class Span:
    """A moment in Unix seconds, or bounds of one: `created=5`, `created[gte]=5`."""

    required: bool = False

    def read(self, value: Any, name: str) -> dict[str, int]:
        if isinstance(value, dict):
            bounds = read({bound: Whole(least=-(10**12), most=10**12) for bound in _BOUNDS}, value, name)
            if bounds:
                return bounds
        return {"gte": (moment := Whole(most=10**12).read(value, name)), "lte": moment}


@dataclass(frozen=True)
class Anything:
    """Kept as it comes: addresses, shipping."""

    required: bool = False

    def read(self, value: Any, name: str) -> Any:
        return value if value != "" else None


@dataclass(frozen=True)
class Refused:
    """Stripe knows it, the double does not carry it out, and says so rather than pretend."""

    required: bool = False

    def read(self, value: Any, name: str) -> Any:
        raise invalid(f"The payments double does not carry out the parameter {name}.", name)


@dataclass(frozen=True)
class Gone:
    """Stripe had it once, and tells those who still send it."""

    code: str
    required: bool = False

    def read(self, value: Any, name: str) -> Any:
        raise invalid(f"The parameter {name} is no longer supported in this API version.", name, self.code)


# https://docs.stripe.com/changelog/endive/2026-09-30/removes-the-payment-method-types-parameter-from-payment-intents-and-setup-intents
TYPES_GONE: Final[dict[str, Field]] = {"payment_method_types": Gone("payment_method_types_no_longer_supported")}


def refused(*names: str) -> dict[str, Field]:
    """Parameters that Stripe has and the double has not."""
    return dict.fromkeys(names, Refused())


PAGE: Final[dict[str, Field]] = {
    "limit": Whole(least=1, most=100),
    "starting_after": Text(most=255),
    "ending_before": Text(most=255),
}


def read(shape: Shape, data: Mapping[str, Any], inside: str = "") -> dict[str, Any]:
    """What was sent, as the operation wants it.

    Raises:
        ApiError: a parameter is unknown, missing or not what it should be.
    """

    def full(name: str) -> str:
        return f"{inside}[{name}]" if inside else name

    if strange := [full(name)[:100] for name in data if name not in shape]:
        plural = "s" if len(strange) > 1 else ""
        raise invalid(f"Received unknown parameter{plural}: {', '.join(strange)}", strange[0], "parameter_unknown")
    for name, field in shape.items():
        if field.required and name not in data:
            raise missing(full(name))
    return {name: shape[name].read(value, full(name)) for name, value in data.items()}


def missing(name: str) -> ApiError:
    """A parameter that is not there."""
    return invalid(f"Missing required param: {name}.", name, "parameter_missing")


def merged(kept: dict[str, str], change: dict[str, str] | None) -> dict[str, str]:
    """Metadata after an update."""
    if change is None:
        return {}
    return {name: value for name, value in (kept | change).items() if value}


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else "{...}"
    return text if len(text) <= 60 else text[:57] + "..."
