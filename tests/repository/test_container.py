import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def instructions():
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    text = re.sub(r"\\\n", " ", text)
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [tuple(line.split(maxsplit=1)) for line in lines]


def test_what_builds_the_image_does_not_ship_with_it(instructions):
    stages = [i for i, (word, _) in enumerate(instructions) if word == "FROM"]
    final = instructions[stages[-1] :]

    assert len(stages) == 2
    assert any(word == "COPY" and "--from=build" in rest for word, rest in final)
    assert not any(word == "RUN" and "pip" in rest for word, rest in final)


def test_the_image_does_not_run_as_root(instructions):
    users = [rest for word, rest in instructions if word == "USER"]

    assert users
    assert users[-1].split(":")[0] not in {"root", "0"}


def test_what_must_last_lies_on_the_volume(instructions):
    volumes = [rest for word, rest in instructions if word == "VOLUME"]
    environment = " ".join(rest for word, rest in instructions if word == "ENV")

    assert volumes == ["/data"]
    assert "TUNING_WORKSPACE=/data/" in environment


def test_the_image_fetches_nothing_by_address_and_holds_no_secret(instructions):
    text = " ".join(f"{word} {rest}" for word, rest in instructions)

    assert [rest for word, rest in instructions if word == "ADD"] == []
    assert re.search(r"https?://", text) is None
    assert re.search(r"(?i)(token|password|secret|api_key)\s*=", text) is None


def test_every_base_image_names_its_version(instructions):
    images = [rest.split()[0] for word, rest in instructions if word == "FROM"]

    assert [image for image in images if not re.search(r":\d+\.\d+", image)] == []


def test_only_what_the_image_copies_is_sent_to_the_builder(instructions):
    allowed = {
        line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line.startswith("!")
    }
    copied = {
        source.removeprefix("./")
        for word, rest in instructions
        if word == "COPY" and "--from" not in rest
        for source in rest.split()[:-1]
    }

    assert copied == allowed
