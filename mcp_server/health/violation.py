"""What can be broken in a workspace, and how it is named."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Invariant = Literal["I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I10", "I11"]
Remedy = Literal["revive", "close", "mirror", "owe", "deliver", "kill", "remove", "trim"]

PROMISES: Mapping[Invariant, str] = MappingProxyType(
    {
        "I1": "a trial that was recorded as complete is there for ever",
        "I2": "a number is used once, and ends once",
        "I3": "a study that ends because of its number of trials has exactly that many",
        "I4": "Optuna and MLflow hold the same trials, with the same values and parameters",
        "I5": "nothing is marked as running without a living process",
        "I6": "no process is left over",
        "I7": "no temporary file is left over, and no log grows without end",
        "I8": "the databases are intact",
        "I9": "the best value is the best of the stored trials",
        "I10": "the audit file has every line",
        "I11": "no budget is exceeded by more than one trial for each slot",
    }
)


@dataclass(frozen=True)
class Violation:
    """An invariant that does not hold.

    `subject` is what a remedy works on: the key of an outbox row, a path, a process id.
    """

    invariant: Invariant
    text: str
    study_id: str | None = None
    study: str | None = None
    number: int | None = None
    remedy: Remedy | None = None
    subject: str | None = None

    def __str__(self) -> str:
        where = f"study {self.study!r}" if self.study is not None else ""
        where += f"{', ' if where else ''}trial {self.number}" if self.number is not None else ""
        return f"{self.invariant}: {where}{': ' if where else ''}{self.text}"
