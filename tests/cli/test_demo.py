import subprocess
import sys

import pytest


@pytest.mark.process
def test_the_demo_shows_the_whole_job_by_a_real_client(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "mcp_server", "demo", "--workspace", str(tmp_path), "--trials", "4"],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout
    for tool in (
        "inspect_dataset",
        "plan_automl_study",
        "start_automl_study",
        "get_automl_study_status",
        "get_automl_best_params",
        "compare_automl_trials",
        "search_runs",
    ):
        assert f"→ {tool} " in told
    assert '"drop":["name","boat","body"' in told.replace(" ", "") or "boat" in told
    assert "finished: 4 of 4 trials" in told
    assert "MLflow has 4 of 4 trials" in told
    assert "The default random forest (trial 0)" in told
    assert (tmp_path / "mlflow.db").is_file()


@pytest.mark.process
def test_the_demo_says_what_the_server_says_when_it_cannot_go_on(tmp_path):
    (tmp_path / "workspace.db").write_text("this is no database", encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "-m", "mcp_server", "demo", "--workspace", str(tmp_path), "--trials", "1"],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )

    assert done.returncode == 1
    assert "The server refused: " in done.stdout
