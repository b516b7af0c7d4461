"""The calls about a host itself, beside its VMs: its cache, what is registered, logs, proxy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hosts.drivers.base import (
    CachedImage,
    Limits,
    ProxyHost,
    ProxyRoute,
    PushSpec,
    RemoteVM,
    ReverseProxy,
)

from . import parsing
from .calls import Call, join
from .messages import Answer
from .reading import Node, clean, nodes
from .scrub import connection_secrets


def cached_images(limits: Limits) -> Call[tuple[CachedImage, ...]]:
    return Call("list its cached images", "GET", "/v1/cache", limits.list_seconds, parsing.images)


def delete_cached(catalog_id: str, version: str, limits: Limits) -> Call[None]:
    return Call(
        "delete what it has cached",
        "DELETE",
        join("v1", "cache", *filter(None, (catalog_id, version))),
        limits.state_seconds,
        parsing.done,
        changes_state=True,
        may_be_empty=True,
    )


def push(spec: PushSpec, job_id: str, limits: Limits) -> Call[str]:
    """Hand the push over to a job of the host, with our id for it (contract 3.7, 8.35)."""
    return Call(
        "take the request to push the VM",
        "POST",
        "/v1/catalog/push/async",
        limits.create_seconds,
        _job_id,
        body={
            "local_path": spec.local_path,
            "catalog_id": spec.catalog_id,
            "version": spec.version,
            "architecture": spec.architecture,
            "description": spec.description,
            "connection": spec.connection,
            "compress_pack": spec.compress,
            "override_existing": spec.override,
            "tags": list(spec.tags),
            "required_roles": list(spec.required_roles),
            "required_claims": list(spec.required_claims),
            "minimum_requirements": {
                "cpu": spec.minimum_cpus,
                "memory": spec.minimum_memory_mib,
                "disk": spec.minimum_disk_gib * 1024,
            },
        },
        headers=(("X-INTERNAL-API-CLIENT", "true"), ("X-ORCHESTRATOR-JOB-ID", job_id)),
        secrets=connection_secrets(spec.connection),
        changes_state=True,
        needs_user=True,
    )


def _job_id(document: Any, answer: Answer) -> str:
    return Node.of(document).identifier("id")


def register(path: str, name: str, new_id: bool, user: str, limits: Limits) -> Call[RemoteVM]:
    return Call(
        "register the VM",
        "POST",
        "/machines/register",
        limits.state_seconds,
        parsing.vm,
        body={
            "path": path,
            **({"machine_name": name} if name else {}),
            **({"owner": user} if user else {}),
            "regenerate_source_uuid": new_id,
        },
        changes_state=True,
    )


def unregister(vm_id: str, limits: Limits) -> Call[None]:
    return Call(
        "unregister the VM",
        "POST",
        join("machines", vm_id, "unregister"),
        limits.state_seconds,
        parsing.done,
        body={"id": vm_id, "clean_source_uuid": False},
        changes_state=True,
    )


def logs(limits: Limits) -> Call[str]:
    """The whole log: hosts cannot be asked for its end alone (contract 2.7)."""
    return Call(
        "show its log",
        "GET",
        "/v1/logs",
        limits.look_seconds,
        _text,
        plain=True,
        keep_bytes=limits.max_log_bytes,
    )


def reverse_proxy(limits: Limits) -> Call[ReverseProxy]:
    path = "/reverse-proxy"
    return Call("show its reverse proxy", "GET", path, limits.look_seconds, _proxy)


def proxy_hosts(limits: Limits) -> Call[tuple[ProxyHost, ...]]:
    path = "/reverse-proxy/hosts"
    return Call("list what its reverse proxy does", "GET", path, limits.look_seconds, _hosts)


def relay(method: str, parts: Sequence[str], body: Any, limits: Limits) -> Call[Any]:
    """A call of its reverse proxy as it is: what comes back is not looked into here."""
    return Call(
        "change its reverse proxy" if method != "GET" else "show its reverse proxy",
        method,
        join("reverse-proxy", *parts),
        limits.look_seconds,
        _document,
        body=body,
        changes_state=method != "GET",
        may_be_empty=True,
    )


def _document(document: Any, answer: Answer) -> Any:
    return document


def _text(document: Any, answer: Answer) -> str:
    return clean(document)


def _proxy(document: Any, answer: Answer) -> ReverseProxy:
    node = Node.of(document)
    return ReverseProxy(node.boolean("enabled", False), node.text("host", ""), _port(node), ())


def _hosts(document: Any, answer: Answer) -> tuple[ProxyHost, ...]:
    """What it listens at. Its certificates and keys are not even read."""
    if document is None:  # Go's nil slice
        return ()
    return tuple(
        ProxyHost(
            id=node.identifier("id"),
            name=node.text("name", ""),
            host=node.text("host", ""),
            port=_port(node),
            tls=node.child("tls", {}).boolean("enabled", False),
            routes=tuple(map(_route, _routes(node))),
        )
        for node in nodes(document, "")
    )


def _routes(node: Node) -> list[Node]:
    found = list(node.children("http_routes"))
    return [*found, node.child("tcp_route")] if node.values.get("tcp_route") else found


def _route(node: Node) -> ProxyRoute:
    vm_id = node.text("target_vm_id", "")
    return ProxyRoute(
        path=node.text("path", "") or node.text("pattern", ""),
        target=vm_id or node.text("target_host", ""),
        target_is_vm=bool(vm_id),
        target_port=_port(node, "target_port"),
    )


def _port(node: Node, key: str = "port") -> str:
    """A port, which hosts send as text or as a number."""
    value = node.values.get(key)
    return str(value) if isinstance(value, int) else node.text(key, "")
