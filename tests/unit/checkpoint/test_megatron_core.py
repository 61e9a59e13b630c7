from __future__ import annotations

import argparse
import copy
import io
import json
import pickle
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex, TensorProperties, TensorStorageMetadata

from megatron.checkpoint.convert.huggingface import HuggingFaceSource
from megatron.checkpoint.convert.megatron_arguments import architecture_of, arguments_of
from megatron.checkpoint.convert.megatron_core import MegatronCoreSource
from megatron.checkpoint.convert.megatron_core_writer import write_megatron_core
from megatron.checkpoint.convert.megatron_names import EMBEDDING, MAPPING
from megatron.checkpoint.convert.run import Conversion, convert, mapping_lines
from megatron.checkpoint.convert.source import ConversionError, Source
from megatron.checkpoint.convert.torch_dist import TorchDistFolder
from megatron.checkpoint.hf import parameter_shapes
from megatron.config.architecture import Architecture, RopeScaling
from tests.foreign_checkpoints import hf_folder_of as folder_of

ROOT = Path(__file__).resolve().parents[3]
SHAPES = {
    "many heads": Architecture(64, 16, 32, 4, 2, 2, 8, 64),
    "grouped heads": Architecture(64, 32, 48, 3, 4, 2, 8, 64),
    "wide heads": Architecture(64, 16, 24, 2, 4, 1, 16, 64),
    "tied": Architecture(64, 16, 32, 4, 2, 2, 8, 64, tie_word_embeddings=True),
    "scaled positions": Architecture(64, 16, 32, 4, 2, 2, 8, 64, rope_scaling=RopeScaling("llama3", 32.0)),
}
GROUPED = SHAPES["grouped heads"]
LAYER = "decoder.layers."
# PyTorch says so of everything that one process does.
pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


def run(source_format: str, source: Path, target_format: str, target: Path, **more: Any) -> list[str]:
    """Convert, and return what was said beside the check."""
    lines = list(convert(Conversion(source_format, str(source), target_format, str(target), **more)))
    return [line for line in lines if "tokens through both" not in line]


def written(shape: Architecture, folder: Path, dtype: torch.dtype = torch.bfloat16) -> Path:
    run("hf", folder_of(shape, folder / "hf", dtype), "megatron-core", folder / "theirs")
    return folder / "theirs" / "release"


def contents(release: Path) -> tuple[Metadata, dict[str, Any]]:
    """Return ``.metadata`` and the tensors, read with PyTorch alone."""
    metadata: Metadata = pickle.loads((release / ".metadata").read_bytes())
    tensors: dict[str, Any] = {
        name: torch.empty(entry.size, dtype=entry.properties.dtype)
        for name, entry in metadata.state_dict_metadata.items()
        if isinstance(entry, TensorStorageMetadata)
    }
    torch.distributed.checkpoint.load(tensors, storage_reader=FileSystemReader(release), no_dist=True)
    return metadata, tensors


def rewritten(release: Path, change: Callable[[dict[str, Any]], None], *, config: bool = True) -> Path:
    """Write tensors again after a change, as PyTorch stores what one process holds."""
    tensors = contents(release)[1]
    change(tensors)
    folder = release.parent / "changed"
    torch.distributed.checkpoint.save(tensors, checkpoint_id=folder, no_dist=True)
    for name in ("metadata.json", "common.pt"):
        (folder / name).write_bytes((release / name).read_bytes())
    if config:
        (folder / "hf").mkdir()
        for file in (release / "hf").iterdir():
            (folder / "hf" / file.name).write_bytes(file.read_bytes())
    return folder


def same(left: Path, right: Path) -> None:
    before, after = load_file(left / "model.safetensors"), load_file(right / "model.safetensors")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert tensor.dtype == after[name].dtype and torch.equal(tensor, after[name]), name


@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
def test_there_and_back_gives_the_same_bytes(shape: Architecture, tmp_path: Path) -> None:
    written(shape, tmp_path)
    notes = run("megatron-core", tmp_path / "theirs", "hf", tmp_path / "back")
    same(tmp_path / "hf", tmp_path / "back")
    for name in ("model.safetensors", "config.json", "generation_config.json"):
        assert (tmp_path / "back" / name).read_bytes() == (tmp_path / "hf" / name).read_bytes()
    assert not list(tmp_path.glob(".*.tmp"))
    count = 5 * shape.num_hidden_layers + 1
    assert notes[:-1] == [f"{count} entries that are no weights are left out: _extra_state"]


def test_from_our_checkpoints_and_to_them(tmp_path: Path) -> None:
    source = folder_of(GROUPED, tmp_path / "hf", torch.float32)
    run("hf", source, "native", tmp_path / "ours")
    run("native", tmp_path / "ours", "megatron-core", tmp_path / "theirs")
    run("megatron-core", tmp_path / "theirs" / "release", "native", tmp_path / "again")
    run("native", tmp_path / "again", "hf", tmp_path / "back")
    same(source, tmp_path / "back")


def test_what_is_written(tmp_path: Path) -> None:
    """Stacked layers in parts of one layer, the two halves of the gated layer apart: as Megatron-Core writes them."""
    release = written(GROUPED, tmp_path)
    assert (tmp_path / "theirs" / "latest_checkpointed_iteration.txt").read_text() == "release"
    assert json.loads((release / "metadata.json").read_text()) == {
        "sharded_backend": "torch_dist", "sharded_backend_version": 1, "common_backend": "torch",
        "common_backend_version": 1,
    }  # fmt: skip
    metadata, tensors = contents(release)
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        EMBEDDING: (64, 32),
        f"{LAYER}self_attention.linear_qkv.layer_norm_weight": (3, 32),
        f"{LAYER}self_attention.linear_qkv.weight": (3, 64, 32),
        f"{LAYER}self_attention.linear_proj.weight": (3, 32, 32),
        f"{LAYER}mlp.linear_fc1.layer_norm_weight": (3, 32),
        f"{LAYER}mlp.linear_fc1.weight": (3, 96, 32),
        f"{LAYER}mlp.linear_fc2.weight": (3, 32, 48),
        "decoder.final_layernorm.weight": (32,),
        "output_layer.weight": (64, 32),
    }
    gated = metadata.state_dict_metadata[f"{LAYER}mlp.linear_fc1.weight"]
    assert isinstance(gated, TensorStorageMetadata)
    assert [(*chunk.offsets, *chunk.sizes) for chunk in gated.chunks] == [
        (layer, first, 0, 1, 48, 32) for layer in range(3) for first in (0, 48)
    ]
    assert metadata.storage_meta is not None and metadata.storage_meta.checkpoint_id is None
    weights = load_file(tmp_path / "hf" / "model.safetensors")
    block, fused = "model.layers.2.", tensors[f"{LAYER}self_attention.linear_qkv.weight"][2]
    # Two groups, each of two heads of queries, a head of keys and one of values.
    for part, rows in (("q", [*range(16), *range(32, 48)]), ("k", [*range(16, 24), *range(48, 56)])):
        assert torch.equal(fused[rows], weights[f"{block}self_attn.{part}_proj.weight"])
    assert torch.equal(tensors[f"{LAYER}mlp.linear_fc1.weight"][2, :48], weights[f"{block}mlp.gate_proj.weight"])
    with torch.serialization.safe_globals([argparse.Namespace]):
        common = torch.load(release / "common.pt", weights_only=True)
    assert common["checkpoint_version"] == 3.0 and common["iteration"] == 0
    assert common["args"].num_query_groups == 2 and common["args"].group_query_attention


@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
def test_the_table_has_every_tensor_once(shape: Architecture) -> None:
    ours = {row.ours.format(layer) for row in MAPPING for layer in range(shape.num_hidden_layers)}
    assert len({row.ours for row in MAPPING}) == len(MAPPING)
    assert ours - parameter_shapes(shape).keys() <= {"lm_head.weight"} and parameter_shapes(shape).keys() <= ours


@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
def test_the_shape_comes_from_the_arguments(shape: Architecture, tmp_path: Path) -> None:
    """Without a folder of Hugging Face's, the arguments of Megatron-LM say what the model is."""
    assert architecture_of(arguments_of(shape), shape.vocab_size) == shape
    folder = rewritten(written(shape, tmp_path), lambda tensors: None, config=False)
    source = MegatronCoreSource(folder, None)
    assert source.architecture == shape
    assert source.notes[0].startswith("the model's shape is from the arguments")
    notes = run("megatron-core", folder, "hf", tmp_path / "back", config=tmp_path / "hf")
    assert len(notes) == 1
    same(tmp_path / "hf", tmp_path / "back")


def test_linear_scaling_has_another_argument() -> None:
    shape = Architecture(64, 16, 32, 4, 2, 2, 8, 64, rope_theta=12.5, rope_scaling=RopeScaling("linear", 2.0))
    arguments = arguments_of(shape)
    assert arguments.rotary_seq_len_interpolation_factor == 2.0 and not arguments.use_rope_scaling
    assert architecture_of(arguments, 64) == shape


def test_a_rule_that_is_not_built_in_is_refused(tmp_path: Path) -> None:
    shape = Architecture(64, 16, 32, 4, 2, 2, 8, 64, rope_scaling=RopeScaling("llama3", 8.0, 1.0, 4.0, 32))
    with pytest.raises(ConversionError, match=r"original_max_position_embeddings = 8192 built in"):
        run("hf", folder_of(shape, tmp_path / "hf"), "megatron-core", tmp_path / "theirs")
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]


def test_arguments_of_another_model_are_refused_with_every_reason() -> None:
    arguments = argparse.Namespace(**{**vars(arguments_of(GROUPED)), "normalization": "LayerNorm", "num_experts": 8})
    del arguments.num_layers
    with pytest.raises(ConversionError) as caught:
        architecture_of(arguments, 64)
    text = str(caught.value)
    assert "num_layers is missing" in text and "normalization is 'LayerNorm', a Llama has 'RMSNorm'" in text
    assert "num_experts is 8, a Llama has none" in text and "give --config" in text
    with pytest.raises(ConversionError, match="holds no arguments of Megatron-LM; give --config"):
        architecture_of(None, 64)
    arguments = argparse.Namespace(**{**vars(arguments_of(GROUPED)), "hidden_size": "32"})
    with pytest.raises(ConversionError, match="hidden_size"):
        architecture_of(arguments, 64)


def test_layers_that_are_not_stacked(tmp_path: Path) -> None:
    """Newer checkpoints have a tensor for each layer, and the halves of the gated layer apart."""

    def unstack(tensors: dict[str, Any]) -> None:
        for name in [name for name in tensors if name.startswith(LAYER)]:
            stacked = tensors.pop(name)
            for layer, tensor in enumerate(stacked):
                own = name.replace(LAYER, f"{LAYER}{layer}.")
                if "fc1.weight" in name:
                    tensors[f"{own}_w"], tensors[f"{own}_v"] = (half.clone() for half in tensor.chunk(2))
                else:
                    own = own.replace("mlp.linear_fc1.layer_norm_weight", "pre_mlp_layernorm.weight")
                    own = own.replace("self_attention.linear_qkv.layer_norm_weight", "input_layernorm.weight")
                    tensors[own] = tensor.clone()

    folder = rewritten(written(GROUPED, tmp_path), unstack)
    run("megatron-core", folder, "hf", tmp_path / "back")
    same(tmp_path / "hf", tmp_path / "back")


def test_padding_and_the_optimizer_are_left_out_and_said(tmp_path: Path) -> None:
    def pad(tensors: dict[str, Any]) -> None:
        for name in (EMBEDDING, "output_layer.weight"):
            tensors[name] = torch.cat([tensors[name], torch.ones(64, 32, dtype=torch.bfloat16)])
        tensors["optimizer.state.exp_avg.decoder.final_layernorm.weight"] = torch.zeros(32)
        tensors["rng_state"] = {"a": 1}

    release = written(GROUPED, tmp_path)
    notes = run("megatron-core", rewritten(release, pad), "hf", tmp_path / "back")
    assert notes[:-1] == [
        "64 rows of the vocabulary are padding, and left out (128 rows, 64 tokens)",
        "2 entries that are no weights are left out: optimizer, rng_state",
    ]
    same(tmp_path / "hf", tmp_path / "back")
    (release.parent / "changed" / "hf" / "config.json").unlink()
    assert MegatronCoreSource(release.parent / "changed", None).architecture.vocab_size == 128


def test_everything_that_does_not_fit_is_said_at_once(tmp_path: Path) -> None:
    def spoil(tensors: dict[str, Any]) -> None:
        del tensors[f"{LAYER}mlp.linear_fc2.weight"]
        tensors["output_layer.weight"] = torch.zeros(60, 32)
        tensors[f"{LAYER}self_attention.linear_qkv.weight"] = torch.zeros(3, 60, 32)
        tensors[f"{LAYER}self_attention.linear_qkv.bias"] = torch.zeros(3, 64)

    with pytest.raises(ConversionError) as caught:
        MegatronCoreSource(rewritten(written(GROUPED, tmp_path), spoil), None)
    text = str(caught.value)
    for layer in range(3):
        missing = f"model.layers.{layer}.mlp.down_proj.weight is missing"
        assert f"{missing} (decoder.layers.{{}}.mlp.linear_fc2.weight)" in text
    assert "output_layer.weight has shape [60, 32], the model wants [64, 32]" in text
    assert text.count("linear_qkv.weight has shape [3, 60, 32], the model wants [3, 64, 32]") == 1
    assert "linear_qkv.bias is not part of this model" in text


class Runs:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return (exec, (f"open({str(self._path)!r}, 'w').close()",))


def test_a_hostile_metadata_runs_nothing(tmp_path: Path) -> None:
    release, made = written(GROUPED, tmp_path), tmp_path / "made"
    metadata = contents(release)[0]
    metadata.planner_data = [Runs(made), {Path("x"): Runs(made)}]
    metadata.state_dict_metadata["rng_state"] = Runs(made)  # type: ignore[assignment]
    (release / ".metadata").write_bytes(pickle.dumps(metadata))
    run("megatron-core", release, "hf", tmp_path / "back")
    same(tmp_path / "hf", tmp_path / "back")
    for whole in (pickle.dumps(Runs(made)), pickle.dumps([1]), b"", b"nonsense", b"cos\nsystem\n(S'touch made'\ntR."):
        (release / ".metadata").write_bytes(whole)
        with pytest.raises(ConversionError, match=r"\.metadata"):
            MegatronCoreSource(release, None)
    assert not made.exists()


def test_a_hostile_metadata_changes_nothing_and_takes_no_memory(tmp_path: Path) -> None:
    release = written(GROUPED, tmp_path)
    module = b"ctorch.distributed.checkpoint.metadata\nMetadata\n"
    # A pickle may set attributes of the class itself, and number its objects as high as it likes.
    pollution = module + b"(N(dS'polluted'\nI1\nsttb."
    deep = b"\x80\x04)" + b"\x85" * 3_000_000 + b"."
    for text in (pollution, b"\x80\x04Nr\xff\xff\xff\x7f.", deep):
        (release / ".metadata").write_bytes(text)
        with pytest.raises(ConversionError, match=r"\.metadata"):
            MegatronCoreSource(release, None)
    assert not hasattr(Metadata, "polluted")


def test_metadata_of_earlier_versions(tmp_path: Path) -> None:
    """Megatron-Core had a class of its own, and PyTorch kept the properties of tensors elsewhere."""
    release = written(GROUPED, tmp_path)
    text = pickle.dumps(contents(release)[0], protocol=2)
    here = b"ctorch.distributed.checkpoint.metadata\n"
    for name, there in (
        (b"Metadata\n", b"cmegatron.core.dist_checkpointing.strategies.torch\nMCoreMetadata\n"),
        (b"TensorProperties\n", b"ctorch.distributed._shard.sharded_tensor.metadata\nTensorProperties\n"),
    ):
        assert here + name in text
        text = text.replace(here + name, there)
    (release / ".metadata").write_bytes(text)
    run("megatron-core", release, "hf", tmp_path / "back")
    same(tmp_path / "hf", tmp_path / "back")


def test_a_hostile_common_file_runs_nothing(tmp_path: Path) -> None:
    release, made = written(GROUPED, tmp_path), tmp_path / "made"
    arguments = arguments_of(GROUPED)
    arguments.params_dtype, arguments.something = torch.bfloat16, Runs(made)
    folder = rewritten(release, lambda tensors: None, config=False)
    torch.save({"args": arguments, "iteration": 5}, folder / "common.pt")
    assert MegatronCoreSource(folder, None).architecture == GROUPED
    assert not made.exists()


def test_parts_that_lie_elsewhere_are_refused(tmp_path: Path) -> None:
    release = written(GROUPED, tmp_path)
    first = contents(release)[0]
    key = MetadataIndex("output_layer.weight", (0, 0))

    def tried(change: Callable[[Metadata], None]) -> str:
        metadata = copy.deepcopy(first)
        change(metadata)
        (release / ".metadata").write_bytes(pickle.dumps(metadata))
        with pytest.raises(ConversionError) as caught:
            source = MegatronCoreSource(release, None)
            source.tensor("lm_head.weight")
        return str(caught.value)

    def put(name: str, value: Any) -> Callable[[Metadata], None]:
        return lambda metadata: setattr(metadata.storage_data[key], name, value)

    def entry(metadata: Metadata) -> Any:
        return metadata.state_dict_metadata["output_layer.weight"]

    outside = "output_layer.weight has a part that lies outside of the folder, or that is packed"
    for path in ("../hf/model.safetensors", "/etc/passwd", "a/b", "..", "", 3):
        assert outside in tried(put("relative_path", path)), path
    assert outside in tried(put("transform_descriptors", ["zstd"]))
    assert outside in tried(put("offset", -1))
    assert outside in tried(lambda metadata: metadata.storage_data.pop(key))
    assert "is damaged" in tried(put("offset", 5))
    larger, unknown = torch.Size((65, 32)), TensorProperties(torch.complex64)
    assert "has a part outside of it" in tried(lambda metadata: setattr(entry(metadata).chunks[0], "sizes", larger))
    assert "do not make it up" in tried(lambda metadata: entry(metadata).chunks.clear())
    assert "has no shape" in tried(lambda metadata: setattr(entry(metadata), "chunks", 7))
    assert "has no dtype" in tried(lambda metadata: setattr(entry(metadata), "properties", 7))
    assert "has no dtype" in tried(lambda metadata: setattr(entry(metadata), "properties", unknown))


def test_stored_objects_other_than_tensors_are_refused(tmp_path: Path) -> None:
    release, made = written(GROUPED, tmp_path), tmp_path / "made"
    info = contents(release)[0].storage_data[MetadataIndex("output_layer.weight", (0, 0))]
    packed = io.BytesIO()
    torch.save(Runs(made), packed)
    assert len(packed.getvalue()) <= info.length
    with (release / info.relative_path).open("r+b") as file:
        file.seek(info.offset)
        file.write(packed.getvalue().ljust(info.length, b"\0"))
    with pytest.raises(ConversionError, match="weight is damaged"):
        MegatronCoreSource(release, None).tensor("lm_head.weight")
    assert not made.exists()


def test_folders_that_are_none(tmp_path: Path) -> None:
    release = written(GROUPED, tmp_path)
    with pytest.raises(ConversionError, match=r"metadata.json does not exist: a torch_dist checkpoint"):
        MegatronCoreSource(tmp_path / "hf", None)
    tracker = tmp_path / "theirs" / "latest_checkpointed_iteration.txt"
    release.rename(tmp_path / "theirs" / "iter_0001000")
    tracker.write_text("1000\n")
    assert str(MegatronCoreSource(tmp_path / "theirs", None)).endswith("iter_0001000")
    for text in ("../x", "-1", ""):
        tracker.write_text(text)
        with pytest.raises(ConversionError, match="not an iteration or 'release'"):
            MegatronCoreSource(tmp_path / "theirs", None)
    (tmp_path / "theirs" / "iter_0001000" / "metadata.json").write_text('{"sharded_backend": "zarr"}')
    with pytest.raises(ConversionError, match="stored as 'zarr'; only torch_dist is read"):
        MegatronCoreSource(tmp_path / "theirs" / "iter_0001000", None)


def test_several_dtypes_in_one_stack(tmp_path: Path) -> None:
    source = folder_of(GROUPED, tmp_path / "hf", torch.float32)
    weights = load_file(source / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"] = weights["model.layers.1.mlp.up_proj.weight"].bfloat16()
    save_file(weights, source / "model.safetensors")
    with pytest.raises(ConversionError, match=r"give --dtype: decoder.layers.mlp.linear_fc1.weight \(bfloat16, fl"):
        run("hf", source, "megatron-core", tmp_path / "theirs")
    run("hf", source, "megatron-core", tmp_path / "theirs", dtype="float32")


class Counting(Source):
    """Says how many of the tensors that it has read are in memory at most."""

    format = "hf"

    def __init__(self, source: Source) -> None:
        self._source, self.architecture = source, source.architecture
        self._alive = 0
        self.most_bytes = 0

    def __str__(self) -> str:
        return str(self._source)

    def dtype(self, name: str) -> torch.dtype:
        return self._source.dtype(name)

    def read(self, name: str, place: tuple[slice, ...]) -> torch.Tensor:
        tensor = self._source.read(name, place).clone()
        storage, size = tensor.untyped_storage(), tensor.nbytes
        self._alive += size
        self.most_bytes = max(self.most_bytes, self._alive)
        weakref.finalize(storage, self._freed, size)
        return tensor

    def _freed(self, size: int) -> None:
        self._alive -= size

    def origin(self, name: str) -> str:
        return self._source.origin(name)

    def hf_files(self) -> dict[str, bytes]:
        return self._source.hf_files()

    def identity(self) -> str:
        return self._source.identity()


def test_memory_does_not_grow_with_the_number_of_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One layer, or the vocabulary, is held when writing; one tensor of one layer is read."""
    shape = Architecture(256, 32, 48, 12, 4, 2, 8, 64)
    source = Counting(HuggingFaceSource(folder_of(shape, tmp_path / "hf", torch.float32)))
    write_megatron_core(source, tmp_path / "theirs", check=lambda result: None)
    layer = sum(tensor.numel() * 4 for name, tensor in load_file(tmp_path / "hf" / "model.safetensors").items()
                if name.startswith("model.layers.3."))  # fmt: skip
    assert source.most_bytes <= max(layer, 4 * 256 * 32 + 4 * 32) < source.num_bytes / 8
    shapes: set[tuple[int, ...]] = set()
    read = TorchDistFolder.read

    def noted(self: TorchDistFolder, name: str, offset: Any, extent: Any) -> torch.Tensor:
        shapes.add(tuple(extent))
        return read(self, name, offset, extent)

    monkeypatch.setattr(TorchDistFolder, "read", noted)
    run("megatron-core", tmp_path / "theirs", "hf", tmp_path / "back")
    same(tmp_path / "hf", tmp_path / "back")
    assert shapes == {(256, 32), (32,), (1, 32), (1, 64, 32), (1, 32, 32), (1, 48, 32), (1, 32, 48)}


def test_nothing_is_left_of_a_conversion_whose_check_fails(tmp_path: Path) -> None:
    source = HuggingFaceSource(folder_of(GROUPED, tmp_path / "hf"))

    def check(result: Source) -> None:
        assert result.architecture == GROUPED
        raise ConversionError("it is another")

    for _ in range(2):  # what the first has left is in nobody's way
        with pytest.raises(ConversionError, match="it is another"):
            write_megatron_core(source, tmp_path / "theirs", check=check)
        assert not (tmp_path / "theirs").exists()
    write_megatron_core(source, tmp_path / "theirs", check=lambda result: None)
    with pytest.raises(ValueError, match="theirs exists"):
        write_megatron_core(source, tmp_path / "theirs", check=check)


def test_a_dry_run_says_where_everything_lies(tmp_path: Path) -> None:
    release = written(GROUPED, tmp_path)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    lines = list(mapping_lines(Conversion("megatron-core", str(release), "hf", str(tmp_path / "back"))))
    there = list(mapping_lines(Conversion("hf", str(tmp_path / "hf"), "megatron-core", str(tmp_path / "again"))))
    assert "decoder.layers.self_attention.linear_qkv.weight[2]: keys" in there[0]
    assert "decoder.layers.self_attention.linear_qkv.weight[2]: keys" in lines[1]
    assert "decoder.layers.mlp.linear_fc1.weight[0]: second half" in lines[1]
    assert lines[-1].startswith("30 tensors, ")
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_the_tool_takes_a_configuration(tmp_path: Path) -> None:
    folder = rewritten(written(GROUPED, tmp_path), lambda tensors: None, config=False)
    command = [
        sys.executable, "tools/convert_checkpoint.py", "--from", "megatron-core", "--to", "hf", "--input", str(folder),
        "--output", str(tmp_path / "back"), "--config", str(tmp_path / "hf"),
    ]  # fmt: skip
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    same(tmp_path / "hf", tmp_path / "back")
