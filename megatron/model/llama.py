"""The Llama language model, all of it, for one device.

Source: Touvron et al., arXiv 2302.13971 and 2307.09288; Llama team, arXiv 2407.21783. It computes what transformers'
``LlamaForCausalLM`` computes, with the same parameter names; the tests compare the two.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import xxhash
from torch import Tensor, nn

from megatron.config.architecture import Architecture
from megatron.model.attention import KeyValueStore, Pattern
from megatron.model.layers import Block, RMSNorm
from megatron.model.loss import linear_cross_entropy
from megatron.model.rope import rotation_table

Part = tuple[Tensor, tuple[slice, ...]]
"""A piece of a tensor, and where in the whole it lies."""

Loss = Callable[..., tuple[Tensor | None, Tensor]]
"""Called as :func:`megatron.model.loss.linear_cross_entropy` is."""

Logits = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""Called as :func:`linear_logits` is."""


def linear_logits(hidden: Tensor, weight: Tensor, at: Tensor | None) -> Tensor:
    """Return logits ``[batch, sequence or n, vocabulary]`` in the dtype of the hidden states.

    Args:
        hidden: ``[batch, sequence, hidden]``.
        weight: the output matrix, ``[vocabulary, hidden]``.
        at: int64 ``[n]``, the places in the sequence that are wanted; None for all.
    """
    return nn.functional.linear(hidden if at is None else hidden[:, at], weight.to(hidden.dtype))


class Decoder(nn.Module):
    """Embedding, blocks and the last norm. Each of them may be taken away: the rest goes on with hidden states."""

    rotation_cos: Tensor
    rotation_sin: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.embed_tokens: nn.Embedding | None = nn.Embedding(architecture.vocab_size, architecture.hidden_size)
        # String keys keep a block's name when others are taken away.
        self.layers = nn.ModuleDict(
            {str(layer): Block(architecture, layer=layer) for layer in range(architecture.num_hidden_layers)}
        )
        self.norm: RMSNorm | None = RMSNorm(architecture.hidden_size, eps=architecture.rms_norm_eps)
        self.register_buffer("rotation_cos", torch.empty(0), persistent=False)
        self.register_buffer("rotation_sin", torch.empty(0), persistent=False)
        self.set_rotation_table(device=next(self.parameters()).device)

    def set_rotation_table(self, *, device: torch.device, num_positions: int | None = None) -> None:
        """Compute the rotary angles for ``num_positions`` positions (default: all the model knows)."""
        cos, sin = rotation_table(
            self.architecture, num_positions=num_positions or self.architecture.max_position_embeddings
        )
        self.rotation_cos, self.rotation_sin = cos.to(device).unsqueeze(1), sin.to(device).unsqueeze(1)

    def forward(
        self,
        inputs: Tensor,
        *,
        cache: KeyValueStore | None = None,
        positions: Tensor | None = None,
        pattern: Pattern | None = None,
    ) -> Tensor:
        """Map token ids, or what earlier blocks have made of them, to hidden states; as :class:`Llama`."""
        if positions is not None:
            _check_positions(positions, inputs)
        # Processes may have divided the hidden states of earlier blocks, but never positions.
        shape = inputs.shape[:2] if positions is None else positions.shape
        if pattern is not None:
            if cache is not None:
                raise ValueError(
                    "documents and cache were both given: a cache knows itself which tokens see which; leave "
                    "documents out"
                )
            pattern.check(shape, inputs.device)
        cos, sin = self._rotation(shape, positions)
        x = inputs
        if not inputs.is_floating_point():
            assert self.embed_tokens is not None
            x = self.embed_tokens(inputs)
        cos, sin = cos.to(x.dtype), sin.to(x.dtype)
        for block in self.layers.values():
            x = block(x, cos, sin, cache, pattern)
        return x if self.norm is None else self.norm(x)

    def _rotation(self, shape: torch.Size, positions: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return cosine and sine: ``[sequence, 1, head_dim]``, or with a batch dimension where positions are given."""
        if positions is None:
            return self.rotation_cos[: shape[1]], self.rotation_sin[: shape[1]]
        return self.rotation_cos[positions], self.rotation_sin[positions]


def _check_positions(positions: Tensor, inputs: Tensor) -> None:
    shape = positions.shape if inputs.is_floating_point() else inputs.shape
    if positions.shape != shape or positions.dtype != torch.int64:
        raise ValueError(
            f"positions are {positions.dtype} {list(positions.shape)}; they must be int64 {list(shape)}, one for each "
            "token"
        )


class Llama(nn.Module):
    """A Llama with its language-model head.

    State-dict names are those of Hugging Face; with tied embeddings there is no ``lm_head.weight``.

    Attributes:
        loss: computes the loss from hidden states and the output matrix.
        logits: computes logits from the same.
        losses: of the last call with targets, every position's loss in nats, float32 ``[batch, sequence]``, without
            gradients; 0 where the target is ignored.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.model = Decoder(architecture)
        self.loss: Loss = linear_cross_entropy
        self.logits: Logits = linear_logits
        self.losses: Tensor | None = None
        self.lm_head: nn.Linear | None = (
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
        model.model.set_rotation_table(device=device)
        return model

    @property
    def head_weight(self) -> Tensor:
        """The output matrix, ``[vocabulary, hidden]``: its own, or the embedding's when the two are tied."""
        matrix = self.model.embed_tokens if self.lm_head is None else self.lm_head
        assert matrix is not None
        return matrix.weight

    def forward(
        self,
        inputs: Tensor,
        *,
        targets: Tensor | None = None,
        each: bool = False,
        at: Tensor | None = None,
        cache: KeyValueStore | None = None,
        positions: Tensor | None = None,
        pattern: Pattern | None = None,
    ) -> Tensor:
        """Return logits, or the loss against ``targets``; or hidden states where the last norm has been taken away.

        Args:
            inputs: int64 ids ``[batch, sequence]``; or hidden states ``[batch, sequence, hidden]`` of earlier blocks.
            targets: int64 ids ``[batch, sequence]`` that each position should predict; ``IGNORE`` (-100) for none.
            each: with targets, return the losses of every position instead of their sum (without gradients).
            at: without targets, int64 ``[n]``: the places in the sequence whose logits are wanted; all by default.
            cache: keeps keys and values, and mixes them with those of earlier tokens.
            positions: int64 ``[batch, sequence]``, less than the model's number of positions: where each token counts
                as standing. By default a row counts from 0.
            pattern: which tokens see which, such as the documents that the rows consist of. Not with ``cache``.

        Returns:
            Without targets: logits ``[batch, sequence or n, vocabulary]`` in the dtype of the hidden states.
            With targets: the summed cross-entropy in nats, a float32 scalar; with ``each``, that of every position's
            target and of its likeliest token, float32 ``[batch, sequence, 2]``.

        Raises:
            ValueError: positions or pattern do not fit the tokens, or a pattern comes with a cache.
        """
        hidden: Tensor = self.model(inputs, cache=cache, positions=positions, pattern=pattern)
        if self.model.norm is None:
            return hidden
        if targets is None:
            return self.logits(hidden, self.head_weight, at)
        total, losses = self.loss(hidden, self.head_weight, targets, each=each)
        if total is None:
            return losses
        self.losses = losses
        return total

    def taken_losses(self) -> Tensor:
        """Return the summed loss of each row of the last call with targets, float64 ``[batch]``, and forget it."""
        assert self.losses is not None
        sums, self.losses = self.losses.double().sum(1), None
        return sums

    @torch.no_grad()
    def init_weights(self, *, seed: int, part: Callable[[Tensor], Part] = lambda parameter: (parameter, ())) -> None:
        """Fill every parameter with random values, the same for the same seed and name wherever it lies.

        Normal with ``initializer_range``; the two projections that write into the residual stream are scaled down by
        the square root of their number (``scaled_normal`` of GPT-NeoX, Radford et al. 2019). Norms start at one.

        Args:
            seed: decides the values.
            part: returns what of a parameter is here to be filled, and where in the whole it lies.
        """
        std = self.architecture.initializer_range
        for name, parameter in self.named_parameters():
            values = torch.ones(parameter.shape)
            if parameter.dim() > 1:
                residual = name.endswith(("o_proj.weight", "down_proj.weight"))
                scale = std / math.sqrt(2 * self.architecture.num_hidden_layers) if residual else std
                # A generator for each: a process that holds some of the parameters makes no others.
                own_seed = xxhash.xxh3_64_intdigest(f"{seed} {name}".encode())
                values.normal_(0.0, scale, generator=torch.Generator().manual_seed(own_seed))
            here, place = part(parameter)
            here.copy_(values[place])
