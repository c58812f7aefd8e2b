import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FEATURES = [
    feature
    for area in tomllib.loads((ROOT / "docs/features.toml").read_text(encoding="utf-8"))["area"]
    for feature in area["features"]
]
SHOWN = [feature for feature in FEATURES if feature["state"] != "planned"]


def test_every_behaviour_has_its_row():
    assert [feature["row"] for feature in FEATURES] == list(range(1, 186))
    assert {feature["state"] for feature in FEATURES} <= {"planned", "partial", "done"}
    assert all(feature["behaviour"] for feature in FEATURES)


def test_a_planned_behaviour_names_no_test():
    assert [feature["row"] for feature in FEATURES if feature["state"] == "planned" and feature["test"]] == []


def defined(node_id):
    """Whether the file of a node id defines its class and function."""
    path, *names = node_id.split("[")[0].split("::")
    file = ROOT / path
    if not names or not file.is_file():
        return False
    body = ast.parse(file.read_text(encoding="utf-8")).body
    for name in names:
        found = [n for n in body if isinstance(n, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)]
        match = next((n for n in found if n.name == name), None)
        if match is None:
            return False
        body = match.body
    return names[-1].startswith("test_")


@pytest.mark.parametrize("feature", SHOWN, ids=lambda f: f"row-{f['row']}")
def test_a_behaviour_that_works_names_a_test_that_exists(feature):
    assert defined(feature["test"]), feature["test"]


@pytest.mark.parametrize(
    ("node_id", "expected"),
    [
        ("tests/repository/test_features.py::test_every_behaviour_has_its_row", True),
        ("tests/repository/test_features.py::test_that_nobody_wrote", False),
        ("tests/repository/test_features.py::defined", False),
        ("tests/repository/test_features.py", False),
        ("tests/repository/no_such_file.py::test_it", False),
    ],
)
def test_a_node_id_is_looked_up_in_its_file(node_id, expected):
    assert defined(node_id) is expected
