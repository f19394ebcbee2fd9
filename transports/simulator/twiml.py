"""TwiML: the documents a server answers with, read strictly. https://www.twilio.com/docs/voice/twiml"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit, urlunsplit
from xml.etree.ElementTree import Element, ParseError
from xml.etree.ElementTree import fromstring as parse_xml  # documents are refused if they have a DTD

_METHODS = ("GET", "POST")
_VERBS = ("Connect", "Hangup", "Pause", "Redirect", "Reject", "Say")


class TwimlError(Exception):
    """The document cannot be executed; `code` is Twilio's number for it (12100 no XML, 12200 wrong content)."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Stream:
    """Where a call's audio goes. The URL has lost its query string, as at Twilio."""

    url: str
    name: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    status_url: str = ""
    status_method: str = "POST"


@dataclass(frozen=True, slots=True)
class Connect:
    """Talk over a stream until it ends, then ask `action` (or go on with the next verb without one)."""

    stream: Stream
    action: str = ""
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class Redirect:
    """Go on with another document."""

    url: str
    method: str = "POST"


@dataclass(frozen=True, slots=True)
class Say:
    """Read a text to the caller."""

    text: str
    loop: int = 1


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait."""

    seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class Reject:
    """As the first verb: do not answer the call."""

    reason: str = "rejected"


@dataclass(frozen=True, slots=True)
class Hangup:
    """End the call."""


Verb = Connect | Redirect | Say | Pause | Reject | Hangup


def parse(text: str, base: str) -> tuple[Verb, ...]:
    """The verbs of a document that came from `base`, against which relative URLs are read.

    Raises:
        TwimlError: it is no XML, its root is not `<Response>`, or a verb is unknown, nested wrongly or incomplete.
    """
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise TwimlError(12100, "The document has a document type definition.")
    try:
        root = parse_xml(text.strip())  # noqa: S314
    except ParseError as error:
        raise TwimlError(12100, f"The document cannot be parsed: {error}.") from error
    if root.tag != "Response":
        raise TwimlError(12100, f"The root of a document is <Response>, not <{root.tag}>.")
    return tuple(_verb(element, base) for element in root)


def _verb(element: Element, base: str) -> Verb:
    match element.tag:
        case "Connect":
            return _connect(element, base)
        case "Redirect":
            return Redirect(_url(element, element.text or "", base), _method(element, "method"))
        case "Say":
            return Say("".join(element.itertext()).strip(), int(_number(element, "loop", 1)))
        case "Pause":
            _alone(element)
            return Pause(_number(element, "length", 1))
        case "Reject":
            _alone(element)
            reason = element.get("reason", "rejected")
            if reason not in ("rejected", "busy"):
                raise TwimlError(12200, f"<Reject> knows no reason {reason!r}.")
            return Reject(reason)
        case "Hangup":
            _alone(element)
            return Hangup()
    raise TwimlError(12200, f"<{element.tag}> is no verb here; this network knows {', '.join(_VERBS)}.")


def _connect(element: Element, base: str) -> Connect:
    if [child.tag for child in element] != ["Stream"]:
        raise TwimlError(12200, "<Connect> holds exactly one <Stream>.")
    noun = element[0]
    address = urljoin(base, noun.get("url", "").strip())
    parts = urlsplit(address)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    if not noun.get("url") or scheme not in ("ws", "wss") or not parts.hostname:
        raise TwimlError(31921, f"<Stream> needs a wss:// url, not {noun.get('url')!r}.")
    parameters = {}
    for child in noun:
        if child.tag != "Parameter" or "name" not in child.attrib:
            raise TwimlError(12200, "<Stream> holds only <Parameter name= value=>.")
        parameters[child.attrib["name"]] = child.get("value", "")
    status = noun.get("statusCallback", "")
    stream = Stream(
        url=urlunsplit((scheme, parts.netloc, parts.path or "/", "", "")),
        name=noun.get("name", ""),
        parameters=parameters,
        status_url=_url(noun, status, base) if status else "",
        status_method=_method(noun, "statusCallbackMethod"),
    )
    action = element.get("action", "")
    return Connect(stream, _url(element, action, base) if action else "", _method(element, "method"))


def _url(element: Element, text: str, base: str) -> str:
    url = urljoin(base, text.strip())
    if urlsplit(url).scheme not in ("http", "https"):
        raise TwimlError(11100, f"<{element.tag}> has an invalid URL {text!r}.")
    return url


def _method(element: Element, name: str) -> str:
    method = element.get(name, "POST").upper()
    if method not in _METHODS:
        raise TwimlError(12200, f"<{element.tag}> knows no {name}={method!r}.")
    return method


def _number(element: Element, name: str, default: float) -> float:
    try:
        return max(0.0, float(element.get(name, default)))
    except ValueError as error:
        raise TwimlError(12200, f"<{element.tag}> needs a number as {name}.") from error


def _alone(element: Element) -> None:
    if len(element):
        raise TwimlError(12200, f"<{element.tag}> holds nothing.")
