"""The aliases and the name rule that every package shares."""

import unicodedata
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, JsonValue

JsonObject = dict[str, JsonValue]
Scalar = str | bool | int | float | None
Params = dict[str, Scalar]

Direction = Literal["maximize", "minimize"]
Task = Literal["classification", "regression"]
StudyState = Literal["waiting for approval", "queued", "running", "paused", "finished", "stopped", "failed"]
TrialState = Literal["running", "complete", "pruned", "failed"]
AttemptState = Literal["running", "completed", "pruned", "failed", "timeout", "oom", "cancelled", "lost"]

WAITS_FOR_APPROVAL: Final = "waiting for approval"
ENDED_STATES: frozenset[str] = frozenset({"finished", "stopped", "failed"})

NAME_LIMIT = 120
_RESERVED = frozenset(
    {"con", "prn", "aux", "nul", *(f"com{i}" for i in range(1, 10)), *(f"lpt{i}" for i in range(1, 10))}
)
_FORBIDDEN = frozenset("/\\:\"<>|;'`")
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def shown(value: object, limit: int = 80) -> str:
    """`value` as an error message may repeat it: printable and capped.

    >>> shown("a" * 100)[-1]
    '…'
    """
    text = repr(value) if not isinstance(value, str) else value
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def checked_name(name: str) -> str:
    """`name` in NFC when it may name a study, an experiment, a model or a tag.

    Letters of any script, digits, emoji, spaces inside, and `_ . - ( ) { } % $ # , + = @ & ! ~ [ ]` are allowed.

    Raises:
        ValueError: If the name is empty, too long, reserved on some system, looks like a path or an option, or holds
            control, invisible or direction-changing characters.

    >>> checked_name("churn v2")
    'churn v2'
    """
    name = unicodedata.normalize("NFC", name)
    if not name.strip():
        raise ValueError("a name must have at least one visible character")
    if len(name) > NAME_LIMIT:
        raise ValueError(f"a name may have {NAME_LIMIT} characters, this one has {len(name)}")
    if bad := next((c for c in name if c in _FORBIDDEN or unicodedata.category(c) in _UNSAFE_CATEGORIES), None):
        raise ValueError(f"a name must not contain {shown(bad)!r} (U+{ord(bad):04X})")
    if name != name.strip() or name.endswith("."):
        raise ValueError("a name must not begin or end with a blank, or end with a dot")
    if name[0] in "-=+@." or ".." in name:
        raise ValueError("a name must not begin with '-', '=', '+', '@' or '.', or contain '..'")
    if name.casefold().split(".")[0] in _RESERVED:
        raise ValueError(f"{name} is a reserved device name on Windows")
    return name


Name = Annotated[str, AfterValidator(checked_name)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Seconds = Annotated[float, Field(gt=0, le=31_536_000, allow_inf_nan=False)]
