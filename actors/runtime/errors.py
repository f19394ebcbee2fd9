"""What can go wrong between actors. Each class's docstring is its default message and names the remedy."""

from __future__ import annotations

import inspect
from typing import Final


class ActorError(Exception):
    """The actor runtime could not do what was asked. Read the cause below."""

    def __init__(self, detail: str = "") -> None:
        advice = inspect.cleandoc(type(self).__doc__ or "").replace("\n", " ")
        super().__init__(f"{detail}: {advice}" if detail else advice)
        self.detail = detail

    def __reduce__(self) -> tuple[type[ActorError], tuple[str]]:
        return type(self), (self.detail,)


class ActorGone(ActorError):
    """No actor has this name now. Look it up again or start it; nothing was delivered."""


class ActorFailed(ActorError):
    """The actor crashed on this. Its log says why; its supervisor decides whether it returns."""


class AskTimeout(ActorError):
    """No answer came before the deadline. The message may still be handled; retry only what is idempotent."""


class MailboxFull(ActorError):
    """The actor, or the link to its process, is behind. Slow down, or raise its mailbox size."""


class NameTaken(ActorError):
    """Another living actor holds this name on this node. Stop it first or choose another name."""


class UnknownMessage(ActorError):
    """The message cannot be written or read. Import its type at the receiver; deploy one version."""


class Refused(ActorError):
    """The actor declined the request and lives on. The text before this says why; ask for something else."""


class BadReply(ActorError):
    """The answer is not what the asker expects. Caller and actor disagree on the protocol: mend one."""


class SupervisionFailed(ActorError):
    """Children crashed more often than their supervisor allows. Mend the crash; restarting does not help."""


class ProcessFailed(ActorError):
    """The process ended or never became ready. Its stderr, above in the log, says why."""


class Unreachable(ActorError):
    """The other runtime does not answer. Check that the server runs and that the path is right."""


def _family(base: type[ActorError]) -> list[type[ActorError]]:
    return [base, *(found for child in base.__subclasses__() for found in _family(child))]


_BY_NAME: Final = {kind.__name__: kind for kind in _family(ActorError)}


def to_wire(error: BaseException) -> tuple[str, str]:
    """The name and detail under which an error crosses to another process."""
    if isinstance(error, ActorError) and type(error).__name__ in _BY_NAME:
        return type(error).__name__, error.detail
    return ActorFailed.__name__, f"{type(error).__name__}: {error}"


def from_wire(name: str, detail: str) -> ActorError:
    """The error that `to_wire` described; an unknown name becomes the base class."""
    return _BY_NAME.get(name, ActorError)(detail)
