"""Whose trials start first when places for them are scarce, as people say it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

Priority = Literal["low", "normal", "high"]
LEVELS: Mapping[Priority, int] = MappingProxyType({"low": -1, "normal": 0, "high": 1})
