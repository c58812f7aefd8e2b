"""What a machine is found to have."""

from pathlib import Path

from mcp_server.studies.machine import Machine, gpu_ids


def test_gpus_are_counted_where_the_driver_lists_them(tmp_path: Path) -> None:
    for bus in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / bus).mkdir()

    assert gpu_ids({}, tmp_path) == ("0", "1")
    assert gpu_ids({"CUDA_VISIBLE_DEVICES": "1"}, tmp_path) == ("1",)
    assert gpu_ids({"CUDA_VISIBLE_DEVICES": ""}, tmp_path) == ()


def test_without_a_driver_the_program_that_comes_with_it_is_asked(tmp_path: Path, monkeypatch) -> None:
    assert gpu_ids({}, tmp_path / "none") == ()

    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\necho 'GPU 0: One (UUID: GPU-1)'\necho 'GPU 1: Two (UUID: GPU-2)'\n", encoding="utf-8"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert gpu_ids({}, tmp_path / "none") == ("0", "1")


def test_a_trial_with_gpus_leaves_no_more_trials_at_a_time_than_there_are_gpus_for() -> None:
    machine = Machine(8, ("0", "1", "2"))

    assert [machine.parallel(gpus) for gpus in (0, 1, 2, 3, 4)] == [8, 3, 1, 1, 0]
