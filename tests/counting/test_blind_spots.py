"""What fvcore and torch's counter do not see: every audit ends at zero, and each blind spot is named."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from mlcv_bench.counting.audit import FVCORE, audit
from mlcv_bench.counting.cost import count
from mlcv_bench.counting.network import Network, observe
from mlcv_bench.errors import UsageError
from tests.cases.networks import ClassToken, Vit

NO_RULE = "no rule for this operator"
NO_FORMULA = "no formula in its registry"


class Attention(nn.Module):
    """torch's own attention; with a mask and its weights asked for, the scores come from baddbmm."""

    def __init__(self, *, weights):
        super().__init__()
        self.weights, self.inner = weights, nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x):
        mask = torch.zeros(x.shape[1], x.shape[1], device=x.device) if self.weights else None
        return self.inner(x, x, x, need_weights=self.weights, attn_mask=mask)[0]


class First(nn.Module):
    """The first of a module's outputs."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)[0]


class Applied(nn.Module):
    """A convolution, and a function of what comes out."""

    def __init__(self, function):
        super().__init__()
        self.conv, self.function = nn.Conv2d(4, 4, 1), function

    def forward(self, x):
        return self.function(self.conv(x))


class VisionTransformer(nn.Module):
    """The layers of torchvision's vit_b_16: patches, an expanded class token, MultiheadAttention."""

    def __init__(self):
        super().__init__()
        self.patches, self.token = nn.Conv2d(3, 16, 4, 4), nn.Parameter(torch.zeros(1, 1, 16))
        self.norms, self.attention = nn.ModuleList(nn.LayerNorm(16) for _ in range(2)), Attention(weights=False)
        self.mlp, self.head = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16)), nn.Linear(16, 10)

    def forward(self, x):
        x = self.patches(x).reshape(len(x), 16, -1).permute(0, 2, 1)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        x = x + self.attention(self.norms[0](x))
        return self.head((x + self.mlp(self.norms[1](x)))[:, 0])


class WindowAttention(nn.Module):
    """The layers of torchvision's maxvit_t: squeeze and excitation, windows, einsums with a position bias."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.GELU())
        self.depthwise, self.squeeze = nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.AdaptiveAvgPool2d(1)
        self.excite = nn.Sequential(nn.Conv2d(16, 4, 1), nn.SiLU(), nn.Conv2d(4, 16, 1), nn.Sigmoid())
        self.norm, self.qkv, self.merge = nn.LayerNorm(16), nn.Linear(16, 48), nn.Linear(16, 16)
        self.bias = nn.Parameter(torch.zeros(49, 2))
        self.register_buffer("index", torch.arange(256) % 49)
        self.head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(16), nn.Linear(16, 10, bias=False)
        )

    def forward(self, x):
        x = self.depthwise(self.conv(x))
        x = x * self.excite(self.squeeze(x))
        n, c, h, w = x.shape
        windows = x.reshape(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(n, h * w // 16, 16, c)
        q, k, v = (
            part.reshape(n, -1, 16, 2, 8).permute(0, 1, 3, 2, 4) for part in self.qkv(self.norm(windows)).chunk(3, -1)
        )
        scores = torch.einsum("B G H I D, B G H J D -> B G H I J", q, k * 8**-0.5)
        scores = (scores + self.bias[self.index].view(16, 16, 2).permute(2, 0, 1)).softmax(-1)
        out = torch.einsum("B G H I J, B G H J D -> B G H I D", scores, v).permute(0, 1, 3, 2, 4)
        out = windows + self.merge(out.reshape(n, -1, 16, 16))
        return self.head(out.reshape(n, h // 4, w // 4, 4, 4, c).permute(0, 5, 1, 3, 2, 4).reshape(n, c, h, w))


class MobileTransformer(nn.Module):
    """The layers of timm's mobilevit_s: pixels of all patches meet in fused attention, between convolutions."""

    def __init__(self):
        super().__init__()
        self.local = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.SiLU())
        self.norm, self.qkv, self.proj = nn.LayerNorm(16), nn.Linear(16, 48), nn.Linear(16, 16)
        self.fusion = nn.Conv2d(19, 8, 3, 1, 1)

    def forward(self, x):
        tokens = functional.interpolate(self.local(x), size=(8, 8), mode="bilinear", align_corners=False)
        n = len(x)
        tokens = (
            tokens.reshape(n * 64, 2, 4, 2).transpose(1, 2).reshape(n, 16, 16, 4).transpose(1, 3).reshape(-1, 16, 16)
        )
        q, k, v = self.qkv(self.norm(tokens)).reshape(-1, 16, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        tokens = self.proj(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(-1, 16, 16))
        tokens = tokens.view(n, 4, 16, 16).transpose(1, 3).reshape(n * 64, 4, 2, 2).transpose(1, 2)
        tokens = functional.interpolate(tokens.reshape(n, 16, 8, 8), size=x.shape[2:], mode="bilinear")
        return self.fusion(torch.cat([x, tokens], 1))


class ScaledConvolution(nn.Conv2d):
    """The convolution of timm's nfnet: its weight is standardised by a batch norm in training mode."""

    def __init__(self, channels, out_channels):
        super().__init__(channels, out_channels, 3)
        self.gain = nn.Parameter(torch.ones(out_channels, 1, 1, 1))

    def forward(self, x):
        flat, scale = self.weight.reshape(1, self.out_channels, -1), (self.gain * 0.1).view(-1)
        weight = functional.batch_norm(flat, None, None, weight=scale, training=True, momentum=0.0, eps=1e-6)
        return functional.conv2d(x, weight.reshape_as(self.weight), self.bias)


class DeadBranch(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        self.b(x).relu_()
        return self.a(x)


class Broadcast(nn.Module):
    """One matrix meets every matrix of the batch, which fvcore counts once."""

    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.ones(3, 5))

    def forward(self, x):
        return self.matrix @ x


def encoder(**options):
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, **options), 2)


def spectral():
    return nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 8, 3)), nn.Conv2d(8, 4, 1))


UNSEEN = {
    "fused attention": (Vit, (3, 32, 32), {"scaled_dot_product_attention"}),
    "attention": (lambda: Attention(weights=False), (5, 16), {"scaled_dot_product_attention"}),
    "attention with weights and a mask": (lambda: Attention(weights=True), (5, 16), {"baddbmm"}),
    "encoder": (encoder, (5, 16), {"scaled_dot_product_attention"}),
    "frozen encoder": (
        lambda: encoder().requires_grad_(requires_grad=False),
        (5, 16),
        {"scaled_dot_product_attention"},
    ),
    "gru": (lambda: First(nn.GRU(16, 8, batch_first=True)), (7, 16), {"gru"}),
    "lstm": (lambda: First(nn.LSTM(16, 8, 2, batch_first=True, bidirectional=True)), (7, 16), {"lstm"}),
    "rnn": (lambda: First(nn.RNN(16, 8)), (7, 16), {"rnn_tanh"}),
    "lstm cell": (lambda: First(nn.LSTMCell(16, 8)), (16,), set()),
    "instance norm": (lambda: nn.Sequential(nn.InstanceNorm2d(4), nn.InstanceNorm2d(4, affine=True)), (4, 8, 8), set()),
    "norms without scale": (
        lambda: nn.Sequential(nn.LayerNorm(8, elementwise_affine=False), nn.GroupNorm(2, 4, affine=False)),
        (4, 8, 8),
        set(),
    ),
    "batch norm without statistics": (lambda: nn.BatchNorm2d(4, track_running_stats=False), (4, 8, 8), set()),
    "bilinear upsampling": (lambda: nn.Upsample(scale_factor=2, mode="bilinear"), (4, 8, 8), set()),
    "bicubic upsampling": (lambda: nn.Upsample(scale_factor=2, mode="bicubic"), (4, 8, 8), set()),
    "grid sampling": (
        lambda: Applied(lambda x: functional.grid_sample(x, x[:, :2].permute(0, 2, 3, 1), align_corners=False)),
        (4, 8, 8),
        set(),
    ),
    "spectral norm": (spectral, (4, 8, 8), {"mv", "vdot"}),
    "old spectral norm": (lambda: nn.utils.spectral_norm(nn.Conv2d(4, 8, 3)), (4, 8, 8), {"mv", "dot"}),
    "padding by name": (lambda: nn.Conv2d(4, 4, 3, padding="same"), (4, 8, 8), {"_convolution_mode"}),
    "tensordot": (lambda: Applied(lambda x: torch.tensordot(x, x, [[2, 3], [2, 3]])), (4, 8, 8), {"tensordot"}),
    "outer product by einsum": (lambda: Applied(lambda x: torch.einsum("nchw,ndhw->ncdhw", x, x)), (4, 8, 8), set()),
    "rounded einsum": (lambda: Applied(lambda x: torch.einsum("nchw,nche->we", x, x)), (4, 57, 8), set()),
    "broadcast matrix": (Broadcast, (3, 5, 4), set()),
    "expanded class token": (ClassToken, (4, 16), set()),
    "vit": (VisionTransformer, (3, 16, 16), {"scaled_dot_product_attention"}),
    "maxvit": (WindowAttention, (3, 16, 16), set()),
    "mobilevit": (MobileTransformer, (3, 10, 10), {"scaled_dot_product_attention"}),
    "nfnet": (lambda: nn.Sequential(ScaledConvolution(3, 8), nn.SiLU(), ScaledConvolution(8, 4)), (3, 12, 12), set()),
}


@pytest.mark.parametrize("name", UNSEEN)
@pytest.mark.filterwarnings("ignore::FutureWarning")  # the old spectral norm says that there is a new one
def test_every_blind_spot_is_named(name):
    factory, shape, unseen = UNSEEN[name]
    network = factory()
    found = audit(Network.of(network, input=shape), 2)
    assert found.leftover == 0, found
    assert found.macs == count(network, input=shape, batch=2).macs
    missed = {row.operator for row in found.rows if row.tool == FVCORE and NO_RULE in row.explanation}
    assert missed == unseen
    assert all(row.theirs == 0 for row in found.rows if NO_RULE in row.explanation)
    assert {row.operator for row in found.rows if NO_FORMULA in row.explanation} <= {"mv", "dot", "vdot"}


def test_a_branch_without_effect_is_named():
    found = audit(Network.of(DeadBranch(), input=(4,)))
    assert found.leftover == 0
    linear = next(row for row in found.rows if row.operator == "linear")
    assert (linear.ours, linear.theirs) == (16 + 8, 16)
    assert "no output depends on it" in linear.explanation


def test_what_fvcore_cannot_trace_is_one_sentence():
    with pytest.raises(UsageError, match="fvcore cannot trace Applied"):
        audit(Network.of(Applied(lambda x: x @ x[0, 0, 0]), input=(4, 8, 8)))


def test_the_fused_path_of_attention_is_left_as_it_was():
    torch.backends.mha.set_fastpath_enabled(value=False)
    try:
        audit(Network.of(Attention(weights=False), input=(5, 16)))
        assert not torch.backends.mha.get_fastpath_enabled()
    finally:
        torch.backends.mha.set_fastpath_enabled(value=True)
    audit(Network.of(Attention(weights=False), input=(5, 16)))
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.filterwarnings("ignore::FutureWarning")  # the old weight norm says that there is a new one
def test_a_network_that_a_factory_builds_fresh_needs_no_copy():
    found = audit(Network.of("tests/cases/networks.py:old_weight_norm", input=(1, 28, 28)))
    assert (found.macs, found.leftover) == (10 * 25 * 24**2 + 20 * 250 * 20**2, 0)


@pytest.mark.parametrize("text", ["return NET", "return nn.Sequential(NET, nn.ReLU())"])
def test_what_was_built_before_is_copied(text, tmp_path, monkeypatch):
    (tmp_path / "held.py").write_text(f"from torch import nn\nNET = nn.Linear(4, 4)\ndef net():\n    {text}\n")
    monkeypatch.chdir(tmp_path)
    network = Network.of("held.py:net", input=(4,))
    held = network.on_cpu()
    assert not {id(part) for part in held.modules()} & {id(part) for part in network.on_cpu().modules()}


class Effects(nn.Module):
    """What reaches the output, or outlives the pass, by ways that are not a plain result."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleDict({name: nn.Linear(4, 4) for name in ("view", "in_place", "buffer", "dead", "chain")})
        self.register_buffer("memory", torch.zeros(2, 4))

    def forward(self, x):
        table = torch.zeros(3, *x.shape, device=x.device)
        table[0].copy_(self.layers["view"](x))
        out = x.clone()
        out += self.layers["in_place"](x)
        self.memory.copy_(self.layers["buffer"](x))
        self.layers["chain"](self.layers["dead"](x)).relu_()
        return out + table.sum(0)


def test_effects_by_views_and_in_place_are_followed():
    seen = observe(Network.of(Effects(), input=(4,)), 2, functions=True)
    effective = {call.module: call.effective for call in seen.trace.recorded if call.operator == "linear"}
    assert {name.removeprefix("layers.") for name, has in effective.items() if has} == {"view", "in_place", "buffer"}
    assert len(effective) == 5


def test_recorded_operators_hold_all_the_work():
    trace = observe(Network.of("resnet8"), functions=True).trace
    assert sum(call.work.macs for call in trace.recorded) == sum(call.work.macs for call in trace.calls)
    assert {call.operator for call in trace.recorded if call.work.macs} == {"convolution", "linear"}
