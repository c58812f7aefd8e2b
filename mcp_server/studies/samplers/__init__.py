"""How the next trial is chosen. A sampler is a model that builds Optuna's; adding one is a class and its name here."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from mcp_server.studies.argument_schemas import named
from mcp_server.studies.samplers._base import Design, SamplerModel, Search
from mcp_server.studies.samplers.bayesian import Bayesian
from mcp_server.studies.samplers.cmaes import CmaEs
from mcp_server.studies.samplers.grid import GridSearch
from mcp_server.studies.samplers.quasi_random import Halton, LatinHypercube, Sobol
from mcp_server.studies.samplers.random import Random
from mcp_server.studies.samplers.tpe import TPE

SAMPLERS: tuple[type[SamplerModel], ...] = (TPE, Bayesian, CmaEs, Random, GridSearch, LatinHypercube, Sobol, Halton)


Sampler = Annotated[
    TPE | Bayesian | CmaEs | Random | GridSearch | LatinHypercube | Sobol | Halton,
    Field(discriminator="type"),
    BeforeValidator(named),
]

__all__ = [
    "SAMPLERS", "TPE", "Bayesian", "CmaEs", "Design", "GridSearch", "Halton", "LatinHypercube", "Random", "Sampler",
    "SamplerModel", "Search", "Sobol",
]  # fmt: skip
