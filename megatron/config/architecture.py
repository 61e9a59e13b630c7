"""The shape of a Llama model, in Hugging Face's terms. Standard library only, so that a dry run needs no torch."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from megatron.config.hf_config import read_entries


class MissingFolderError(ValueError):
    """The ``config.json`` of a model folder is not there, or cannot be opened."""


@dataclasses.dataclass(frozen=True)
class RopeScaling:
    """How rotary frequencies are stretched for longer contexts (``rope_scaling`` in ``config.json``).

    ``linear`` divides every frequency by ``factor``. ``llama3`` is Llama 3.1's rule: long wavelengths are divided by
    ``factor``, short ones are kept, and those between are interpolated
    (https://github.com/meta-llama/llama-models, ``models/llama3``).
    """

    rope_type: str
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192

    def __post_init__(self) -> None:
        if self.rope_type == "llama3" and self.high_freq_factor <= self.low_freq_factor:
            raise ValueError(
                f"high_freq_factor = {self.high_freq_factor} must exceed low_freq_factor = {self.low_freq_factor}: "
                "wavelengths between the two are interpolated"
            )


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Everything that decides the tensors of a Llama model and what they compute.

    Field names and meanings are those of Hugging Face's ``LlamaConfig``; ``intermediate_size`` is the width of one of
    the two branches of the gated feed-forward layer.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    rope_scaling: RopeScaling | None = None
    tie_word_embeddings: bool = False
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        problems = [
            f"{field.name} = {getattr(self, field.name)} must be positive"
            for field in dataclasses.fields(self)
            if field.type == "int" and getattr(self, field.name) < 1
        ]
        problems += _contradictions(vars(self))
        if problems:
            raise ValueError("this model shape is not possible: " + "; ".join(problems))

    def num_parameters(self) -> int:
        """Return the number of trainable parameters; tied embeddings count once."""
        hidden, head = self.hidden_size, self.head_dim
        attention = hidden * head * (2 * self.num_attention_heads + 2 * self.num_key_value_heads)
        block = attention + 3 * hidden * self.intermediate_size + 2 * hidden
        embeddings = self.vocab_size * hidden * (1 if self.tie_word_embeddings else 2)
        return embeddings + self.num_hidden_layers * block + hidden

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> Architecture:
        """Read the contents of a Hugging Face ``config.json``, as written by transformers 4 or 5.

        Raises:
            ValueError: the model is not a Llama, or it asks for something that this project does not compute; the
                message lists every such entry.
        """
        fields, problems = read_entries(config)
        problems += _contradictions(fields)
        if fields["rope_scaling"] is not None:
            try:
                fields["rope_scaling"] = RopeScaling(**fields["rope_scaling"])
            except ValueError as error:
                problems.append(str(error))
        if problems:
            raise ValueError("config.json cannot be used: " + "; ".join(problems))
        return cls(**fields)

    @classmethod
    def from_folder(cls, folder: Path) -> Architecture:
        """Read ``config.json`` of a Hugging Face model folder.

        Raises:
            MissingFolderError: there is no such file, or it cannot be opened.
            ValueError: it is no JSON object, or :meth:`from_hf` refuses it.
        """
        path = folder / "config.json"
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise MissingFolderError(f"{path} does not exist: a Hugging Face model folder is wanted") from None
        except OSError as error:
            problem = f"{path} cannot be read: {error.strerror}; a Hugging Face model folder is wanted"
            raise MissingFolderError(problem) from None
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} is not valid JSON: {error}") from None
        if not isinstance(config, dict):
            raise ValueError(f"{path} must hold one JSON object")
        try:
            return cls.from_hf(config)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: {error}") from None

    def to_hf(self) -> dict[str, Any]:
        """Return the entries of ``config.json``, readable by transformers 4.43 and later."""
        config: dict[str, Any] = {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_act": "silu",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "mlp_bias": False,
            "use_cache": True,
        }
        fields = dataclasses.asdict(self)
        scaling = fields.pop("rope_scaling")
        config.update(fields)
        if scaling is not None:
            # `linear` has no other entries; transformers warns about strangers.
            config["rope_scaling"] = (
                scaling if self.rope_scaling and self.rope_scaling.rope_type == "llama3"
                else {"rope_type": scaling["rope_type"], "factor": scaling["factor"]}
            )
        return config


def _contradictions(fields: Mapping[str, Any]) -> list[str]:
    """Return what is wrong between fields of a shape; those that have a problem of their own may be absent."""
    problems = []
    heads, shared, width = (fields.get(key) for key in ("num_attention_heads", "num_key_value_heads", "head_dim"))
    if heads and shared and heads % shared:
        problems.append(
            f"num_attention_heads = {heads} must be a multiple of the number of key/value heads, {shared}"
        )
    if width and width % 2:
        problems.append(f"head_dim = {width} must be even, since rotary embeddings turn pairs")
    return problems
