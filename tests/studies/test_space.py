import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mcp_server.errors import InvalidRequestError
from mcp_server.studies.space import SearchSpace


def space(**entries: object) -> SearchSpace:
    return SearchSpace.model_validate(entries)


def reason(**entries: object) -> str:
    with pytest.raises(ValidationError) as caught:
        space(**entries)
    return caught.value.errors(include_url=False)[0]["msg"]


def test_a_space_survives_json_and_back() -> None:
    written = space(lr={"low": 1e-4, "high": 0.1, "log": True}, k=[1, "x", None], n={"low": 1, "high": 9}, z=3)

    assert SearchSpace.model_validate_json(written.model_dump_json()) == written


def test_every_malformed_entry_is_reported_at_once() -> None:
    text = reason(a={"low": 2, "high": 1}, b={"low": 0.0, "high": 1, "log": True}, c=[], d={"type": "floaty"})

    assert "a: low 2 > high 1" in text
    assert "b: log needs low > 0, got 0" in text
    assert "c: " in text and "this one has 0" in text
    assert "d: " in text and "floaty" in text


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"low": 0.5, "high": 3.7, "type": "int"}, "valid integer"),
        ({"low": float("nan"), "high": 1}, "finite"),
        ({"low": 0, "high": 1.0, "step": 0}, "step must be > 0"),
        ({"low": 0, "high": 1.0, "step": -0.1}, "step must be > 0"),
        ({"low": 0, "high": 1.0, "step": 2}, "larger than the range"),
        ({"low": 0, "high": 10**30}, "less than or equal to 9007199254740992"),
        ({"low": True, "high": 5}, "not true or false"),
        ([1, True], "listed twice"),
        ([[1], 2], "a choice must be"),
        ([float("nan"), 1], "finite"),
        ({"low": 0, "high": 1, "lo": 3}, "lo extra inputs are not permitted"),
    ],
)
def test_an_entry_that_optuna_would_take_silently_is_refused(entry: object, expected: str) -> None:
    assert expected in reason(x=entry)


def test_more_than_a_hundred_parameters_are_refused() -> None:
    assert "101" in reason(**{f"p{i}": [1, 2] for i in range(101)})
    assert len(space(**{f"p{i}": [1, 2] for i in range(100)}).root) == 100


def test_a_constant_range_is_allowed_with_a_warning() -> None:
    assert space(x={"low": 1, "high": 1}).warnings() == ["x is constant: low and high are both 1."]


def test_a_cycle_of_conditions_is_refused_and_printed() -> None:
    text = reason(a={"low": 1, "high": 2, "when": {"b": [1]}}, b={"low": 1, "high": 2, "when": {"a": [1]}})

    assert "a -> b -> a" in text or "b -> a -> b" in text


def test_a_condition_on_an_unknown_parameter_names_the_near_one() -> None:
    assert "did you mean 'kernel'" in reason(kernel=["rbf"], g={"low": 1, "high": 2, "when": {"kernal": ["rbf"]}})


def test_a_condition_that_can_never_hold_is_refused() -> None:
    assert "never is" in reason(kernel=["rbf"], g={"low": 1, "high": 2, "when": {"kernel": ["poly"]}})


def test_conditional_parameters_exist_only_where_their_parent_says() -> None:
    conditional = space(e=["svc", "rf"], C={"low": 1.0, "high": 2.0, "when": {"e": ["svc"]}})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))

    drawn = [conditional.suggest(study.ask()) for _ in range(40)]

    assert {("C" in point) for point in drawn if point["e"] == "svc"} == {True}
    assert {("C" in point) for point in drawn if point["e"] == "rf"} == {False}


@given(low=st.floats(1e-6, 10), width=st.floats(1e-3, 100), log=st.booleans(), seed=st.integers(0, 2**16))
def test_float_draws_stay_inside_their_bounds(low: float, width: float, log: bool, seed: int) -> None:
    drawn = space(x={"type": "float", "low": low, "high": low + width, "log": log})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))

    assert all(low <= drawn.suggest(study.ask())["x"] <= low + width for _ in range(5))


def test_a_thousand_draws_honour_steps_and_logarithms() -> None:
    drawn = space(
        n={"low": 2, "high": 20, "step": 3},
        f={"low": 0.0, "high": 1.0, "step": 0.25},
        lr={"low": 1e-5, "high": 1e-1, "log": True},
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    points = [drawn.suggest(study.ask()) for _ in range(1000)]

    assert {p["n"] for p in points} == set(range(2, 21, 3))
    assert {p["f"] for p in points} == {0.0, 0.25, 0.5, 0.75, 1.0}
    below = sum(p["lr"] < 1e-3 for p in points) / 1000
    assert 0.45 < below < 0.55, "half of a logarithmic range lies below its geometric middle"


def test_the_grid_has_every_active_combination_once() -> None:
    grid = space(e=["a", "b"], x={"low": 1, "high": 3, "when": {"e": ["a"]}}, y=[True, False]).grid()

    points = list(grid)

    assert len(points) == len(grid) == 8
    assert len({tuple(sorted(p.items(), key=str)) for p in points}) == 8
    assert [grid.point(i) for i in range(9)] == [*points, None]


def test_a_billion_point_grid_is_refused_before_it_is_built() -> None:
    with pytest.raises(InvalidRequestError, match=r"1,000,000,000 points .* limit is 100,000.*random or tpe"):
        space(**{f"p{i}": {"low": 1, "high": 1000} for i in range(3)}).grid()


def test_a_real_range_without_a_step_has_no_grid() -> None:
    with pytest.raises(InvalidRequestError, match="Give x a step"):
        space(x={"low": 0.0, "high": 1.0}).grid()


def test_differences_name_the_parameter_and_both_ranges() -> None:
    before, after = space(x={"low": 0.0, "high": 1.0}, k=[1, 2]), space(x={"low": 0.0, "high": 2.0}, k=[1, 2])

    assert before.differences(after) == ["x: float 0..1 -> float 0..2"]


def test_every_multiple_of_a_step_lies_in_its_range() -> None:
    stepped = space(x={"low": 0.0, "high": 0.9, "step": 0.1})

    assert all(stepped.root["x"].contains(value / 10) for value in range(10))
    assert not stepped.root["x"].contains(0.25)
    assert all(stepped.root["x"].contains(point["x"]) for point in stepped.grid())
    assert max(point["x"] for point in stepped.grid()) <= 0.9


@pytest.mark.parametrize("never", [[0], [False], [None], [""]])
def test_a_condition_on_a_falsy_value_that_is_no_choice_is_refused(never: list[object]) -> None:
    assert "never is" in reason(kernel=["rbf"], g={"low": 1, "high": 2, "when": {"kernel": never}})


def test_a_condition_without_values_is_refused() -> None:
    assert "names no value" in reason(kernel=["rbf"], g={"low": 1, "high": 2, "when": {"kernel": []}})


def test_points_of_a_grid_are_found_by_index_in_its_order() -> None:
    grid = space(x=[1, 2, 3], k=["a", "b"], n={"low": 2, "high": 8, "step": 3}).grid()

    assert [grid.point(i) for i in range(len(grid) + 1)] == [*grid, None]
