import torch
from torch import nn

from linkner_ray.spanner.dropout import sampled_dropout


class Layer(nn.Module):
    def __init__(self, p: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(p)

    def forward(self, x):
        return self.dropout(x)


def test_the_same_units_are_off_everywhere():
    layer = Layer(0.5).eval()
    with sampled_dropout(layer, seed=(3,)):
        out = layer(torch.ones(4, 5, 64))
        again = layer(torch.ones(1, 9, 64))
    assert set(out.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(out, out[:1, :1].expand(4, 5, 64))
    assert torch.equal(again[0, 0], out[0, 0])


def test_another_seed_is_another_network_and_two_layers_differ():
    layers = nn.ModuleList([Layer(0.5), Layer(0.5)]).eval()
    x = torch.ones(1, 1, 64)
    with sampled_dropout(layers, seed=(3,)):
        first, second = layers[0](x), layers[1](x)
    with sampled_dropout(layers, seed=(4,)):
        other = layers[0](x)
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)


def test_afterwards_nothing_is_dropout_sampled():
    layer = Layer(0.5).eval()
    x = torch.ones(1, 1, 64)
    with sampled_dropout(layer, seed=(3,)):
        assert not torch.equal(layer(x), x)
    assert torch.equal(layer(x), x)


def test_the_share_that_stays_is_one_minus_p():
    layer = Layer(0.2).eval()
    with sampled_dropout(layer, seed=(0,)):
        out = layer(torch.ones(1, 1, 10_000))
    assert abs((out > 0).double().mean().item() - 0.8) < 0.02
    assert abs(out.max().item() - 1.25) < 1e-6


def test_attention_probabilities_are_left_alone():
    layer = Layer(0.5).eval()
    x = torch.ones(2, 3, 7, 7)
    with sampled_dropout(layer, seed=(3,)):
        assert torch.equal(layer(x), x)
