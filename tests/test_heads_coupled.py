"""The head whose labels help each other: its formula, known labels, and the two numbers that are fitted at the end."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import pairwise_targets
from small_heads import NUM_FEATURES, NUM_LABELS, graph_of, perturb
from torch import Tensor
from torch_geometric.data import Data

from zoo.controls import control
from zoo.graph import label_graph, unlinked_labels
from zoo.heads import build_head, coupled, fold_head
from zoo.heads.head import Head
from zoo.lookup import InputError
from zoo.metrics import mean_average_precision


def own_classifiers(head: Head, weights: Tensor) -> Tensor:
    """A label's own weight, and its share of those of the labels that it hears."""
    own, rows = head.linear.weight, []
    for i in range(NUM_LABELS):
        heard = [j for j in range(NUM_LABELS) if j != i and weights[j, i] != 0]
        total = sum(abs(float(weights[j, i])) for j in heard)
        share = head.sharing * head.fading / (head.fading + float(head.positives[i]))
        row = own[i].clone()
        for j in heard:
            row += share * weights[j, i] / total * own[j]
        rows.append(row)
    return torch.stack(rows)


def concluded(head: Head, weights: Tensor, logits: Tensor, known: Tensor | None = None) -> Tensor:
    """Mean-field equations, image by image and label by label."""
    strength, temperature = float(head.strength), float(head.temperature)
    result = torch.zeros_like(logits)
    for image, row in enumerate(logits.tolist()):
        facts = [-1] * NUM_LABELS if known is None else known[image].tolist()
        log_odds = weights.diagonal().tolist()
        alone = [h + (z - h) / temperature for z, h in zip(row, log_odds, strict=True)]
        z = alone
        for _ in range(head.steps):
            p = [1 / (1 + math.exp(-v)) if fact < 0 else fact for v, fact in zip(z, facts, strict=True)]
            z = [
                alone[i]
                + strength
                * sum(
                    float(weights[j, i]) * (p[j] - 1 / (1 + math.exp(-log_odds[j])))
                    for j in range(NUM_LABELS)
                    if j != i
                )
                for i in range(NUM_LABELS)
            ]
        result[image] = torch.tensor(
            [v if fact < 0 else (20.0 if fact else -20.0) for v, fact in zip(z, facts, strict=True)]
        )
    return result


def coupled_logits(head: Head, graph: Data, weights: Tensor, feature_map: Tensor) -> Tensor:
    classifiers = own_classifiers(head, weights)
    return concluded(head, weights, feature_map.mean((2, 3)) @ classifiers.T + head.linear.bias)


FORMULAS = {"coupled": coupled_logits}


@pytest.fixture
def weights(weights: Tensor) -> Tensor:
    """Couplings (source, target) of both signs, and log-odds."""
    signs = torch.where(torch.rand(weights.shape) < 0.4, -1.0, 1.0)
    couplings = 1.5 * weights * signs
    couplings[torch.arange(NUM_LABELS), torch.arange(NUM_LABELS)] = torch.linspace(-3, 0.5, NUM_LABELS)
    return couplings


def awake(graph: Data, **options: object) -> Head:
    """A head in evaluation whose labels have something to say, and have been met in training."""
    head = build_head("coupled", NUM_FEATURES, graph, **options).eval()
    perturb(head)
    head.positives.copy_(torch.arange(NUM_LABELS) ** 2)
    head.strength.fill_(0.8)
    head.temperature.fill_(1.7)
    return head


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("options", [{}, {"steps": 1, "sharing": 0.4, "fading": 2.0}, {"steps": 6}])
@pytest.mark.parametrize("dense", [0.0, 2.0], ids=["by a matrix", "edge by edge"])
def test_logits_equal_the_formula(name, options, dense, graph, weights, feature_map, monkeypatch):
    monkeypatch.setattr(coupled, "DENSE", dense)
    head = awake(graph, **options)
    expected = FORMULAS[name](head, graph, weights, feature_map)
    torch.testing.assert_close(head(feature_map), expected, atol=1e-5, rtol=1e-4)
    linear = head.classify(feature_map.mean((2, 3)))
    assert (expected - linear).abs().mean() > 0.1, "else this test shows nothing"


# --- the classifiers -----------------------------------------------------------------------------------------


def linear_twin(head: Head, graph: Data) -> Head:
    twin = build_head("linear", NUM_FEATURES, graph)
    twin.linear.load_state_dict(head.linear.state_dict())
    return twin


def test_without_sharing_and_strength_it_is_the_linear_head(graph, feature_map):
    head = build_head("coupled", NUM_FEATURES, graph, sharing=0.0)
    perturb(head)
    for mode in (True, False):
        assert torch.equal(head.train(mode)(feature_map), linear_twin(head, graph)(feature_map))


def test_labels_without_edges_are_a_linear_layer(graph, feature_map):
    """Which training leaves one."""
    head = build_head("coupled", NUM_FEATURES, unlinked_labels(graph.label_names))
    targets = (torch.randn(50, NUM_LABELS) > 0).to(torch.int8)
    head.begin_training(targets)
    head.finish_training(torch.randn(50, NUM_LABELS), targets)
    assert torch.equal(head.eval()(feature_map), linear_twin(head, graph)(feature_map))
    torch.testing.assert_close(fold_head(head)(feature_map), head(feature_map))


def test_sharing_fades_with_positives(graph, weights):
    head = build_head("coupled", NUM_FEATURES, graph, sharing=0.9, fading=10.0)
    own = head.linear.weight
    couplings = weights.T.clone().fill_diagonal_(0)
    mean = couplings / couplings.abs().sum(1, keepdim=True).clamp(min=1e-6) @ own
    for positives, share in ((0, 0.9), (10, 0.45), (90, 0.09)):
        head.begin_training(torch.ones(positives, NUM_LABELS, dtype=torch.int8))
        torch.testing.assert_close(head.classifiers(), own + share * mean)


def test_positives_are_counted_without_what_is_unknown(graph):
    head = build_head("coupled", NUM_FEATURES, graph)
    targets = torch.randint(-1, 2, (60, NUM_LABELS)).to(torch.int8)
    head.begin_training(targets)
    assert head.positives.tolist() == (targets == 1).sum(0).tolist()


def test_a_label_without_a_weight_has_its_neighbours_classifiers(graph, weights):
    head = build_head("coupled", NUM_FEATURES, graph)
    with torch.no_grad():
        head.linear.weight[3] = 0
    heard = weights[:, 3].clone()
    heard[3] = 0
    assert heard.any()
    expected = (heard[:, None] * head.linear.weight).sum(0) / heard.abs().sum()
    torch.testing.assert_close(head.classifiers()[3], expected)


# --- known labels --------------------------------------------------------------------------------------------


def test_known_labels_equal_the_formula(graph, weights, feature_map):
    head = awake(graph)
    known = torch.randint(-1, 2, (3, NUM_LABELS))
    logits = feature_map.mean((2, 3)) @ own_classifiers(head, weights).T + head.linear.bias
    for kind in (torch.int64, torch.int8):
        torch.testing.assert_close(
            head(feature_map, known.to(kind)), concluded(head, weights, logits, known), atol=1e-5, rtol=1e-4
        )


def test_known_labels_are_certain_and_move_the_others(graph, weights, feature_map):
    head = awake(graph, steps=1)
    plain = head(feature_map)
    for label in range(NUM_LABELS):
        known = torch.full((3, NUM_LABELS), -1)
        for value, certain in ((1, 20.0), (0, -20.0)):
            known[:, label] = value
            moved = head(feature_map, known)
            assert (moved[:, label] == certain).all()
            change = (moved - plain).sign()
            for other in range(NUM_LABELS):
                if other != label:
                    expected = weights[label, other].sign() * (1 if value else -1)
                    assert (change[:, other] == expected).all()


def test_nothing_known_is_no_news(graph, feature_map):
    head = awake(graph)
    assert torch.equal(head(feature_map, torch.full((3, NUM_LABELS), -1)), head(feature_map))


def test_the_layer_trains_alone(graph, feature_map):
    head = awake(graph).train()
    logits = head.classify(feature_map.mean((2, 3)))
    assert torch.equal(head(feature_map), logits)
    assert not torch.allclose(head.eval()(feature_map), logits, atol=0.1)


# --- the two numbers -----------------------------------------------------------------------------------------


def log_odds(targets: np.ndarray) -> Tensor:
    return torch.from_numpy(targets.mean(0)).float().logit()


def evidence(targets: np.ndarray, prior: Tensor, separation: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits of a layer that sees each label by itself, as well as can be, and the targets."""
    y = torch.from_numpy(targets)
    x = torch.randn(y.shape, generator=torch.Generator().manual_seed(seed)) + separation * (y - 0.5)
    return separation * x + prior, y


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    generator = np.random.default_rng(0)
    couplings = np.triu(generator.choice([-0.8, 0.8], (NUM_LABELS, NUM_LABELS)), 1)
    couplings *= generator.random(couplings.shape) < 0.5
    return couplings + couplings.T


@pytest.fixture(scope="module")
def seen(truth: np.ndarray) -> tuple[Tensor, Tensor]:
    targets = pairwise_targets(np.full(NUM_LABELS, -1.0), truth, 4000)
    return evidence(targets, log_odds(targets), 1.5)


def head_of(couplings: np.ndarray, targets: Tensor) -> Head:
    weights = torch.from_numpy(couplings).float() + torch.diag(targets.float().mean(0).logit())
    return build_head("coupled", NUM_FEATURES, graph_of(weights, torch.eye(NUM_LABELS))).eval()


def test_the_strength_of_true_couplings_is_found(truth, seen):
    logits, targets = seen
    head = head_of(truth, targets)
    head.finish_training(logits, targets)
    assert 0.75 < head.strength < 1.25
    assert 0.9 < head.temperature < 1.2
    before, after = (
        mean_average_precision(z.sigmoid(), targets) for z in (logits, head.refine(logits, None))
    )
    assert after > before + 0.01
    overconfident = head_of(truth, targets)
    overconfident.finish_training(3 * logits - 2 * targets.float().mean(0).logit(), targets)
    assert overconfident.temperature.item() == pytest.approx(3 * head.temperature.item(), rel=0.02)
    assert overconfident.strength.item() == pytest.approx(head.strength.item(), rel=0.02)


def test_couplings_that_are_wrong_are_left_alone(truth, seen):
    logits, targets = seen
    head = head_of(-truth, targets)
    head.finish_training(2 * logits, targets)
    assert (head.strength, head.temperature) == (0, 1)
    assert torch.equal(head.refine(logits, None), logits)


@pytest.mark.parametrize("seed", range(3))
def test_independent_labels_have_no_strength(seed, truth):
    targets = pairwise_targets(np.linspace(-2, 0, NUM_LABELS), np.zeros_like(truth), 4000, seed)
    logits, targets = evidence(targets, log_odds(targets), 1.5, seed)
    head = head_of(truth, targets)
    head.finish_training(logits, targets)
    assert head.strength < 0.1
    assert (head.refine(logits, None) - logits).abs().max() < 0.5


def test_unknown_targets_are_left_out(truth, seen):
    logits, targets = seen
    hidden = torch.rand(targets.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    heads = [head_of(truth, targets) for _ in range(2)]
    heads[0].finish_training(logits, targets)
    heads[1].finish_training(logits, torch.where(hidden, -1, targets))
    for name in ("strength", "temperature"):
        whole, part = (float(getattr(head, name)) for head in heads)
        assert part == pytest.approx(whole, abs=0.2)


def test_fitting_repeats_and_draws_no_numbers_that_others_draw(truth, seen):
    head = head_of(truth, seen[1])
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        before = torch.random.get_rng_state()
        head.finish_training(*seen)
        assert torch.equal(torch.random.get_rng_state(), before)
        found.append((float(head.strength), float(head.temperature)))
    assert found[0] == found[1]


@pytest.mark.parametrize("around", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_fits_where_there_are_no_gradients(around, truth, seen):
    expected, head = (head_of(truth, seen[1]) for _ in range(2))
    expected.finish_training(*seen)
    with around():
        logits = seen[0] + 0
        head.finish_training(logits, seen[1])
    assert head.strength == expected.strength > 0
    head.stay_alone()
    head.finish_training(logits, seen[1])  # made there, used here
    assert head.strength == expected.strength
    assert not head.strength.requires_grad
    assert all(parameter.grad is None for parameter in head.parameters())


@pytest.mark.parametrize("num_images", [0, 1, 5])
def test_a_handful_of_images_says_little(num_images, truth, seen):
    logits, targets = (tensor[:num_images] for tensor in seen)
    head = head_of(truth, seen[1])
    head.finish_training(4 * (targets.float() - 0.5), targets)  # all of them right
    assert 0 <= head.strength < 1
    assert 0.2 < head.temperature < 5
    assert head.refine(logits, None).isfinite().all()


def test_nothing_to_fit_on(truth, seen):
    logits, targets = seen
    head = head_of(truth, targets)
    for bad in (math.nan, math.inf, 1e38):
        head.strength.fill_(0.5)
        head.finish_training(torch.full_like(logits, bad), targets)
        assert (head.strength, head.temperature) == (0, 1), bad
    head.strength.fill_(0.5)
    head.finish_training(logits, torch.full_like(targets, -1))
    assert (head.strength, head.temperature) == (0, 1)


def test_training_anew_forgets(graph):
    head = awake(graph)
    head.begin_training(torch.ones(4, NUM_LABELS, dtype=torch.int8))
    assert (head.strength, head.temperature) == (0, 1)
    assert head.positives.tolist() == [4] * NUM_LABELS


# --- as any head ---------------------------------------------------------------------------------------------


def test_folds_as_long_as_the_labels_say_nothing_of_each_other(graph, feature_map):
    head = awake(graph)
    words = r"conclude from each other with a strength of 0\.80.*after model\.head\.stay_alone\(\) it folds"
    with pytest.raises(InputError, match=words):
        fold_head(head)
    head.strength.zero_()
    with pytest.raises(InputError, match=r"strength of 0\.00"):  # the temperature is not in the layer either
        fold_head(head)
    head.stay_alone()
    torch.testing.assert_close(fold_head(head)(feature_map), head(feature_map), atol=1e-5, rtol=0)


def test_what_is_fitted_is_saved(graph, weights, feature_map):
    head = awake(graph)
    assert {"positives", "strength", "temperature", "edge_index", "edge_weight"} <= head.state_dict().keys()
    copy = build_head("coupled", NUM_FEATURES, graph_of(weights.sign(), graph.x)).eval()
    copy.load_state_dict(head.state_dict())
    assert torch.equal(copy(feature_map), head(feature_map))


def test_exports_with_all_that_it_has(graph, feature_map):
    head, known = awake(graph), torch.randint(-1, 2, (3, NUM_LABELS))
    for inputs in ((feature_map,), (feature_map, known)):
        program = torch.export.export(head, inputs)
        torch.testing.assert_close(program.module()(*inputs), head(*inputs), atol=1e-5, rtol=1e-4)


def test_half_precision(graph, feature_map):
    head = awake(graph)
    expected = head(feature_map)
    logits = head.bfloat16()(feature_map.bfloat16())
    torch.testing.assert_close(logits.float(), expected, atol=0.1, rtol=0.05)


def test_a_label_that_nearly_every_image_has(graph, weights, feature_map):
    """Its log-odds are beyond what the nearest number to one can say of its probability."""
    weights[2, 2] = 30.0
    head = awake(graph_of(weights, graph.x))
    assert head(feature_map).isfinite().all()
    torch.testing.assert_close(
        head(feature_map), coupled_logits(head, graph, weights, feature_map), atol=1e-4, rtol=1e-4
    )


def test_only_couplings_will_do(graph):
    graph.recipe = {"edges": "conditional"}
    with pytest.raises(
        InputError, match=r"needs a label graph of couplings: .*edges='couplings'\) makes one"
    ):
        build_head("coupled", NUM_FEATURES, graph)
    graph.recipe = {}
    with pytest.raises(InputError, match="needs a label graph of couplings"):
        build_head("coupled", NUM_FEATURES, graph)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be 1 or more, not 0"),
        ({"sharing": -0.1}, "sharing must be 0 or more and fading above 0, both finite, not -0.1 and 10.0"),
        ({"sharing": math.nan}, "sharing must be 0 or more"),
        ({"sharing": math.inf}, "sharing must be 0 or more"),
        ({"fading": 0.0}, "fading above 0, both finite, not 1.0 and 0.0"),
        ({"fading": math.inf}, "fading above 0, both finite"),
    ],
)
def test_options_out_of_range(options, message, graph):
    with pytest.raises(InputError, match=message):
        build_head("coupled", NUM_FEATURES, graph, **options)


# --- where couplings are real --------------------------------------------------------------------------------


def coco() -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Targets (N, 80) of COCO's train2014 and val2014, and the label names."""
    if "ZOO_DATA" not in os.environ:
        pytest.skip("ZOO_DATA, the folder of the data sets, is not set")
    file = Path(os.environ["ZOO_DATA"]).parent / "statistics" / "coco2014_targets.npz"
    if not file.is_file():
        pytest.skip(f"{file} is not there")
    with np.load(file) as arrays:
        targets, is_train = arrays["targets"], arrays["is_train"]
        return targets[is_train], targets[~is_train], [str(name) for name in arrays["labels"]]


def test_the_couplings_of_real_labels_help_and_others_do_not():
    """COCO's own label vectors, and evidence of each label by itself: what more there is, only couplings can tell."""
    train, val, label_names = coco()
    graph = label_graph(train, label_names, edges="couplings", embeddings="onehot")
    logits, targets = evidence(val[:2200], log_odds(train), 2.5)
    fit, test = slice(0, 200), slice(200, None)
    half = torch.where(
        torch.rand(targets.shape, generator=torch.Generator().manual_seed(1)) < 0.5, targets, -1
    )
    hidden, gains = torch.where(half < 0, targets, -1), {}
    for name in ("real", "shuffled", "identity"):
        head = build_head("coupled", 80, graph if name == "real" else control(graph, name, 0)).eval()
        head.finish_training(logits[fit], targets[fit])
        for known, asked in ((None, targets), (half, hidden)):
            before, after = (
                mean_average_precision(z.sigmoid(), asked[test])
                for z in (
                    logits[test],
                    head.refine(logits[test], None if known is None else known[test]),
                )
            )
            gains[name, known is not None] = after - before
    assert gains["real", False] > 0.03
    assert gains["real", True] > 0.05
    for name in ("shuffled", "identity"):
        assert abs(gains[name, False]) < 0.01
        assert abs(gains[name, True]) < 0.01
