import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PINNED = re.compile(r"^[\w./-]+@[0-9a-f]{40}$")
FORBIDDEN_EXPRESSION = re.compile(r"\$\{\{[^}]*github\.(event\.|head_ref)")


def parsed(path):
    return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # noqa: S506 - strings only; "on" stays


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job.get("steps", [])]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_every_action_is_pinned_by_commit_and_says_its_version(path):
    used = [step["uses"] for step in steps(parsed(path)) if "uses" in step]

    assert used
    assert [name for name in used if not PINNED.match(name)] == []
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if "uses:" in line]
    assert [line for line in lines if not re.search(r"# v\d+\.\d+\.\d+$", line)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_a_workflow_may_only_read_and_ends_by_itself(path):
    workflow = parsed(path)

    assert workflow["permissions"] == {"contents": "read"}
    assert workflow["concurrency"]["cancel-in-progress"] == "true"
    for name, job in workflow["jobs"].items():
        assert "permissions" not in job, name
        assert int(job["timeout-minutes"]) <= 120, name


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_no_command_is_built_from_text_that_strangers_write(path):
    scripts = [step["run"] for step in steps(parsed(path)) if "run" in step]

    assert [script for script in scripts if FORBIDDEN_EXPRESSION.search(script)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_a_checkout_leaves_no_credentials_behind(path):
    checkouts = [step for step in steps(parsed(path)) if step.get("uses", "").startswith("actions/checkout@")]

    assert checkouts
    assert all(step["with"]["persist-credentials"] == "false" for step in checkouts)


def test_ci_runs_on_every_change_and_every_night():
    on = parsed(ROOT / ".github/workflows/ci.yml")["on"]

    assert on["push"]["branches"] == ["main", "develop"]
    assert "pull_request" in on
    assert on["schedule"] == [{"cron": "0 2 * * *"}]


def test_ci_runs_the_parts_of_make_check_and_every_python_that_is_promised():
    import tomllib

    jobs = parsed(ROOT / ".github/workflows/ci.yml")["jobs"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    parts = re.search(r"^check: ([a-z -]+?) ##", makefile, re.MULTILINE).group(1).split()
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["classifiers"]
    promised = [c.rsplit(" ", 1)[1] for c in classifiers if re.search(r":: 3\.\d+$", c)]

    commands = " ".join(step.get("run", "") for job in jobs.values() for step in job["steps"])
    run = {target for line in re.findall(r"make ([^\n]*)", commands) for target in line.split()}
    assert set(parts) <= run
    assert jobs["test"]["strategy"]["matrix"]["python-version"] == promised


def test_every_target_that_ci_calls_exists():
    commands = [s["run"] for path in WORKFLOWS for s in steps(parsed(path)) if s.get("run", "").startswith("make ")]
    called = {word for command in commands for word in command.split()[1:] if "=" not in word}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")

    assert called <= set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
