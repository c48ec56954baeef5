"""Kernels that stand in for torch's while a network is watched.

On the meta device torch runs attention and group norm otherwise than on the CPU: taken apart, attention keeps its
scores, which the CPU does not. On the CPU TorchScript runs attention and encoder layers as one operator, in which
nothing can be seen.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from mlcv_bench import torch_private
from mlcv_bench.counting import shapes
from mlcv_bench.counting.shapes import argument

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

KEYS_OF_A_BATCH = 1
"""The kind of mask that has a row of keys for every image; others have a row for every query."""


def as_on_cpu() -> AbstractContextManager[None]:
    """Let operators on the meta device inside be those that the CPU would run."""
    return torch_private.replaced("AutogradMeta", scaled_dot_product_attention=attention, group_norm=group_norm)


def taken_apart() -> AbstractContextManager[None]:
    """Let scripts on the CPU inside run the parts, of which every operator can be seen."""
    return torch_private.replaced(
        "AutogradCPU",
        _native_multi_head_attention=scripted_attention,
        _transformer_encoder_layer_fwd=scripted_encoder,
    )


def without_memory(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor on the CPU with a tensor's shape and one row's memory, for questions that read no values."""
    row = torch.empty_strided(tensor.shape[-1:], tensor.stride()[-1:], dtype=tensor.dtype, device="cpu")
    return row.expand(tensor.shape).requires_grad_(tensor.requires_grad)


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:  # noqa: ANN401 - operators return anything
    """Run a scaled dot-product attention as aten/src/ATen/native/transformers/attention.cpp does on the CPU."""
    with torch_private.without_modes():
        asked = [without_memory(tensor) for tensor in (query, key, value)]
        mask = without_memory(attn_mask) if attn_mask is not None else None
        settings = {"scale": scale, "enable_gqa": enable_gqa}
        at_once = torch_private.attends_at_once(*asked, mask, dropout_p, is_causal, **settings)
    if not at_once:
        whole = torch.ops.aten.scaled_dot_product_attention.default
        return torch_private.run_composite(whole, query, key, value, attn_mask, dropout_p, is_causal, **settings)
    if attn_mask is not None and attn_mask.dtype is torch.bool:
        zero, infinity = (torch.empty((), dtype=query.dtype, device="meta") for _ in range(2))
        attn_mask = torch.where(attn_mask, zero, infinity)
        del zero, infinity
    return torch_private.flash_attention(query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale)[0]


def group_norm(
    image: torch.Tensor,
    groups: int,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> torch.Tensor:
    """Run a group norm as aten/src/ATen/native/group_norm.cpp does on the CPU: channels last stay last."""
    del cudnn_enabled
    dense = image.contiguous(memory_format=shapes.layout_of(image))
    batch, channels = image.shape[:2]
    result: torch.Tensor = torch.ops.aten.native_group_norm(
        dense, weight, bias, batch, channels, math.prod(image.shape[2:]), groups, eps
    )[0]
    return result


def scripted_attention(*args: Any) -> Any:  # noqa: ANN401 - as torch.nn
    """Run what nn.MultiheadAttention runs, batch first.

    Arguments: query, key, value, width, number of heads, weight and bias of the projections in and out, mask, whether
    scores are wanted, and averaged, kind of mask.
    """
    query, key, value, width, heads, into, into_bias, out, out_bias, *asked = args
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


def scripted_encoder(source: torch.Tensor, width: int, heads: int, *rest: Any) -> torch.Tensor:  # noqa: ANN401 - as torch.nn
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
        return scripted_attention(x, x, x, width, heads, *projections, *asked.values())[0]

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
