"""What torch runs otherwise on the CPU than on the meta device: attention in one kernel, group norm in any layout.

Taken apart, as on the meta device, attention keeps its scores, which the CPU does not.
"""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING

import torch
from torch.utils._python_dispatch import _disable_current_modes

from mlcv_bench.counting import shapes

if TYPE_CHECKING:
    from collections.abc import Iterator

aten = torch.ops.aten
FLASH = torch._C._SDPBackend.FLASH_ATTENTION.value  # noqa: SLF001 - torch.nn.attention, its place, is slow to import
TAKE_APART = torch._C.DispatchKey.CompositeImplicitAutograd  # noqa: SLF001 - no public name


@contextlib.contextmanager
def as_on_cpu() -> Iterator[None]:
    """Let operators on the meta device inside be those that the CPU would run."""
    with torch.library._scoped_library("aten", "IMPL", "AutogradMeta") as library:  # noqa: SLF001 - no public name
        library.impl("scaled_dot_product_attention", attention)
        library.impl("group_norm", group_norm)
        yield


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
) -> torch.Tensor:
    """Run a scaled dot-product attention as aten/src/ATen/native/transformers/attention.cpp does on the CPU."""
    with _disable_current_modes():
        asked = [without_memory(tensor) for tensor in (query, key, value)]
        mask = without_memory(attn_mask) if attn_mask is not None else None
        choice = aten._fused_sdp_choice(  # noqa: SLF001 - torch's own rule, which no public function tells
            *asked, mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    if choice != FLASH:
        taken: torch.Tensor = aten.scaled_dot_product_attention.default._op_dk(  # noqa: SLF001 - no public name
            TAKE_APART, query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
        return taken
    if attn_mask is not None and attn_mask.dtype is torch.bool:
        zero, infinity = (torch.empty((), dtype=query.dtype, device="meta") for _ in range(2))
        attn_mask = torch.where(attn_mask, zero, infinity)
        del zero, infinity
    fused: torch.Tensor = aten._scaled_dot_product_flash_attention_for_cpu(  # noqa: SLF001 - no public name
        query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale
    )[0]
    return fused


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
    result: torch.Tensor = aten.native_group_norm(
        dense, weight, bias, batch, channels, math.prod(image.shape[2:]), groups, eps
    )[0]
    return result
