"""What a notification says."""

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from mcp_server.types import StudyState

Channel = Literal["webhook", "command"]

_PLACEHOLDER = re.compile(r"\{(\w+)\}")


class StudyEnded(BaseModel):
    """A study came to its end."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(description="The same one each time that this notification is delivered.")
    event: Literal["study_ended"] = "study_ended"
    study_id: str
    study: str
    state: StudyState
    reason: str | None
    message: str
    metric: str
    best_value: float | None
    best_trial: int | None
    n_complete: int
    n_trials: int
    elapsed_s: float
    cost_usd: float
    ended_at: float = Field(description="Unix seconds.")

    def filled(self, words: tuple[str, ...]) -> list[str]:
        """A command's words with their placeholders filled, each for itself; no shell sees them.

        >>> StudyEnded(
        ...     id="1", study_id="s", study="churn", state="finished", reason="trials", message="m", metric="f1",
        ...     best_value=0.5, best_trial=3, n_complete=4, n_trials=4, elapsed_s=1, cost_usd=0, ended_at=0,
        ... ).filled(("notify-send", "{title}", "{best}"))
        ['notify-send', 'Study churn finished', '0.5']
        """
        values = {
            "id": self.id,
            "title": f"Study {self.study} {self.state}",
            "message": self.message,
            "study": self.study,
            "state": self.state,
            "reason": self.reason or "",
            "best": "" if self.best_value is None else f"{self.best_value:.6g}",
        }
        return [_PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), word) for word in words]
