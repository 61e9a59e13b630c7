from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import Shard
from torch.testing._internal.distributed.fake_pg import FakeStore

from megatron.checkpoint import shards
from megatron.checkpoint.convert import run as run_module
from megatron.checkpoint.convert.check import Agreement, compared
from megatron.checkpoint.convert.native import NativeSource
from megatron.checkpoint.convert.run import Conversion, convert, mapping_lines
from megatron.checkpoint.convert.source import Source
from megatron.checkpoint.folder import open_model
from megatron.checkpoint.hf import load_weights
from megatron.checkpoint.restore import load
from megatron.checkpoint.seal import verify
from megatron.checkpoint.storage import LocalStorage
from megatron.checkpoint.store import CheckpointError, CheckpointStore
from megatron.config.architecture import Architecture, RopeScaling
from megatron.config.layout import Layout
from megatron.model.llama import Llama
from megatron.parallel.mesh import Mesh
from megatron.parallel.process import World
from megatron.parallel.tensor import divide_matrices, divided_dim
from megatron.utils.files import exclusive
from tests.foreign_checkpoints import BASE, model_of, power_cut, write_neox
from tests.foreign_checkpoints import hf_folder_of as folder_of
from tests.unit.checkpoint.test_store import save, trained

ROOT = Path(__file__).resolve().parents[3]
SHAPES = {
    "many heads": Architecture(64, 16, 32, 4, 2, 2, 8, 64),
    "grouped heads": Architecture(64, 32, 48, 4, 4, 2, 8, 64),
    "tied": Architecture(64, 16, 32, 4, 2, 2, 8, 64, tie_word_embeddings=True),
    "scaled positions": Architecture(64, 16, 32, 4, 2, 2, 8, 64, rope_scaling=RopeScaling("llama3", 8.0, 1.0, 4.0, 32)),
}
LAYOUTS = {"one": Layout(), "2 x 2": Layout(tensor=2, pipeline=2), "stages": Layout(pipeline=4)}


def run(
    source_format: str,
    source: Path,
    target_format: str,
    target: Path,
    dtype: str = "keep",
    layout: Layout | None = None,
    checked: bool = True,
) -> list[str]:
    wanted = Conversion(
        source_format, str(source), target_format, str(target), dtype, layout or Layout(), checked=checked
    )
    return list(convert(wanted))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for path in folder.glob("*.safetensors"):
        found |= load_file(path)
    return found


@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_there_and_back_gives_the_same_bytes(
    shape: Architecture, layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "FILE_BYTES", 4000)
    source = folder_of(shape, tmp_path / "hf")
    run("hf", source, "native", tmp_path / "ours", layout=layout)
    verify(LocalStorage(tmp_path / "ours"))
    assert len(list((tmp_path / "ours").glob("model-*"))) > layout.processes
    run("native", tmp_path / "ours", "hf", tmp_path / "back")
    before, after = weights(source), weights(tmp_path / "back")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype and torch.equal(tensor, after[name]), name
    for name in ("config.json", "generation_config.json"):
        assert (tmp_path / "back" / name).read_bytes() == (source / name).read_bytes()
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_a_model_takes_it_like_the_folder(layout: Layout, tmp_path: Path) -> None:
    shape = SHAPES["grouped heads"]
    source = folder_of(shape, tmp_path / "hf")
    run("hf", source, "native", tmp_path / "ours", "float32", layout=layout)
    ours, theirs = Llama(shape), Llama(shape)
    load(LocalStorage(tmp_path / "ours"), model=ours, optimizer=None)
    load_weights(theirs, source)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_matrices_are_divided_as_in_a_run() -> None:
    """A process of the same layout finds all that it holds in its own file, and nothing else."""
    dist.init_process_group("fake", store=FakeStore(), rank=1, world_size=2)
    try:
        mesh = Mesh(Layout(tensor=2), World(rank=1, size=2, device=torch.device("cpu")))
        with torch.device("meta"):
            model = Llama(SHAPES["grouped heads"])
        divide_matrices(model, mesh, compiled=False)
        for name, parameter in model.named_parameters():
            dims = [place.dim for place in getattr(parameter, "placements", ()) if isinstance(place, Shard)]
            assert dims == [dim for dim in [divided_dim(name)] if dim is not None], name
    finally:
        dist.destroy_process_group()


def test_another_dtype_is_in_the_configuration(tmp_path: Path) -> None:
    source = folder_of(SHAPES["tied"], tmp_path / "hf", torch.float32)
    run("hf", source, "native", tmp_path / "ours")
    run("native", tmp_path / "ours", "hf", tmp_path / "back", "bfloat16")
    assert {tensor.dtype for tensor in weights(tmp_path / "back").values()} == {torch.bfloat16}
    config = json.loads((tmp_path / "back" / "config.json").read_text())
    assert config["dtype"] == config["torch_dtype"] == "bfloat16" and config["tie_word_embeddings"]


def test_a_checkpoint_without_a_tokenizer_cannot_be_opened_and_says_so(tmp_path: Path) -> None:
    run("hf", folder_of(SHAPES["tied"], tmp_path / "hf"), "native", tmp_path / "ours")
    with pytest.raises(CheckpointError, match="holds no tokenizer"):
        open_model(tmp_path / "ours", device=torch.device("cpu"))


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    source = folder_of(SHAPES["tied"], tmp_path / "hf")
    run("hf", source, "native", tmp_path / "ours")
    with pytest.raises(CheckpointError, match="ours exists"):
        run("hf", source, "native", tmp_path / "ours")
    with pytest.raises(CheckpointError, match="hf exists"):
        run("native", tmp_path / "ours", "hf", source)


def test_a_layout_that_does_not_divide(tmp_path: Path) -> None:
    source = folder_of(SHAPES["tied"], tmp_path / "hf")
    with pytest.raises(CheckpointError, match="model_parallel_size = 4"):
        run("hf", source, "native", tmp_path / "ours", layout=Layout(tensor=4))
    with pytest.raises(ValueError, match="5 stages are more than the 4 blocks"):
        run("hf", source, "native", tmp_path / "ours", layout=Layout(pipeline=5))
    assert not (tmp_path / "ours").exists()


def test_the_tool(tmp_path: Path) -> None:
    folder_of(SHAPES["grouped heads"], tmp_path / "hf")

    def tool(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "tools/convert_checkpoint.py", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)

    ours, back = str(tmp_path / "ours"), str(tmp_path / "back")
    there = ("--from", "hf", "--to", "native", "--input", str(tmp_path / "hf"), "--output", ours)
    result = tool(*there, "--model-parallel-size", "2", "--pipe-parallel-size", "2")
    said, done = result.stdout.splitlines()
    assert done == f"{tmp_path}/hf -> {ours} (dtype: keep)"
    assert said == "64 random tokens through both: all logits are identical"
    assert tool("--from", "native", "--to", "hf", "--input", ours, "--output", back).returncode == 0
    assert weights(tmp_path / "hf").keys() == weights(tmp_path / "back").keys()
    again = tool(*there)
    assert again.returncode == 1 and again.stderr.endswith(f"error: {ours} exists; give another name, or delete it\n")


def test_an_interrupted_conversion_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that are finished are not written again, unless the source is another by now."""
    monkeypatch.setattr(shards, "FILE_BYTES", 4000)
    source = folder_of(SHAPES["many heads"], tmp_path / "hf")
    for first, start, second, target in (("hf", source, "native", "ours"), ("native", tmp_path / "ours", "hf", "back")):
        with power_cut(monkeypatch, after=3) as written:
            run(first, start, second, tmp_path / target)
        assert not (tmp_path / target).exists()
        before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / f".{target}.tmp").glob("*.safetensors")}
        assert sorted(before) == sorted(written)
        run(first, start, second, tmp_path / target)
        after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / target).glob("*.safetensors")}
        assert before.items() <= after.items() and len(after) > 3
        assert not list(tmp_path.glob(f".{target}.*"))
    verify(LocalStorage(tmp_path / "ours"))
    assert all(torch.equal(t, weights(source)[n]) for n, t in weights(tmp_path / "back").items())


def interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Path:
    """Begin a conversion that ends after three files, and return where they are."""
    monkeypatch.setattr(shards, "FILE_BYTES", 4000)
    with power_cut(monkeypatch, after=3):
        list(convert(Conversion(target_format="native", target=str(tmp_path / "ours"), **options)))
    return tmp_path / ".ours.tmp"


def test_another_reading_of_the_same_files_is_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_neox(model_of(BASE), BASE, tmp_path / "neox", by_head=True)
    options = {"source_format": "neox", "source": str(tmp_path / "neox"), "checked": False}
    interrupted(tmp_path, monkeypatch, **options, qkv_layout="joined")
    list(convert(Conversion(target_format="native", target=str(tmp_path / "ours"), **options, qkv_layout="by-head")))
    found = NativeSource(tmp_path / "ours")
    assert all(torch.equal(found.tensor(name), weight) for name, weight in model_of(BASE).items())


def test_what_a_killed_process_has_left_is_cleared_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = folder_of(SHAPES["many heads"], tmp_path / "hf")
    begun = interrupted(tmp_path, monkeypatch, source_format="hf", source=str(source))
    (begun / ".model-00004-of-00009.safetensors.tmp77-abcdef01").write_bytes(b"half")
    run("hf", source, "native", tmp_path / "ours")
    verify(LocalStorage(tmp_path / "ours"))
    assert not [path for path in (tmp_path / "ours").iterdir() if "tmp" in path.name]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hf", "ours"]


@pytest.mark.parametrize("target_format", ["native", "hf", "megatron-core"])
def test_what_others_have_put_there_stays(target_format: str, tmp_path: Path) -> None:
    source = folder_of(SHAPES["many heads"], tmp_path / "hf")
    run("hf", source, "native", tmp_path / "native")
    source_format, source = ("native", tmp_path / "native") if target_format == "hf" else ("hf", source)
    (tmp_path / ".ours.tmp").mkdir()
    (tmp_path / ".ours.tmp" / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="holds something that no conversion has begun"):
        run(source_format, source, target_format, tmp_path / "ours")
    assert (tmp_path / ".ours.tmp" / "thesis.tex").read_text() == "years of work"
    (tmp_path / ".ours.tmp").rename(tmp_path / "thesis")
    (tmp_path / ".ours.tmp").symlink_to(tmp_path / "thesis")
    with pytest.raises(ValueError, match="holds something that no conversion has begun"):
        run(source_format, source, target_format, tmp_path / "ours")
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["thesis.tex"]


def test_two_at_once(tmp_path: Path) -> None:
    source = folder_of(SHAPES["many heads"], tmp_path / "hf")
    with exclusive(tmp_path / ".ours.lock"), pytest.raises(ValueError, match="another run is writing to"):
        run("hf", source, "native", tmp_path / "ours")
    run("hf", source, "native", tmp_path / "ours")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hf", "ours"]


@pytest.mark.parametrize("target_format", ["native", "hf", "megatron-core"])
def test_a_folder_that_is_there_by_now_stays(
    target_format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = folder_of(SHAPES["many heads"], tmp_path / "hf")
    run("hf", source, "native", tmp_path / "native")
    source_format, source = ("native", tmp_path / "native") if target_format == "hf" else ("hf", source)
    compared_ = run_module._compared

    def slow(*arguments: Any) -> str:
        (tmp_path / "ours").mkdir()
        (tmp_path / "ours" / "thesis.tex").write_text("years of work")
        return compared_(*arguments)

    with monkeypatch.context() as patch, pytest.raises(FileExistsError, match="exists by now"):
        patch.setattr(run_module, "_compared", slow)
        run(source_format, source, target_format, tmp_path / "ours")
    assert [path.name for path in (tmp_path / "ours").iterdir()] == ["thesis.tex"]
    (tmp_path / "ours").rename(tmp_path / "thesis")
    run(source_format, source, target_format, tmp_path / "ours")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hf", "native", "ours", "thesis"]


@pytest.mark.parametrize("target_format", ["native", "hf", "megatron-core"])
def test_an_end_at_any_file_is_gone_on_from(
    target_format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the process were killed just before each of the files that it gives a name, and before the folder's own."""
    monkeypatch.setattr(shards, "FILE_BYTES", 8000)
    source = folder_of(SHAPES["tied"], tmp_path / "hf")
    run("hf", source, "native", tmp_path / "native")
    source_format, source = ("native", tmp_path / "native") if target_format == "hf" else ("hf", source)
    replace, rename = Path.replace, Path.rename
    count = 0

    def ending(real: Any, last: int) -> Any:
        def move(self: Path, target: Any) -> Any:
            nonlocal count
            count += 1
            if count > last:
                raise KeyboardInterrupt
            return real(self, target)

        return move

    last, ends = 0, 0
    while True:
        count = 0
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", ending(replace, last))
            patch.setattr(Path, "rename", ending(rename, last))
            try:
                run(source_format, source, target_format, tmp_path / "ours", checked=False)
                break
            except KeyboardInterrupt:
                ends += 1
        assert not (tmp_path / "ours").exists()
        last += 1
    assert ends > 3 and sorted(path.name for path in tmp_path.iterdir()) == ["hf", "native", "ours"]
    if target_format != "hf":
        run(target_format, tmp_path / "ours", "hf", tmp_path / "back")
    found = weights(tmp_path / ("ours" if target_format == "hf" else "back"))
    assert all(torch.equal(tensor, found[name]) for name, tensor in weights(tmp_path / "hf").items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source_format": "hf", "target_format": "hf"}, "are the same format"),
        ({"source": "nothere"}, "nothere does not exist"),
        ({"target_format": "hf", "source_format": "native", "target": "s3://bucket/x"}, "only native is written to an"),
        ({"source": "s3://bucket/x"}, "only native is read from an object store"),
        ({"target": "{}/hf/inside"}, "which is read"),
        ({"qkv_layout": "joined"}, "--qkv-layout is for --from neox"),
        ({"config": Path("x")}, "--config is for formats without a config.json"),
        ({"target_format": "megatron-core", "layout": Layout(tensor=2)}, "are for --to native"),
        ({"source_format": "meta"}, r"holds no consolidated.00.pth \(it looks like --from hf\)"),
        ({"source_format": "neox"}, r"it looks like --from hf"),
        ({"source_format": "megatron-core"}, r"it looks like --from hf"),
        ({"layout": Layout(tensor=3)}, "does not divide vocab_size = 64 and intermediate_size = 32"),
    ],
)
@pytest.mark.parametrize("dry", [True, False])
def test_what_cannot_be_is_said_before_anything_is_written(
    options: dict[str, Any], message: str, dry: bool, tmp_path: Path
) -> None:
    source = folder_of(SHAPES["tied"], tmp_path / "hf")
    usual = {"source_format": "hf", "source": str(source), "target_format": "native", "target": str(tmp_path / "ours")}
    given = {name: value.format(tmp_path) if isinstance(value, str) else value for name, value in options.items()}
    with pytest.raises(ValueError, match=message):
        list((mapping_lines if dry else convert)(Conversion(**{**usual, **given})))
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]


def test_a_width_that_cannot_be_divided(tmp_path: Path) -> None:
    shape = dataclasses.replace(SHAPES["tied"], intermediate_size=33)
    source = folder_of(shape, tmp_path / "hf")
    with pytest.raises(CheckpointError, match="model_parallel_size = 2 does not divide intermediate_size = 33"):
        run("hf", source, "native", tmp_path / "ours", layout=Layout(tensor=2))


def test_numbers_that_are_too_large_for_their_dtype(tmp_path: Path) -> None:
    source = folder_of(SHAPES["many heads"], tmp_path / "hf", torch.float32)
    found = weights(source)
    found["lm_head.weight"] *= 1e7
    save_file(found, source / "model.safetensors", {"format": "pt"})
    with pytest.raises(CheckpointError, match="these are no numbers; too large for --dtype float16"):
        run("hf", source, "native", tmp_path / "ours", "float16")
    assert not (tmp_path / "ours").exists()


def test_a_tokenizer_of_another_model(tmp_path: Path, shared: Path) -> None:
    source = folder_of(SHAPES["many heads"], tmp_path / "hf")
    file = shared / "data" / "tokenizers" / "llama3" / "tokenizer.model"
    (source / "tokenizer.model").write_bytes(file.read_bytes())
    with pytest.raises(CheckpointError, match="the tokenizer has 128,256 tokens, the model 64: it belongs to another"):
        run("hf", source, "native", tmp_path / "ours")
    source = folder_of(dataclasses.replace(SHAPES["many heads"], vocab_size=128_255), tmp_path / "near")
    (source / "tokenizer.model").write_bytes(file.read_bytes())
    lines = run("hf", source, "native", tmp_path / "ours")
    assert lines[0] == "the tokenizer has 128,256 tokens, the model 128,255: text with the last ones cannot be run"


def test_llama_3s_own_tokenizer_in_a_hugging_face_folder(tmp_path: Path, shared: Path) -> None:
    source = folder_of(dataclasses.replace(SHAPES["many heads"], vocab_size=128_256), tmp_path / "hf")
    file = shared / "data" / "tokenizers" / "llama3" / "tokenizer.model"
    (source / "tokenizer.model").write_bytes(file.read_bytes())
    lines = run("hf", source, "native", tmp_path / "ours")
    assert lines[0].startswith("64 tokens of text through both")
    assert open_model(tmp_path / "ours", device=torch.device("cpu")).tokenizer.bos_id == 128_000
    (source / "tokenizer.model").write_bytes(b"neither of the two")
    with pytest.raises(CheckpointError, match=r"the tokenizer of .*/hf: tokenizer.model: is no SentencePiece model"):
        run("hf", source, "native", tmp_path / "again")


def test_an_interrupt_is_no_trace(tmp_path: Path) -> None:
    source = folder_of(SHAPES["many heads"], tmp_path / "hf")
    text = f"""
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
sys.argv[1:] = "--from hf --to native --input {source} --output {tmp_path / 'ours'}".split()
from megatron.checkpoint import shards
shards.FILE_BYTES, real, done = 4000, shards.write_file, []
def write(folder, file, read, **options):
    done.append(real(folder, file, read, **options))
    signal.raise_signal(signal.SIGINT)
shards.write_file = write
sys.path.insert(0, "tools")
import convert_checkpoint
sys.exit(convert_checkpoint.main())
"""
    command = [sys.executable, "-c", text]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 130 and "Traceback" not in result.stderr
    assert "the same command goes on there" in result.stderr and result.stderr.endswith("interrupted\n")


def test_an_optimizer_is_left_out_and_said(tmp_path: Path) -> None:
    model, optimizer = trained()
    state = {"architecture": dataclasses.asdict(model.architecture)}
    save(CheckpointStore(LocalStorage(tmp_path / "run")), 1, model, optimizer, state=state)
    lines = run("native", tmp_path / "run", "hf", tmp_path / "hf")
    count = 2 * sum(1 for _ in model.parameters())
    assert lines[0].startswith(f"the optimizer is left out: {3 * count // 2} tensors with ")


def test_what_another_source_began_is_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "FILE_BYTES", 4000)
    source = folder_of(SHAPES["many heads"], tmp_path / "hf")
    begun = tmp_path / ".ours.tmp"
    run("hf", source, "native", tmp_path / "ours")
    (tmp_path / "ours").rename(begun)
    (begun / "COMPLETE").unlink()
    (tmp_path / ".ours.unfinished").write_text("something else")
    before = {path.stat().st_mtime_ns for path in begun.glob("*.safetensors")}
    run("hf", source, "native", tmp_path / "ours")
    verify(LocalStorage(tmp_path / "ours"))
    assert not before & {path.stat().st_mtime_ns for path in (tmp_path / "ours").glob("*.safetensors")}


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    source = folder_of(SHAPES["tied"], tmp_path / "hf")
    lines = list(mapping_lines(Conversion("hf", str(source), "native", str(tmp_path / "ours"), "float32")))
    assert "model.layers.3.mlp.up_proj.weight" in lines[0] and "model.safetensors as float32" in lines[0]
    assert lines[-1] == "38 tensors, 45,632 bytes"
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]


@pytest.mark.parametrize("target_format", ["native", "hf"])
def test_a_result_that_is_not_its_source_does_not_appear(
    target_format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = folder_of(SHAPES["many heads"], tmp_path / "hf", torch.float32)
    run("hf", source, "native", tmp_path / "native")
    source_format, source = ("hf", source) if target_format == "native" else ("native", tmp_path / "native")
    pieces = Source.pieces

    def wrong(self: Source, piece: shards.Piece) -> Iterator[torch.Tensor]:
        # One part in a thousand of one matrix: a mistake that no shape betrays.
        for rows in pieces(self, piece):
            yield rows * 1.001 if "layers.2.mlp.up_proj" in piece.name else rows

    monkeypatch.setattr(Source, "pieces", wrong)
    with pytest.raises(CheckpointError, match="the result is not what it was made of"):
        run(source_format, source, target_format, tmp_path / "target")
    assert not (tmp_path / "target").exists() and not list(tmp_path.glob(".target*"))


def test_agreement() -> None:
    logits = torch.randn(8, 32, dtype=torch.float64)
    assert compared(logits, logits) == Agreement(0.0, 0.0, 0.0) and compared(logits, logits).is_good
    found = compared(logits, logits + 1e-3)
    assert found.difference == pytest.approx(1e-3) and found.kl < 1e-15 and not found.is_good  # moved as a whole
    nudged = logits + 1e-3 * torch.randn(8, 32, dtype=torch.float64)
    one, two = logits.softmax(-1), nudged.softmax(-1)
    assert compared(logits, nudged).kl == pytest.approx((one * (one / two).log()).sum(-1).mean().item(), rel=1e-6)
    assert not compared(logits, logits * float("nan")).is_good
