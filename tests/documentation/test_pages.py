import importlib.util
import json
import re
from pathlib import Path

import pytest
import typer

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "mcp_server").rglob("*.md")])
PAGES = [page for page in PAGES if "_build" not in page.parts]


@pytest.fixture(scope="module")
def generator():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def expected(generator):
    return generator.pages()


def test_generated_pages_say_what_the_code_says(generator, expected):
    assert generator.stale(expected) == [], "run `make docs`"


def test_a_page_that_was_edited_by_hand_is_stale(generator, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(generator, "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("as generated", encoding="utf-8")

    assert generator.stale({page: "as generated"}) == []
    assert generator.stale({page: "as generated now", tmp_path / "missing.md": ""}) == ["page.md", "missing.md"]


def test_readme_lists_every_tool_and_the_reference_every_argument(generator, expected):
    listed = generator.list_tools()
    readme, reference = expected[ROOT / "README.md"], expected[ROOT / "docs/reference/tools.md"]

    assert sum(map(len, listed.values())) >= 10
    for toolset, tools in listed.items():
        for tool in tools:
            assert (f"| `{tool.name}` |" in readme) is (toolset in generator.DEFAULT)
            section = reference.split(f"### {tool.name}\n")[1].split("\n### ")[0]
            assert all(f"| `{name}`" in section for name in tool.input_schema["properties"])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_files_lead_somewhere(page):
    links = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8"))

    assert [link for link in links if not (page.parent / link).exists()] == []


def blocks(language):
    text = (ROOT / "docs/howto/hosts.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def serve_options():
    from mcp_server.cli import app

    return {option for parameter in typer.main.get_command(app).commands["serve"].params for option in parameter.opts}


@pytest.mark.parametrize("block", blocks("json"))
def test_what_a_host_is_told_to_run_can_be_run(block):
    servers = json.loads(block)
    (entry,) = next(iter(servers.values())).values()
    words = entry["args"]

    assert entry["command"] == "tuning-mcp"
    assert words[0] == "serve"
    assert {word for word in words if word.startswith("--")} <= serve_options()


def test_every_option_in_a_command_line_of_the_pages_exists():
    lines = [
        line for page in PAGES for line in page.read_text(encoding="utf-8").splitlines() if "tuning-mcp serve" in line
    ]
    used = {word for line in lines for word in re.findall(r"--[a-z-]+", line.split("tuning-mcp serve")[1])}

    assert "--data-root" in used
    assert used <= serve_options()
