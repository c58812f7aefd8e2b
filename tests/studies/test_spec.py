import jsonschema
import pytest
from pydantic import ValidationError

from mcp_server.studies.spec import StudySpec

SCHEMA = StudySpec.model_json_schema()


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("sampler", "random", {"type": "random"}),
        ("sampler", {"type": "tpe", "n_startup_trials": 3}, {"n_startup_trials": 3, "multivariate": True}),
        ("pruner", "none", {"type": "none"}),
        ("pruner", {"type": "wilcoxon", "p_threshold": 0.2}, {"p_threshold": 0.2, "n_startup_steps": 2}),
    ],
)
def test_a_name_and_an_object_are_understood_and_allowed_by_the_schema(field, value, expected):
    jsonschema.validate({"study_name": "s", field: value}, SCHEMA)

    parsed = getattr(StudySpec.model_validate({"study_name": "s", field: value}), field)

    assert expected.items() <= parsed.model_dump().items()


@pytest.mark.parametrize(
    ("field", "value"),
    [("sampler", "tpee"), ("sampler", {"type": "tpe", "p_threshold": 0.2}), ("pruner", {"n_startup_trials": 3})],
)
def test_what_the_field_does_not_have_is_refused(field, value):
    with pytest.raises(ValidationError):
        StudySpec.model_validate({"study_name": "s", field: value})


def test_every_sampler_and_pruner_is_in_the_schema():
    names = {field: SCHEMA["properties"][field]["anyOf"][0]["enum"] for field in ("sampler", "pruner")}

    assert names["sampler"] == ["tpe", "bayesian", "cmaes", "random", "grid", "lhs", "sobol", "halton"]
    assert names["pruner"] == [
        "median", "percentile", "successive_halving", "hyperband", "wilcoxon", "patient", "threshold", "none",
    ]  # fmt: skip


def test_the_arguments_of_the_quick_start_come_first_and_in_its_order():
    names = list(SCHEMA["properties"])

    assert names[:5] == ["study_name", "model_type", "n_trials", "epochs_max", "cost_budget_usd"]
