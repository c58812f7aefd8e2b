import subprocess
import sys

import pytest

from mcp_server.errors import InvalidRequestError
from mcp_server.settings import Settings
from mcp_server.tracking.columns import KnownKeys, column_of
from mcp_server.tracking.names import KEY_LIMIT, PARAM_LIMIT, fitted, legal_key
from mcp_server.tracking.target import tracking_target


def test_by_default_runs_go_to_a_database_in_the_workspace(tmp_path):
    target = tracking_target(Settings(workspace=tmp_path))
    assert (target.backend, target.database) == ("sqlite", tmp_path / "mlflow.db")


@pytest.mark.parametrize(
    ("uri", "backend"),
    [
        ("http://localhost:5000", "http"),
        ("https://mlflow.example", "http"),
        ("postgresql+psycopg://u:p@db/x", "postgresql"),
        ("sqlite:////data/runs.db", "sqlite"),
    ],
)
def test_a_store_is_named_by_its_kind(tmp_path, uri, backend):
    assert tracking_target(Settings(workspace=tmp_path, tracking_uri=uri)).backend == backend


@pytest.mark.parametrize("uri", ["mlruns", "file:///tmp/mlruns", "sqlite:///relative.db", "sqlite://", "ftp://x", ""])
def test_a_uri_that_names_no_usable_store_is_refused(tmp_path, uri):
    with pytest.raises(InvalidRequestError):
        tracking_target(Settings(workspace=tmp_path, tracking_uri=uri or "x"))


def test_an_http_address_with_a_password_is_refused_without_repeating_it(tmp_path):
    with pytest.raises(InvalidRequestError, match=r"mlflow\.example") as caught:
        tracking_target(Settings(workspace=tmp_path, tracking_uri="https://bob:hunter2@mlflow.example"))
    assert "hunter2" not in str(caught.value)
    assert "bob" not in str(caught.value)


def test_an_error_text_is_cleaned_of_the_password_also_when_it_is_escaped(tmp_path):
    settings = Settings(workspace=tmp_path, tracking_uri="postgresql://bob:hunter%402@db:5432/x")
    target = tracking_target(settings)
    cleaned = target.cleaned("connection to postgresql://bob:hunter%402@db failed for hunter@2\n[SQL: select]")
    assert "hunter" not in cleaned
    assert "SQL" not in cleaned
    assert target.place == "postgresql://db:5432"


@pytest.mark.parametrize(
    "key", ["a" * 251, "", "../x", "/abs", "a//b", "a/../b", ".", "a[0]", "a@b", "a\nb", "\ud800", "🚀"]
)
def test_a_key_that_mlflow_refuses_is_mapped_to_one_that_it_takes(key):
    from mlflow.utils.validation import _validate_metric_name, _validate_param_name

    mapped = legal_key(key)
    _validate_metric_name(mapped)
    _validate_param_name(mapped)
    assert len(mapped) <= KEY_LIMIT
    assert legal_key(mapped) == mapped


@pytest.mark.parametrize("key", ["lr", "学习率", "a/b", "opt.lr", "a b", "a-b:c"])
def test_a_key_that_mlflow_takes_stays_as_it_is(key):
    assert legal_key(key) == key


def test_two_illegal_keys_never_share_a_name():
    assert legal_key("a[0]") != legal_key("a{0}")


def test_a_value_is_cut_to_the_limit_exactly_and_says_how_long_it_was():
    text = fitted("x" * 7_000, PARAM_LIMIT)
    assert len(text) == PARAM_LIMIT
    assert fitted("x" * PARAM_LIMIT, PARAM_LIMIT) == "x" * PARAM_LIMIT


@pytest.mark.parametrize("name", ["metrics.", "metrics.a`b", "params.` `"])
def test_a_column_without_a_key_is_refused(name):
    with pytest.raises(InvalidRequestError):
        column_of(name, KnownKeys.of([]))


def test_asking_for_runs_imports_no_heavy_library():
    heavy = "{'mlflow', 'sqlalchemy', 'numpy', 'pandas'}"
    code = f"import sys, mcp_server.tracking.runs; sys.exit(bool({heavy} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
