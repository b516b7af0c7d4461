"""No key of a storage goes to an address that `orchestrator.addresses` forbids.

The end of the connection that was made is looked at before anything is sent over it, so that a name
which leads elsewhere the second time changes nothing. For urllib3 (boto3, and requests below the
Azure client) and for httpx.
"""

from __future__ import annotations

from typing import Any

import httpcore
import httpx
from botocore.awsrequest import AWSHTTPConnectionPool, AWSHTTPSConnectionPool
from requests.adapters import HTTPAdapter
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from orchestrator.addresses import is_forbidden

SENTENCE = (
    "The storage's address leads where none may be: link-local, or where a cloud tells about its "
    "machines. Enter the storage's own address."
)


class ForbiddenAddress(Exception):
    """The connection ends where none may go; nothing was sent."""

    def __init__(self) -> None:
        super().__init__(SENTENCE)


def _guarded(connection: type[Any]) -> type[Any]:
    class Guarded(connection):
        def _new_conn(self) -> Any:
            sock = super()._new_conn()
            if is_forbidden(str(sock.getpeername()[0])):
                sock.close()
                raise ForbiddenAddress
            return sock

    return Guarded


def _pools(plain: type[Any], encrypted: type[Any]) -> dict[str, type[Any]]:
    return {
        scheme: type(
            f"Guarded{pool.__name__}", (pool,), {"ConnectionCls": _guarded(pool.ConnectionCls)}
        )
        for scheme, pool in (("http", plain), ("https", encrypted))
    }


BOTO_POOLS = _pools(AWSHTTPConnectionPool, AWSHTTPSConnectionPool)
_REQUESTS_POOLS = _pools(HTTPConnectionPool, HTTPSConnectionPool)


class GuardedAdapter(HTTPAdapter):
    """What a `requests` session is to be mounted with."""

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = _REQUESTS_POOLS


class _GuardedBackend(httpcore.SyncBackend):
    def connect_tcp(self, *arguments: Any, **options: Any) -> httpcore.NetworkStream:
        stream = super().connect_tcp(*arguments, **options)
        end = stream.get_extra_info("server_addr")
        if end and is_forbidden(str(end[0])):
            stream.close()
            raise ForbiddenAddress
        return stream


def httpx_client(**options: Any) -> httpx.Client:
    """Return an httpx client that goes nowhere forbidden, follows nothing and uses no proxy."""
    transport = httpx.HTTPTransport(verify=options.pop("verify", True), trust_env=False)
    transport._pool._network_backend = _GuardedBackend()
    return httpx.Client(transport=transport, trust_env=False, follow_redirects=False, **options)
