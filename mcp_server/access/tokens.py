"""Bearer tokens: made here, kept as digests, compared in constant time."""

import hashlib
import hmac
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from mcp_server.access.roles import Principal
from mcp_server.errors import InvalidRequestError

LENGTH_LEAST = 16


def new_token() -> str:
    """A token of 256 random bits."""
    return secrets.token_urlsafe(32)


class Tokens:
    """The bearer tokens that are accepted, and whose they are.

    Raises:
        InvalidRequestError: If a token is short enough to be guessed.

    >>> from mcp_server.access import Role
    >>> tokens = Tokens({"correct horse battery": Principal("ann", Role.VIEWER)})
    >>> tokens.principal("correct horse battery").name, tokens.principal("incorrect horse battery")
    ('ann', None)
    """

    def __init__(self, owners: Mapping[str, Principal]) -> None:
        if any(len(token) < LENGTH_LEAST for token in owners):
            raise InvalidRequestError(
                f"The bearer token has fewer than {LENGTH_LEAST} characters.",
                hint="Leave it out to have one generated, or use a longer one.",
            )
        self._owners = [(_digest(token), owner) for token, owner in owners.items()]

    def principal(self, token: str) -> Principal | None:
        """Whose token this is; every accepted one is compared, so the time taken says nothing."""
        presented = _digest(token)
        found = [owner for digest, owner in self._owners if hmac.compare_digest(digest, presented)]
        return found[0] if found else None


def write_token(path: Path, token: str) -> None:
    """Put `token` into a file that only its owner can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(file, "w", encoding="ascii") as opened:
        opened.write(token)
    fresh.replace(path)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
