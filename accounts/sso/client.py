"""HTTP to the provider: bounded, without proxies and redirects, never to a metadata address."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from allauth.socialaccount import app_settings
from requests.adapters import HTTPAdapter

from orchestrator.addresses import is_forbidden

if TYPE_CHECKING:
    from collections.abc import Mapping

MAXIMUM_BYTES = 1_000_000


class _Guarded(HTTPAdapter):
    """The settings name the provider; what its discovery document names is only its word."""

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> Any:
        host = urlsplit(request.url or "").hostname or ""
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise requests.ConnectionError(f"{host} is not known") from error
        if any(is_forbidden(str(address[0])) for *_, address in found):
            raise requests.ConnectionError(f"{host} leads to an address that is not allowed")
        return super().send(request, *args, **options)


class Session(requests.Session):
    """As `requests.Session`; answers are at most `MAXIMUM_BYTES` long."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False
        for scheme in ("https://", "http://"):
            self.mount(scheme, _Guarded())

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        options |= {
            "stream": True,
            "timeout": app_settings.REQUESTS_TIMEOUT,
            "allow_redirects": False,
        }
        answer = super().send(request, **options)
        body = answer.raw.read(MAXIMUM_BYTES + 1, decode_content=True)
        answer.close()
        if len(body) > MAXIMUM_BYTES:
            raise requests.ConnectionError("the answer is too long")
        answer._content = body
        return answer


def read_json(answer: requests.Response) -> Mapping[str, Any]:
    """Return the JSON object of an answer. Raises `requests.RequestException`."""
    if answer.status_code != requests.codes.ok:
        raise requests.HTTPError(f"it answered {answer.status_code}")
    body = answer.json()
    if not isinstance(body, dict):
        raise requests.exceptions.InvalidJSONError("it answered with no object")
    return body
