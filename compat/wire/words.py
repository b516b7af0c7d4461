"""Words of clients that mean one of ours."""

from __future__ import annotations

from catalog.manifests import ARCHITECTURES

# The GitHub Action sends node's word on PCs.
_ARCHITECTURES = {**ARCHITECTURES, "x64": "x86_64", "arm": "arm64"}


def architecture_of(text: str) -> str:
    """Return the architecture that `text` means; an unknown word stays as it is."""
    word = text.strip().lower()
    return _ARCHITECTURES.get(word, word)
