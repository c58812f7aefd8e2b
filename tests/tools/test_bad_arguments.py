"""BAD_INPUTS rows 1 to 17: what the boundary says about arguments. Row 18 is about studies."""

import json

import anyio
import pytest

from tests.tools.toolbox import ERAS, ask, serving, text

BASE = {"study_name": "churn"}
HUGE = 10**400


def nested(depth):
    value = "bottom"
    for _ in range(depth):
        value = {"a": value}
    return value


# id, arguments, what the answer must hold
REFUSED = [
    ("1-misspelt", {"n_trails": 500}, ["n_trails is not an argument of take; did you mean n_trials?"]),
    ("1-unknown", {"zzz": 1}, ["zzz is not an argument of take; known: study_name, n_trials"]),
    ("1-nested", {"options": {"fold": 3}}, ["options.fold is not known; did you mean folds?"]),
    ("2-missing", {"study_name": ...}, ['study_name is required, e.g. {"study_name": "text"}']),
    ("3-null", {"n_trials": None}, ["n_trials must be a whole number from 1 to 100,000, got null"]),
    ("3-null-text", {"study_name": None}, ["study_name must be text, got null"]),
    ("4-true", {"n_trials": True}, ["n_trials must be a whole number from 1 to 100,000, got true"]),
    ("4-true-float", {"timeout_s": True}, ["timeout_s must be a number", "got true"]),
    ("4-true-nested", {"options": {"folds": True}}, ["options.folds must be a whole number from 2 to 50, got true"]),
    ("6-fraction", {"n_trials": 5.5}, ["n_trials must be a whole number from 1 to 100,000, got 5.5"]),
    ("7-exponent", {"n_trials": "1e3"}, ['n_trials must be written as a whole number: 1000 instead of "1e3"']),
    ("7-word", {"n_trials": "many"}, ['n_trials must be a whole number from 1 to 100,000, got "many"']),
    ("8-zero", {"n_trials": 0}, ["n_trials must be a whole number from 1 to 100,000, got 0"]),
    ("8-negative", {"n_trials": -1}, ["from 1 to 100,000, got -1"]),
    ("9-huge", {"n_trials": HUGE}, ["from 1 to 100,000, got a number with 401 digits"]),
    ("9-huge-unbounded", {"whole": HUGE}, ["whole must be a whole number of at most 64 bits"]),
    ("9-huge-nested", {"fixed": {"C": HUGE}}, ["fixed.C must be", "401 digits"]),
    ("9-huge-text", {"whole": str(HUGE)}, ["whole must be"]),
    ("10-nan-text", {"timeout_s": "NaN"}, ['timeout_s must be a finite number, got "NaN"']),
    ("10-infinite-text", {"timeout_s": "-Infinity"}, ["timeout_s must be a finite number"]),
    ("10-negative", {"timeout_s": -1}, ["timeout_s must be a number above 0 and of at most 31,536,000, got -1"]),
    ("10-zero", {"timeout_s": 0}, ["above 0", "got 0"]),
    ("13-long-list", {"drop": ["c"] * 1_000_000}, ["drop must have at most 1,000 items, this one has 1,000,000"]),
    ("13-many-values", {"fixed": {str(i): i for i in range(300_000)}}, ["fixed holds more than 200,000 values"]),
    ("14-deep", {"fixed": {"a": nested(200)}}, ["nested deeper than 50 levels"]),
    ("14-deep-text", {"fixed": "[" * 100_000 + "]" * 100_000}, ["fixed must be an object"]),
    ("15-surrogate", {"note": "a\ud800b"}, ["note is not valid text"]),
    ("17-class", {"__class__": {"__init__": 1}}, ["__class__ is not an argument of take"]),
    ("17-proto", {"__proto__": {"x": 1}}, ["__proto__ is not an argument of take"]),
    ("17-nested", {"options": {"__class__": 1}}, ["options.__class__ is not known"]),
    ("choice", {"sampler": "tp"}, ['sampler must be one of tpe, random, grid (did you mean tpe?), got "tp"']),
    ("long-text", {"study_name": "é" * 121}, ["study_name must have at most 120 characters, this one has 121"]),
    ("short-text", {"study_name": ""}, ["study_name must have at least 1 characters, this one has 0"]),
    ("list-for-text", {"note": ["a"]}, ['note must be text, got ["a"]']),
    ("text-for-list", {"drop": "a"}, ['drop must be a list, got "a"']),
    ("text-for-bool", {"force": "perhaps"}, ['force must be true or false, got "perhaps"']),
    ("list-for-object", {"options": [1]}, ["options must be an object, got [1]"]),
    ("scalar-union", {"fixed": {"C": [1]}}, ["fixed.C must be text or true or false or a number", "got [1]"]),
    ("own-rule", {"even": 3}, ["even: must be even, got 3"]),
    ("several", {"n_trials": 0, "sampler": "x", "drop": 1}, ["n_trials must", "sampler must", "drop must"]),
]

# As above, for values that clients of this SDK cannot send but others can.
REFUSED_FROM_OTHERS = [
    ("10-nan", {"timeout_s": float("nan")}, ["timeout_s must be a finite number, got nan"]),
    ("10-infinite", {"timeout_s": float("inf")}, ["timeout_s must be a finite number, got inf"]),
    ("10-infinite-nested", {"fixed": {"C": float("inf")}}, ["fixed.C must be a finite number"]),
    ("15-surrogate-name", {"fixed": {"a\udfffb": 1}}, ["is not valid text"]),
]

# id, arguments, what the tool must receive
ACCEPTED = [
    ("5-text-int", {"n_trials": "5"}, {"n_trials": 5}),
    ("5-text-float", {"timeout_s": "2.5"}, {"timeout_s": 2.5}),
    ("6-whole-float", {"n_trials": 5.0}, {"n_trials": 5}),
    ("11-json-object", {"options": '{"folds": 3}'}, {"options": {"folds": 3}}),
    ("11-json-in-json", {"options": ' {"folds": "3"}'}, {"options": {"folds": 3}}),
    ("11-json-list", {"drop": '["a", "b"]'}, {"drop": ["a", "b"]}),
    ("11-json-dict", {"fixed": '{"C": 1.5}'}, {"fixed": {"C": 1.5}}),
    ("12-null-text", {"note": "null"}, {"note": "null"}),
    ("12-number-text", {"note": "12"}, {"note": "12"}),
    ("12-object-text", {"note": '{"a": 1}'}, {"note": '{"a": 1}'}),
    ("15-unicode", {"note": "漢字 🎉 e\u0301"}, {"note": "漢字 🎉 e\u0301"}),
    ("null-optional", {"timeout_s": None, "options": None}, {"timeout_s": None, "options": None}),
    ("64-bits", {"whole": 2**63 - 1}, {"whole": 2**63 - 1}),
    ("booleans", {"force": True, "fixed": {"bootstrap": False}}, {"force": True, "fixed": {"bootstrap": False}}),
]


def given(arguments):
    return {key: value for key, value in {**BASE, **arguments}.items() if value is not ...}


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(("arguments", "told"), [pytest.param(a, t, id=i) for i, a, t in REFUSED])
def test_arguments_that_do_not_fit_are_refused_in_a_sentence(workspace, era, arguments, told):
    result = ask(serving(workspace), "take", given(arguments), era=era)

    assert result.is_error
    answer = text(result)
    for part in told:
        assert part in answer
    assert answer.endswith("Correct this and call take again.")
    assert len(answer) < 1_000
    assert result.meta["error"]["code"] == "invalid_arguments"
    assert result.meta["error"]["retryable"] is False
    assert workspace.metrics.snapshot()["take", "invalid"].count == 1
    assert json.loads(workspace.audit.path.read_text(encoding="utf-8"))["outcome"] == "invalid"


@pytest.mark.parametrize(("arguments", "told"), [pytest.param(a, t, id=i) for i, a, t in REFUSED_FROM_OTHERS])
def test_values_that_are_not_json_are_refused_in_a_sentence(workspace, arguments, told):
    result = anyio.run(serving(workspace).call_tool, "take", given(arguments))

    assert result.is_error
    for part in told:
        assert part in text(result)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(("arguments", "received"), [pytest.param(a, r, id=i) for i, a, r in ACCEPTED])
def test_arguments_that_hosts_write_differently_are_understood(workspace, era, arguments, received):
    result = ask(serving(workspace), "take", given(arguments), era=era)

    assert not result.is_error, text(result)
    got = result.structured_content["got"]
    assert {key: got.get(key) for key in received} == received


def test_every_row_from_1_to_17_is_here_or_on_the_wire():
    rows = {case[0].split("-")[0] for case in (*REFUSED, *ACCEPTED)}
    on_the_wire = {"16"}  # duplicate keys exist in JSON text only: tests/server/test_wire.py

    assert {str(row) for row in range(1, 18)} - rows == on_the_wire


@pytest.mark.parametrize("era", ERAS)
def test_a_function_of_plain_parameters_is_as_strict_as_one_of_a_model(workspace, era):
    server = serving(workspace)

    assert ask(server, "add", {"a": "2"}, era=era).structured_content == {"sum": 3}
    refused = [{"a": 1, "c": 2}, {}, {"a": True}, {"a": 10**30}, {"a": "1e3"}]
    for arguments in refused:
        result = ask(server, "add", arguments, era=era)
        assert result.is_error
        assert result.meta["error"]["code"] == "invalid_arguments"


def test_only_five_problems_are_told_and_the_others_counted(workspace):
    result = ask(serving(workspace), "take", {**BASE, **{f"unknown_{i}": 1 for i in range(9)}})

    assert text(result).count("is not an argument of") == 5
    assert "And 4 more problems." in text(result)
