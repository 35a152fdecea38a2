"""Training losses over the spans of a batch.

Letters: N spans, C classes with non-entity first.
"""

import torch
from torch import Tensor
from torch.nn import functional

MAX_LOG_EVIDENCE = 10.0
"""Logit above which evidence grows linearly; exp alone overflows digamma differences."""


def evidence_of(logits: Tensor) -> Tensor:
    """Evidence for each class: exp, continued by its tangent above `MAX_LOG_EVIDENCE`.

    The tangent keeps a gradient where a clamp would leave none.

    Args:
        logits: Shape (..., C).

    Returns:
        Non-negative, finite for any finite logit. Shape (..., C).
    """
    bounded = logits.clamp(max=MAX_LOG_EVIDENCE)
    return torch.exp(bounded) * (1.0 + (logits - bounded))


def span_weights(gold: Tensor, non_entity_weight: float) -> Tensor:
    """Weight of each span: 1 for an entity, `non_entity_weight` for class 0. Shape (N,)."""
    return torch.where(gold == 0, non_entity_weight, 1.0)


def weighted_cross_entropy(logits: Tensor, gold: Tensor, *, non_entity_weight: float) -> Tensor:
    """Cross-entropy, averaged by span weight.

    Args:
        logits: Shape (N, C).
        gold: Class of each span. Shape (N,).
        non_entity_weight: Weight of non-entity spans; entities weigh 1.

    Returns:
        A scalar; 0 for an empty batch.
    """
    losses = functional.cross_entropy(logits.float(), gold, reduction="none")
    return _weighted_mean(losses, span_weights(gold, non_entity_weight))


def evidential_loss(
    logits: Tensor, gold: Tensor, *, non_entity_weight: float, annealing: float
) -> Tensor:
    """Loss of evidential span classification, averaged by span weight.

    Three terms: the importance-weighted digamma loss of the gold class; the divergence from the
    uniform Dirichlet of the evidence against the gold class; and, where the prediction is wrong,
    the cost of not having been uncertain. The last two grow with `annealing`.

    Args:
        logits: Shape (N, C).
        gold: Class of each span. Shape (N,).
        non_entity_weight: Weight of non-entity spans; entities weigh 1.
        annealing: Weight in [0, 1] of the regularising terms.

    Returns:
        A scalar; 0 for an empty batch.

    Reference:
        Zhang et al. (2023), E-NER; Sensoy et al. (2018), Evidential Deep Learning.
    """
    logits = logits.double()  # lgamma of large evidence cancels badly in single precision
    evidence = evidence_of(logits)
    terms = classification_term(evidence, gold)
    if annealing > 0:
        wrong = logits.argmax(dim=-1) != gold
        terms = terms + annealing * divergence_term(evidence, gold)
        terms = terms + annealing * wrong * uncertainty_term(evidence)
    return _weighted_mean(terms, span_weights(gold, non_entity_weight).double()).float()


def classification_term(evidence: Tensor, gold: Tensor) -> Tensor:
    """(1 - e_y / S) (digamma(S) - digamma(alpha_y)) for the gold class y. Shape (N,)."""
    alpha = evidence + 1.0
    strength = alpha.sum(dim=-1)
    of_gold = alpha.gather(-1, gold[:, None]).squeeze(-1)
    importance = 1.0 - (of_gold - 1.0) / strength
    return importance * (torch.digamma(strength) - torch.digamma(of_gold))


def divergence_term(evidence: Tensor, gold: Tensor) -> Tensor:
    """KL(Dir(alpha~) || Dir(1)), where alpha~ is alpha without the gold class's evidence.

    Shape (N,).
    """
    alpha = evidence.scatter(-1, gold[:, None], 0.0) + 1.0
    strength = alpha.sum(dim=-1, keepdim=True)
    num_classes = torch.tensor(float(alpha.shape[-1]), dtype=alpha.dtype, device=alpha.device)
    constant = torch.lgamma(strength.squeeze(-1)) - torch.lgamma(num_classes)
    expected_log = torch.digamma(alpha) - torch.digamma(strength)
    return constant - torch.lgamma(alpha).sum(-1) + ((alpha - 1.0) * expected_log).sum(-1)


def uncertainty_term(evidence: Tensor) -> Tensor:
    """-log(C / S): what certainty costs where the prediction is wrong. Shape (N,)."""
    num_classes = evidence.shape[-1]
    return torch.log((evidence + 1.0).sum(dim=-1) / num_classes)


def _weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp(min=torch.finfo(values.dtype).tiny)
