"""What a family of estimators declares; everything here is data, so that a server can read it without scikit-learn."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from mcp_server.distributions import Distribution
from mcp_server.types import Params, Task

Preprocessing = Literal["dense", "imputed", "codes", "native"]
"""What happens to the columns before a fit.

`dense`: missing numbers imputed and marked, numbers scaled, categories one-hot encoded. `imputed`: missing values
imputed, categories stay ordinal codes. `codes`: categories stay ordinal codes, missing stays missing. `native`: the
estimator is told which columns are categories, missing stays missing.
"""

Converter = Callable[[Params], dict[str, object]]


@dataclass(frozen=True, slots=True)
class Variant:
    """A family's estimator for one task.

    Attributes:
        path: Import path of the estimator class.
        library: Every parameter a caller may set, with the library's default.
        space: The default search space; the library's default lies inside it.
        ours: Defaults that depart from the library's.
        system: Parameters that the study sets: `random_state` from its seed, `n_jobs` from its threads.
    """

    path: str
    library: Params
    space: dict[str, Distribution]
    ours: Params = field(default_factory=dict)
    system: tuple[str, ...] = ("random_state",)

    @property
    def defaults(self) -> Params:
        """What a trial uses for the parameters that nobody chose."""
        return {**self.library, **self.ours}


def _as_they_are(params: Params) -> dict[str, object]:
    return {**params}


@dataclass(frozen=True, slots=True)
class Family:
    """Estimators that belong together: one name, one variant per task it serves.

    Attributes:
        name: What studies and results call it.
        variants: Its estimator for each task it serves.
        preprocessing: What happens to the columns before a fit.
        cost: Seconds of a default fit relative to logistic regression, roughly, to order and to guess times.
        aliases: Other spellings, in lower case without separators.
        auto_rows: `auto` leaves the family out above this many rows; 0 leaves it out always.
        auto_columns: `auto` leaves the family out above this many columns.
        cost_by_class: Whether a fit takes in proportion to the number of classes.
        growth: Exponent of the number of rows in the time of a fit.
        probabilities: Whether the classifier predicts probabilities by itself.
        scale_target: Whether a regressor needs its target centred and scaled.
        rounds: Parameter that counts the rounds a fit repeats, to which its time is proportional.
        row_shares: Upper bounds of parameters that count rows, as a share of the rows.
        convert: Turns scalar parameters into what the constructor takes.
    """

    name: str
    variants: Mapping[Task, Variant]
    preprocessing: Preprocessing
    cost: float
    aliases: tuple[str, ...] = ()
    auto_rows: int | None = None
    auto_columns: int | None = None
    cost_by_class: bool = False
    growth: float = 1.0
    probabilities: bool = True
    scale_target: bool = False
    rounds: str | None = None
    row_shares: Mapping[str, float] = field(default_factory=dict)
    convert: Converter = _as_they_are
