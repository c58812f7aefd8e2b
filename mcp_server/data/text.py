"""Text out of tables as it may be shown: to people in a terminal, and to a language model that reads every word."""

import difflib
import unicodedata
from collections.abc import Iterable, Sequence

LABEL_LIMIT = 64
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def label(value: object, limit: int = LABEL_LIMIT) -> str:
    r"""A column name or a cell in one visible line of at most `limit` characters.

    Control, zero-width, direction-changing and tag characters are removed: they can hide text from a person that a
    model still reads.

    >>> label("a\u202eb\n" + "c" * 100)[:6], len(label("c" * 100))
    ('ab ccc', 64)
    """
    text = str(value)[: 8 * limit]
    text = "".join(" " if c.isspace() else c for c in text if c.isspace() or unicodedata.category(c) not in _INVISIBLE)
    text = " ".join(text.split())
    if len(text) > limit:
        return text[: limit - 1] + "…"
    return text or "(blank)"


def listed(names: Iterable[object], limit: int = 5) -> str:
    """The first names as one phrase, with a count of the rest.

    >>> listed(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    labels = [label(name) for name in names]
    rest = len(labels) - limit
    return ", ".join(labels[:limit]) + (f" and {rest:,} more" if rest > 0 else "")


def suggestion(wanted: str, names: Sequence[str], what: str) -> str:
    """A hint that names what was probably meant, or else what there is.

    >>> suggestion("Chrun", ["id", "churn"], "column")
    'Did you mean churn?'
    """
    labels = {label(name).casefold(): label(name) for name in names}
    if near := difflib.get_close_matches(label(wanted).casefold(), labels, n=3, cutoff=0.6):
        return f"Did you mean {' or '.join(labels[name] for name in near)}?"
    return f"The {what}s are: {listed(names, 10)}." if names else f"There is no {what}."


def counted(number: int, noun: str) -> str:
    """`number` with its noun in the right form.

    >>> counted(1, "row"), counted(1200, "row")
    ('1 row', '1,200 rows')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
