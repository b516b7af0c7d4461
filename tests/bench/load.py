"""HTTP clients that cost little themselves: kept connections, nothing parsed but the length."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

ANSWER_SECONDS = 30.0


@dataclass(frozen=True)
class Answer:
    """`seconds` from sending the request to having the whole answer; `began` is wall time."""

    status: int
    body: bytes
    seconds: float
    began: float


class Client:
    """One connection to 127.0.0.1 that is kept."""

    def __init__(self, port: int, headers: Mapping[str, str]) -> None:
        self.port = port
        lines = {"Host": f"127.0.0.1:{port}", **headers}
        self._head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    def send(self, method: str, path: str, body: bytes = b"", extra: str = "") -> None:
        """Send a request and wait for nothing."""
        head = f"{method} {path} HTTP/1.1\r\n{self._head}{extra}"
        if body:
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        self.writer.write(f"{head}\r\n".encode() + body)

    @property
    def answered(self) -> bool:
        """Return whether something came back that nobody has read, or the server hung up."""
        return bool(self.reader._buffer) or self.reader.at_eof()  # type: ignore[attr-defined]

    async def ask(self, method: str, path: str, body: bytes = b"") -> Answer:
        """Send a request and read its answer."""
        began, ticks = time.time(), time.perf_counter()
        self.send(method, path, body)
        async with asyncio.timeout(ANSWER_SECONDS):
            head = await self.reader.readuntil(b"\r\n\r\n")
            lines = [line.partition(b":") for line in head.lower().split(b"\r\n")]
            length = next(int(value) for name, _, value in lines if name == b"content-length")
            content = await self.reader.readexactly(length)
        return Answer(int(head.split(b" ", 2)[1]), content, time.perf_counter() - ticks, began)


class Stream:
    """An event stream of the product. `names` gets the name of each event as it comes.

    `ended` becomes the wall time at which the server ended it.
    """

    def __init__(self, port: int, path: str, headers: Mapping[str, str]) -> None:
        self._client = Client(port, {"Accept": "text/event-stream", **headers})
        self._path = path
        self.names: asyncio.Queue[str] = asyncio.Queue()
        self.ended: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        self._client.send("GET", self._path)
        async with asyncio.timeout(ANSWER_SECONDS):
            head = await self._client.reader.readuntil(b"\r\n\r\n")
        if head.split(b" ", 2)[1] != b"200":
            raise RuntimeError(f"The stream {self._path} answered {head[:60]!r}.")
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._client.__aexit__()

    async def _follow(self) -> None:
        while line := await self._client.reader.readline():
            if line.startswith(b"event: "):
                self.names.put_nowait(line[7:].decode().strip())
            elif line == b"0\r\n":  # the last chunk; lines of events end without the CR
                break
        self.ended.set_result(time.time())


async def together(
    port: int,
    headers: Mapping[str, str],
    clients: int,
    each: int,
    call: Callable[[Client], Awaitable[Answer]],
) -> tuple[list[Answer], float]:
    """Have `clients` call `each` times, all at once; return the answers and the seconds it took."""
    answers: list[Answer] = []

    async def work() -> None:
        async with Client(port, headers) as client:
            for _ in range(each):
                answers.append(await call(client))

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(clients)))
    return answers, time.perf_counter() - began


def expect(answers: list[Answer], *statuses: int) -> None:
    """Raise `RuntimeError` unless all have one of these: a fast refusal is no measurement."""
    for answer in answers:
        if answer.status not in statuses:
            raise RuntimeError(f"HTTP {answer.status}, not {statuses}: {answer.body[:300]!r}")
