from __future__ import annotations

import pytest

from megatron.config.cli import config_from_argv
from megatron.config.load import config_from, write_resolved


def test_files_with_a_folder_and_settings(minimal, write, tmp_path):
    write("a.yml", minimal)
    config = config_from_argv(["-d", str(tmp_path), "a", "train_iters=5", "seed=2"], "Train.")
    assert (config.train.train_iters, config.train.seed) == (5, 2)
    assert config_from_argv(["train_iters=5", "seed=2", "a", "--conf_dir", str(tmp_path)], "Train.") == config


def test_resolved_file(minimal, tmp_path):
    config = config_from(minimal)
    write_resolved(config, tmp_path / "resolved.yml")
    assert config_from_argv(["--config", str(tmp_path / "resolved.yml")], "Train.") == config


@pytest.mark.parametrize("argv", [[], ["--config", "a.yml", "b.yml"], ["--config", "a.yml", "seed=3"], ["--what"]])
def test_wrong_command_lines(argv, capsys):
    with pytest.raises(SystemExit) as caught:
        config_from_argv(argv, "Train.")
    assert caught.value.code == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize("flag", [[], ["--config"]])
def test_every_problem_goes_to_standard_error(write, capsys, minimal, flag):
    path = write("a.yml", {**minimal, "hiden_size": 3, "warmup": 2})
    with pytest.raises(SystemExit) as caught:
        config_from_argv([*flag, str(path)], "Train.")
    assert caught.value.code == 2
    captured = capsys.readouterr()
    assert "hiden_size" in captured.err and "warmup" in captured.err and "Traceback" not in captured.err
    assert not captured.out
