"""What TorchScript runs as one operator, attention and encoder layers, in the parts that torch.nn runs otherwise."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from mlcv_bench.counting.shapes import argument

if TYPE_CHECKING:
    from collections.abc import Iterator

KEYS_OF_A_BATCH = 1
"""The kind of mask that has a row of keys for every image; others have a row for every query."""


@contextlib.contextmanager
def taken_apart() -> Iterator[None]:
    """Let scripts on the CPU inside run the parts, of which every operator can be seen."""
    with torch.library._scoped_library("aten", "IMPL", "AutogradCPU") as library:  # noqa: SLF001 - no public name
        library.impl("_native_multi_head_attention", attention)
        library.impl("_transformer_encoder_layer_fwd", encoder_layer)
        yield


def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, width: int, heads: int, *rest: Any) -> Any:  # noqa: ANN401 - as torch.nn
    """Run what nn.MultiheadAttention runs, batch first.

    `rest`: weight and bias of the projections in and out, mask, whether scores are wanted, and averaged, kind of mask.
    """
    into, into_bias, out, out_bias, *asked = rest
    mask, by_key = argument(asked, 0, None), argument(asked, 3, None) == KEYS_OF_A_BATCH
    if mask is not None and mask.dim() > 2:  # noqa: PLR2004 - one for every head
        mask = mask.flatten(0, -3)
    result, scores = functional.multi_head_attention_forward(
        query.transpose(0, 1),
        key.transpose(0, 1),
        value.transpose(0, 1),
        embed_dim_to_check=width,
        num_heads=heads,
        in_proj_weight=into,
        in_proj_bias=into_bias,
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=out,
        out_proj_bias=out_bias,
        training=False,
        key_padding_mask=mask if by_key else None,
        need_weights=argument(asked, 1, default=True),
        attn_mask=None if by_key else mask,
        average_attn_weights=argument(asked, 2, default=True),
    )
    return result.transpose(0, 1), scores if scores is not None else query.new_empty(0)


def encoder_layer(source: torch.Tensor, width: int, heads: int, *rest: Any) -> torch.Tensor:  # noqa: ANN401 - as torch.nn
    """Run what nn.TransformerEncoderLayer runs, batch first.

    `rest`: weight and bias of the projections in and out, whether GELU stands between the linear layers, whether norms
    come first, their epsilon, weight and bias of both norms and of both linear layers, mask, kind of mask.
    """
    projections, (gelu, norm_first, epsilon), norms, layers, masked = (
        rest[:4],
        rest[4:7],
        rest[7:11],
        rest[11:15],
        rest[15:],
    )

    def attend(x: torch.Tensor) -> Any:  # noqa: ANN401 - as torch.nn
        asked = {
            "mask": argument(masked, 0, None),
            "scores": False,
            "averaged": True,
            "kind": argument(masked, 1, None),
        }
        return attention(x, x, x, width, heads, *projections, *asked.values())[0]

    def feed(x: torch.Tensor) -> torch.Tensor:
        hidden = functional.linear(x, layers[0], layers[1])
        return functional.linear(functional.gelu(hidden) if gelu else functional.relu(hidden), layers[2], layers[3])

    x = source
    for part, weight, bias in ((attend, *norms[:2]), (feed, *norms[2:])):
        if norm_first:
            x = x + part(functional.layer_norm(x, (width,), weight, bias, epsilon))
        else:
            x = functional.layer_norm(x + part(x), (width,), weight, bias, epsilon)
    return x
