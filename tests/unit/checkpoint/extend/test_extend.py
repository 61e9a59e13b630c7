from __future__ import annotations

import dataclasses
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from megatron.checkpoint import shards
from megatron.checkpoint.convert.run import Conversion, convert
from megatron.checkpoint.extend.rows import NewRows
from megatron.checkpoint.extend.run import Surgery, padded_rows, planned
from megatron.checkpoint.extend.source import INPUT, OUTPUT
from megatron.checkpoint.folder import open_model
from megatron.checkpoint.storage import LocalStorage
from megatron.checkpoint.store import CheckpointStore
from megatron.config.layout import Layout
from megatron.config.schema import NewTokensConfig
from megatron.data.manifest import TokenizerInfo
from megatron.data.new_tokens import first_new_token
from megatron.model.llama import Llama
from megatron.optim.adamw import build_adamw
from megatron.tokenizer.extend.extension import Extension
from megatron.tokenizer.load import load_tokenizer
from megatron.utils.files import fingerprint_file, write_text
from tests.extended_vocabulary import PIECES, extend_byte_level, extend_sentencepiece, model_with
from tests.foreign_checkpoints import power_cut
from tests.unit.checkpoint.test_store import train
from tests.unit.tokenizer.conftest import TEXTS, hf_ranks_folder, ranks_file, sp_model

__all__ = ["hf_ranks_folder", "ranks_file", "sp_model"]

ROOT = Path(__file__).resolve().parents[4]
CPU = torch.device("cpu")


def operate(model: Path, tokenizer: Path, output: Path, **options: Any) -> tuple[str, ...]:
    operation = planned(Surgery(str(model), tokenizer, output, **options))
    operation.write(lambda folder: None)
    return operation.notes


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for path in folder.glob("*.safetensors"):
        found |= load_file(path)
    return found


@pytest.fixture
def model(tmp_path: Path, sp_model: Path) -> Path:
    return model_with(load_tokenizer("SPMTokenizer", sp_model), tmp_path / "model")


@pytest.fixture
def extended(tmp_path: Path, sp_model: Path) -> Path:
    extend_sentencepiece(sp_model, tmp_path / "extended")
    return tmp_path / "extended"


@pytest.mark.parametrize("padding", [0, 3, 100])
@pytest.mark.parametrize("divisible_by", [1, 64])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_old_rows_stay_new_ones_are_means_and_padding_is_replaced_first(
    tmp_path: Path, sp_model: Path, extended: Path, monkeypatch: pytest.MonkeyPatch, padding: int, divisible_by: int,
    tied: bool, dtype: torch.dtype,
) -> None:  # fmt: skip
    monkeypatch.setattr(shards, "_ROWS_BYTES", 64 * 4 * 50)  # rows of several kinds in one group, and of one in several
    monkeypatch.setattr(shards, "FILE_BYTES", 150_000)
    tokenizer, extension = load_tokenizer("SPMTokenizer", sp_model), Extension.load(extended)
    rows = tokenizer.vocab_size + padding
    source = model_with(tokenizer, tmp_path / "model", rows=rows, tie_word_embeddings=tied, dtype=dtype)
    operate(source, extended, tmp_path / "out", vocab_divisible_by=divisible_by)
    before, after = weights(source), weights(tmp_path / "out")
    assert before.keys() == after.keys() and (OUTPUT in after) is not tied
    old_size, new_size = extension.old_size, extension.new_size
    expected_rows = math.ceil(max(rows, new_size) / divisible_by) * divisible_by
    for name, tensor in before.items():
        if name not in (INPUT, OUTPUT):
            assert torch.equal(tensor, after[name]) and after[name].dtype == dtype, name
            continue
        found, old = after[name], tensor.double().numpy()
        assert found.shape == (expected_rows, 64) and found.dtype == dtype
        assert torch.equal(found[:old_size], tensor[:old_size])
        means = np.stack([old[list(spelling)].mean(0) for spelling in extension.spellings])
        rounding = {"rtol": torch.finfo(dtype).eps, "atol": 0.0}  # sums in another order
        torch.testing.assert_close(found[old_size:new_size], torch.from_numpy(means).to(dtype), **rounding)
        left = max(rows, new_size)
        assert torch.equal(found[new_size:left], tensor[new_size:left])  # padding that nothing has replaced
        average = torch.from_numpy(old[:old_size].mean(0)).to(dtype)
        torch.testing.assert_close(found[left:], average.expand(expected_rows - left, -1), **rounding)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config == json.loads((source / "config.json").read_text()) | {"vocab_size": expected_rows}
    assert len(list((tmp_path / "out").glob("model-*.safetensors"))) > 1  # an index and all
    assert not list(tmp_path.glob(".*"))


@given(st.integers(1, 300), st.integers(0, 90), st.integers(1, 90), st.integers(1, 130))
def test_the_number_of_rows(old_size: int, padding: int, new: int, divisible_by: int) -> None:
    rows = padded_rows(old_size + padding, old_size + new, divisible_by=divisible_by)
    # The smallest multiple that has room for all.
    fits = [number for number in range(1, 1000) if number % divisible_by == 0]
    assert rows == next(number for number in fits if number >= max(old_size + padding, old_size + new))


def test_sizes_of_real_models() -> None:
    assert padded_rows(32_000, 260_164, divisible_by=1) == 260_164  # MaLA-500
    assert padded_rows(128_256, 138_256, divisible_by=256) == 138_496  # Llama 3
    assert padded_rows(50_432, 50_300, divisible_by=128) == 50_432  # GPT-NeoX's 50,277 tokens, padded


def test_transformers_and_this_project_open_it_alike(tmp_path: Path, model: Path, extended: Path) -> None:
    transformers = pytest.importorskip("transformers")
    operate(model, extended, tmp_path / "out", vocab_divisible_by=64)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    ours = open_model(tmp_path / "out", device=CPU)
    text = " ".join([*TEXTS[:-1], *(piece.replace("▁", " ") for piece in PIECES)])
    ids = tokenizer(text)["input_ids"]
    assert ids == [ours.tokenizer.bos_id, *ours.tokenizer.encode(text)] and ours.prepend_bos
    assert len({token for token in ids if token >= 700}) >= 3  # new tokens are used
    with torch.no_grad():
        logits = theirs(torch.tensor([ids[:128]])).logits
        torch.testing.assert_close(ours.model(torch.tensor([ids[:128]])), logits, rtol=1e-4, atol=1e-4)
    assert_about_its_files(tmp_path / "out", Extension.load(extended))


def assert_about_its_files(model: Path, extension: Extension) -> None:
    """The extension beside a model's tokenizer is the one it was made by, and is about what lies there as well."""
    found = Extension.load(model)
    there = [path for name in ("tokenizer.model", "tokenizer.json") if (path := model / name).exists()]
    assert there and {fingerprint_file(path) for path in there} <= {*found.new_fingerprints}
    assert {*extension.new_fingerprints} <= {*found.new_fingerprints}
    assert dataclasses.replace(found, new_fingerprints=extension.new_fingerprints) == extension


def test_methods_for_input_and_output_and_a_seed(tmp_path: Path, model: Path, extended: Path) -> None:
    extension, before = Extension.load(extended), weights(model)
    notes = operate(model, extended, tmp_path / "a", init="last", init_output="first")
    assert notes[-1] == "new rows of the embedding: last; of the output matrix: first"
    found = weights(tmp_path / "a")
    for number, spelling in enumerate(extension.spellings, start=extension.old_size):
        assert torch.equal(found[INPUT][number], before[INPUT][spelling[-1]])
        assert torch.equal(found[OUTPUT][number], before[OUTPUT][spelling[0]])
    for name, seed in (("b", 1), ("c", 1), ("d", 2)):
        operate(model, extended, tmp_path / name, init="normal", seed=seed)
    one, same, other = (weights(tmp_path / name) for name in "bcd")
    assert torch.equal(one[INPUT], same[INPUT]) and not torch.equal(one[INPUT], other[INPUT])
    assert not torch.allclose(one[INPUT][-1], one[OUTPUT][-1])


@pytest.fixture
def llama_3(tmp_path: Path, hf_ranks_folder: Path) -> Path:
    """A tokenizer.json whose post-processor is a sequence, as in the published one."""
    folder = shutil.copytree(hf_ranks_folder, tmp_path / "llama-3")
    content = json.loads((folder / "tokenizer.json").read_text())
    bytes_first = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}
    content["post_processor"] = {"type": "Sequence", "processors": [bytes_first, content["post_processor"]]}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return folder


def test_llama_3_has_special_tokens_before_the_new_ones(tmp_path: Path, llama_3: Path) -> None:
    tokenizer = load_tokenizer("HFTokenizer", llama_3)
    words = two_part_words(tokenizer)
    extension = extend_byte_level(llama_3, tmp_path / "extended", words)
    source = model_with(tokenizer, tmp_path / "model", dtype=torch.bfloat16)
    notes = operate(source, tmp_path / "extended", tmp_path / "out")
    assert notes[0] == (  # the model's was saved anew
        "the tokenizer that was extended is the model's: no file of the model has its fingerprint, but all "
        f"{tokenizer.vocab_size:,} tokens are the same"
    )
    opened = open_model(tmp_path / "out", device=CPU)
    assert opened.model.architecture.vocab_size == tokenizer.vocab_size + len(words)
    assert opened.tokenizer.encode(words[0])[0] == tokenizer.vocab_size == extension.old_size
    assert (opened.tokenizer.bos_id, opened.tokenizer.eod_id) == (tokenizer.bos_id, tokenizer.eod_id)
    assert opened.prepend_bos  # as for the model, although the extended tokenizer was saved without
    before, after = weights(source), weights(tmp_path / "out")
    mean = before[OUTPUT][list(extension.spellings[-1])].double().mean(0).bfloat16()
    assert torch.equal(after[OUTPUT][-1], mean)


def test_a_model_whose_tokenizer_json_was_written_anew_can_be_trained_and_extended_again(
    tmp_path: Path, llama_3: Path
) -> None:
    words = two_part_words(load_tokenizer("HFTokenizer", llama_3))
    extension = extend_byte_level(llama_3, tmp_path / "extended", words)
    source = model_with(load_tokenizer("HFTokenizer", llama_3), tmp_path / "model")
    shutil.copy(llama_3 / "tokenizer.json", source)
    notes = operate(source, tmp_path / "extended", tmp_path / "out")
    assert "the model's: tokenizer.json has its fingerprint, and all" in notes[0]
    assert fingerprint_file(tmp_path / "out" / "tokenizer.json") not in extension.new_fingerprints
    assert_about_its_files(tmp_path / "out", extension)
    info = TokenizerInfo.of(load_tokenizer("HFTokenizer", tmp_path / "out"), prepend_bos=True)
    section = NewTokensConfig(vocab_extension=str(tmp_path / "out"))
    assert first_new_token(section, info) == extension.old_size
    operate(source, tmp_path / "out", tmp_path / "again")  # its folder is one of an extended tokenizer
    assert weights(tmp_path / "again")[OUTPUT].equal(weights(tmp_path / "out")[OUTPUT])
    assert_about_its_files(tmp_path / "again", extension)


def two_part_words(tokenizer: Any) -> list[str]:
    """Words of no text so far that two tokens spell."""
    words = [first + second for first in (" equal", " born", " free") for second in ("ity", "ing", "ness", "an", "re")]
    found = [word for word in words if len(tokenizer.encode(word)) == 2]
    assert len(found) >= 3
    return found


def test_the_tokenizer_of_tiktoken_ranks_is_the_same_as_its_tokenizer_json(
    tmp_path: Path, ranks_file: Path, hf_ranks_folder: Path
) -> None:
    """Llama 3's own file was extended; the model has a tokenizer.json made of it."""
    extend_byte_level(
        hf_ranks_folder, tmp_path / "extended", two_part_words(load_tokenizer("HFTokenizer", hf_ranks_folder))
    )
    said = json.loads((tmp_path / "extended" / "extension.json").read_text())
    said["old_fingerprint"] = load_tokenizer("TiktokenTokenizer", ranks_file).fingerprint
    write_text(tmp_path / "extended" / "extension.json", json.dumps(said))
    source = model_with(load_tokenizer("TiktokenTokenizer", ranks_file), tmp_path / "model")
    notes = operate(source, tmp_path / "extended", tmp_path / "out")
    assert "no file of the model has its fingerprint, but all" in notes[0]


@pytest.mark.parametrize("layout", [Layout(), Layout(tensor=2, pipeline=2)], ids=["one", "2 x 2"])
def test_a_checkpoint_of_ours_gives_what_its_folder_gives(
    tmp_path: Path, model: Path, extended: Path, layout: Layout
) -> None:
    list(
        convert(
            Conversion("hf", str(model), "native", str(tmp_path / "run" / "global_step7"), layout=layout, checked=False)
        )
    )
    for name, source in (("a", model), ("b", tmp_path / "run" / "global_step7"), ("c", tmp_path / "run")):
        operate(source, extended, tmp_path / name, vocab_divisible_by=2)
    first = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert Extension.load(tmp_path / "a").new_size == Extension.load(extended).new_size
    list(convert(Conversion("hf", str(tmp_path / "a"), "native", str(tmp_path / "global_step1"), checked=False)))
    list(convert(Conversion("native", str(tmp_path / "global_step1"), "hf", str(tmp_path / "back"), checked=False)))
    assert (tmp_path / "back" / "extension.json").read_bytes() == first["extension.json"]
    for name in "bc":
        assert {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} == first


def test_an_extension_of_another_tokenizer_is_not_exported(tmp_path: Path, model: Path, extended: Path) -> None:
    shutil.copy(extended / "extension.json", model)
    list(convert(Conversion("hf", str(model), "native", str(tmp_path / "global_step1"), checked=False)))
    list(convert(Conversion("native", str(tmp_path / "global_step1"), "hf", str(tmp_path / "back"), checked=False)))
    assert (tmp_path / "back" / "tokenizer.json").exists() and not (tmp_path / "back" / "extension.json").exists()


def test_a_box_is_a_part_of_the_whole(model: Path, extended: Path, tmp_path: Path) -> None:
    """Whatever rows and columns it has: old, new, left of the padding, more padding."""
    for init in ("mean", "normal"):
        source = planned(Surgery(str(model), extended, tmp_path / "out", init=init, vocab_divisible_by=200)).source
        whole = source.tensor(OUTPUT)
        assert whole.shape == source.shapes[OUTPUT] == (800, 64)
        random = np.random.default_rng(0)
        for _ in range(40):
            (top, bottom), (left, right) = (sorted(random.choice(size, 2, replace=False)) for size in (801, 65))
            place = (slice(int(top), int(bottom)), slice(int(left), int(right)))
            assert torch.equal(source.read(OUTPUT, place), whole[place])


def trained_run(save: Path, model: Path, **copies: Path) -> Llama:
    """Train a model a little and save what a run with its tokenizer.model saves, and copies in the folder ``hf``."""
    tokenizer = load_tokenizer("SPMTokenizer", model / "tokenizer.model")
    trained = open_model(model, device=CPU).model.train()
    optimizer = build_adamw(trained, learning_rate=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    train(trained, optimizer)
    state = {
        "architecture": dataclasses.asdict(trained.architecture), "tokenizer_file": "tokenizer/tokenizer.model",
        "tokenizer": dataclasses.asdict(TokenizerInfo.of(tokenizer, prepend_bos=True)), "samples": 1, "tokens": 1,
    }  # fmt: skip
    store = CheckpointStore(LocalStorage(save))
    files = {f"hf/{path.name}": path for path in copies.values()}
    files["tokenizer/tokenizer.model"] = model / "tokenizer.model"
    store.save(step=1, model=trained, optimizer=optimizer, state=state, copies=files)
    store.wait()
    return trained


def test_a_run_with_new_tokens_is_exported_with_its_extension(tmp_path: Path, model: Path, extended: Path) -> None:
    operate(model, extended, tmp_path / "out")
    trained_run(tmp_path / "run", tmp_path / "out", extension=extended / "extension.json")
    list(convert(Conversion("native", str(tmp_path / "run"), "hf", str(tmp_path / "exported"), checked=False)))
    assert (tmp_path / "exported" / "tokenizer.json").read_bytes() != (extended / "tokenizer.json").read_bytes()
    assert_about_its_files(tmp_path / "exported", Extension.load(extended))


def test_the_optimizer_of_a_run_is_left_out_and_that_is_told(tmp_path: Path, model: Path, extended: Path) -> None:
    trained = trained_run(tmp_path / "run", model)
    notes = operate(tmp_path / "run", extended, tmp_path / "out", init="first")
    number = len(list(trained.parameters()))
    assert notes[0].startswith(f"the optimizer is left out: {3 * number} tensors with ")
    found = weights(tmp_path / "out")
    for name, parameter in trained.named_parameters():
        assert torch.equal(found[name][: len(parameter)], parameter), name
    spelling = Extension.load(extended).spellings[-1]
    assert torch.equal(found[OUTPUT][-1], found[OUTPUT][spelling[0]])
    assert open_model(tmp_path / "out", device=CPU).prepend_bos


def test_chat_template_and_lengths_are_carried_over(tmp_path: Path, model: Path, extended: Path) -> None:
    settings = json.loads((model / "tokenizer_config.json").read_text())
    more = {"chat_template": "{{ messages }}", "model_max_length": 4096, "pad_token": "</s>"}
    (model / "tokenizer_config.json").write_text(json.dumps(settings | more | {"legacy": False}))
    (model / "chat_template.jinja").write_text("{{ messages }}")
    operate(model, extended, tmp_path / "out")
    found = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert more.items() <= found.items() and "legacy" not in found
    assert (tmp_path / "out" / "chat_template.jinja").read_text() == "{{ messages }}"


def refused(model: Path, tokenizer: Path, output: Path, **options: Any) -> list[str]:
    there = set(output.parent.iterdir())
    with pytest.raises(ValueError) as caught:
        operate(model, tokenizer, output, **options)
    assert set(output.parent.iterdir()) == there, "nothing is written"
    return str(caught.value).splitlines()


def changed(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    content = json.loads((folder / "extension.json").read_text())
    change(content)
    (folder / "extension.json").write_text(json.dumps(content))
    return folder


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path, sp_model: Path, extended: Path) -> None:
    tokenizer = load_tokenizer("SPMTokenizer", sp_model)
    source = model_with(tokenizer, tmp_path / "model", rows=690, tie_word_embeddings=True)
    (tmp_path / "out").mkdir()

    def change(content: dict[str, Any]) -> None:
        content["spellings"][0] = [5]
        content["spellings"].append([6])

    changed(extended, change)
    told = refused(source, extended, tmp_path / "out", init="zeros", init_output="first", vocab_divisible_by=0, seed=-1)
    beginnings = [
        "--init zeros: take one of mean",
        "--vocab-divisible-by 0: must be at least 1",
        "--seed -1: must be at least 0",
        f"{tmp_path}/out exists; give another name",
        f"--init-output first: the output matrix of {source} is its embedding",
        f"{source} has 690 rows, fewer than the 700 tokens",
        "the extended tokenizer has 705 tokens, its extension.json 706",
        "2 of 6 new tokens are not spelled by the old ones that extension.json names, such as 700 'गग', 705 ''",
    ]
    assert len(told) == len(beginnings)
    for line, beginning in zip(told, beginnings, strict=True):
        assert line.startswith(beginning)


def test_a_tokenizer_of_another_model(tmp_path: Path, extended: Path) -> None:
    from megatron.tokenizer.train import train_sentencepiece

    train_sentencepiece([*TEXTS, "quick brown foxes jump over lazy dogs"] * 3, tmp_path / "other.model", vocab_size=720)
    source = model_with(load_tokenizer("SPMTokenizer", tmp_path / "other.model"), tmp_path / "model")
    told = refused(source, extended, tmp_path / "out")
    assert told[0].startswith("the model's tokenizer has 20 tokens that the one that was extended has not, such as 700")
    assert "old tokens are not the same in the model's and in the extended tokenizer, such as" in told[1]


def test_a_token_that_was_added_to_the_models_tokenizer_is_not_lost(
    tmp_path: Path, model: Path, extended: Path
) -> None:
    """Its row would be taken for padding: tokenizer.model, whose fingerprint is the right one, does not know it."""
    content = json.loads((model / "tokenizer.json").read_text())
    pad = {**content["added_tokens"][0], "id": 700, "content": "<pad>"}
    content["added_tokens"].append(pad)
    (model / "tokenizer.json").write_text(json.dumps(content))
    [told] = refused(model, extended, tmp_path / "out")
    assert told == (
        "the model's tokenizer has 1 tokens that the one that was extended has not, such as 700 '<pad>': extend the "
        "model's own tokenizer"
    )


def test_special_tokens_that_differ(tmp_path: Path, sp_model: Path, extended: Path) -> None:
    source = model_with(load_tokenizer("SPMTokenizer", sp_model), tmp_path / "model", prepend_bos=False)
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        content = json.loads((source / name).read_text())
        (source / name).write_text(json.dumps(content | {"bos_token": "</s>"}))
    assert refused(source, extended, tmp_path / "out") == [
        "bos_id is 2 in the model's tokenizer, 1 in the extended one"
    ]


def test_an_extended_tokenizer_that_extension_json_is_not_about(tmp_path: Path, model: Path, extended: Path) -> None:
    changed(extended, lambda content: content.update(new_fingerprints=["0" * 32]))
    [told] = refused(model, extended, tmp_path / "out")
    assert told.startswith(f"tokenizer.model and tokenizer.json in {extended} are not what its extension.json is about")
    for name in ("tokenizer.model", "tokenizer.json"):
        (extended / name).unlink()
    [told] = refused(model, extended, tmp_path / "out")
    assert told == f"{extended} holds no tokenizer: neither tokenizer.model nor tokenizer.json"
    (extended / "extension.json").unlink()
    [told] = refused(model, extended, tmp_path / "out")
    assert "extension.json: cannot be read" in told


def test_a_model_without_a_tokenizer_or_none_at_all(tmp_path: Path, model: Path, extended: Path) -> None:
    for path in model.glob("tokenizer.*"):
        path.unlink()
    [told] = refused(model, extended, tmp_path / "out")
    assert told == f"{model} has no tokenizer: nobody knows what its rows stand for"
    [told] = refused(tmp_path / "none", extended, tmp_path / "out")
    assert told == f"{tmp_path}/none is no folder"
    for name in ("tokenizer.model", "extension.json"):
        [told] = refused(model, extended / name, tmp_path / "out")
        assert told == f"--tokenizer {extended / name} is a file; give its folder, {extended}"
    [told] = refused(model, extended, model / "out")[:1]
    assert told == f"{model}/out lies in {model}, which is read"


def test_what_is_interrupted_goes_on_only_with_the_same(
    tmp_path: Path, model: Path, extended: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "FILE_BYTES", 50_000)
    operate(model, extended, tmp_path / "whole")
    with power_cut(monkeypatch, after=3):
        operate(model, extended, tmp_path / "out", init="last")
    with power_cut(monkeypatch, after=3):
        operate(model, extended, tmp_path / "out")
    begun = {path.name: path.stat().st_mtime_ns for path in (tmp_path / ".out.tmp").glob("*.safetensors")}
    operate(model, extended, tmp_path / "out")
    assert all((tmp_path / "out" / name).stat().st_mtime_ns == time for name, time in begun.items()) and begun
    for path in (tmp_path / "whole").iterdir():
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes()


_MEASURED = """
import re, sys, ctypes, gc
from pathlib import Path
from megatron.checkpoint import shards
from megatron.checkpoint.extend import rows
from megatron.checkpoint.extend.run import Surgery, planned
def memory(name):
    return int(re.search(rf"{name}:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
shards._ROWS_BYTES = rows._CHUNK_BYTES = 1 << 20
operation = planned(Surgery(*sys.argv[1:2], *map(Path, sys.argv[2:4]), vocab_divisible_by=5000))
gc.collect(); ctypes.CDLL(None).malloc_trim(0)
before = memory("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
operation.write(lambda folder: None)
print(memory("VmHWM") - before)
"""


def test_memory_is_that_of_some_rows(tmp_path: Path, sp_model: Path) -> None:
    """With pieces a sixteenth as large as they are, matrices of 52 MiB are written in two thirds of that."""
    extend_sentencepiece(sp_model, tmp_path / "large", [f"▁{word}" for word in numbered(6000)])
    large = tmp_path / "large" / "tokenizer.model"
    extend_sentencepiece(large, tmp_path / "extended", [f"a{word}" for word in numbered(3000)])
    source = model_with(
        load_tokenizer("SPMTokenizer", large), tmp_path / "model", hidden_size=2048, intermediate_size=8,
        num_attention_heads=1, num_key_value_heads=1,
    )  # fmt: skip
    command = [sys.executable, "-c", _MEASURED, str(source), str(tmp_path / "extended"), str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=True)
    grown = int(done.stdout)
    assert 1 << 20 < grown < 38 << 20
    assert weights(tmp_path / "out")[OUTPUT].shape == (10_000, 2048)
    shutil.rmtree(tmp_path)  # large


def numbered(count: int) -> list[str]:
    """Words of letters that the texts have."""
    letters = "abdefghilnorstu"
    return ["".join(letters[number // 15**place % 15] for place in range(4)) for number in range(count)]


def test_rows_beyond_a_group_are_read_once_for_each_group(tmp_path: Path) -> None:
    asked: list[tuple[int, int]] = []

    def read(first: int, stop: int) -> torch.Tensor:
        asked.append((first, stop))
        return torch.zeros(stop - first, 8)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "_ROWS_BYTES", 8 * 4 * 10)
        made = NewRows(
            read, width=8, itemsize=4, spellings=[[0, 15], [19], [55]], old_size=60, method="mean", seed=(0,)
        )
        made.rows(0, 3)
    assert asked == [(0, 10), (10, 20), (50, 60)]
