"""The trials in `optuna.db`, read without Optuna and without writing."""

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mcp_server.types import Params

_TRIALS = """
SELECT s.study_name, t.trial_id, t.number, t.state, v.value, v.value_type FROM trials t
JOIN studies s ON s.study_id = t.study_id
LEFT JOIN trial_values v ON v.trial_id = t.trial_id AND v.objective = 0
ORDER BY t.number
"""
_STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running", "WAITING": "running"}
_INFINITE = {"INF_POS": float("inf"), "INF_NEG": float("-inf")}


@dataclass
class MirroredTrial:
    """A trial as Optuna's tools see it, in our words."""

    number: int
    state: str
    value: float | None
    params: Params = field(default_factory=dict)


def mirrored_trials(path: Path) -> dict[str, list[MirroredTrial]]:
    """The trials of each study in the file, by number.

    Raises:
        sqlite3.DatabaseError: If the file cannot be read as Optuna's.
    """
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=20.0)) as raw:
        found: dict[str, list[MirroredTrial]] = {name: [] for (name,) in raw.execute("SELECT study_name FROM studies")}
        by_id: dict[int, MirroredTrial] = {}
        for name, trial_id, number, state, value, kind in raw.execute(_TRIALS):
            by_id[trial_id] = MirroredTrial(number, _STATES[state], _INFINITE.get(kind, value))
            found[name].append(by_id[trial_id])
        rows = raw.execute("SELECT trial_id, param_name, param_value, distribution_json FROM trial_params").fetchall()
    for trial_id, name, number, text in rows:
        if trial_id in by_id:  # a trial that was added since belongs to a study that runs
            by_id[trial_id].params[name] = _outer(number, json.loads(text))
    return found


def _outer(number: float, distribution: dict[str, Any]) -> str | bool | int | float | None:
    """The value that Optuna's number for it stands for."""
    match distribution["name"]:
        case "CategoricalDistribution":
            choice: str | bool | int | float | None = distribution["attributes"]["choices"][int(number)]
            return choice
        case "IntDistribution":
            return int(number)
    return number
