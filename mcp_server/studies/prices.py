"""What processors, GPUs and tokens cost, and what teams may spend: `<workspace>/costs.yaml`, for people to edit."""

from collections.abc import Iterable
from math import fsum
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mcp_server.errors import InvalidRequestError
from mcp_server.settings import Settings
from mcp_server.types import Name

FILE = "costs.yaml"
EXAMPLE = """\
# What the work of this workspace costs, in US dollars. A study reads it when it starts or goes on.

usd_per_cpu_hour: 0.04      # a core for an hour; TUNING_USD_PER_CPU_HOUR when left out

usd_per_gpu_hour:           # by a part of the device's name; `default` for all others
  h100: 2.50
  default: 0.60

usd_per_million_tokens:     # for trials that call a language model: Trial.charge(model="small", ...)
  small: {input: 0.15, output: 0.60}

approve_above_usd: 20       # a study that may cost more waits until an admin approves it

teams:                      # TUNING_TEAM says whose studies are started
  vision: {monthly_usd: 300, approve_above_usd: 50}
"""
_HOUR = 3600.0
_MILLION = 1e6

Usd = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TokenPrice(_Model):
    """US dollars for a million tokens of one model."""

    input: Usd = 0.0
    output: Usd = 0.0


class TeamRules(_Model):
    """What one team may spend."""

    monthly_usd: Usd | None = None
    approve_above_usd: Usd | None = None


class Prices(_Model):
    """The prices and budgets in force.

    >>> prices = Prices(usd_per_cpu_hour=0.36, usd_per_gpu_hour={"default": 1.0, "H100": 3.6})
    >>> round(prices.usd_per_second(2, ["NVIDIA H100 80GB HBM3"]), 6)
    0.0012
    """

    usd_per_cpu_hour: Usd = 0.0
    usd_per_gpu_hour: dict[str, Usd] = Field(default_factory=dict)
    usd_per_million_tokens: dict[str, TokenPrice] = Field(default_factory=dict)
    approve_above_usd: Usd | None = None
    teams: dict[Name, TeamRules] = Field(default_factory=dict)

    @classmethod
    def load(cls, settings: Settings) -> "Prices":
        """What the file says, and the settings where it says nothing.

        Raises:
            InvalidRequestError: If it cannot be read; it names the line or the key.
        """
        path = settings.workspace / FILE
        given = {"usd_per_cpu_hour": settings.usd_per_cpu_hour, **(_read(path) if path.is_file() else {})}
        try:
            return cls.model_validate(given)
        except ValidationError as exc:
            first = exc.errors(include_url=False)[0]
            raise _refusal(path, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from exc

    @property
    def free(self) -> bool:
        """Whether nothing that a trial uses has a price."""
        hours = (self.usd_per_cpu_hour, *self.usd_per_gpu_hour.values())
        return not any(hours) and not self.usd_per_million_tokens

    def usd_per_second(self, threads: int, devices: Iterable[str] = ()) -> float:
        """What a trial costs that has so many cores and these GPUs, by the names of their models."""
        return fsum([threads * self.usd_per_cpu_hour, *map(self._device, devices)]) / _HOUR

    def token_prices(self) -> dict[str, list[float]]:
        """US dollars for one token of each model, in and out."""
        return {
            model: [price.input / _MILLION, price.output / _MILLION]
            for model, price in self.usd_per_million_tokens.items()
        }

    def monthly_usd(self, team: str | None) -> float | None:
        """What the team may spend in a calendar month; None without a limit."""
        rules = self.teams.get(team or "")
        return rules.monthly_usd if rules else None

    def free_of_approval_usd(self, team: str | None) -> float | None:
        """What a study of the team may cost without an approval; None when nothing needs one."""
        rules = self.teams.get(team or "")
        own = rules.approve_above_usd if rules else None
        return self.approve_above_usd if own is None else own

    def _device(self, name: str) -> float:
        known = {part.casefold(): usd for part, usd in self.usd_per_gpu_hour.items()}
        found = (usd for part, usd in known.items() if part != "default" and part in name.casefold())
        return next(found, known.get("default", 0.0))


def _read(path: Path) -> dict[str, object]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as exc:
        line = f"line {exc.problem_mark.line + 1}: " if exc.problem_mark else ""
        raise _refusal(path, f"{line}{exc.problem}") from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise _refusal(path, "it is not YAML text") from exc
    if not isinstance(found, dict | None):
        raise _refusal(path, "it must be a list of names with values")
    return found or {}


def _refusal(path: Path, why: str) -> InvalidRequestError:
    return InvalidRequestError(f"{path}: {why}.", hint="Correct it; `tuning-mcp costs --example` prints a valid one.")
