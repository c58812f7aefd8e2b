import subprocess
import sys
from collections import Counter
from typing import Any

import optuna
import pytest

from mcp_server.errors import InvalidRequestError
from mcp_server.studies.samplers import SAMPLERS, Design, Halton, LatinHypercube, SamplerModel, Search, Sobol
from mcp_server.studies.space import SearchSpace
from mcp_server.workspace import Workspace
from tests.studies.running import callable_spec, run_inline

PLANE = {"x": {"low": -5.0, "high": 5.0}, "y": {"low": -5.0, "high": 5.0}}
EVERYTHING = {
    "lr": {"low": 1e-5, "high": 1e-1, "log": True},
    "rate": {"low": 0.0, "high": 1.0, "step": 0.25},
    "units": {"low": 8, "high": 512, "log": True},
    "depth": {"low": 2, "high": 11, "step": 3},
    "kind": ["a", None, 3],
    "same": 7,
    "only_a": {"low": 0.0, "high": 1.0, "when": {"kind": ["a"]}},
}
MODELLED = {"n_startup_trials": 5}
NAMES = [model.model_fields["type"].default for model in SAMPLERS]
ENDLESS = [name for name in NAMES if name != "grid"]
# What each draw costs differs a thousandfold.
DRAWS = {"bayesian": 20, "cmaes": 200, "tpe": 100}


def space(**entries: object) -> SearchSpace:
    return SearchSpace.model_validate(entries or EVERYTHING)


def sampler(name: str, **options: object) -> SamplerModel:
    model = next(model for model in SAMPLERS if model.model_fields["type"].default == name)
    return model.model_validate({"type": name, **options})


def drawn(model: SamplerModel, searched: SearchSpace, count: int) -> list[dict[str, Any]]:
    """What the sampler chooses for `count` trials of a study, each of which is told a value."""
    design = Design(searched, seed=3, n_trials=count)
    if model.planned(design, 0) is not None:
        return [dict(model.planned(design, i) or {}) for i in range(count)]
    study = optuna.create_study(sampler=model.build(Search(searched, seed=3)))
    chosen = []
    for i in range(count):
        trial = study.ask()
        chosen.append(dict(searched.suggest(trial)))
        study.tell(trial, float(i % 7))
    return chosen


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("name", ENDLESS)
def test_draws_respect_bounds_steps_logarithms_and_conditions(name: str) -> None:
    searched = space()

    points = drawn(sampler(name), searched, DRAWS.get(name, 1000))

    for point in points:
        assert all(searched.root[key].contains(value) for key, value in point.items()), point
        assert ("only_a" in point) == (point["kind"] == "a")
        assert point.keys() >= EVERYTHING.keys() - {"only_a"}
    assert {point["rate"] for point in points} == {0.0, 0.25, 0.5, 0.75, 1.0}
    assert {point["depth"] for point in points} == {2, 5, 8, 11}
    assert {point["kind"] for point in points} == {"a", None, 3}


@pytest.mark.parametrize("name", ["random", "lhs", "sobol", "halton"])
def test_a_logarithmic_range_gets_as_many_draws_in_each_decade(name: str) -> None:
    decades = Counter(f"{point['lr']:e}".split("e")[1] for point in drawn(sampler(name), space(), 1000))

    assert len(decades) == 4
    assert all(200 <= count <= 300 for count in decades.values()), decades


@pytest.mark.parametrize("points", [1, 7, 40])
def test_a_latin_hypercube_has_one_point_in_each_slice_of_each_axis(points: int) -> None:
    searched = space(**PLANE, lr={"low": 1e-6, "high": 1.0, "log": True})

    chosen = drawn(LatinHypercube(), searched, points)

    for name in ("x", "y"):
        slices = sorted(int((point[name] + 5.0) / 10.0 * points) for point in chosen)
        assert slices == list(range(points))


def test_a_design_that_is_used_up_is_followed_by_another_one() -> None:
    design = Design(space(**PLANE), seed=1, n_trials=4)
    points = [LatinHypercube().planned(design, i) for i in range(8)]

    assert points[:4] != points[4:]
    second = sorted(int((point["x"] + 5.0) / 10.0 * 4) for point in points[4:])  # type: ignore[operator, arg-type]
    assert second == [0, 1, 2, 3]


@pytest.mark.parametrize("model", [Sobol(), Halton()])
def test_low_discrepancy_points_leave_no_quarter_of_a_plane_empty(model: SamplerModel) -> None:
    points = drawn(model, space(**PLANE), 64)

    quarters = Counter((point["x"] > 0, point["y"] > 0) for point in points)
    assert len(quarters) == 4
    assert all(13 <= count <= 19 for count in quarters.values()), quarters


def start(workspace: Workspace, name: str, **changed: object) -> None:
    workspace.studies.start(callable_spec(name, **changed), "tester")


def table(workspace: Workspace, name: str) -> list[tuple[object, ...]]:
    return [(t.number, tuple(t.params.items()), t.value) for t in workspace.studies.read.trials(name)]


@pytest.mark.parametrize("name", ["bayesian", "cmaes", "lhs", "sobol", "halton"])
def test_the_same_seed_gives_the_same_table_and_another_one_another(workspace: Workspace, name: str) -> None:
    modelled = MODELLED if name == "bayesian" else {}
    for study, seed in (("one", 7), ("two", 7), ("other", 8)):
        start(workspace, study, search_space=PLANE, n_trials=8, sampler={"type": name, **modelled}, seed=seed)
        run_inline(workspace, study)

    assert table(workspace, "one") == table(workspace, "two") != table(workspace, "other")


@pytest.mark.parametrize("name", ["lhs", "sobol", "halton"])
def test_a_study_that_goes_on_later_follows_the_list_of_one_that_never_stopped(workspace: Workspace, name: str) -> None:
    start(workspace, "whole", search_space=PLANE, n_trials=12, sampler={"type": name}, seed=3)
    run_inline(workspace, "whole")
    start(workspace, "parts", search_space=PLANE, n_trials=12, sampler={"type": name}, seed=3)
    workspace.studies.control("parts", "stop", "tester")
    run_inline(workspace, "parts")
    workspace.studies.control("parts", "resume", "tester")
    run_inline(workspace, "parts")

    assert table(workspace, "parts") == table(workspace, "whole")


@pytest.mark.parametrize(("name", "within"), [("bayesian", 0.1), ("cmaes", 1.0), ("lhs", 3.0), ("tpe", 3.0)])
def test_the_optimum_of_a_known_function_is_found_within_the_budget(
    workspace: Workspace, name: str, within: float
) -> None:
    trials = {"bayesian": 20, "cmaes": 80}.get(name, 40)
    start(workspace, name, search_space=PLANE, n_trials=trials, sampler=name, seed=1)  # best: 0 at (1, 1)
    run_inline(workspace, name)

    best = workspace.studies.read.status(name).best_value
    assert best is not None
    assert best < within


def test_cmaes_goes_on_from_what_earlier_trials_taught_when_a_study_is_continued(workspace: Workspace) -> None:
    start(workspace, "study", search_space=PLANE, n_trials=30, sampler="cmaes", seed=1)
    run_inline(workspace)
    workspace.studies.control("study", "extend", "tester", n_trials=45)
    run_inline(workspace)

    later = sorted(t.value or 0.0 for t in workspace.studies.read.trials("study")[30:])
    assert later[len(later) // 2] < 8.0, "half of the points lie near the optimum; of random ones the median is 17"


def test_conditional_parameters_are_modelled_in_one_flat_space(workspace: Workspace) -> None:
    searched = {"kind": ["a", "b"], "x": {"low": -5.0, "high": 5.0, "when": {"kind": ["a"]}}}
    start(workspace, "flat", search_space=searched, n_trials=12, sampler={"type": "bayesian", **MODELLED}, seed=1)
    run_inline(workspace, "flat")

    trials = workspace.studies.read.trials("flat")
    assert all(("x" in t.params) == (t.params["kind"] == "a") for t in trials)
    assert {t.state for t in trials} == {"complete"}


def test_cmaes_refuses_a_space_in_which_there_is_nothing_to_adapt(workspace: Workspace) -> None:
    with pytest.raises(InvalidRequestError, match=r"this space has 0 of them\. Use the tpe sampler"):
        start(workspace, "choices", search_space={"a": [1, 2], "b": ["x", "y"]}, sampler="cmaes")

    assert workspace.studies.read.page().total == 0


def test_without_scikit_optimize_the_bayesian_sampler_says_what_to_install_and_others_work() -> None:
    code = """
import sys
sys.modules["skopt"] = None  # what importing a package that is not there comes to
from mcp_server.studies.samplers import Bayesian, LatinHypercube
from mcp_server.studies.space import SearchSpace
space = SearchSpace.model_validate({"x": [1, 2]})
LatinHypercube().check(space)
try:
    Bayesian().check(space)
except Exception as exc:
    print(type(exc).__name__, exc)
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert printed.startswith("MissingDependencyError")
    assert "pip install scikit-optimize" in printed
