"""What is told at this moment and never again: hosts of themselves, and our own log.

It comes through Redis from the processes that know it, and only while a socket wants it.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from compat.events.messages import message
from orchestrator.web.fleeting import HOSTS, LOGS
from orchestrator.web.wake import Hub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from compat.events.socket import Socket

# What a socket must have subscribed to, for a channel to be of use to it.
TYPES = {HOSTS: frozenset({"orchestrator", "reverse_proxy"}), LOGS: frozenset({"system_logs"})}
# Our log says who did what and from where: it takes both rights.
OF_LOG = frozenset({"hosts.logs", "audit.view"})


class Relay:
    """Gives sockets what comes in, each what it has subscribed to and may see by now."""

    def __init__(self, sockets: Callable[[], list[Socket]]) -> None:
        self._sockets = sockets
        self._wanted = dict.fromkeys(READ, 0)
        self._hubs: dict[str, Hub] = {}
        self._stopping: set[asyncio.Task[None]] = set()

    @contextmanager
    def for_types(self, types: frozenset[str]) -> Iterator[None]:
        """Listen within the block to the channels that these types need. Waits for nothing."""
        channels = [name for name, of in TYPES.items() if types & of]
        for name in channels:
            self._wanted[name] += 1
            if name not in self._hubs:
                self._hubs[name] = self._listen(name)
        try:
            yield
        finally:
            for name in channels:
                self._wanted[name] -= 1
                if not self._wanted[name]:
                    task = asyncio.create_task(self._hubs.pop(name).stop())
                    self._stopping.add(task)
                    task.add_done_callback(self._stopping.discard)

    def _listen(self, name: str) -> Hub:
        hub = Hub(name)

        def on_text(text: str) -> None:
            if self._hubs.get(name) is hub:  # and not one that is being stopped
                self._give(text, READ[name])

        hub.listen(on_text)
        hub.start()
        return hub

    def _give(self, text: str, read: Callable[[dict[str, Any]], list[Offer]]) -> None:
        if not text:  # the subscription stands
            return
        try:
            offers = read(json.loads(text))
        except (ValueError, TypeError, KeyError):
            # Of a process of another version. No word in the log: that would come here, too.
            return
        for socket in self._sockets():
            for offer in offers:
                socket.offer(offer)


class Offer:
    """A message for those who subscribed to its type and have all of some permissions."""

    def __init__(self, permissions: frozenset[str], event_type: str, name: str, body: Any) -> None:
        self.permissions = permissions
        self.event_type = event_type
        self._name = name
        self._body = body
        self._text = ""

    @property
    def text(self) -> str:
        """The message as it is sent; made when somebody takes it, and the same for all."""
        if not self._text:
            self._text = json.dumps(message(self.event_type, self._name, self._body))
        return self._text


def of_host(told: dict[str, Any]) -> list[Offer]:
    """Return what a host's report (`hosts.watching.passing`) is in the contract's words."""
    return list(_of_host(told["host"], told["topic"], told["name"], told["body"]))


def _of_host(host: str, topic: str, name: str, body: dict[str, Any]) -> Iterator[Offer]:
    see = frozenset({"hosts.view"})
    match topic:
        case "stats":
            about = {"host_id": host, "stats": body}
            yield Offer(see, "orchestrator", "HOST_STATS_UPDATE", about)
        case "log":
            about = {"host_id": host, "log": body}
            yield Offer(see | {"hosts.logs"}, "orchestrator", "HOST_LOGS_UPDATE", about)
        case "proxy":
            yield Offer(see, "reverse_proxy", name, {"host_id": host, **body})
            about = {"host_id": host, "event": body}
            yield Offer(see, "orchestrator", "HOST_REVERSE_PROXY_UPDATED", about)
        case "traffic":
            yield Offer(see, "reverse_proxy", name, {"host_id": host, **body})


def of_log(line: dict[str, Any]) -> list[Offer]:
    """Return the message that a line of our log is."""
    return [Offer(OF_LOG, "system_logs", "System Log", line)]


READ: dict[str, Callable[[dict[str, Any]], list[Offer]]] = {HOSTS: of_host, LOGS: of_log}
