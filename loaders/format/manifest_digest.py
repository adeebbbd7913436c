"""The digest that a manifest ends with: of all that comes before it, so that nothing is written anew to compare it."""

from __future__ import annotations

import hashlib

_ENTRY = ',\n "sha256": "'


def add(text: str) -> str:
    """A JSON object with the digest of itself as its last entry."""
    body = text.rstrip().removesuffix("}").rstrip()
    return body + _ending(body.encode())


def broken(data: bytes) -> str:
    """What was expected and found of an object whose digest is not that of itself; "" where it is."""
    body, _, _ = data.rpartition(_ENTRY.encode())
    if data == body + _ending(body).encode():
        return ""
    return (
        f"expected its last entry to be the SHA-256 of all before it, {hashlib.sha256(body).hexdigest()}; "
        "found another: the manifest is damaged, or has been changed since it was written"
    )


def _ending(body: bytes) -> str:
    return f'{_ENTRY}{hashlib.sha256(body).hexdigest()}"\n}}\n'
