"""A linear layer whose labels help each other: where they have few photos, and where some of them are known.

    weight (L,D) --+ share * neighbours' weight--> classifiers (L,D)         what few positives leave open
    features (B,D) --classifiers, bias--> logits z (B,L)
    z + strength * couplings (L,L) (p - prior) --steps--> logits (B,L)       p = sigmoid(z), or what is known

Three small terms on an L2-regularised linear layer, each of which vanishes where the data do not ask for it.
(1) A label's classifier starts from its neighbours', and the weight decay acts on what it adds: the mean of a
hierarchical prior, as in Salakhutdinov et al., CVPR 2011 (https://doi.org/10.1109/CVPR.2011.5995720). The share
fades as positives grow; a label without a single photo is left with its neighbours' classifiers alone.
(2) Labels are tied by the pairwise model of :mod:`zoo.couplings`, whose mean-field equations (Peterson & Anderson,
1987) are iterated a few times, with known labels held at what they are.
(3) The couplings may be counted from more annotations than there are photos: give that graph as ``labels``.

While the layer trains, it is alone; ``strength``, and a temperature for the logits that it meets (Guo et al., ICML
2017, https://arxiv.org/abs/1706.04599), are two numbers fitted on the validation split when training ends, since on
photos that it was trained on a layer knows the labels too well. The head is this project's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data
from torch_geometric.nn import SimpleConv

from zoo.heads.head import Head, with_means
from zoo.lookup import InputError
from zoo.metrics import mean_average_precision

CERTAIN = 20.0  # the logit of a known label: sigmoid(20) is 1 to eight digits, and half precision holds it
SHARES = (1.0, 0.5, 0.25, 0.0)  # of the fitted strength; the first of those that do as well
FITTED_ON = 4096  # images, at most, that the two numbers are fitted on
DENSE = 1 / 16  # share of all pairs of labels from which on their edges are a matrix
DIVERGED = 1e4  # a logit that says nothing but that training failed


class CoupledHead(Head):
    """See the module's docstring.

    Args:
        num_features: D.
        labels: a label graph of couplings, ``zoo.label_graph(..., edges="couplings")``; a label space without
            edges makes this a linear layer.
        sharing: how much a label without a positive takes of its neighbours' classifiers, whose shares are
            proportional to their couplings. 0 for none.
        fading: positives that halve a label's ``sharing``.
        steps: iterations of the mean-field equations.
        pooling: ``avg``, ``max`` or ``gem``.
        dropout: share of the pooled features dropped in training.
        bias: whether each label has a bias.

    Raises:
        InputError: a graph of anything but couplings, or an option out of its range.
    """

    uses_graph = True
    edges = "couplings"
    edge_index: Tensor
    edge_weight: Tensor
    positives: Tensor
    strength: Tensor
    temperature: Tensor

    def __init__(
        self,
        num_features: int,
        labels: Data,
        *,
        sharing: float = 1.0,
        fading: float = 10.0,
        steps: int = 3,
        pooling: str = "avg",
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__(num_features, labels, pooling=pooling, dropout=dropout)
        if steps < 1:
            raise InputError(f"steps must be 1 or more, not {steps}")
        if not (0 <= sharing < math.inf and 0 < fading < math.inf):
            raise InputError(
                f"sharing must be 0 or more and fading above 0, both finite, not {sharing} and {fading}"
            )
        self.sharing, self.fading, self.steps = sharing, fading, steps
        self.linear = nn.Linear(num_features, self.num_labels, bias=bias)
        self.propagate = SimpleConv(aggr="sum")
        _check_couplings(labels)
        for name in ("edge_index", "edge_weight"):
            self.register_buffer(name, getattr(labels, name).clone())
        self.register_buffer("positives", torch.zeros(self.num_labels))
        self.register_buffer("strength", torch.zeros(()))
        self.register_buffer("temperature", torch.ones(()))

    def take_graph(self, labels: Data, *, keep_logits: bool) -> None:
        """A new label has no weight of its own: its classifier is its neighbours' alone."""
        _check_couplings(labels)
        for name in ("edge_index", "edge_weight"):
            setattr(self, name, getattr(labels, name).to(getattr(self, name), copy=True))
        added = len(labels.label_names) - len(self.positives)
        self.positives = F.pad(self.positives, (0, added))
        self.linear.out_features += added
        self.linear.weight = nn.Parameter(F.pad(self.linear.weight.detach(), (0, 0, 0, added)))
        if self.linear.bias is not None:
            self.linear.bias = nn.Parameter(with_means(self.linear.bias, len(self.positives)))

    def pairwise(self) -> tuple[Float[Tensor, " M"], Float[Tensor, " L"]]:
        """Couplings of the edges, zero for self-loops; and the labels' log-odds, which are the self-loops' weights."""
        source, target = self.edge_index
        couplings = self.edge_weight.masked_fill(source == target, 0)
        loops = self.edge_weight.masked_fill(source != target, 0)
        return couplings, torch.zeros_like(self.positives).index_add(0, target, loops)

    def passing(self, weights: Float[Tensor, " M"]) -> Callable[[Float[Tensor, "L C"]], Float[Tensor, "L C"]]:
        """What sums to each label what its neighbours tell it over edges of these weights.

        Where a good part of all pairs are neighbours, as couplings of few labels are, it is one product with a matrix:
        edge by edge that takes far longer.
        """
        if weights.size(0) < DENSE * self.num_labels**2:
            return lambda x: self.propagate(x, self.edge_index, weights)
        source, target = self.edge_index
        matrix = weights.new_zeros(self.num_labels, self.num_labels).index_put((target, source), weights)
        return lambda x: matrix.to(x) @ x

    def classifiers(self) -> Float[Tensor, "L D"]:
        own, target, (couplings, _) = self.linear.weight, self.edge_index[1], self.pairwise()
        heard = torch.zeros_like(self.positives).index_add(0, target, couplings.abs())
        share = self.sharing * self.fading / (self.fading + self.positives) / heard.clamp(min=1e-6)
        return own + self.passing(couplings * share[target])(own)

    def classifier_bias(self) -> Float[Tensor, " L"] | None:
        return self.linear.bias

    def refine(self, logits: Float[Tensor, "B L"], known: Int[Tensor, "B L"] | None) -> Float[Tensor, "B L"]:
        if self.training and known is None:
            return logits
        return self.conclude(logits, known, self.strength, self.temperature)

    def conclude(
        self,
        logits: Float[Tensor, "B L"],
        known: Int[Tensor, "B L"] | None,
        strength: Float[Tensor, ""],
        temperature: Float[Tensor, ""],
    ) -> Float[Tensor, "B L"]:
        """What the labels of an image say of each other: ``steps`` rounds of the mean-field equations.

        Args:
            logits: of the linear layer.
            known: 1 present, 0 absent, -1 not known. Known labels come out at +-20.
            strength: of the couplings.
            temperature: divides what the logits add to the labels' log-odds.
        """
        couplings, log_odds = self.pairwise()
        prior, told = log_odds.sigmoid(), self.passing(couplings)
        # log_odds + (logits - log_odds) / temperature; at a temperature of 1 the logits to the bit
        alone = logits.float() / temperature + log_odds * (1 - 1 / temperature)
        concluded = alone
        for _ in range(self.steps):
            scores = concluded.sigmoid()
            if known is not None:
                scores = torch.where(known >= 0, known.to(scores), scores)
            news = told((scores - prior).T).T
            concluded = alone + strength * news
        if known is not None:
            concluded = torch.where(known >= 0, CERTAIN * (2 * known.to(concluded) - 1), concluded)
        return concluded

    def check_foldable(self) -> None:
        if self.strength != 0 or self.temperature != 1:
            raise InputError(
                f"the labels of an image conclude from each other with a strength of {self.strength:.2f}, which no "
                "linear layer can hold; after model.head.stay_alone() it folds"
            )

    def begin_training(self, targets: Int[Tensor, "N L"]) -> None:
        self.positives.copy_((targets == 1).sum(0))
        self.stay_alone()

    @torch.inference_mode(False)  # the logits may come from where no gradients are
    def finish_training(self, logits: Float[Tensor, "N L"], targets: Int[Tensor, "N L"]) -> None:
        """Fits strength and temperature by cross-entropy, with nothing known and with half of the labels known.

        A standard normal prior on the strength, and on the temperature's logarithm, keeps a handful of images from
        saying much. A strength below zero would mean that the graph is wrong: then the layer stays alone.

        Cross-entropy is a matter of frequent labels, and of frequencies; what ranks images, label by label, may be
        less of it. So of the fitted strength and fractions of it, none included, the one with the highest mAP stays.
        """
        generator, device = torch.Generator().manual_seed(0), self.strength.device
        rows = torch.randperm(len(logits), generator=generator)[:FITTED_ON]
        hidden = (torch.rand(len(rows), self.num_labels, generator=generator) < 0.5).to(device)
        logits, targets = (tensor[rows.to(tensor.device)].to(device) for tensor in (logits, targets))
        if not (logits.abs() < DIVERGED).all():
            return self.stay_alone()
        questions = [(None, targets >= 0), (torch.where(hidden, -1, targets), hidden & (targets >= 0))]
        strength, log_temperature = (torch.zeros((), device=device, requires_grad=True) for _ in range(2))
        optimizer = torch.optim.LBFGS([strength, log_temperature], line_search_fn="strong_wolfe", max_iter=50)

        def loss() -> Tensor:
            optimizer.zero_grad()
            total = (strength.square() + log_temperature.square()) / 2 / (targets >= 0).sum().clamp(min=1)
            for known, asked in questions:
                z = self.conclude(logits, known, strength, log_temperature.exp())[asked]
                cross_entropy = F.binary_cross_entropy_with_logits(z, targets[asked].float(), reduction="sum")
                total = total + cross_entropy / asked.sum().clamp(min=1)
            total.backward()
            return total

        optimizer.step(loss)
        fitted, temperature = strength.detach(), log_temperature.detach().exp()
        if not (0 < fitted < math.inf and 0 < temperature < math.inf):
            return self.stay_alone()

        def mean_ap(share: float) -> float:
            answers = [
                (self.conclude(logits, known, share * fitted, temperature), a) for known, a in questions
            ]
            return sum(mean_average_precision(z.sigmoid(), targets.where(a, -1)) for z, a in answers)

        share = max(SHARES, key=mean_ap)
        if not share:
            return self.stay_alone()
        self.strength.copy_(share * fitted)
        self.temperature.copy_(temperature)

    def stay_alone(self) -> None:
        """From now on the labels of an image say nothing of each other."""
        self.strength.zero_()
        self.temperature.fill_(1)


def _check_couplings(labels: Data) -> None:
    between = labels.edge_index[0] != labels.edge_index[1]
    if between.any() and labels.recipe.get("edges") != CoupledHead.edges:
        raise InputError(
            "this head needs a label graph of couplings: "
            "zoo.label_graph(targets, label_names, edges='couplings') makes one"
        )
