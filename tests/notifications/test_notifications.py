"""Somebody is told of the end of a study: durably, at least once, by real receivers that fail in real ways."""

import hashlib
import hmac
import json
import socket
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import structlog
from sqlalchemy import select

from mcp_server.errors import BackendUnavailableError, InvalidRequestError
from mcp_server.health import repairs
from mcp_server.notifications import queue
from mcp_server.notifications.channels import ID_HEADER, SIGNATURE_HEADER, Command, Webhook
from mcp_server.notifications.message import StudyEnded
from mcp_server.notifications.notifier import NotifierLoop, ensure_notifier, notifier_lock
from mcp_server.settings import Settings
from mcp_server.store.schema import notifications, studies
from mcp_server.studies.ledger import mark_failed
from mcp_server.workspace import Workspace
from tests.cli.test_status import run
from tests.conftest import eventually
from tests.notifications.receiver import Receiver, serving
from tests.processes.test_kill import related
from tests.studies.running import callable_spec, run_inline

MESSAGE = StudyEnded(
    id="n1", study_id="s1", study="churn", state="finished", reason="trials", message="finished (trials).",
    metric="f1", best_value=0.875, best_trial=3, n_complete=4, n_trials=4, elapsed_s=1.5, cost_usd=0.25, ended_at=9.0,
)  # fmt: skip
PATIENCE_S = 60.0  # of a test on a machine that is busy
OBJECTIVES = str(Path(__file__).parents[1] / "studies")
WRITE_ARGUMENTS = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text('|'.join(sys.argv[2:]))"


def test_a_webhook_gets_the_study_as_json_under_an_id_and_a_signature() -> None:
    receiver = Receiver()
    with serving(receiver) as url:
        Webhook(url, "s3cret", timeout_s=PATIENCE_S).send(MESSAGE)

    ((path, headers, body),) = receiver.received
    assert path == "/hooks/c4nary-path?key=c4nary-query"
    assert json.loads(body) == MESSAGE.model_dump(mode="json")
    assert (headers["Content-Type"], headers[ID_HEADER]) == ("application/json", "n1")
    assert headers[SIGNATURE_HEADER] == "sha256=" + hmac.new(b"s3cret", body, hashlib.sha256).hexdigest()


def test_without_a_secret_nothing_is_signed() -> None:
    receiver = Receiver()
    with serving(receiver) as url:
        Webhook(url, timeout_s=PATIENCE_S).send(MESSAGE)

    assert SIGNATURE_HEADER not in receiver.received[0][1]


@pytest.mark.parametrize("behaviour", [500, 404, 302, 307, "cut", "hang", "drip"])
def test_a_receiver_that_does_not_take_it_is_a_failure_that_shows_no_secret(behaviour: int | str) -> None:
    receiver = Receiver(behaviour)
    timeout_s = 0.3 if behaviour in {"hang", "drip"} else PATIENCE_S
    with serving(receiver) as url:
        with pytest.raises(BackendUnavailableError) as refused:
            Webhook(url, "s3cret", timeout_s=timeout_s).send(MESSAGE)
        eventually(lambda: receiver.received)

    assert "127.0.0.1 did not take it" in str(refused.value)
    assert "c4nary" not in str(refused.value)
    assert [path.split("?")[0] for path, *_ in receiver.received] == ["/hooks/c4nary-path"]  # no redirect is followed


def test_nobody_at_the_address_is_a_failure() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(BackendUnavailableError, match="did not take it"):
            Webhook(f"http://127.0.0.1:{taken.getsockname()[1]}/").send(MESSAGE)


def test_a_command_gets_its_placeholders_filled_and_no_shell_sees_them(tmp_path: Path) -> None:
    told = tmp_path / "told"
    message = MESSAGE.model_copy(update={"study": "a$(touch x);b {message}"})
    Command(
        (sys.executable, "-c", WRITE_ARGUMENTS, str(told), "{title}", "{state}: {best}", "{reason}"),
        timeout_s=PATIENCE_S,
    ).send(message)

    assert told.read_text(encoding="utf-8") == "Study a$(touch x);b {message} finished|finished: 0.875|trials"


@pytest.mark.parametrize(
    ("words", "timeout_s", "why"),
    [
        ((sys.executable, "-c", "raise SystemExit(3)"), PATIENCE_S, "ended with exit code 3"),
        (("/nonexistent/notify",), PATIENCE_S, "cannot be run: No such file"),
        ((sys.executable, "-c", "import time; time.sleep(600)"), 0.3, "took longer than 0.3 s"),
    ],
)
def test_a_command_that_fails_is_a_failure(words: tuple[str, ...], timeout_s: float, why: str) -> None:
    with pytest.raises(BackendUnavailableError, match=why):
        Command(words, timeout_s=timeout_s).send(MESSAGE)


@pytest.mark.parametrize(
    "address",
    ["http://example.com/hook", "ftp://example.com/", "file:///etc/passwd", "https://", "https://bob:pw@example.com/",
     "http://127.0.0.1.example.com/", "https://example.com/\nHost: x"],
)  # fmt: skip
def test_an_address_that_is_not_safe_is_refused_and_not_repeated(address: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="notify_webhook") as refused:
        Settings.load({"TUNING_NOTIFY_WEBHOOK": address}, workspace=tmp_path)

    assert "example" not in str(refused.value)


@pytest.mark.parametrize(
    "address", ["https://example.com/x?y=z", "http://localhost:9/", "http://[::1]:9/", "http://127.9.9.9/"]
)
def test_an_https_address_and_any_on_this_machine_are_taken(address: str, tmp_path: Path) -> None:
    loaded = Settings.load({"TUNING_NOTIFY_WEBHOOK": address}, workspace=tmp_path)

    assert loaded.notify_webhook.get_secret_value() == address
    assert address not in repr(loaded)


def test_a_command_in_the_environment_is_split_once_and_its_placeholders_are_checked(tmp_path: Path) -> None:
    loaded = Settings.load({"TUNING_NOTIFY_COMMAND": "notify-send '{title} now' {message}"}, workspace=tmp_path)
    assert loaded.notify_command == ("notify-send", "{title} now", "{message}")
    again = Settings.load(loaded.environment(), workspace=tmp_path)
    assert again.notify_command == loaded.notify_command

    with pytest.raises(InvalidRequestError, match=r"\{nobody\} is filled by nothing"):
        Settings.load({"TUNING_NOTIFY_COMMAND": "say {nobody}"}, workspace=tmp_path)


def workspace_with(tmp_path: Path, **settings: object) -> Workspace:
    return Workspace(Settings(workspace=tmp_path / "workspace", parallel=1, **settings), launch=lambda *_: None)


def rows(workspace: Workspace) -> list[tuple[str, str, int]]:
    with workspace.store.read() as connection:
        return [(r.channel, r.state, r.tries) for r in connection.execute(select(notifications))]


def deliver(workspace: Workspace) -> None:
    NotifierLoop(workspace.store, workspace.settings, first_delay_s=0.01).run()


def end_a_study(workspace: Workspace) -> None:
    workspace.studies.start(callable_spec(n_trials=2), "ann")
    run_inline(workspace)


def test_the_end_of_a_study_is_told_on_every_channel(tmp_path: Path) -> None:
    receiver, told = Receiver(), tmp_path / "told"
    command = (sys.executable, "-c", WRITE_ARGUMENTS, str(told), "{title}", "{message}")
    with serving(receiver) as url, workspace_with(tmp_path, notify_webhook=url, notify_command=command) as workspace:
        end_a_study(workspace)
        assert sorted(rows(workspace)) == [("command", "queued", 0), ("webhook", "queued", 0)]
        deliver(workspace)
        status = workspace.studies.read.status("study")

        assert sorted(row[:2] for row in rows(workspace)) == [("command", "done"), ("webhook", "done")]
        body = json.loads(receiver.received[0][2])
        assert (body["study"], body["state"], body["reason"]) == ("study", "finished", "trials")
        assert (body["best_value"], body["n_complete"], body["cost_usd"]) == (status.best_value, 2, status.cost_usd)
        assert told.read_text(encoding="utf-8").startswith(
            "Study study finished|finished (trials), 2 trials, best value"
        )


def test_without_a_channel_nothing_is_owed(workspace: Workspace) -> None:
    end_a_study(workspace)

    assert rows(workspace) == []


def test_a_study_that_cannot_be_read_is_told_too(tmp_path: Path) -> None:
    with workspace_with(tmp_path, notify_command=("true",)) as workspace:
        workspace.studies.start(callable_spec(n_trials=2), "ann")
        with workspace.store.read() as connection:
            (study_id,) = connection.scalars(select(studies.c.id))
        mark_failed(workspace.store, workspace.settings, study_id, "no")

        assert rows(workspace) == [("command", "queued", 0)]


def test_a_receiver_that_comes_to_its_senses_is_told_once_under_the_same_id(tmp_path: Path) -> None:
    receiver = Receiver(500, "cut", 200)
    with serving(receiver) as url, workspace_with(tmp_path, notify_webhook=url) as workspace:
        end_a_study(workspace)
        deliver(workspace)

        ((channel, state, tries),) = rows(workspace)
        assert (channel, state) == ("webhook", "done")
        assert tries >= 2
        assert len({headers[ID_HEADER] for _, headers, _ in receiver.received}) == 1
        assert [json.loads(body)["id"] for *_, body in receiver.received] == [receiver.received[0][1][ID_HEADER]] * (
            tries + 1
        )
        assert workspace.studies.read.status("study").warnings is None


def test_what_is_tried_too_often_is_given_up_shown_and_tried_again_on_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "MAX_TRIES", 3)
    receiver = Receiver(500)
    with serving(receiver) as url, workspace_with(tmp_path, notify_webhook=url) as workspace:
        end_a_study(workspace)
        deliver(workspace)
        text = "The notification by webhook was not received (3 tries, given up)"

        assert rows(workspace) == [("webhook", "given_up", 3)]
        assert workspace.studies.read.status("study").warnings[-1].startswith(text)
        assert text in run(workspace, "doctor").output
        assert text in run(workspace, "status", "study").output

        receiver.behaviour = [200]
        (step,) = repairs(workspace, [])
        with notifier_lock(workspace.settings.workspace):  # no process of its own
            step.apply()
        deliver(workspace)
        assert [row[:2] for row in rows(workspace)] == [("webhook", "done")]
        assert repairs(workspace, []) == []


def test_a_channel_that_is_down_does_not_hold_up_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "MAX_TRIES", 2)
    told = tmp_path / "told"
    command = (sys.executable, "-c", WRITE_ARGUMENTS, str(told), "{id}")
    with workspace_with(tmp_path, notify_webhook="http://127.0.0.1:9/", notify_command=command) as workspace:
        end_a_study(workspace)
        deliver(workspace)

        assert sorted(row[:2] for row in rows(workspace)) == [("command", "done"), ("webhook", "given_up")]
        assert told.exists()


def test_a_channel_that_is_not_configured_any_more_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "MAX_TRIES", 1)
    with workspace_with(tmp_path, notify_command=("true",)) as workspace:
        end_a_study(workspace)
    with workspace_with(tmp_path) as later:
        deliver(later)
        with later.store.read() as connection:
            assert "notify_command is not configured any more." in queue.troubles(connection)[0]


def test_no_secret_is_in_any_file_or_log_after_a_failed_delivery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "MAX_TRIES", 2)
    receiver = Receiver(500)
    with (
        serving(receiver) as url,
        structlog.testing.capture_logs() as logged,
        workspace_with(tmp_path, notify_webhook=url, notify_secret="c4nary-secret") as workspace,
    ):
        end_a_study(workspace)
        deliver(workspace)
        answers = [workspace.studies.read.status("study", full=True).model_dump_json(), run(workspace, "doctor").output]

    assert [line["event"] for line in logged] == ["a notification was not received"] * 2
    files = [path for path in (tmp_path / "workspace").rglob("*") if path.is_file()]
    assert files != []
    assert [path for path in files if b"c4nary" in path.read_bytes()] == []
    assert "c4nary" not in json.dumps([logged, answers])


@pytest.mark.process
def test_a_notifier_killed_while_it_delivers_is_replaced_and_delivers_under_the_same_id(tmp_path: Path) -> None:
    receiver = Receiver("hang")
    with serving(receiver) as url, workspace_with(tmp_path, notify_webhook=url) as workspace:
        end_a_study(workspace)
        folder = workspace.settings.workspace
        ensure_notifier(workspace.store, workspace.settings)
        eventually(lambda: receiver.received)
        victims = related(folder)
        end_all(folder)
        eventually(notifier_lock(folder).is_free)
        before = len(receiver.received)

        receiver.behaviour = [200]
        ensure_notifier(workspace.store, workspace.settings)
        eventually(lambda: rows(workspace)[0][1] == "done")
        eventually(notifier_lock(folder).is_free)

        assert len(victims) == 1
        assert len(receiver.received) > before
        assert len({headers[ID_HEADER] for _, headers, _ in receiver.received}) == 1


@pytest.mark.process
def test_a_notifier_is_started_only_when_something_is_owed_and_ends_when_nothing_is(tmp_path: Path) -> None:
    with workspace_with(tmp_path, notify_command=("true",)) as workspace:
        folder = workspace.settings.workspace
        workspace.studies.start(callable_spec(n_trials=2), "ann")
        ensure_notifier(workspace.store, workspace.settings)
        assert not (folder / "logs" / "notifier.log").exists()

        run_inline(workspace)
        with notifier_lock(folder):
            ensure_notifier(workspace.store, workspace.settings)
        assert not (folder / "logs" / "notifier.log").exists()

        ensure_notifier(workspace.store, workspace.settings)
        eventually(lambda: rows(workspace)[0][1] == "done")
        eventually(notifier_lock(folder).is_free)


@pytest.mark.process
def test_a_detached_study_tells_its_end_and_its_trials_see_no_secret(settings: Settings, tmp_path: Path) -> None:
    told = tmp_path / "told"
    configured = {
        "notify_command": (sys.executable, "-c", WRITE_ARGUMENTS, str(told), "{title}"),
        "notify_secret": "c4nary-secret",
    }
    spec = callable_spec(
        objective="study_objectives:environment",
        python_path=[OBJECTIVES],
        n_trials=1,
        payload={"folder": str(tmp_path)},
    )
    with Workspace(Settings(**{**dict(settings), **configured})) as workspace:
        workspace.studies.start(spec, "ann")
        eventually(told.exists)
        end_all(settings.workspace)

    assert "TUNING_STUDY=study" in (tmp_path / "0.env").read_text(encoding="utf-8")
    assert "c4nary" not in (tmp_path / "0.env").read_text(encoding="utf-8")


def end_all(folder: Path) -> None:
    """End what works for the workspace, until nothing does."""
    while found := related(folder):
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(found, timeout=60)
