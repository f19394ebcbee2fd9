"""The actor runtime. What it promises is in docs/actors.md; this is its public interface."""

from actors.runtime.actor import Actor, Context, Later, Ticker
from actors.runtime.clock import Clock, ManualClock, SystemClock, Timer
from actors.runtime.errors import (
    ActorError,
    ActorFailed,
    ActorGone,
    AskTimeout,
    BadReply,
    MailboxFull,
    NameTaken,
    ProcessFailed,
    Refused,
    SupervisionFailed,
    UnknownMessage,
    Unreachable,
)
from actors.runtime.local import LocalPlacement, Switchboard
from actors.runtime.messages import Done, Down, Halt, Inspect, Message
from actors.runtime.ports import Placement, Registry, Transport
from actors.runtime.refs import Ref
from actors.runtime.specs import ActorSpec, Backoff, ProcessSpec, Supervision
from actors.runtime.status import ProcessStatus, Status, SystemStatus, Tree
from actors.runtime.system import Supervisor, System

__all__ = [
    "Actor",
    "ActorError",
    "ActorFailed",
    "ActorGone",
    "ActorSpec",
    "AskTimeout",
    "Backoff",
    "BadReply",
    "Clock",
    "Context",
    "Done",
    "Down",
    "Halt",
    "Inspect",
    "Later",
    "LocalPlacement",
    "MailboxFull",
    "ManualClock",
    "Message",
    "NameTaken",
    "Placement",
    "ProcessFailed",
    "ProcessSpec",
    "ProcessStatus",
    "Ref",
    "Refused",
    "Registry",
    "Status",
    "Supervision",
    "SupervisionFailed",
    "Supervisor",
    "Switchboard",
    "System",
    "SystemClock",
    "SystemStatus",
    "Ticker",
    "Timer",
    "Transport",
    "Tree",
    "UnknownMessage",
    "Unreachable",
]
