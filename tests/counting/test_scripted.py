import pytest
import torch
from torch import nn

from mlcv_bench.architectures.request import NamedInput
from mlcv_bench.counting.cost import count
from mlcv_bench.counting.kernels import taken_apart
from mlcv_bench.errors import UsageError

AHEAD = torch.ones(5, 5, dtype=torch.bool).triu(1)
PADDED = (torch.arange(5) > 3)[None].expand(3, 5)


class Classifier(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.head = nn.Linear(16, 4)

    def forward(self, tokens):
        return self.head(self.layer(tokens))


class Attention(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, tokens):
        return self.layer(tokens, tokens, tokens)


def encoder_layer(**settings):
    return nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, **settings).eval()


def figures(network, batch):
    row = count(network, input=(5, 16), batch=batch).row()
    return {key: row[key] for key in row if key in {"macs", "activations"} or key.endswith("_ops")}


@pytest.mark.parametrize("settings", [{}, {"norm_first": True}, {"activation": "gelu"}])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_scripted_encoder_layer_costs_what_it_costs_otherwise(settings, batch):
    eager = encoder_layer(**settings)
    cost = count(Classifier(torch.jit.script(eager)), input=(5, 16), batch=batch)
    assert not cost.uncounted
    # Each of 5 tokens: 3 E^2 + E^2 + 2 E F, and 4 E in the head; both products of the attention: L^2 E.
    assert cost.macs == batch * (5 * (4 * 16**2 + 2 * 16 * 32 + 4 * 16) + 2 * 5**2 * 16) == batch * 11_360
    assert cost.norm_ops == batch * 2 * 5 * 5 * 16
    assert cost.bias_ops == batch * 5 * (3 * 16 + 16 + 32 + 16 + 4)
    assert cost.activation_ops == batch * (5 * 2 * 5**2 + 5 * 32)
    assert cost.addition_ops == batch * 2 * 5 * 16
    assert figures(Classifier(torch.jit.script(eager)), batch) == figures(Classifier(eager), batch)


def test_a_scripted_attention_costs_what_it_costs_otherwise():
    eager = nn.MultiheadAttention(16, 2, batch_first=True).eval()
    cost = count(Attention(torch.jit.script(eager)), input=(5, 16))
    assert not cost.uncounted
    assert figures(Attention(torch.jit.script(eager)), 2) == figures(Attention(eager), 2)


@pytest.mark.parametrize("settings", [{}, {"norm_first": True}, {"activation": "gelu"}])
@pytest.mark.parametrize(
    "masks",
    [{}, {"src_mask": AHEAD}, {"src_key_padding_mask": PADDED}, {"src_mask": AHEAD, "src_key_padding_mask": PADDED}],
)
@torch.no_grad()
def test_the_parts_of_an_encoder_layer_compute_the_same(settings, masks):
    torch.manual_seed(0)
    script, tokens = torch.jit.script(encoder_layer(**settings)), torch.randn(3, 5, 16)
    whole = script(tokens, **masks)
    with taken_apart():
        torch.testing.assert_close(script(tokens, **masks), whole)


@pytest.mark.parametrize(
    "asked", [{}, {"average_attn_weights": False}, {"attn_mask": AHEAD}, {"key_padding_mask": PADDED}]
)
@torch.no_grad()
def test_the_parts_of_an_attention_compute_the_same(asked):
    torch.manual_seed(0)
    script, tokens = torch.jit.script(nn.MultiheadAttention(16, 2, batch_first=True).eval()), torch.randn(3, 5, 16)
    whole = script(tokens, tokens, tokens, **asked)
    with taken_apart():
        torch.testing.assert_close(script(tokens, tokens, tokens, **asked), whole)


def scripted_layer():
    return torch.jit.script(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True).eval())


def test_a_factory_of_a_script_takes_named_inputs():
    source = NamedInput("src", "float32", (2, 5, 32))
    of_module = count(scripted_layer(), tensors=(source,))
    assert count(f"{__file__}:scripted_layer", tensors=(source,)).macs == of_module.macs > 0
    with pytest.raises(UsageError, match=r"takes src, src_mask, .*, not 'srd'"):
        count(scripted_layer(), tensors=(NamedInput("srd", "float32", (2, 5, 32)),))
