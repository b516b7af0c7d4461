"""Addresses and fingerprints as people type them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hosts.drivers.base import normalise_fingerprint, normalise_url


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("mac1", "http://mac1/api"),
        (" Mac1.Example:3080/ ", "http://mac1.example:3080/api"),
        ("localhost:3080", "http://localhost:3080/api"),
        ("http://mac1:80", "http://mac1/api"),
        ("HTTPS://mac1:443/api/", "https://mac1/api"),
        ("https://mac1:80", "https://mac1:80/api"),
        ("http://127.0.0.1:1/h/1", "http://127.0.0.1:1/h/1/api"),
        ("http://127.0.0.1:1/h/1/api", "http://127.0.0.1:1/h/1/api"),
        ("http://mac1//h//1/api/v1/", "http://mac1/h/1/api"),
        ("http://[2001:DB8:0::1]:3080", "http://[2001:db8::1]:3080/api"),
        ("http://bücher.example", "http://xn--bcher-kva.example/api"),
        ("http://mac1/Ä b".replace(" ", ""), "http://mac1/%C3%84b/api"),
    ],
)
def test_normalise_url(text: str, url: str) -> None:
    assert normalise_url(text) == url
    assert normalise_url(url) == url


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "Enter the address"),
        ("   ", "Enter the address"),
        ("http://", "no host name"),
        ("http://user:secret@mac1", "Leave user name and password out"),
        ("user:secret@mac1", "Leave user name and password out"),
        ("ftp://mac1", "must begin with http"),
        ("file:///etc/passwd", "must begin with http"),
        ("http://mac1?x=1", "question mark"),
        ("http://mac1#", "number sign"),
        ("http://mac1:0", "port"),
        ("http://mac1:", "port"),
        ("http://mac1:70000", "not an address"),
        ("javascript:alert(1)", "not an address"),
        ("http://ma c1", "spaces"),
        ("http://mac1\\@evil", "backslashes"),
        ("http://mac1/../x", r"`\.\.`"),
        ("http://mac1/%2e%2E/x", r"`\.\.`"),
        ("http://ma_c!1", "host name may hold"),
        ("http://" + "a" * 64, "host name may hold"),
        ("http://[::1", "not an address"),
        ("http://[v1.x]", "IPv6|not an address|host name"),
    ],
)
def test_bad_addresses_are_explained(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        normalise_url(text)
    assert "secret" not in str(caught.value)


@given(st.text(max_size=60) | st.text("htps:/[]@?#.%a1é\\ ", max_size=30))
def test_any_text_is_normalised_once_or_refused_with_a_sentence(text: str) -> None:
    try:
        url = normalise_url(text)
    except ValueError as error:
        assert str(error).endswith(".")
    else:
        assert normalise_url(url) == url
        assert url.isascii() and url.endswith("/api")


def test_normalise_fingerprint() -> None:
    wanted = ":".join(["AB"] * 32)
    for text in ("ab" * 32, wanted.lower(), f" sha256 Fingerprint={wanted}\n"):
        assert normalise_fingerprint(text) == wanted
    for text in ("", "ab" * 31, "zz" * 32, "ab" * 33):
        with pytest.raises(ValueError, match="64 hexadecimal digits"):
            normalise_fingerprint(text)
