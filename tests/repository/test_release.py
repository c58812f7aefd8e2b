import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def entries():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    return re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d{2}-\d{2})$", text, re.MULTILINE)


def test_the_version_is_the_newest_entry_of_the_changelog():
    versions = [tuple(map(int, version.split("."))) for version, _ in entries()]

    assert versions == sorted(versions, reverse=True)
    assert entries()[0][0] == PROJECT["project"]["version"]


def test_every_dependency_has_an_upper_bound_on_its_version():
    extras = PROJECT["project"]["optional-dependencies"].values()
    wanted = [*PROJECT["project"]["dependencies"], *(d for extra in extras for d in extra)]

    assert [d for d in wanted if not re.search(r">=[\d.]+,<\d", d)] == []


def test_the_checks_run_with_exact_versions_from_nowhere_in_particular():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    wanted = [line for line in lines if not line.startswith("#")]

    assert [line for line in wanted if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []
    assert len({line.split("==")[0].lower() for line in wanted}) == len(wanted)


def test_everything_that_users_and_checks_install_is_fixed_by_the_constraints():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    fixed = {normalized(line.split("==")[0]) for line in lines if not line.startswith("#")}
    groups = [d for group in PROJECT["dependency-groups"].values() for d in group]
    wanted = {normalized(re.split(r"[<>=\[]", d)[0]) for d in [*PROJECT["project"]["dependencies"], *groups]}

    assert wanted - fixed == set()


def normalized(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_decider_of_a_change_is_make_check():
    script = ROOT / ".ci/run"

    assert script.stat().st_mode & 0o100
    assert "exec make check" in script.read_text(encoding="utf-8")


def test_the_architecture_page_lists_the_layers_that_are_checked():
    page = (ROOT / "docs/explanation/architecture.md").read_text(encoding="utf-8")
    shown = [
        re.findall(r"`(\w+)`", line.split("|")[1])
        for line in page.split("## Layers")[1].split("## Errors")[0].splitlines()
        if line.startswith("| `")
    ]
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")

    assert shown == [re.findall(r"\w+", layer) for layer in layers]


def test_the_guide_for_agents_is_one_file():
    assert (ROOT / "CLAUDE.md").read_text(encoding="utf-8").strip() == "@AGENTS.md"
