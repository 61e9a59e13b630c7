from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from megatron.checkpoint.convert.run import Conversion, convert
from megatron.checkpoint.hf import save_model
from megatron.checkpoint.storage import LocalStorage, open_storage
from megatron.checkpoint.store import SaveError, read_state
from megatron.config.float8_rules import TORCHAO
from megatron.config.load import load
from megatron.config.schema import Config
from megatron.model.layers import Block
from megatron.monitor.record import read_all_events, read_metrics
from megatron.parallel.process import World
from megatron.train import saving
from megatron.train.faults import FaultError
from megatron.train.trainer import Trainer
from tests.records import losses
from tests.s3 import credentials, s3_server

ALONE = World(rank=0, size=1, device=torch.device("cpu"))
MakeRun = Callable[..., Any]
OTHER_TIERS = "mixture={unit: tokens, tiers: {big: {above: 400, rate: 0.1}, small: {above: 0, rate: 1}}}"


def config_of(run: Any, *overrides: str) -> Config:
    return load([run.config], list(overrides))


def test_learns_and_leaves_its_record(tiny_run: MakeRun) -> None:
    run = tiny_run()
    assert Trainer(config_of(run), ALONE).run() == "finished"
    events = read_metrics(run.save / "metrics.jsonl")
    seen = losses(run.save)
    assert list(seen) == list(range(1, 13))
    assert seen[12] < seen[1] - 0.3
    assert [event["step"] for event in events if event["event"] == "validation"] == [0, 6, 12]
    assert [event["step"] for event in events if event["event"] == "checkpoint"] == [3, 6, 9, 12]
    assert (run.save / "latest").read_text() == "global_step12\n"
    planned, used = [event["rows"] for event in events if event["event"] == "mixture"]
    assert [row["samples"] for row in planned] == [row["samples"] for row in used]
    assert sum(row["samples"] for row in used) == 12 * 8


def test_precision_bfloat16_is_close_to_fp32(tiny_run: MakeRun) -> None:
    run = tiny_run()
    Trainer(config_of(run), ALONE).run()
    full = losses(run.save)
    shutil.rmtree(run.save)
    Trainer(config_of(run, "precision=bfloat16"), ALONE).run()
    half = losses(run.save)
    assert half != full
    assert half == pytest.approx(full, rel=0.02)


def test_fp8_is_close_to_bfloat16_and_may_come_later(tiny_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchao", reason=f"needs torchao: {TORCHAO}")
    monkeypatch.setattr("megatron.train.trainer.check_float8", lambda device: None)  # a CPU has them, slowly
    run = tiny_run(precision="bfloat16")
    Trainer(config_of(run), ALONE).run()
    half = losses(run.save)
    shutil.rmtree(run.save)
    assert Trainer(config_of(run, "exit_interval=6"), ALONE).run() == "exit_interval"
    trainer = Trainer(config_of(run, "fp8=rowwise"), ALONE)
    assert trainer.resumed_from == 6 and trainer.run() == "finished"
    quarter = losses(run.save)
    assert [quarter[step] == half[step] for step in (1, 6, 7, 12)] == [True, True, False, False]
    assert quarter == pytest.approx(half, rel=0.02)
    starts = [event["precision"] for event in read_all_events(run.save / "metrics.jsonl") if event["event"] == "start"]
    assert starts == ["bfloat16", "bfloat16, fp8 rowwise"]


def test_fp8_is_refused_where_the_device_has_none_before_anything_is_built(tiny_run: MakeRun) -> None:
    run = tiny_run(precision="bfloat16", fp8="rowwise")
    (run.folder / "manifest.json").unlink()  # what would be the next complaint
    with pytest.raises(ValueError, match="the CPU has no matrix products in 8 bits"):
        Trainer(config_of(run), ALONE)


def test_a_budget_of_activations_changes_no_result(tiny_run: MakeRun) -> None:
    run = tiny_run(num_layers=4)
    Trainer(config_of(run), ALONE).run()
    whole = losses(run.save)
    shutil.rmtree(run.save)
    settings = ["checkpoint_activations=true", "checkpoint_mode=budget"]
    trainer = Trainer(config_of(run, *settings, "activation_memory_gib=0.0003"), ALONE)
    blocks = [module for module in trainer.model.modules() if isinstance(module, Block)]
    assert {block.recompute is None for block in blocks} == {True, False}
    trainer.run()
    assert losses(run.save) == whole
    with pytest.raises(ValueError, match="activation_memory_gib = 1e-06 is too small"):
        Trainer(config_of(run, *settings, "activation_memory_gib=0.000001"), ALONE)


def test_resumes_bit_for_bit(tiny_run: MakeRun) -> None:
    run = tiny_run()
    Trainer(config_of(run), ALONE).run()
    whole = losses(run.save)
    shutil.rmtree(run.save)
    trainer = Trainer(config_of(run, "exit_interval=5"), ALONE)
    assert trainer.run() == "exit_interval"
    trainer = Trainer(config_of(run, "exit_interval=5"), ALONE)
    assert trainer.resumed_from == 5
    assert trainer.run() == "exit_interval"
    trainer = Trainer(config_of(run), ALONE)
    assert trainer.resumed_from == 10
    assert trainer.run() == "finished"
    assert losses(run.save) == whole
    assert Trainer(config_of(run), ALONE).run() == "already finished"


def test_an_incomplete_checkpoint_is_passed_over(tiny_run: MakeRun) -> None:
    run = tiny_run()
    Trainer(config_of(run), ALONE).run()
    whole = losses(run.save)
    (run.save / "global_step12" / "COMPLETE").unlink()
    trainer = Trainer(config_of(run), ALONE)
    assert trainer.resumed_from == 9
    trainer.run()
    assert losses(run.save) == whole
    assert len(read_all_events(run.save / "metrics.jsonl")) > len(read_metrics(run.save / "metrics.jsonl"))


def test_accumulation_does_not_change_the_numbers(tiny_run: MakeRun) -> None:
    seen = []
    for micro in (1, 4, 8):
        run = tiny_run(train_micro_batch_size_per_gpu=micro)
        shutil.rmtree(run.save, ignore_errors=True)
        Trainer(config_of(run), ALONE).run()
        seen.append(losses(run.save))
    assert seen[1] == pytest.approx(seen[0], rel=1e-5)
    assert seen[2] == pytest.approx(seen[0], rel=1e-5)


def test_resume_with_another_batch_size_goes_on_with_the_next_sample(tiny_run: MakeRun) -> None:
    run = tiny_run()
    Trainer(config_of(run, "exit_interval=5"), ALONE).run()
    trainer = Trainer(config_of(run, "train_batch_size=4"), ALONE)
    assert trainer.samples == 40
    trainer.run()
    assert trainer.samples == 40 + 7 * 4


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["seed=5"], "seed was 1234, is now 5"),
        (["seq_length=16"], "seq_length was 32, is now 16"),
        (["hidden_size=64"], "architecture"),
    ],
)
def test_refuses_to_continue_another_run(tiny_run: MakeRun, overrides: list[str], said: str) -> None:
    run = tiny_run()
    Trainer(config_of(run, "exit_interval=5"), ALONE).run()
    with pytest.raises(ValueError, match=said):
        Trainer(config_of(run, *overrides), ALONE)


def test_finetune_takes_the_weights_alone(tiny_run: MakeRun) -> None:
    run = tiny_run()
    Trainer(config_of(run), ALONE).run()
    last = losses(run.save)[12]
    fresh = run.folder / "fresh"
    trainer = Trainer(config_of(run, f"save={fresh}", f"load={run.save}", "finetune=true", "seed=9"), ALONE)
    assert (trainer.step, trainer.samples, trainer.resumed_from) == (0, 0, None)
    trainer.run()
    assert losses(fresh)[1] == pytest.approx(last, abs=0.3)


def test_a_converted_checkpoint_gives_its_weights_alone(
    tiny_run: MakeRun, caplog: pytest.LogCaptureFixture
) -> None:
    run = tiny_run()
    model = Trainer(config_of(run), ALONE).model
    hf, converted = run.folder / "hf", run.folder / "converted"
    save_model(model.state_dict(), model.architecture, hf, dtype=torch.float32, bos_id=1, eos_id=2)
    list(convert(Conversion("hf", str(hf), "native", str(converted))))
    fresh = [f"save={run.folder / 'fresh'}", f"load={converted}"]
    with pytest.raises(ValueError, match="was converted and holds weights only: set `finetune: true`"):
        Trainer(config_of(run, *fresh), ALONE)
    caplog.clear()
    trainer = Trainer(config_of(run, *fresh, "finetune=true"), ALONE)
    assert trainer.resumed_from is None and "cannot be told" not in caplog.text


def test_one_folder_for_load_and_save_as_in_gpt_neox(tiny_run: MakeRun) -> None:
    run = tiny_run()
    settings = [f"load={run.save}", "exit_interval=5"]
    assert Trainer(config_of(run, *settings), ALONE).resumed_from is None
    Trainer(config_of(run, *settings), ALONE).run()
    assert Trainer(config_of(run, *settings), ALONE).resumed_from == 5


def test_continuing_another_runs_steps_says_so(tiny_run: MakeRun) -> None:
    run = tiny_run()
    Trainer(config_of(run, "exit_interval=5"), ALONE).run()
    branch = run.folder / "branch"
    Trainer(config_of(run, f"save={branch}", f"load={run.save}"), ALONE).run()
    events = read_metrics(branch / "metrics.jsonl")
    assert (events[0]["resumed_from"], events[0]["step"]) == (None, 5)
    # A measurement to compare with comes first in every new folder.
    assert [event["step"] for event in events if event["event"] == "validation"] == [5, 6, 12]
    assert list(losses(branch)) == list(range(6, 13))


def test_a_changed_mixture_is_named(tiny_run: MakeRun) -> None:
    run = tiny_run()
    Trainer(config_of(run, "exit_interval=5"), ALONE).run()
    with pytest.raises(ValueError, match=r"_\w+ has another share \(so do \d more corpora\)"):
        Trainer(config_of(run, OTHER_TIERS), ALONE)


def test_corpora_without_held_out_text_are_named(tiny_run: MakeRun, caplog: pytest.LogCaptureFixture) -> None:
    run = tiny_run()
    manifest = json.loads((run.folder / "manifest.json").read_text())
    manifest["shards"] = [s for s in manifest["shards"] if (s["name"], s["split"]) != ("amh_Ethi", "valid")]
    (run.folder / "manifest.json").write_text(json.dumps(manifest))
    Trainer(config_of(run), ALONE)
    assert "1 corpora have no held-out text and are not measured: amh_Ethi" in caplog.text


def test_a_run_without_a_mixture_says_so(tiny_run: MakeRun, caplog: pytest.LogCaptureFixture) -> None:
    run = tiny_run()
    Trainer(config_of(run, "mixture={unit: tokens, tiers: {all: {above: 0, rate: 1}}}"), ALONE)
    assert "no mixture" not in caplog.text
    Trainer(config_of(run), ALONE)
    assert "no mixture is named: each of the corpora is taken by its size" in caplog.text


def test_another_tokenizer_is_refused(tiny_run: MakeRun) -> None:
    run = tiny_run()
    (run.folder / "tokenizer.model").write_bytes(b"another one")
    with pytest.raises(ValueError, match=r"fingerprint .* tokenise the corpus again"):
        Trainer(config_of(run), ALONE)


def test_a_model_with_too_few_embeddings_is_refused(tiny_run: MakeRun) -> None:
    with pytest.raises(ValueError, match=r"vocab_size = 100 .* smaller than the tokenizer's 120"):
        Trainer(config_of(tiny_run(vocab_size=100)), ALONE)


def test_a_damaged_checkpoint_is_passed_over(tiny_run: MakeRun, caplog: pytest.LogCaptureFixture) -> None:
    run = tiny_run()
    Trainer(config_of(run), ALONE).run()
    for step in (12, 9):
        data = next((run.save / f"global_step{step}").glob("model-*.safetensors"))
        flipped = bytearray(data.read_bytes())
        flipped[-5] ^= 1
        data.write_bytes(flipped)
    trainer = Trainer(config_of(run), ALONE)
    assert trainer.resumed_from == trainer.step == 6
    for step in (12, 9):
        assert f"global_step{step} is passed over: " in caplog.text
    assert trainer.run() == "finished"
    assert read_state(LocalStorage(run.save / "global_step12"))["step"] == 12


def test_checkpoints_that_are_all_damaged_are_a_clear_error(tiny_run: MakeRun) -> None:
    run = tiny_run()
    Trainer(config_of(run), ALONE).run()
    for data in run.save.glob("global_step*/model-*.safetensors"):
        data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(ValueError, match="not one that is whole"):
        Trainer(config_of(run), ALONE)


def test_a_run_whose_checkpoints_lie_in_an_object_store(
    tiny_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tiny_run()
    Trainer(config_of(whole), ALONE).run()
    expected = losses(whole.save)
    shutil.rmtree(whole.save)
    url = "checkpoint_url=s3://bucket/run"
    with s3_server() as address:
        credentials(monkeypatch, address)
        assert Trainer(config_of(whole, url, "exit_interval=6"), ALONE).run() == "exit_interval"
        trainer = Trainer(config_of(whole, url), ALONE)
        assert trainer.resumed_from == 6 and trainer.run() == "finished"
        assert "latest" in open_storage("s3://bucket/run").names()
        elsewhere = Trainer(
            config_of(whole, f"save={whole.save}2", "load=s3://bucket/run", "finetune=true"), ALONE
        )
        assert (elsewhere.step, elsewhere.resumed_from) == (0, None)
        for (name, ours), theirs in zip(elsewhere.model.named_parameters(), trainer.model.parameters(), strict=True):
            assert torch.equal(ours, theirs), name
    assert losses(whole.save) == expected
    assert not list(whole.save.glob("global_step*"))


def test_saves_that_fail_end_a_run_only_after_a_while(tiny_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError("No space left on device")

    run = tiny_run()
    monkeypatch.setattr(LocalStorage, "publish", fail)
    monkeypatch.setattr(saving, "_LAST_PAUSES_SECONDS", (0.0, 0.0))
    with pytest.raises(SaveError, match="step 6 was not written: OSError: No space left"):
        Trainer(config_of(run, "max_failed_saves=0"), ALONE).run()
    events = read_all_events(run.save / "metrics.jsonl")
    assert [event["event"] for event in events].count("checkpoint_failed") == 2
    assert not list(run.save.glob(".global_step*")) and not list(run.save.glob("global_step*"))
    with pytest.raises(SaveError, match="step 9 was not written"):
        Trainer(config_of(run, "max_failed_saves=1", "async_checkpoint=false"), ALONE).run()
    # The last one must succeed.
    with pytest.raises(SaveError, match="step 12 was not written"):
        Trainer(config_of(run, "max_failed_saves=99"), ALONE).run()
    monkeypatch.undo()
    assert Trainer(config_of(run), ALONE).run() == "finished"


@pytest.mark.parametrize(
    ("change", "name", "told"),
    [
        ("seed=99", "seed", "seed was"),
        ("seq_length=8", "seq_length", "seq_length was"),
        (OTHER_TIERS, "mixture", "share"),
    ],
)
def test_what_may_not_change_may_be_allowed_to(tiny_run: MakeRun, change: str, name: str, told: str) -> None:
    run = tiny_run()
    Trainer(config_of(run, "exit_interval=6"), ALONE).run()
    with pytest.raises(ValueError, match=f"belongs to another run: .*{told}.*allow_changes"):
        Trainer(config_of(run, change), ALONE)
    assert Trainer(config_of(run, change, f"allow_changes=[{name}]"), ALONE).resumed_from == 6


def test_checkpoints_that_a_new_place_leaves_behind_are_an_error(tiny_run: MakeRun, tmp_path: Path) -> None:
    run = tiny_run()
    Trainer(config_of(run, "exit_interval=6"), ALONE).run()
    elsewhere = f"checkpoint_url={tmp_path / 'elsewhere'}"
    with pytest.raises(ValueError, match="has global_step6: add `load: "):
        Trainer(config_of(run, elsewhere), ALONE)
    trainer = Trainer(config_of(run, elsewhere, f"load={run.save}/"), ALONE)
    assert trainer.step == 6 and trainer.run() == "finished"
    assert (tmp_path / "elsewhere" / "global_step12" / "COMPLETE").exists()
    assert Trainer(config_of(run, elsewhere), ALONE).resumed_from == 12


def test_changed_settings_are_told(tiny_run: MakeRun, caplog: pytest.LogCaptureFixture) -> None:
    run = tiny_run()
    Trainer(config_of(run, "exit_interval=6"), ALONE).run()
    caplog.set_level("INFO")
    Trainer(config_of(run, "train_iters=20"), ALONE)
    assert "global_step6: exit_interval: 6 -> (not set); train_iters: 12 -> 20" in caplog.text


def test_a_truncated_shard_is_a_clear_error(tiny_run: MakeRun) -> None:
    run = tiny_run()
    shard = run.folder / "eng_Latn_train.bin"
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"eng_Latn_train.*(truncated|bytes)"):
        Trainer(config_of(run), ALONE).run()


def test_losses_that_are_not_finite_end_a_run_without_an_update(tiny_run: MakeRun) -> None:
    run = tiny_run()
    trainer = Trainer(config_of(run), ALONE)
    with torch.no_grad():
        trainer.model.model.norm.weight[0] = float("nan")
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    with pytest.raises(FaultError, match=r"step 6: loss nan.*6 steps in a row were skipped"):
        trainer.run()
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, before[name]) or value.isnan().any(), name


def test_every_checkpoint_tells_what_it_is(tiny_run: MakeRun) -> None:
    run = tiny_run(keep_last_n_checkpoints=2, extra_save_iters=[1])
    Trainer(config_of(run), ALONE).run()
    assert {path.name for path in run.save.glob("global_step*")} == {"global_step1", "global_step9", "global_step12"}
    checkpoint = run.save / "global_step12"
    state = json.loads((checkpoint / "state.json").read_text())
    assert (state["step"], state["samples"], state["tokens"]) == (12, 96, 96 * 32)
    assert load([checkpoint / "config.yml"]) == config_of(run)
    assert (checkpoint / "tokenizer" / "tokenizer.model").exists()
