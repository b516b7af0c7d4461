"""Whom to trust over TLS: the usual authorities, or exactly one pinned certificate.

The pin is checked at the end of the handshake, on our side of the socket: a host with another
certificate never sees a request, let alone a password.
"""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import threading
from typing import Any

import httpx

from hosts.drivers.addresses import normalise_fingerprint

_contexts: dict[str, ssl.SSLContext] = {}
_lock = threading.Lock()


class FingerprintMismatch(ssl.SSLCertVerificationError):
    """The host showed another certificate than the pinned one, with this `fingerprint`."""

    def __init__(self, fingerprint: str) -> None:
        super().__init__(1, "the certificate is not the pinned one")
        self.fingerprint = fingerprint


def fingerprint_of(certificate: bytes) -> str:
    """The SHA-256 of a certificate in DER form, as `AA:BB:…`."""
    return hashlib.sha256(certificate).digest().hex(":").upper()


def _check_pin(handshake: Any) -> None:
    """Raise unless the finished handshake showed the certificate that its context pins."""
    shown = fingerprint_of(handshake.getpeercert(binary_form=True) or b"")
    if shown != handshake.context.pinned_fingerprint:
        raise FingerprintMismatch(shown)


class _PinnedSocket(ssl.SSLSocket):
    def do_handshake(self, block: bool = False) -> None:
        super().do_handshake(block)
        _check_pin(self)


class _PinnedObject(ssl.SSLObject):
    def do_handshake(self) -> None:
        super().do_handshake()
        _check_pin(self)


def context_for(tls_fingerprint: str) -> ssl.SSLContext:
    """Return the process's one context for a trust setting (building one takes 40 ms).

    An empty fingerprint means the authorities of the system and of certifi. Raises `ValueError`
    for a text that is no fingerprint.
    """
    pin = normalise_fingerprint(tls_fingerprint) if tls_fingerprint else ""
    with _lock:
        if pin not in _contexts:
            _contexts[pin] = _pinned_context(pin) if pin else _default_context()
        return _contexts[pin]


def _default_context() -> ssl.SSLContext:
    context = httpx.create_ssl_context(trust_env=False)
    context.load_default_certs()  # companies install their own authority in the system's store
    return context


def _pinned_context(pin: str) -> ssl.SSLContext:
    context = _unverified_context()
    # Attributes of the instance rather than a subclass of SSLContext: anyio would send every
    # handshake of a subclass through a thread.
    context.sslsocket_class = _PinnedSocket
    context.sslobject_class = _PinnedObject
    context.pinned_fingerprint = pin  # type: ignore[attr-defined]
    return context


def _unverified_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def shown_fingerprint(host: str, port: int, timeout_seconds: float) -> str | None:
    """Return the fingerprint of the certificate a server shows, if any; sends no request."""
    try:
        with (
            socket.create_connection((host, port), timeout_seconds) as plain,
            _unverified_context().wrap_socket(plain, server_hostname=host) as secured,
        ):
            certificate = secured.getpeercert(binary_form=True)
    except (OSError, ValueError):
        return None
    return fingerprint_of(certificate) if certificate else None


def _forget_lock() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forget_lock)
