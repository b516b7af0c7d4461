"""The conversation with a host, without any input or output of its own.

Each conversation is a generator that yields a `Request`, is sent the `Answer` (or has the
transport's `HostError` thrown in) and returns a value. The same generators are driven by a thread
and by an event loop, so login, fallbacks and the meaning of answers exist once.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Generator
from dataclasses import replace
from typing import Any, TypeVar

from hosts.drivers.base import (
    CachedImage,
    Connection,
    CreateAnswer,
    CreateSpec,
    ErrorKind,
    Hardware,
    HostError,
    Inventory,
    Limits,
    ReverseProxy,
)

from . import calls, hostcalls
from .calls import Call
from .messages import Answer, Request
from .reading import WrongAnswer, parse_json
from .scrub import scrub
from .tokens import tokens

T = TypeVar("T")
Conversation = Generator[Request, Answer, T]

_COMMON_HEADERS = (
    ("Accept", "application/json"),
    ("Accept-Encoding", "identity"),  # a compressed answer could be of any size
    ("User-Agent", "orchestrator"),
    ("X-SOURCE", "ORCHESTRATOR_REQUEST"),
    ("X-LOGGING", "IGNORE"),
)
_TRY_LATER = {408, 425, 429}
_NO_SUCH_ROUTE = re.compile(r"(?i)(error 404: )?(resource .*|.*page |route .*)?not found\.?")

_state_methods: dict[str, str] = {}
"""By host URL: the method its state verbs take, as learned; at worst it is learned again."""


class Session:
    """One host's conversations."""

    def __init__(self, connection: Connection, limits: Limits) -> None:
        self.connection = connection
        self.limits = limits

    def _secrets(self, call: Call[Any]) -> tuple[str, ...]:
        """What a host must not bring into a message by repeating it."""
        known = self.connection
        key = known.api_key
        return (
            known.password,
            key,
            key.partition(":")[2],
            base64.b64encode(key.encode(errors="replace")).decode(),
            tokens.get(known) or "",
            *call.secrets,
        )

    # Conversations of more than one call.

    def hardware(self) -> Conversation[Hardware]:
        """The machine with its identity; without Parallels Desktop there is no licence to show."""
        hardware = yield from self.perform(calls.hardware(self.limits))
        try:
            identity = yield from self.perform(calls.licence(self.limits))
        except HostError as error:
            if error.kind is not ErrorKind.NOT_FOUND:
                raise
            identity = ""
        return replace(hardware, hardware_id=identity)

    def cached_images(self) -> Conversation[tuple[CachedImage, ...] | None]:
        """The cache, or None where the host runs without one."""
        try:
            return (yield from self.perform(hostcalls.cached_images(self.limits)))
        except HostError as error:
            if error.kind is not ErrorKind.NOT_FOUND:
                raise
            return None

    def inventory(self) -> Conversation[Inventory]:
        """One call after the other: hosts are small machines."""
        hardware = yield from self.hardware()
        vms = yield from self.perform(calls.list_vms(self.limits))
        images = None
        if not hardware.modules or "cache" in hardware.modules:
            images = yield from self.cached_images()
        return Inventory(hardware, vms, images)

    def logs(self, lines: int) -> Conversation[tuple[str, ...]]:
        """The last lines, each without the secrets that we know and what looks like one."""
        text = yield from self.perform(hostcalls.logs(self.limits))
        secrets = self._secrets(hostcalls.logs(self.limits))
        return tuple(scrub(line, secrets, limit=1000) for line in text.splitlines()[-lines:])

    def hide(self, text: str) -> str:
        """Return what the host said of itself without the secrets that we know, as for its log."""
        return scrub(text, self._secrets(hostcalls.logs(self.limits)), limit=1000)

    def reverse_proxy(self) -> Conversation[ReverseProxy | None]:
        """Its state, and what it listens at; None where the host runs without one."""
        try:
            proxy = yield from self.perform(hostcalls.reverse_proxy(self.limits))
            hosts = yield from self.perform(hostcalls.proxy_hosts(self.limits))
        except HostError as error:
            if error.kind is not ErrorKind.NOT_FOUND:
                raise
            return None
        return replace(proxy, hosts=hosts)

    def create(self, spec: CreateSpec, job_id: str) -> Conversation[CreateAnswer]:
        """Ask for a job, or hold the line where the host has no jobs."""
        call = calls.create_async(spec, job_id, self.limits)
        answer = yield from self._exchange(call)
        if answer.status == 405 or (answer.status == 404 and _lacks_route(answer)):
            return (yield from self.perform(calls.create_sync(spec, self.limits)))
        return self._interpret(call, answer)

    def log_in_first(self) -> Conversation[None]:
        """Fetch the token that the next call will need, when there is none."""
        if not self.connection.api_key and self.connection.username:
            yield from self.token()

    # One call.

    def perform(self, call: Call[T]) -> Conversation[T]:
        """Send a call and return what it is parsed to; raises `HostError`."""
        answer = yield from self._exchange(call)
        return self._interpret(call, answer)

    def _exchange(self, call: Call[Any]) -> Conversation[Answer]:
        """Send a call with the method this host takes, and learn which one that is."""
        if not call.or_get:
            return (yield from self._authorised(call))
        method = _state_methods.get(self.connection.url, call.method)
        answer = yield from self._authorised(replace(call, method=method))
        if answer.status == 405:
            method = "GET" if method == call.method else call.method
            answer = yield from self._authorised(replace(call, method=method))
        if answer.status < 300:
            _state_methods[self.connection.url] = method
        return answer

    def _authorised(self, call: Call[Any]) -> Conversation[Answer]:
        """Send a call with credentials; a refused token is renewed once."""
        if not call.authenticated:
            return (yield from self._send(call))
        if self.connection.api_key:
            key = encode_api_key(self.connection.api_key)
            answer = yield from self._send(call, ("X-Api-Key", key))
            if answer.status != 401 or not call.needs_user:
                return answer
        token = yield from self.token()
        answer = yield from self._send(call, ("Authorization", f"Bearer {token}"))
        if answer.status == 401:
            tokens.drop(self.connection, token)
            token = yield from self.token()
            answer = yield from self._send(call, ("Authorization", f"Bearer {token}"))
        return answer

    def token(self) -> Conversation[str]:
        """The kept token, or a new one."""
        if token := tokens.get(self.connection):
            return token
        if self.connection.api_key:
            call = calls.exchange_key(encode_api_key(self.connection.api_key), self.limits)
        elif self.connection.username:
            call = calls.log_in(self.connection, self.limits)
        else:
            raise HostError(
                ErrorKind.CREDENTIALS,
                "There are no credentials for this host. "
                "Enter a user name and password, or an API key.",
            )
        answer = yield from self._send(call)
        refused = answer.status in {400, 401, 403} and _is_json(answer)
        if refused or (answer.status == 404 and _has_diagnostics(answer)):
            raise self._wrong_credentials(answer)
        token, lifetime = self._interpret(call, answer)
        tokens.put(self.connection, token, lifetime)
        return token

    def _send(self, call: Call[Any], *headers: tuple[str, str]) -> Conversation[Answer]:
        content = None if call.body is None else json.dumps(call.body).encode()
        declared = () if content is None else (("Content-Type", "application/json"),)
        request = Request(
            method=call.method,
            url=self.connection.url + call.path,
            headers=(*_COMMON_HEADERS, *declared, *call.headers, *headers),
            content=content,
            limit_seconds=call.limit_seconds,
            keep_bytes=call.keep_bytes,
        )
        try:
            return (yield request)
        except HostError as error:
            if not call.changes_state:
                error.outcome_unknown = False
            if error.kind is ErrorKind.NOT_DEVOPS and not call.introduces:
                # A host that we know did not turn into something else; it is in trouble.
                error.kind, error.permanent = ErrorKind.BAD_ANSWER, False
            raise

    # What an answer means.

    def _interpret(self, call: Call[T], answer: Answer) -> T:
        if not 200 <= answer.status < 300:
            raise self._refusal(call, answer)
        document = None
        try:
            if call.plain:
                document = answer.body.decode(errors="replace")
            elif answer.body or not call.may_be_empty:
                if not _is_json(answer):
                    raise self._foreign(call, answer)
                document = parse_json(answer.body)
            return call.parse(document, answer)
        except WrongAnswer as wrong:
            raise HostError(
                ErrorKind.BAD_ANSWER,
                f"The host's answer when asked to {call.does} cannot be used: {wrong}. "
                "Check the version of its DevOps service and what stands between.",
                outcome_unknown=call.changes_state,
                status=answer.status,
            ) from None
        except HostError as error:
            error.message = scrub(error.message, self._secrets(call), limit=600)
            error.status = answer.status
            raise

    def _foreign(self, call: Call[Any], answer: Answer) -> HostError:
        """Something answered that does not speak JSON."""
        seen = scrub(answer.content_type, limit=60) or "nothing"
        if call.introduces:
            return HostError(
                ErrorKind.NOT_DEVOPS,
                "What answers at this address is not a DevOps API "
                f"(it sent {seen} with status {answer.status}). "
                "Check port and path of the address.",
                status=answer.status,
            )
        return HostError(
            ErrorKind.BAD_ANSWER,
            f"The host's answer when asked to {call.does} is not JSON (it sent {seen}). "
            "Check what stands between us and the host.",
            outcome_unknown=call.changes_state,
            status=answer.status,
        )

    def _refusal(self, call: Call[Any], answer: Answer) -> HostError:
        status = answer.status
        reason = scrub(_reason(answer), self._secrets(call))
        said = f" It said: {reason.rstrip('.')}." if reason else ""
        if status < 400:
            return HostError(
                ErrorKind.NOT_DEVOPS if call.introduces else ErrorKind.BAD_ANSWER,
                f"The host redirected us (status {status}) when asked to {call.does}. "
                "Enter the address that it redirects to.",
                outcome_unknown=call.changes_state,
                status=status,
            )
        if status >= 500:
            return HostError(
                ErrorKind.HOST_FAILED,
                f"The host failed with status {status} when asked to {call.does}.{said} "
                "See the log of its DevOps service.",
                outcome_unknown=call.changes_state,
                status=status,
            )
        if call.introduces and (status in {404, 405} or not _is_json(answer)):
            return self._foreign(call, answer)
        if status == 401:
            return self._wrong_credentials(answer)
        kind = ErrorKind.NOT_FOUND if status == 404 else ErrorKind.REJECTED
        return HostError(
            kind,
            f"The host refused to {call.does} (status {status})."
            f"{said or ' It gave no reason; see its log.'}",
            permanent=False if status in _TRY_LATER else None,
            status=status,
        )

    def _wrong_credentials(self, answer: Answer) -> HostError:
        what = "this API key" if self.connection.api_key else "this user name and password"
        return HostError(
            ErrorKind.CREDENTIALS,
            f"The host does not accept {what} for this call. Enter the right credentials "
            "and check that the account has the rights it needs on the host.",
            status=answer.status,
        )


def encode_api_key(api_key: str) -> str:
    """Return `key:secret` in base64 as the host wants it; raises `HostError` for any other text."""
    if ":" in api_key:
        return base64.b64encode(api_key.encode(errors="replace")).decode()
    try:
        if b":" in base64.b64decode(api_key, validate=True):
            return api_key
    except (ValueError, binascii.Error):
        pass
    raise HostError(
        ErrorKind.CREDENTIALS,
        "The API key has the wrong form. Enter it as key:secret, or that in base64.",
    )


def _is_json(answer: Answer) -> bool:
    return answer.content_type.partition(";")[0].strip().lower() == "application/json"


def _error_body(answer: Answer) -> dict[str, Any]:
    try:
        document = parse_json(answer.body[:65536])
    except WrongAnswer:
        return {}
    return document if isinstance(document, dict) else {}


def _reason(answer: Answer) -> str:
    """The host's own words: the shapes of contract 2.0, never its stack or file names."""
    body = _error_body(answer)
    for key in ("message", "error_description", "error"):
        if isinstance(text := body.get(key), str) and text:
            return text
    return ""


def _has_diagnostics(answer: Answer) -> bool:
    """Whether a 404 answers a wrong password rather than an unknown path (contract 2.1)."""
    return "diagnostics" in _error_body(answer)


def _lacks_route(answer: Answer) -> bool:
    """Whether a 404 means that the host has no such call; a failed create may answer 404 too."""
    body = _error_body(answer)
    return "message" not in body or bool(_NO_SUCH_ROUTE.fullmatch(_reason(answer)))
