"""The chat-completions wire format, as Cerebras, OpenAI and everything compatible with them speak it.

Requests are plain JSON. Replies are server-sent events (WHATWG HTML, section 9.2.6): `data:` lines with one
JSON chunk each, ended by `data: [DONE]`. Chunks are decoded into typed records, unknown fields ignored.
"""

from __future__ import annotations

from typing import Any, Literal, cast

import msgspec

from bots.models.port import (
    BadReply,
    Delta,
    Done,
    Message,
    ModelError,
    Request,
    Text,
    ToolCall,
    Usage,
    from_status,
)

LINE_LIMIT = 1 << 20
_FINISHES = frozenset({"stop", "length", "tool_calls", "content_filter"})


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolPiece(msgspec.Struct):
    index: int = 0
    id: str | None = None
    function: _Function = msgspec.field(default_factory=_Function)


class _Piece(msgspec.Struct):
    content: str | None = None
    tool_calls: list[_ToolPiece] | None = None


class _Choice(msgspec.Struct):
    delta: _Piece = msgspec.field(default_factory=_Piece)
    finish_reason: str | None = None


class _Counts(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Fault(msgspec.Struct):
    message: str | None = None
    code: str | int | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Counts | None = None
    error: _Fault | str | None = None
    status_code: int | None = None


_decode = msgspec.json.Decoder(_Chunk).decode


def body(request: Request, model: str) -> dict[str, Any]:
    """The JSON body that asks `model` for a streamed reply with its token counts."""
    asked: dict[str, Any] = {
        "model": model,
        "messages": [_message(message) for message in request.messages],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_completion_tokens": request.max_tokens,
        "temperature": request.temperature,
    }
    if request.tools:
        asked["tools"] = [{"type": "function", "function": msgspec.to_builtins(tool)} for tool in request.tools]
    return asked


def _message(message: Message) -> dict[str, Any]:
    told: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        told["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        told["tool_call_id"] = message.tool_call_id
    return told


class ReplyReader:
    """Turns the bytes of one streamed reply into deltas.

    Feed it what the socket gives, in pieces of any size; call `end` when the stream is over. `finished`
    becomes true with the `[DONE]` line: whatever follows is not read.

    Raises:
        ModelError: the bytes are no reply, or the provider reports an error in the stream.
    """

    def __init__(self, provider: str) -> None:
        self.finished = False
        self._provider = provider
        self._held = b""
        self._data: list[bytes] = []
        self._tools: dict[int, _ToolPiece] = {}
        self._finish: str | None = None
        self._usage: Usage | None = None

    def feed(self, data: bytes) -> list[Delta]:
        """Take bytes in; return the deltas they completed."""
        lines = (self._held + data).split(b"\n")
        self._held = lines.pop()
        if len(self._held) > LINE_LIMIT:
            raise BadReply("a line of the reply is longer than 1 MiB", provider=self._provider)
        deltas: list[Delta] = []
        for line in lines:
            if self.finished:
                break
            line = line.removesuffix(b"\r")
            if line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
            elif not line and self._data:
                payload, self._data = b"\n".join(self._data), []
                deltas += self._chunk(payload)
        return deltas

    def end(self) -> list[Delta]:
        """The stream is over: the tool calls and the `Done` it amounts to."""
        if self._finish is None:
            raise BadReply("the reply stopped in the middle", provider=self._provider)
        calls: list[Delta] = []
        for index in sorted(self._tools):
            piece = self._tools[index]
            if not piece.function.name:
                raise BadReply("a tool call has no name", provider=self._provider)
            arguments = piece.function.arguments or "{}"
            calls.append(ToolCall(piece.id or f"call_{index}", piece.function.name, arguments))
        finish = cast(
            Literal["stop", "length", "tool_calls", "content_filter"],
            self._finish if self._finish in _FINISHES else "stop",
        )
        return [*calls, Done(finish, self._usage)]

    def _chunk(self, payload: bytes) -> list[Delta]:
        if payload.strip() == b"[DONE]":
            self.finished = True
            return self.end()
        try:
            chunk = _decode(payload)
        except msgspec.MsgspecError as error:
            raise BadReply(f"a chunk of the reply is malformed: {error}", provider=self._provider) from error
        if chunk.error is not None:
            raise self._fault(chunk)
        if chunk.usage is not None:
            self._usage = Usage(chunk.usage.prompt_tokens or 0, chunk.usage.completion_tokens or 0)
        deltas: list[Delta] = []
        for choice in chunk.choices or ():
            if choice.delta.content:
                deltas.append(Text(choice.delta.content))
            for piece in choice.delta.tool_calls or ():
                self._gather(piece)
            self._finish = choice.finish_reason or self._finish
        return deltas

    def _gather(self, piece: _ToolPiece) -> None:
        held = self._tools.setdefault(piece.index, _ToolPiece(piece.index))
        held.id = piece.id or held.id
        held.function.name = piece.function.name or held.function.name
        held.function.arguments = (held.function.arguments or "") + (piece.function.arguments or "")

    def _fault(self, chunk: _Chunk) -> ModelError:
        fault = chunk.error if isinstance(chunk.error, _Fault) else _Fault(message=str(chunk.error))
        status = chunk.status_code or (fault.code if isinstance(fault.code, int) else 500)
        return from_status(status, fault.message or "error in the stream", {}, self._provider)
