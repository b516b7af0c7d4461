"""The driver's two faces: blocking calls for jobs and pages, awaitable ones for the poller."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeVar

from websockets.asyncio.client import ClientConnection

from hosts.drivers.base import (
    DEFAULT_LIMITS,
    CachedImage,
    Changes,
    Configuration,
    Connection,
    CreateAnswer,
    CreateSpec,
    ErrorKind,
    ExecuteResult,
    Hardware,
    HostError,
    HostJob,
    Inventory,
    Limits,
    News,
    PushSpec,
    RemoteVM,
    Report,
    ReverseProxy,
    Snapshot,
    VMStatus,
)

from . import bundles, calls, configuring, events, hostcalls
from .calls import Call
from .session import Conversation, Session
from .tokens import tokens
from .transport import AsyncTransport, Transport

T = TypeVar("T")


class ParallelsDriver:
    """A host that speaks the DevOps API; see `base.Driver`. Threads may share one."""

    def __init__(self, connection: Connection, limits: Limits = DEFAULT_LIMITS) -> None:
        self._session = Session(connection, limits)
        self._limits = limits
        self._transport = Transport(connection.tls_fingerprint, limits.max_answer_bytes)

    def probe(self) -> float:
        return self._hold(self._session.perform(calls.probe(self._limits)))

    def hardware(self) -> Hardware:
        return self._run(self._session.hardware())

    def list_vms(self) -> tuple[RemoteVM, ...]:
        return self._call(calls.list_vms(self._limits))

    def read_vm(self, vm_id: str) -> RemoteVM:
        return self._call(calls.read_vm(vm_id, self._limits))

    def status(self, vm_id: str) -> VMStatus:
        return self._call(calls.status(vm_id, self._limits))

    def create(self, spec: CreateSpec, job_id: str) -> CreateAnswer:
        return self._run(self._session.create(spec, job_id))

    def clone(self, source_id: str, name: str) -> str:
        return self._call(calls.clone(source_id, name, self._limits))

    def configure(
        self, vm_id: str, cpus: int, memory_mib: int, disk_gib: int | None = None
    ) -> None:
        self._call(calls.configure(vm_id, cpus, memory_mib, disk_gib, self._limits))

    def configuration(self, vm_id: str) -> Configuration:
        return self._call(configuring.configuration(vm_id, self._limits))

    def change(self, vm_id: str, changes: Changes) -> None:
        self._call(configuring.change(vm_id, changes, self._limits))

    def rename(self, vm_id: str, name: str) -> None:
        self._call(calls.rename(vm_id, name, self._limits))

    def start(self, vm_id: str) -> None:
        self._call(calls.start(vm_id, self._limits))

    def suspend(self, vm_id: str) -> None:
        self._call(calls.suspend(vm_id, self._limits))

    def resume(self, vm_id: str) -> None:
        self._call(calls.resume(vm_id, self._limits))

    def pause(self, vm_id: str) -> None:
        self._call(calls.pause(vm_id, self._limits))

    def restart(self, vm_id: str) -> None:
        self._call(calls.restart(vm_id, self._limits))

    def reset(self, vm_id: str) -> None:
        self._call(calls.reset(vm_id, self._limits))

    def stop(self, vm_id: str, force: bool) -> None:
        self._call(calls.stop(vm_id, force, self._limits))

    def delete(self, vm_id: str, force: bool) -> None:
        self._call(calls.delete(vm_id, force, self._limits))

    def execute(
        self,
        vm_id: str,
        command: str,
        environment: Mapping[str, str],
        timeout_seconds: float,
        *,
        user: str = "",
        sudo: bool = False,
    ) -> ExecuteResult:
        call = calls.execute(
            vm_id, command, environment, timeout_seconds, self._limits, user=user, sudo=sudo
        )
        return self._call(call)

    def upload(self, vm_id: str, path: str, remote_path: str) -> None:
        self._call(calls.upload(vm_id, path, remote_path, self._limits))

    def snapshots(self, vm_id: str) -> tuple[Snapshot, ...]:
        return self._call(calls.snapshots(vm_id, self._limits))

    def take_snapshot(self, vm_id: str, name: str, description: str) -> str:
        return self._call(calls.take_snapshot(vm_id, name, description, self._limits))

    def revert_to_snapshot(self, vm_id: str, snapshot_id: str) -> None:
        self._call(calls.revert_to_snapshot(vm_id, snapshot_id, self._limits))

    def delete_snapshot(self, vm_id: str, snapshot_id: str, children: bool) -> None:
        self._call(calls.delete_snapshot(vm_id, snapshot_id, children, self._limits))

    def delete_snapshots(self, vm_id: str) -> None:
        self._call(calls.delete_snapshots(vm_id, self._limits))

    def register(self, path: str, name: str, new_id: bool, user: str = "") -> RemoteVM:
        return self._call(hostcalls.register(path, name, new_id, user, self._limits))

    def unregister(self, vm_id: str) -> None:
        self._call(hostcalls.unregister(vm_id, self._limits))

    def folder_size(self, path: str, user: str) -> int | None:
        return self._call(bundles.folder_size(path, user, self._limits))

    def read_job(self, job_id: str) -> HostJob:
        return self._call(calls.read_job(job_id, self._limits))

    def push(self, spec: PushSpec, job_id: str) -> str:
        return self._call(hostcalls.push(spec, job_id, self._limits))

    def delete_cached(self, catalog_id: str = "", version: str = "") -> None:
        self._call(hostcalls.delete_cached(catalog_id, version, self._limits))

    def cached_images(self) -> tuple[CachedImage, ...] | None:
        return self._run(self._session.cached_images())

    def logs(self, lines: int) -> tuple[str, ...]:
        return self._run(self._session.logs(lines))

    def reverse_proxy(self) -> ReverseProxy | None:
        return self._run(self._session.reverse_proxy())

    def relay_reverse_proxy(self, method: str, parts: Sequence[str], body: Any = None) -> Any:
        return self._call(hostcalls.relay(method, parts, body, self._limits))

    def inventory(self) -> Inventory:
        return self._run(self._session.inventory())

    def close(self) -> None:
        """Nothing to let go: connections belong to the process's shared client."""

    def _call(self, call: Call[T]) -> T:
        return self._run(self._session.perform(call))

    def _run(self, conversation: Conversation[T]) -> T:
        """Hold a conversation that may need a token; threads that need the same one share it."""
        connection = self._session.connection
        if not connection.api_key and tokens.get(connection) is None:
            with tokens.one_login(connection, self._limits.login_seconds):
                self._hold(self._session.log_in_first())
        return self._hold(conversation)

    def _hold(self, conversation: Conversation[T]) -> T:
        try:
            request = next(conversation)
            while True:
                try:
                    answer = self._transport.send(request)
                except HostError as error:
                    request = conversation.throw(error)
                else:
                    request = conversation.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result


class AsyncParallelsDriver:
    """The poller's view of such a host; see `base.AsyncDriver`. For one task at a time."""

    def __init__(self, connection: Connection, limits: Limits = DEFAULT_LIMITS) -> None:
        self._session = Session(connection, limits)
        self._limits = limits
        self._transport = AsyncTransport(connection.tls_fingerprint, limits.max_answer_bytes)

    async def probe(self) -> float:
        return await self._hold(self._session.perform(calls.probe(self._limits)))

    async def inventory(self) -> Inventory:
        return await self._hold(self._session.inventory())

    async def news(self, report: Callable[[Report], None] | None = None) -> AsyncIterator[News]:
        types = events.EVENT_TYPES if report is None else events.ALL_TYPES
        async with await self._subscribe(types) as socket:
            yield News(listing=True)
            async for news in events.follow(socket, report, self._session.hide):
                yield news

    async def _subscribe(self, types: str) -> ClientConnection:
        """Open the hub; a refused token is renewed once."""
        connection = self._session.connection
        token = await self._hold(self._session.token())
        try:
            return await events.subscribe(connection, token, types)
        except HostError as error:
            if error.kind is not ErrorKind.CREDENTIALS:
                raise
        tokens.drop(connection, token)
        return await events.subscribe(connection, await self._hold(self._session.token()), types)

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def _hold(self, conversation: Conversation[T]) -> T:
        try:
            request = next(conversation)
            while True:
                try:
                    answer = await self._transport.send(request)
                except HostError as error:
                    request = conversation.throw(error)
                else:
                    request = conversation.send(answer)
        except StopIteration as end:
            result: T = end.value
            return result
