"""Whether two models on disk compute the same: a text through both, a block at a time, whatever their size."""

from __future__ import annotations

import dataclasses
import json
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from megatron.checkpoint.convert.source import ConversionError, Source
from megatron.checkpoint.folder import hf_tokenizer
from megatron.checkpoint.shards import row_groups
from megatron.model.layers import Block, RMSNorm
from megatron.model.rope import inverse_frequencies, rotation_table
from megatron.tokenizer.base import Tokenizer, TokenizerError
from megatron.utils.log import progress

Logits = Callable[[Source, Tensor], Tensor]
"""Computes float32 logits ``[tokens, vocabulary]`` of a model for ids ``[tokens]``."""

NUM_TOKENS = 64
"""How much of a text is run: enough for every head to look back, and a minute for a model of 7B on two cores."""

MAX_KL = 1e-9
"""Nats per token; a wrong rotation of q and k alone has given 3e-6 (torchtitan#1441)."""

MAX_DIFFERENCE = 1e-5
"""Of logits, relative to the largest."""

# A tokenizer may have some of its own that the model was never given, such as one that fills up lines.
_ADDED_TOKENS = 256

_TEXT = (
    "All human beings are born free and equal in dignity and rights. They are endowed with reason and conscience and "
    "should act towards one another in a spirit of brotherhood. Tous les êtres humains naissent libres et égaux en "
    "dignité et en droits. Wanadamu wote wamezaliwa huru, hadhi na haki zao ni sawa. "
    "人人生而自由，在尊严和权利上一律平等。"
    " सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।"
)


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How far the logits of two models are from each other.

    Attributes:
        difference: the largest of any logit.
        relative: the same, over the largest logit.
        kl: Kullback-Leibler divergence in nats, mean of the tokens.
    """

    difference: float
    relative: float
    kl: float

    @property
    def is_finite(self) -> bool:
        """Whether all of them are numbers."""
        return math.isfinite(self.difference) and math.isfinite(self.kl)

    @property
    def is_good(self) -> bool:
        """Whether both are within what float32 arithmetic explains."""
        return self.relative <= MAX_DIFFERENCE and self.kl <= MAX_KL  # false for NaN as well


def compared(first: Tensor, second: Tensor) -> Agreement:
    """Compare logits ``[tokens, vocabulary]``."""
    one, two = first.double(), second.double()
    difference = (one - two).abs().max().item()
    largest = max(one.abs().max().item(), 1e-30)
    divergence = F.kl_div(two.log_softmax(-1), one.log_softmax(-1), log_target=True, reduction="none").sum(-1)
    kl = divergence.mean().item()
    return Agreement(difference, difference / largest, 0.0 if kl < 0 else kl)  # rounding may put tiny terms below 0


def sample_ids(source: Source, text: str | None = None) -> tuple[Tensor, str]:
    """Return ids, int64 ``[tokens]``, of a text or, without a tokenizer, of random tokens; and which of the two.

    Args:
        source: the model, with its tokenizer.
        text: by default a few sentences of the Universal Declaration of Human Rights.
    """
    ids = text_ids(source, text)
    if ids is None:
        random = torch.Generator().manual_seed(0)
        return torch.randint(source.architecture.vocab_size, (NUM_TOKENS,), generator=random), "random tokens"
    return usable(ids, source), "tokens of text"


def usable(ids: Tensor, source: Source) -> Tensor:
    """Return the first tokens of a text that the model has.

    Raises:
        ConversionError: they are less than two.
    """
    known = ids[ids < source.architecture.vocab_size][:NUM_TOKENS]
    if len(known) < 2:
        raise ConversionError(f"the text has {len(known)} tokens that {source} knows; give another --text")
    return known


def text_ids(source: Source, text: str | None = None) -> Tensor | None:
    """Return the ids of a text, int64 ``[tokens]``, or None where the model has no tokenizer."""
    found = tokenizer_of(source)
    if found is None:
        return None
    tokenizer, prepend_bos = found
    first = [tokenizer.bos_id] if prepend_bos and tokenizer.bos_id is not None else []
    return torch.tensor([*first, *tokenizer.encode(_TEXT if text is None else text)], dtype=torch.int64)


def tokenizer_of(source: Source) -> tuple[Tokenizer, bool] | None:
    """Return a model's tokenizer and whether its texts begin with bos, or None where it has no tokenizer.

    Raises:
        ValueError: it cannot be read.
    """
    files = source.hf_files()
    if not {"tokenizer.json", "tokenizer.model"} & files.keys():
        return None
    with tempfile.TemporaryDirectory() as name:
        for file, data in files.items():
            (Path(name) / file).write_bytes(data)
        try:
            return hf_tokenizer(Path(name))
        except TokenizerError as error:
            raise ConversionError(f"the tokenizer of {source}: {str(error).replace(f'{name}/', '')}") from None


def tokenizer_notes(source: Source) -> Iterator[str]:
    """Compare the tokenizer of a model, if there is one, with its vocabulary, and yield what there is to say.

    Raises:
        ValueError: it is another model's, or cannot be read.
    """
    found, rows = tokenizer_of(source), source.architecture.vocab_size
    if found is None or found[0].vocab_size <= rows:
        return
    told = f"the tokenizer has {found[0].vocab_size:,} tokens, the model {rows:,}"
    if found[0].vocab_size > rows + _ADDED_TOKENS:
        raise ConversionError(f"{told}: it belongs to another model")
    yield f"{told}: text with the last ones cannot be run"


def loss(logits: Tensor, ids: Tensor) -> float:
    """Return the mean cross-entropy of a text in nats per token."""
    return F.cross_entropy(logits[:-1].double(), ids[1:]).item()


def can_judge() -> bool:
    """Return whether transformers is installed, and works."""
    try:
        import transformers  # noqa: F401
    except ImportError:
        return False
    return True


def our_logits(source: Source, ids: Tensor) -> Tensor:
    """Compute logits with this project's own model."""
    with torch.device("meta"):
        block = Block(source.architecture, layer=0)
    cos, sin = (table.unsqueeze(1) for table in rotation_table(source.architecture, num_positions=len(ids)))
    return _through_blocks(source, ids, block, lambda x: block(x[None], cos, sin)[0])


def transformers_logits(source: Source, ids: Tensor) -> Tensor:
    """Compute logits with transformers, its configuration read from the model's ``config.json``.

    Raises:
        ConversionError: transformers is not installed.
    """
    if not can_judge():
        raise ConversionError("transformers is not installed: pip install transformers")
    import transformers

    entries = json.loads(source.hf_files()["config.json"])
    # One block, whose weights are those of each layer in turn. There is no use for the embedding.
    small = {"num_hidden_layers": 1, "vocab_size": 1, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
    with torch.device("meta"):
        model = transformers.LlamaModel(transformers.LlamaConfig(**{**entries, **small, "dtype": "float32"})).eval()
    model.rotary_emb = type(model.rotary_emb)(config=model.config)  # its frequencies are computed, not loaded
    model.norm = nn.Identity()

    def compute(x: Tensor) -> Tensor:
        out: Tensor = model(inputs_embeds=x[None], use_cache=False).last_hidden_state[0]
        return out

    return _through_blocks(source, ids, model.layers[0], compute)


def paired_logits(source: Source, ids: Tensor) -> Tensor:
    """Compute logits as Meta does, with neighbouring dimensions of a head turned together.

    Written from the papers (arXiv 2307.09288, 2407.21783; Su et al., arXiv 2104.09864) and nothing else, so that it
    agrees with the others by being right.

    Args:
        source: the weights as Meta stores them.
        ids: int64 ``[tokens]``.
    """
    shape = source.architecture
    with torch.device("meta"):
        block = Block(shape, layer=0)  # for its weights alone
    angles = torch.outer(torch.arange(len(ids), dtype=torch.float32), inverse_frequencies(shape))
    turn = torch.polar(torch.ones_like(angles), angles)[:, None]

    def heads(x: Tensor) -> Tensor:
        return x.view(len(ids), -1, shape.head_dim)

    def turned(x: Tensor) -> Tensor:
        pairs = torch.view_as_complex(x.reshape(*x.shape[:2], -1, 2))
        return torch.view_as_real(pairs * turn).flatten(-2)

    def normed(x: Tensor, norm: RMSNorm) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + shape.rms_norm_eps).sqrt() * norm.weight

    def compute(x: Tensor) -> Tensor:
        attention, mlp = block.self_attn, block.mlp
        inner = normed(x, block.input_layernorm)
        query, key = turned(heads(attention.q_proj(inner))), turned(heads(attention.k_proj(inner)))
        shared = shape.num_attention_heads // shape.num_key_value_heads
        key, value = (t.repeat_interleave(shared, dim=1) for t in (key, heads(attention.v_proj(inner))))
        scores = torch.einsum("qhd,khd->hqk", query, key) / shape.head_dim**0.5
        scores = scores + torch.full(scores.shape[1:], float("-inf")).triu(1)
        mixed = torch.einsum("hqk,khd->qhd", scores.softmax(-1), value).flatten(1)
        x = x + attention.o_proj(mixed)
        inner = normed(x, block.post_attention_layernorm)
        out: Tensor = x + mlp.down_proj(F.silu(mlp.gate_proj(inner)) * mlp.up_proj(inner))
        return out

    return _through_blocks(source, ids, block, compute)


@torch.no_grad()
def _through_blocks(source: Source, ids: Tensor, block: nn.Module, compute: Callable[[Tensor], Tensor]) -> Tensor:
    """Run a text, with the weights of every layer in turn in the one ``block``, which is on the meta device."""
    shape = source.architecture
    matrices = {name: _Matrix(source) for name, part in block.named_modules() if isinstance(part, nn.Linear)}
    for name, matrix in matrices.items():
        block.set_submodule(name, matrix)
    block.to_empty(device="cpu")
    columns = slice(0, shape.hidden_size)
    rows = [source.read("model.embed_tokens.weight", (slice(i, i + 1), columns)) for i in ids.tolist()]
    x = torch.cat(rows).float()
    for layer in progress(range(shape.num_hidden_layers), description="checking", unit="block"):
        for name, matrix in matrices.items():
            matrix.name = f"model.layers.{layer}.{name}.weight"
        for name, parameter in block.named_parameters():
            parameter.copy_(source.tensor(f"model.layers.{layer}.{name}"))
        x = compute(x)
    norm, head = RMSNorm(shape.hidden_size, eps=shape.rms_norm_eps), _Matrix(source)
    norm.weight.copy_(source.tensor("model.norm.weight"))
    head.name = "model.embed_tokens.weight" if shape.tie_word_embeddings else "lm_head.weight"
    out: Tensor = head(norm(x))
    return out


class _Matrix(nn.Module):
    """A linear layer whose weights stay on disk: they are read some rows at a time whenever it is used."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source, self.name = source, ""

    def forward(self, x: Tensor) -> Tensor:
        groups = row_groups(self._source.shapes[self.name], itemsize=4)
        return torch.cat([x @ self._source.read(self.name, place).float().T for place in groups], dim=-1)
