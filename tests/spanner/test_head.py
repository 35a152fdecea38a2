import pytest
import torch
from torch.nn import functional

from linkner_ray.config import ModelConfig
from linkner_ray.spanner.head import SpanHead
from linkner_ray.spanner.morphology import NUM_MORPHOLOGY_CLASSES

HIDDEN, CLASSES, WIDTHS = 12, 5, 4


def make_head(*, use_width=True, use_morphology=True, dropout=0.3):
    torch.manual_seed(0)
    config = ModelConfig(
        max_width=WIDTHS,
        head_width=16,
        use_width=use_width,
        use_morphology=use_morphology,
        dropout=dropout,
    )
    head = SpanHead(HIDDEN, CLASSES, config)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    return head.eval()


def states(tokens, seed=0, rows=2):
    generator = torch.Generator().manual_seed(seed)
    first, last = torch.randn(2, rows, tokens, HIDDEN, generator=generator)
    classes = torch.randint(NUM_MORPHOLOGY_CLASSES, (rows, tokens), generator=generator)
    return first, last, classes


def plain_logits(head, first, last, classes):
    """One span after another: concatenate its features, apply one linear layer."""
    rows, tokens, _ = first.shape
    logits = torch.zeros(rows, tokens, WIDTHS, CLASSES)
    weights = [head.start.weight, head.end.weight]
    for row in range(rows):
        for start in range(tokens):
            for end in range(start + 1, min(start + WIDTHS, tokens) + 1):
                features = torch.cat([first[row, start], last[row, end - 1]])
                hidden = torch.cat(weights, dim=1) @ features + head.start.bias
                if head.width is not None:
                    hidden = hidden + head.width.weight[end - start - 1]
                if head.morphology is not None:
                    hidden = hidden + head.morphology(classes[row, start:end]).sum(0)
                scores = head.output(functional.gelu(hidden))
                logits[row, start, end - start - 1] = scores
    return logits


@pytest.mark.parametrize("tokens", [1, 3, 4, 9])
@pytest.mark.parametrize("use_width", [True, False])
@pytest.mark.parametrize("use_morphology", [True, False])
def test_the_factorised_head_agrees_with_a_plain_one(
    tokens, use_width, use_morphology, monkeypatch
):
    monkeypatch.setattr("linkner_ray.spanner.head.PIECE_SPANS", 20)
    head = make_head(use_width=use_width, use_morphology=use_morphology)
    first, last, classes = states(tokens)
    projected = head.project(first, last, classes)
    logits = head(projected)
    assert logits.shape == (2, tokens, WIDTHS, CLASSES)
    inside = torch.arange(tokens)[:, None] + torch.arange(WIDTHS) < tokens  # (T, W)
    expected = plain_logits(head, first, last, classes)
    torch.testing.assert_close(logits[:, inside], expected[:, inside], atol=1e-5, rtol=1e-5)
    place = inside.expand(2, -1, -1).nonzero(as_tuple=True)
    at = head.logits_at(projected, place)
    torch.testing.assert_close(at, expected[place], atol=1e-5, rtol=1e-5)
    sampled = head.output(head.hidden(projected, place))
    torch.testing.assert_close(sampled, expected[place], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("count", [1, 10, 17, 36, 200])
def test_spans_have_the_same_bits_whatever_is_scored_with_them(count, monkeypatch):
    head = make_head()
    projected = head.project(*states(40, rows=3))
    place = torch.randint(36, (3, 200)) % torch.tensor([[3], [36], [4]])
    whole = head.logits_at(projected, tuple(place))
    assert torch.equal(whole, head.output(head.hidden(projected, tuple(place))))
    monkeypatch.setattr("linkner_ray.spanner.head.PIECE_SPANS", 32)
    assert torch.equal(head.logits_at(projected, tuple(place[:, :count])), whole[:count])


def test_a_dropout_sampled_head_answers_for_a_span_whatever_is_beside_it():
    head = make_head().eval()
    hidden = torch.randn(7, 16, generator=torch.Generator().manual_seed(3))
    together = head.dropout_sampled_logits(hidden, seed=(11,))
    assert together.shape == (7, CLASSES)
    torch.testing.assert_close(together[4:5], head.dropout_sampled_logits(hidden[4:5], seed=(11,)))
    assert not torch.equal(together, head.dropout_sampled_logits(hidden, seed=(12,)))


def test_dropout_sampled_heads_average_to_the_plain_logits():
    head = make_head(dropout=0.2).eval()
    hidden = torch.randn(3, 16, generator=torch.Generator().manual_seed(3))
    mean = torch.stack(
        [head.dropout_sampled_logits(hidden, seed=(0, m)) for m in range(20_000)]
    ).mean(0)
    torch.testing.assert_close(mean, head.output(hidden), atol=0.1, rtol=0)
