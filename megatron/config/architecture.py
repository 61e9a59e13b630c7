"""The shape of a Llama model, in Hugging Face's terms. Standard library only, so that a dry run needs no torch."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_SUPPORTED_SCALING = ("default", "linear", "llama3")


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
        if self.num_key_value_heads > 0 and self.num_attention_heads % self.num_key_value_heads:
            problems.append(
                f"num_attention_heads = {self.num_attention_heads} must be a multiple of the number of key/value "
                f"heads, {self.num_key_value_heads}"
            )
        if self.head_dim % 2:
            problems.append(f"head_dim = {self.head_dim} must be even, since rotary embeddings turn pairs")
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
        problems = []
        if config.get("model_type") != "llama":
            problems.append(f"model_type is {config.get('model_type')!r}, only 'llama' is supported")
        if config.get("hidden_act", "silu") != "silu":
            problems.append(f"hidden_act is {config['hidden_act']!r}, Llama uses 'silu'")
        problems += [f"{key} is true, Llama has no biases" for key in ("attention_bias", "mlp_bias") if config.get(key)]
        required = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
        problems += [f"{key} is missing" for key in required if key not in config]
        # transformers 5 keeps theta and scaling together in `rope_parameters`; 4 has `rope_theta` and `rope_scaling`.
        rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
        rope_type = rope.get("rope_type", rope.get("type", "default"))
        if rope_type not in _SUPPORTED_SCALING:
            problems.append(f"rope type {rope_type!r} is not supported, only {', '.join(_SUPPORTED_SCALING)}")
        if problems:
            raise ValueError("config.json cannot be used: " + "; ".join(problems))
        heads = int(config["num_attention_heads"])
        scaling = None
        if rope_type != "default":
            known = {field.name for field in dataclasses.fields(RopeScaling)}
            scaling = RopeScaling(**{"rope_type": rope_type, **{k: v for k, v in rope.items() if k in known}})
        return cls(
            vocab_size=int(config["vocab_size"]),
            hidden_size=int(config["hidden_size"]),
            intermediate_size=int(config["intermediate_size"]),
            num_hidden_layers=int(config["num_hidden_layers"]),
            num_attention_heads=heads,
            num_key_value_heads=int(config.get("num_key_value_heads") or heads),
            head_dim=int(config.get("head_dim") or config["hidden_size"] // heads),
            max_position_embeddings=int(config.get("max_position_embeddings", 2048)),
            rms_norm_eps=float(config.get("rms_norm_eps", 1e-6)),
            rope_theta=float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0),
            rope_scaling=scaling,
            tie_word_embeddings=bool(config.get("tie_word_embeddings", False)),
            initializer_range=float(config.get("initializer_range", 0.02)),
        )

    @classmethod
    def from_folder(cls, folder: Path) -> Architecture:
        """Read ``config.json`` of a Hugging Face model folder.

        Raises:
            ValueError: there is no such file, it is no JSON object, or :meth:`from_hf` refuses it.
        """
        path = folder / "config.json"
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ValueError(f"{path} does not exist: hf_model must be a Hugging Face model folder") from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} is not valid JSON: {error}") from None
        if not isinstance(config, dict):
            raise ValueError(f"{path} must hold one JSON object")
        try:
            return cls.from_hf(config)
        except ValueError as error:
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
