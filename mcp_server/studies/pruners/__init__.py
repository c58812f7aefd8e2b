"""When a trial that cannot win is cut. A pruner is a model that builds Optuna's; adding one is a class and its name."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from mcp_server.studies.argument_schemas import named
from mcp_server.studies.pruners._base import PrunerModel
from mcp_server.studies.pruners.halving import Hyperband, SuccessiveHalving
from mcp_server.studies.pruners.none import NoPruner
from mcp_server.studies.pruners.own_curve import Patient, Threshold
from mcp_server.studies.pruners.percentile import Median, Percentile
from mcp_server.studies.pruners.wilcoxon import Wilcoxon

PRUNERS: tuple[type[PrunerModel], ...] = (
    Median, Percentile, SuccessiveHalving, Hyperband, Wilcoxon, Patient, Threshold, NoPruner,
)  # fmt: skip


Pruner = Annotated[
    Median | Percentile | SuccessiveHalving | Hyperband | Wilcoxon | Patient | Threshold | NoPruner,
    Field(discriminator="type"),
    BeforeValidator(named),
]

__all__ = [
    "PRUNERS", "Hyperband", "Median", "NoPruner", "Patient", "Percentile", "Pruner", "PrunerModel", "SuccessiveHalving",
    "Threshold", "Wilcoxon",
]  # fmt: skip
