"""Write the pages that follow from the code: tools, settings, commands, the feature list, and README's table.

Run it with `make docs`; `--check` writes nothing and fails when a page is stale.
"""

import re
import sys
import tomllib
from pathlib import Path

import typer
from mcp.types import Tool
from pydantic.fields import FieldInfo

from mcp_server.settings import PREFIX, Settings
from mcp_server.tools import TOOLSETS

ROOT = Path(__file__).resolve().parent.parent
MARKS = ("<!-- tools: begin -->", "<!-- tools: end -->")
DEFAULT = {toolset.name for toolset in TOOLSETS if toolset.default}
NOTE = "<!-- Written by docs/generate.py; run `make docs`. -->\n"


def cell(text: object) -> str:
    """`text` inside a Markdown table."""
    return " ".join(str(text).split()).replace("|", "\\|")


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell(value) for value in line)} |\n" for line in lines)


def features_page() -> str:
    """docs/features.md from docs/features.toml."""
    areas = tomllib.loads((ROOT / "docs/features.toml").read_text(encoding="utf-8"))["area"]
    states = [feature["state"] for area in areas for feature in area["features"]]
    counts = ", ".join(f"{states.count(state)} {state}" for state in ("done", "partial", "planned"))
    page = (
        f"{NOTE}# Features\n\nWhat the project is to do, and the test that shows each behaviour that works: {counts}.\n"
        "A row is done when its test passes in `make check`.\n"
    )
    for area in areas:
        rows = [
            [str(f["row"]), f["behaviour"], f["state"], f"`{f['test']}`" if f["test"] else ""] for f in area["features"]
        ]
        page += f"\n## {area['title']}\n\n{table(['#', 'behaviour', 'state', 'shown by'], rows)}"
    return page


def settings_page() -> str:
    """docs/reference/settings.md from the fields of Settings."""
    rows = [
        [f"`{name}`", f"`{PREFIX}{name.upper()}`", _default(field), field.description or ""]
        for name, field in Settings.model_fields.items()
    ]
    return (
        f"{NOTE}# Settings\n\n"
        "A value on the command line beats the environment, which beats `<workspace>/tuning.toml`.\n"
        "Lists in the environment are separated by commas, or as in `PATH` when they are folders.\n\n"
        f"{table(['key in tuning.toml', 'environment', 'default', 'meaning'], rows)}"
    )


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is None or value == ():
        return "unset"
    return f"`{value}`"


def commands_page() -> str:
    """docs/reference/cli.md from the command line's own help."""
    from mcp_server.cli import app

    group = typer.main.get_command(app)
    page = f"{NOTE}# Commands\n\n`tuning-mcp --help` and `tuning-mcp <command> --help` say the same.\n"
    for name, command in sorted(group.commands.items()):
        if command.hidden:
            continue
        page += f"\n## tuning-mcp {name}\n\n{' '.join((command.help or '').split())}\n"
        rows = [
            [", ".join(f"`{o}`" for o in (*option.opts, *option.secondary_opts)), option.help or ""]
            for option in command.params
            if getattr(option, "help", None) and not getattr(option, "hidden", False)
        ]
        if rows:
            page += f"\n{table(['option', 'meaning'], rows)}"
    return page


def tools_page(listed: dict[str, list[Tool]]) -> str:
    """docs/reference/tools.md from the tools as a client sees them."""
    page = f"{NOTE}# Tools\n\nWhat a client sees, in this order. Arguments marked `*` are required.\n"
    for toolset, tools in listed.items():
        asked = "" if toolset in DEFAULT else f"\nOffered with `--toolsets {toolset}` only.\n"
        page += f"\n## Toolset {toolset}\n{asked}"
        for tool in tools:
            page += f"\n### {tool.name}\n\n{tool.description}\n"
            if rows := _argument_rows(tool):
                page += f"\n{table(['argument', 'type', 'default', 'meaning'], rows)}"
    return page


def _argument_rows(tool: Tool) -> list[list[str]]:
    required = tool.input_schema.get("required", [])
    return [
        [
            f"`{name}`{'*' if name in required else ''}",
            _type(schema),
            f"`{schema['default']}`" if schema.get("default") is not None else "",
            schema.get("description", ""),
        ]
        for name, schema in tool.input_schema.get("properties", {}).items()
    ]


def _type(schema: dict[str, object]) -> str:
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(_type(option) for option in options if option.get("type") != "null"))
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("type", "any"))


def tools_table(listed: dict[str, list[Tool]]) -> str:
    """README's table of tools."""
    rows = [
        [f"`{tool.name}`", re.split(r"(?<=\.)\s", tool.description or "")[0], "reads" if _reads(tool) else "changes"]
        for toolset, tools in listed.items()
        for tool in tools
        if toolset in DEFAULT
    ]
    return table(["tool", "what it does", ""], rows)


def _reads(tool: Tool) -> bool:
    return tool.annotations is not None and bool(tool.annotations.read_only_hint)


def readme(listed: dict[str, list[Tool]]) -> str:
    """README.md with its table of tools renewed."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    before, rest = text.split(MARKS[0])
    _, after = rest.split(MARKS[1])
    return f"{before}{MARKS[0]}\n{tools_table(listed)}{MARKS[1]}{after}"


def list_tools() -> dict[str, list[Tool]]:
    """The tools of each toolset, as a client of an administrator gets them."""
    return {toolset.name: [tool.listed() for tool in toolset] for toolset in TOOLSETS}


def pages() -> dict[Path, str]:
    """What every generated file should hold."""
    listed = list_tools()
    reference = ROOT / "docs/reference"
    return {
        ROOT / "docs/features.md": features_page(),
        reference / "settings.md": settings_page(),
        reference / "cli.md": commands_page(),
        reference / "tools.md": tools_page(listed),
        ROOT / "README.md": readme(listed),
    }


def stale(expected: dict[Path, str]) -> list[str]:
    """Files that differ from what they should hold."""
    return [
        str(path.relative_to(ROOT))
        for path, text in expected.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]


def main() -> int:
    """Write the pages, or with --check say which are stale."""
    expected = pages()
    outdated = stale(expected)
    if "--check" in sys.argv[1:]:
        if outdated:
            sys.stderr.write(f"stale: {', '.join(outdated)}; run `make docs`\n")
        return 1 if outdated else 0
    for path, text in expected.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
