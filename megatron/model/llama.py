"""The Llama language model, all of it, for one device.

Source: Touvron et al., arXiv 2302.13971 and 2307.09288; Llama team, arXiv 2407.21783. It computes what transformers'
``LlamaForCausalLM`` computes, with the same parameter names; the tests compare the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from megatron.config.architecture import Architecture
from megatron.model.attention import Documents, KeyValueStore
from megatron.model.layers import Block, RMSNorm
from megatron.model.loss import linear_cross_entropy_each, linear_cross_entropy_sum
from megatron.model.rope import rotation_table


class Decoder(nn.Module):
    """Embedding, blocks and the last norm. Parts may be absent, so that a pipeline stage can hold some of them."""

    rotation_cos: Tensor
    rotation_sin: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.embed_tokens = nn.Embedding(architecture.vocab_size, architecture.hidden_size)
        # String keys keep a block's name when others are taken away.
        self.layers = nn.ModuleDict(
            {str(layer): Block(architecture, layer=layer) for layer in range(architecture.num_hidden_layers)}
        )
        self.norm = RMSNorm(architecture.hidden_size, eps=architecture.rms_norm_eps)
        self.register_buffer("rotation_cos", torch.empty(0), persistent=False)
        self.register_buffer("rotation_sin", torch.empty(0), persistent=False)
        self.set_rotation_table()

    def set_rotation_table(self, *, num_positions: int | None = None) -> None:
        """Compute the rotary angles for ``num_positions`` positions (default: all the model knows)."""
        device = self.norm.weight.device
        cos, sin = rotation_table(
            self.architecture, num_positions=num_positions or self.architecture.max_position_embeddings
        )
        self.rotation_cos, self.rotation_sin = cos.to(device).unsqueeze(1), sin.to(device).unsqueeze(1)

    def forward(
        self,
        tokens: Tensor,
        *,
        first_position: int = 0,
        cache: KeyValueStore | None = None,
        positions: Tensor | None = None,
        documents: Documents | None = None,
    ) -> Tensor:
        """Map token ids ``[batch, sequence]`` to hidden states ``[batch, sequence, hidden]``; as :class:`Llama`."""
        if documents is not None:
            documents = _borders(documents, tokens, cache)
        x: Tensor = self.embed_tokens(tokens)
        cos, sin = self._rotation(tokens, first_position, positions)
        cos, sin = cos.to(x.dtype), sin.to(x.dtype)
        for block in self.layers.values():
            x = block(x, cos, sin, cache, documents)
        out: Tensor = self.norm(x)
        return out

    def _rotation(self, tokens: Tensor, first: int, positions: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return cosine and sine: ``[sequence, 1, head_dim]``, or with a batch dimension where positions are given."""
        if positions is None:
            counted = slice(first, first + tokens.shape[1])
            return self.rotation_cos[counted], self.rotation_sin[counted]
        if positions.shape != tokens.shape or positions.dtype != torch.int64 or first:
            raise ValueError(
                f"positions are {positions.dtype} {list(positions.shape)} and first_position is {first}; they must be "
                f"int64 {list(tokens.shape)}, one for each token, and first_position must be 0 with them"
            )
        return self.rotation_cos[positions], self.rotation_sin[positions]


def _borders(documents: Documents, tokens: Tensor, cache: KeyValueStore | None) -> Documents | None:
    """Check documents against their batch; return None where every row is one document, which needs no borders."""
    if cache is not None:
        raise ValueError(
            "documents and cache were both given: text is generated for one document at a time; leave documents out"
        )
    documents.check(tokens)
    return None if len(documents.lengths) == tokens.shape[0] else documents


class Llama(nn.Module):
    """A Llama with its language-model head.

    State-dict names are those of Hugging Face; with tied embeddings there is no ``lm_head.weight``.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.model = Decoder(architecture)
        self.lm_head = (
            None
            if architecture.tie_word_embeddings
            else nn.Linear(architecture.hidden_size, architecture.vocab_size, bias=False)
        )

    @classmethod
    def empty(
        cls,
        architecture: Architecture,
        *,
        device: torch.device,
        prepare: Callable[[Llama], None] = lambda model: None,
    ) -> Llama:
        """Return a model on ``device`` whose weights are still to be filled; nothing is computed for them twice.

        Args:
            architecture: its shape.
            device: where its tensors get their memory.
            prepare: changes the model before they do.
        """
        with torch.device("meta"):
            model = cls(architecture)
        prepare(model)
        model.to_empty(device=device)
        model.model.set_rotation_table()
        return model

    @property
    def head_weight(self) -> Tensor:
        """The output matrix, ``[vocabulary, hidden]``: its own, or the embedding's when the two are tied."""
        return self.model.embed_tokens.weight if self.lm_head is None else self.lm_head.weight

    def forward(
        self,
        tokens: Tensor,
        *,
        targets: Tensor | None = None,
        each: bool = False,
        first_position: int = 0,
        cache: KeyValueStore | None = None,
        last_only: bool = False,
        positions: Tensor | None = None,
        documents: Documents | None = None,
    ) -> Tensor:
        """Return logits, or the loss against ``targets``.

        Args:
            tokens: int64 ids ``[batch, sequence]``.
            targets: int64 ids ``[batch, sequence]`` that each position should predict; ``IGNORE`` (-100) for none.
            each: with targets, return the loss of every position instead of their sum (without gradients).
            first_position: position of the first token, for text that is continued.
            cache: keys and values of the earlier positions.
            last_only: without targets, return the logits of the last position alone.
            positions: int64 ``[batch, sequence]``, less than the model's number of positions: where each token counts
                as standing. By default a row counts from ``first_position``.
            documents: pieces that the rows consist of; attention does not cross their borders. Not with ``cache``.

        Returns:
            Without targets: logits ``[batch, sequence or 1, vocabulary]`` in the dtype of the hidden states.
            With targets: the summed cross-entropy in nats, a float32 scalar; with ``each``, float32
            ``[batch, sequence]``.

        Raises:
            ValueError: positions or documents do not fit the tokens, or documents come with a cache.
        """
        hidden = self.model(
            tokens, first_position=first_position, cache=cache, positions=positions, documents=documents
        )
        if targets is None:
            return nn.functional.linear(hidden[:, -1:] if last_only else hidden, self.head_weight.to(hidden.dtype))
        flat, wanted = hidden.flatten(0, 1), targets.flatten()
        if each:
            return linear_cross_entropy_each(flat, self.head_weight, wanted).view(targets.shape)
        return linear_cross_entropy_sum(flat, self.head_weight, wanted)

    @torch.no_grad()
    def init_weights(self, *, seed: int) -> None:
        """Fill every parameter with :meth:`random_weights`."""
        for parameter, values in self.random_weights(seed=seed):
            parameter.copy_(values)

    def random_weights(self, *, seed: int) -> Iterator[tuple[nn.Parameter, Tensor]]:
        """Yield every parameter with random values for it, the same for the same seed on every device and rank.

        The values are float32 tensors on the CPU.

        Normal with ``initializer_range``; the two projections that write into the residual stream are scaled down by
        the square root of their number (``scaled_normal`` of GPT-NeoX, Radford et al. 2019). Norms start at one.
        """
        generator = torch.Generator(device="cpu").manual_seed(seed)
        std = self.architecture.initializer_range
        for name, parameter in self.named_parameters():
            if parameter.dim() == 1:
                yield parameter, torch.ones(parameter.shape)
                continue
            residual = name.endswith(("o_proj.weight", "down_proj.weight"))
            scale = std / math.sqrt(2 * self.architecture.num_hidden_layers) if residual else std
            yield parameter, torch.empty(parameter.shape).normal_(0.0, scale, generator=generator)
