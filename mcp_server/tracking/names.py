"""Keys and texts as MLflow stores them unchanged: it refuses some keys and cuts long values without a word."""

import hashlib
import posixpath
import re
from collections.abc import Mapping
from typing import TypeVar

KEY_LIMIT = 250
PARAM_LIMIT = 6_000
TAG_LIMIT = 8_000
RENAMED_TAG = "mcp.name."

_LEGAL_KEY = re.compile(r"[/\w.\- :]+")
_ILLEGAL = re.compile(r"[^\w.\- :]")

T = TypeVar("T")


def legal_key(key: str) -> str:
    """`key` as a metric, parameter or tag may be named; a changed key ends with a digest, so two never collide.

    >>> legal_key("learning_rate")
    'learning_rate'
    >>> legal_key("layers[0]")
    'layers_0__caf57d8a'
    """
    if len(key) <= KEY_LIMIT and _LEGAL_KEY.fullmatch(key) and _is_own_path(key):
        return key
    digest = hashlib.sha256(key.encode("utf-8", "backslashreplace")).hexdigest()[:8]
    return f"{_ILLEGAL.sub('_', key).strip('.')[: KEY_LIMIT - 9]}_{digest}"


def _is_own_path(key: str) -> bool:
    # MLflow may use keys as file names and refuses those which would resolve to other names.
    return posixpath.normpath(key) == key and not key.startswith(("/", "..")) and key != "."


def legal_keys(items: Mapping[str, T]) -> tuple[dict[str, T], dict[str, str]]:
    """The items under legal keys, and the tags that tell what the changed ones were called."""
    legal = {legal_key(key): value for key, value in items.items()}
    renamed = {f"{RENAMED_TAG}{legal_key(key)}"[:KEY_LIMIT]: key for key in items if legal_key(key) != key}
    return legal, renamed


def fitted(value: object, limit: int) -> str:
    """The text of `value` if it fits, else its beginning with the full length and where to find the whole.

    >>> fitted("x" * 7_000, 6_000)[-42:]
    'xxx... (7,000 characters, see config.json)'
    """
    text = str(value).encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    if len(text) <= limit:
        return text
    note = f"... ({len(text):,} characters, see config.json)"
    return text[: limit - len(note)] + note
