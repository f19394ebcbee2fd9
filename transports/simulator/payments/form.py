"""Form bodies with names in brackets, as every Stripe library sends them: `a[b][0]=c`."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import parse_qsl

from .errors import ApiError, invalid

_NAME: Final = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_PART: Final = re.compile(r"\[([^\[\]]*)\]")
_MOST_FIELDS, _MOST_DEPTH = 1000, 8


def parse(text: bytes) -> dict[str, Any]:
    """The names and values as nested dictionaries; lists are dictionaries with "0", "1", … as names.

    Raises:
        ApiError: the text is no form.
    """
    try:
        pairs = parse_qsl(
            text.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS, separator="&"
        )
    except (UnicodeDecodeError, ValueError) as error:
        raise invalid("Invalid request: the parameters are no well-formed form.") from error
    form: dict[str, Any] = {}
    for name, value in pairs:
        if "\0" in name or "\0" in value:
            raise invalid("Invalid request: a parameter contains a NUL character.")
        _put(form, _path(name), name, value)
    return form


def _path(name: str) -> list[str]:
    match = _NAME.fullmatch(name)
    if match is None:
        raise invalid(f"Invalid parameter name: {_short(name)}")
    path = [match[1], *_PART.findall(match[2])]
    if len(path) > _MOST_DEPTH:
        raise invalid(f"Parameters are nested too deeply: {_short(name)}")
    return path


def _put(form: dict[str, Any], path: list[str], name: str, value: str) -> None:
    place = form
    for part in path[:-1]:
        place = place.setdefault(_step(place, part), {})
        if not isinstance(place, dict):
            raise _clash(name)
    last = _step(place, path[-1])
    if isinstance(place.get(last), dict):
        raise _clash(name)
    place[last] = value


def _step(place: dict[str, Any], part: str) -> str:
    return part or str(len(place))  # `a[]=x` is the next of its list


def _clash(name: str) -> ApiError:
    return invalid(f"Invalid request: {_short(name)} is given both as a value and as a group of values.")


def _short(name: str) -> str:
    return name if len(name) <= 80 else name[:77] + "..."
