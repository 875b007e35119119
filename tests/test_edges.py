"""The kinds of edges, each against a loop over pairs of labels; tests against chance, by hand; knowledge."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy import stats
from torch_geometric.data import Data
from torch_geometric.utils import to_dense_adj

from zoo import commands
from zoo.annotations import UNKNOWN, Annotations
from zoo.chance import CORRECTIONS, _hypergeometric, correlation, occurring_pairs, pairs_beyond_chance
from zoo.cli import main
from zoo.convs import CONVS, build_conv
from zoo.counts import LabelCounts, count_labels
from zoo.couplings import coupling_edges
from zoo.edges import EDGES, make_edges, parse_edges
from zoo.graph import NORMALIZATIONS, label_graph
from zoo.graph_files import load_graph, save_graph
from zoo.label_spaces import label_counts, label_space
from zoo.lookup import InputError

LETTERS = [*"hgfedcba"]  # not in the order of the alphabet


def some_targets(unknown: float = 0.0, seed: int = 0, num_images: int = 400) -> np.ndarray:
    """Eight labels: g follows h, d shuns e, f is rare, a is on no image, and the rest is chance."""
    rng = np.random.default_rng(seed)
    targets = (rng.random((num_images, 8)) < [0.3, 0, 0.02, 0.4, 0.5, 0.2, 0.1, 0]).astype(np.int8)
    targets[:, 1] = np.where(rng.random(num_images) < 0.7, targets[:, 0], rng.random(num_images) < 0.05)
    targets[:, 4] &= 1 - targets[:, 3]
    targets[rng.random(targets.shape) < unknown] = -1
    return targets


# --- each kind against a loop over the images ----------------------------------------------------------------


def both(targets: np.ndarray, i: int, j: int) -> int:
    return sum(1 for image in targets if image[i] == 1 and image[j] == 1)


def has(targets: np.ndarray, i: int) -> int:
    return sum(1 for image in targets if image[i] == 1)


def share(targets: np.ndarray, i: int) -> Fraction:
    known = sum(1 for image in targets if image[i] != -1)
    return Fraction(has(targets, i), max(known, 1))


def checked(targets: np.ndarray, given: int, label: int) -> int:
    return sum(1 for image in targets if image[given] == 1 and image[label] != -1)


def given(targets: np.ndarray, i: int, j: int) -> float:
    """P(j | i)."""
    return both(targets, i, j) / max(checked(targets, i, j), 1)


def joint(targets: np.ndarray, i: int, j: int) -> float:
    ways = [float(share(targets, i)) * given(targets, i, j), float(share(targets, j)) * given(targets, j, i)]
    return sum(ways) / 2


def binomial_tail(k: int, n: int, p: Fraction, sign: int) -> Fraction:
    ks = range(k, n + 1) if sign > 0 else range(k + 1)
    return sum((math.comb(n, m) * p**m * (1 - p) ** (n - m) for m in ks), Fraction(0))


def hypergeometric_tail(k: int, images: int, a: int, b: int, sign: int) -> Fraction:
    ks = range(k, min(a, b) + 1) if sign > 0 else range(max(0, a + b - images), k + 1)
    return Fraction(sum(math.comb(a, m) * math.comb(images - a, b - m) for m in ks), math.comb(images, b))


def tail(targets: np.ndarray, i: int, j: int) -> tuple[Fraction, int]:
    """The p-value of a pair, one-sided, and on which side of chance it is."""
    k, a, b = both(targets, i, j), has(targets, i), has(targets, j)
    if (targets != -1).all():
        sign = int(np.sign(k * len(targets) - a * b))
        return hypergeometric_tail(k, len(targets), a, b, sign), sign
    ways = [(checked(targets, i, j), share(targets, j)), (checked(targets, j, i), share(targets, i))]
    signs = {int(np.sign(k - n * p)) for n, p in ways}
    sign = signs.pop() if len(signs) == 1 else 0
    if k == 0:
        sign = 0  # on no image: how many were checked is not counted
    return max(binomial_tail(k, n, p, sign) for n, p in ways), sign


def found(targets: np.ndarray, alpha: float, sides: int) -> dict[tuple[int, int], int]:
    """Benjamini and Hochberg's procedure, as they write it, over all pairs of labels."""
    tests = []
    for i in range(targets.shape[1]):
        for j in range(i):
            p, sign = tail(targets, i, j)
            side_counts = sign > 0 or (sides == 2 and sign < 0)
            tests.append((min(sides * p, Fraction(1)) if side_counts else Fraction(1), (j, i), sign))
    tests.sort()
    steps = [k for k, (p, *_) in enumerate(tests, start=1) if p <= k * alpha / len(tests)]
    return {pair: sign for _, pair, sign in tests[: max(steps, default=0)]}


Matrix = np.ndarray


def conditional(targets: np.ndarray) -> Matrix:
    matrix = np.zeros((8, 8))
    for i, j in np.ndindex(8, 8):
        matrix[i, j] = i != j and both(targets, i, j) > 0 and given(targets, i, j) >= 0.15
    return matrix


def topk(targets: np.ndarray) -> Matrix:
    matrix = np.zeros((8, 8))
    for j in range(8):
        heard = [i for i in range(8) if i != j and both(targets, i, j)]
        heard.sort(key=lambda i: (-given(targets, i, j), -both(targets, i, j), LETTERS[i]))
        matrix[heard[:3], j] = 1
    return matrix


def ppmi(targets: np.ndarray) -> Matrix:
    matrix = np.zeros((8, 8))
    for i, j in np.ndindex(8, 8):
        if i != j and both(targets, i, j) >= 4:
            chance = float(share(targets, i) * share(targets, j))
            matrix[i, j] = max(0, math.log(joint(targets, i, j) / chance))
    return matrix


def significant(targets: np.ndarray) -> Matrix:
    matrix = np.zeros((8, 8))
    for i, j in found(targets, 0.1, sides=1):
        matrix[i, j] = matrix[j, i] = 1
    return matrix


def signed(targets: np.ndarray) -> Matrix:
    matrix = np.zeros((8, 8))
    for (i, j), sign in found(targets, 0.1, sides=2).items():
        first, second = float(share(targets, i)), float(share(targets, j))
        spread = math.sqrt(first * (1 - first) * second * (1 - second))
        matrix[i, j] = matrix[j, i] = (joint(targets, i, j) - first * second) / spread
        assert np.sign(matrix[i, j]) == sign
    return matrix


def couplings(targets: np.ndarray) -> Matrix:
    matrix = np.zeros((8, 8))  # tests/test_couplings.py has the loop; here, that nothing is lost on the way
    source, target, weight = coupling_edges(count_labels(targets, LETTERS), neighbors=3)
    matrix[source, target] = weight
    return matrix


# kind -> its options here, and the slow way
SLOW: dict[str, tuple[str, Callable[[np.ndarray], Matrix]]] = {
    "conditional": ("conditional", conditional),
    "couplings": ("couplings:neighbors=3", couplings),
    "ppmi": ("ppmi:min_images=4", ppmi),
    "signed": ("signed:alpha=0.1", signed),
    "significant": ("significant:alpha=0.1", significant),
    "topk": ("topk:k=3", topk),
}


def test_every_kind_has_a_slow_way_here():
    assert EDGES.keys() == SLOW.keys()


@pytest.mark.parametrize("kind", SLOW)
@pytest.mark.parametrize("unknown", [0.0, 0.2, 0.6])
@pytest.mark.parametrize("seed", range(3))
def test_a_kind_equals_its_loop(kind, unknown, seed):
    targets = some_targets(unknown, seed)
    spec, slow = SLOW[kind]
    (source, target, weight), _ = make_edges(count_labels(targets, LETTERS), spec, threshold=0.15)
    assert len({*zip(source.tolist(), target.tolist(), strict=True)}) == len(source), "an edge twice"
    matrix = np.zeros((8, 8))
    matrix[source, target] = weight
    expected = slow(targets)
    np.testing.assert_allclose(matrix, expected, rtol=1e-9, atol=1e-12)
    assert 0 < (expected != 0).sum() < 64, "a test that can fail"


def test_the_example_has_what_the_kinds_tell_apart():
    counts = count_labels(some_targets(), LETTERS)
    kept, sign = pairs_beyond_chance(counts, alpha=0.05, correction="bh", below=True, frequent=8)
    pairs = {
        (LETTERS[i], LETTERS[j]): s for i, j, s in zip(kept.row, kept.column, sign.tolist(), strict=True)
    }
    assert pairs == {("h", "g"): 1, ("e", "d"): -1}
    assert not counts.cooccurrence[3, 4], "a pair that never occurs, and should"


# --- against chance ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [12, 50, 1_000])
def test_tails_are_exact(images):
    rng = np.random.default_rng(images)
    first, second = rng.integers(1, images, (2, 60))
    together = rng.integers(np.maximum(0, first + second - images), np.minimum(first, second) + 1)
    sign = np.where(together * images > first * second, 1, -1)
    numbers = zip(together.tolist(), first.tolist(), second.tolist(), sign.tolist(), strict=True)
    expected = [float(hypergeometric_tail(k, images, a, b, s)) for k, a, b, s in numbers]
    np.testing.assert_allclose(_hypergeometric(together, first, second, images, sign), expected, rtol=1e-9)
    assert min(expected) < 1e-2 < 0.1 < max(expected)


def test_tails_of_millions_of_images_equal_scipys():
    rng = np.random.default_rng(0)
    first, second = (10 ** rng.uniform(1, 6.5, (2, 500))).astype(int)
    mean = first * second / 9_000_000
    together = np.clip((mean + rng.normal(0, 4, 500) * np.sqrt(mean)).round(), 0, np.minimum(first, second))
    sign = np.where(together > mean, 1, -1)
    args = (9_000_000, first, second)
    expected = np.where(
        sign > 0, stats.hypergeom.sf(together - 1, *args), stats.hypergeom.cdf(together, *args)
    )
    np.testing.assert_allclose(_hypergeometric(together, first, second, args[0], sign), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("correction", "largest"),
    # 0.05/10 * (1, 2, 3, 4, 5) = 0.005, 0.01, 0.015, 0.02, 0.025: the fourth holds, though the third does not.
    [("bh", 0.0195), ("bonferroni", 0.005)],
)
def test_corrections_by_hand(correction, largest):
    p = np.array([0.0195, 0.004, 0.016, 0.2, 0.001])
    cut = CORRECTIONS[correction](p, 10, 0.05)
    assert cut == pytest.approx(largest)
    assert CORRECTIONS[correction](np.array([0.3]), 10, 0.05) < 0.3
    assert CORRECTIONS["bh"](np.array([]), 10, 0.05) < 0, "nothing to keep"


def test_bh_is_scipys():
    rng = np.random.default_rng(3)
    p = np.concatenate([rng.random(200), 10 ** rng.uniform(-6, -1, 40)])
    everything = np.concatenate([p, np.ones(1_000)])  # the tests of pairs that never occur
    kept = stats.false_discovery_control(everything)[:240] <= 0.05
    assert np.array_equal(p <= CORRECTIONS["bh"](p, 1_240, 0.05), kept)
    assert 0 < kept.sum() < 240


def test_pairs_that_never_occur_count_as_tests():
    """Among more labels, the same pair is no longer beyond chance."""
    photos = [["a", "b"]] * 6 + [["a"]] * 2 + [["b"]] * 2 + [[]] * 20
    few = label_graph(photos, [*"ab"], edges="significant", embeddings="onehot")
    many = label_graph(
        photos, [f"{i:03}" for i in range(98)] + [*"ab"], edges="significant", embeddings="onehot"
    )
    assert few.num_edges == 4
    assert many.num_edges == 100


def test_no_edges_by_chance():
    """Independent labels: at most the share alpha of data sets has an edge at all, either way."""
    edges = 0
    for seed in range(40):
        targets = np.random.default_rng(seed).random((300, 12)) < 0.3
        counts = count_labels(targets, [f"{i:02}" for i in range(12)])
        edges += len(make_edges(counts, "signed", threshold=0.0)[0][0]) > 0
    assert edges <= 6  # of 40 with probability 0.05 or less: more than 6 in 1 of 100 cases


def test_one_sided_and_two_sided():
    """A single pair whose p-value is 0.027: below 0.05, but not twice."""
    photos = [["a", "b"]] * 7 + [["a"]] * 4 + [["b"]] * 4 + [[]] * 15
    p = float(hypergeometric_tail(7, 30, 11, 11, 1))
    assert 0.025 < p < 0.05
    counts = count_labels(photos)
    assert len(make_edges(counts, "significant", threshold=0.0)[0][0]) == 2
    assert len(make_edges(counts, f"significant:alpha={0.99 * p}", threshold=0.0)[0][0]) == 0
    assert len(make_edges(counts, "signed", threshold=0.0)[0][0]) == 0
    assert len(make_edges(counts, f"signed:alpha={2.01 * p}", threshold=0.0)[0][0]) == 2


def test_labels_that_shun_each_other_are_found_among_the_frequent_alone():
    photos = [["a"]] * 40 + [["b"]] * 40 + [["c"]] * 40 + [["d"]] * 30

    def pairs(frequent: int, names: str = "abcd") -> set[str]:
        spec = f"signed:frequent={frequent}"
        source, target, weight = make_edges(count_labels(photos, [*names]), spec, threshold=0.0)[0]
        assert (weight < 0).all()
        return {names[i] + names[j] for i, j in zip(source, target, strict=True)}

    assert len(pairs(4)) == 12
    assert pairs(2) == pairs(2, "dcba") == {"ab", "ba"}, "of equally frequent ones the first by name"
    assert pairs(0) == set()


def test_of_equally_probable_neighbours_the_more_frequent_comes_first():
    photos = [["sky", "kite"]] * 5 + [["sky", "bat"]] + [["sky"]]
    names = ["bat", "kite", "sky"]
    source, target, _ = make_edges(count_labels(photos, names), "topk:k=1", threshold=0.0)[0]
    assert {(names[i], names[j]) for i, j in zip(source, target, strict=True)} == {
        ("kite", "sky"),
        ("sky", "kite"),
        ("sky", "bat"),
    }


def test_absence_counts_where_it_was_checked():
    """Nothing is known but what is said: two labels that were looked for on each other's images."""
    entries = np.zeros((60, 3), dtype=np.int8)
    entries[:30, 0], entries[30:, 0] = 1, -2
    entries[:30, 1], entries[30:, 1] = -2, 1
    entries[:, 2] = np.arange(60) % 2 == 0  # never looked for elsewhere
    rows, columns = entries.nonzero()
    annotations = Annotations.from_entries(
        rows, columns, entries[rows, columns], entries.shape, absent=UNKNOWN
    )
    counts = count_labels(annotations, [*"abc"])
    looked = (entries == 1).astype(int).T @ (entries != 0)
    np.fill_diagonal(looked, 0)
    source, target, weight = make_edges(
        replace(counts, checked=sp.csr_array(looked)), "signed", threshold=0.0
    )[0]
    assert {*zip(source.tolist(), target.tolist(), strict=True)} == {(0, 1), (1, 0)}
    np.testing.assert_allclose(weight, -1)
    looked[:2, :2] = 0
    unsure = replace(counts, checked=sp.csr_array(looked))
    assert len(make_edges(unsure, "signed", threshold=0.0)[0][0]) == 0, "nobody looked"


def test_phi_is_the_correlation():
    targets = some_targets()
    counts = count_labels(targets, LETTERS)
    pairs = occurring_pairs(counts)
    expected = np.corrcoef(targets[:, :7].T)[pairs.row, pairs.column]
    np.testing.assert_allclose(correlation(counts, pairs), expected, atol=1e-12)
    everywhere = count_labels(np.array([[1, 1], [1, 0]]), ["always", "sometimes"])
    assert correlation(everywhere, occurring_pairs(everywhere)).tolist() == [0]


@pytest.mark.parametrize("kind", ["ppmi", "significant", "signed"])
def test_chance_needs_the_number_of_images(kind):
    counts = label_counts("voc2007")
    without = LabelCounts(counts.label_names, counts.counts, counts.cooccurrence, 0)
    with pytest.raises(InputError, match=r"these counts are of 0 images, fewer than .* num_images"):
        label_graph(without, edges=kind, embeddings="onehot")
    assert label_graph(without, edges="topk", embeddings="onehot").num_edges > 20


EDGE_CASES = {
    "one label": np.ones((3, 1), dtype=np.int8),
    "no image": np.zeros((0, 3), dtype=np.int8),
    "nothing positive": np.zeros((4, 3), dtype=np.int8),
    "everything positive": np.ones((30, 3), dtype=np.int8),
    "nothing known": np.full((4, 3), -1, dtype=np.int8),
    "one image": np.array([[1, 1, 0]], dtype=np.int8),
    "a label that is never known": np.where(np.arange(8) == 3, -1, some_targets()),
}


@pytest.mark.parametrize("kind", EDGES)
@pytest.mark.parametrize("case", EDGE_CASES)
@pytest.mark.filterwarnings("error")
def test_whatever_the_annotations_it_is_a_label_graph(kind, case):
    targets = EDGE_CASES[case]
    graph = label_graph(targets, LETTERS[: targets.shape[1]], edges=kind, embeddings="onehot")
    assert graph.num_nodes == targets.shape[1]


def test_pairs_are_tested_in_blocks(monkeypatch):
    counts = label_counts("coco2014")
    whole = make_edges(counts, "signed", threshold=0.0)[0]
    monkeypatch.setattr("zoo.chance.BLOCK", 100)
    for values, others in zip(whole, make_edges(counts, "signed", threshold=0.0)[0], strict=True):
        assert np.array_equal(values, others)


# --- as label graphs -----------------------------------------------------------------------------------------


def dense(graph: Data) -> np.ndarray:
    weights = to_dense_adj(
        graph.edge_index, edge_attr=graph.edge_weight.double(), max_num_nodes=graph.num_nodes
    )
    return weights[0].numpy()


@pytest.mark.parametrize("kind", EDGES)
@pytest.mark.parametrize("unknown", [0.0, 0.3])
def test_permuting_labels_permutes_the_graph(kind, unknown):
    targets = some_targets(unknown)
    twins = np.concatenate([targets, targets[:, :4]], axis=1)  # ties
    names = [*LETTERS, *"ponm"]
    order = np.random.default_rng(1).permutation(12)
    spec = {"topk": "topk:k=2", "signed": "signed:frequent=5"}.get(kind, kind)
    graph = label_graph(twins, names, edges=spec, embeddings="onehot")
    permuted = label_graph(twins[:, order], [names[i] for i in order], edges=spec, embeddings="onehot")
    assert graph.num_edges > 12
    np.testing.assert_allclose(dense(permuted), dense(graph)[np.ix_(order, order)], atol=1e-6)


@pytest.mark.parametrize("kind", sorted(EDGES.keys() - {"couplings"}))
@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("p", [0.2, 0.7])
def test_neighbours_have_the_share_p_in_proportion_to_their_weights(kind, normalization, p):
    counts = count_labels(some_targets(), LETTERS)
    (source, target, weight), _ = make_edges(counts, kind, threshold=0.1)
    b = np.zeros((8, 8))
    b[source, target] = weight
    a = p / (1 - p) * b / np.maximum(np.abs(b).sum(0), 1e-12) + np.eye(8)
    sends, receives = np.abs(a).sum(1), np.abs(a).sum(0)
    expected = {
        "none": a,
        "row": a / receives,
        "sym": a / np.sqrt(np.outer(receives, receives)),
        "mlgcn": a / np.sqrt(np.outer(sends, sends)),
    }[normalization]
    graph = label_graph(counts, edges=kind, p=p, normalization=normalization, embeddings="onehot")
    np.testing.assert_allclose(dense(graph), expected, rtol=1e-5, atol=1e-9)
    alone = label_graph(counts, edges=kind, p=0.0, normalization=normalization, embeddings="onehot")
    np.testing.assert_array_equal(dense(alone), np.eye(8))


@pytest.mark.parametrize("conv", CONVS)
def test_every_convolution_is_finite_on_a_signed_graph(conv):
    graph = label_space("voc2007", edges="signed", p=0.9, embeddings="random")
    assert (graph.edge_weight < 0).sum() > 100
    torch.manual_seed(0)
    module = build_conv(conv, graph.x.size(1), 12)
    out = module(graph.x, graph.edge_index, graph.edge_weight)
    out.square().sum().backward()
    assert out.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())


def test_the_recipe_holds_every_option(tmp_path):
    graph = label_space("voc2007", edges="significant:alpha=0.01", p=0.3, embeddings="onehot")
    assert graph.recipe == {
        "edges": "significant",
        "alpha": 0.01,
        "correction": "bh",
        "p": 0.3,
        "normalization": "mlgcn",
        "embeddings": "one-hot",
        "num_images": 5_011,
    }
    assert load_graph(save_graph(graph, tmp_path / "graph.json")).recipe == graph.recipe


def test_a_kind_of_ones_own(monkeypatch):
    def ring(counts: LabelCounts, *, threshold: float, step=1):
        labels = np.arange(len(counts.label_names))
        return labels, (labels + step) % len(labels), np.full(len(labels), threshold)

    monkeypatch.setitem(EDGES, "ring", ring)
    graph = label_graph(
        some_targets(), LETTERS, edges="ring:step=2", normalization="none", embeddings="onehot"
    )
    assert dense(graph)[6, 0] == pytest.approx(0.25, abs=1e-6)
    assert graph.recipe["step"] == 2
    assert graph.recipe["threshold"] == 0.1


def test_known_pairs_of_voc():
    kinds = ("significant", "ppmi", "topk:k=3", "signed")
    for graph in (label_space("voc2007", edges=kind, embeddings="onehot") for kind in kinds):
        place = {name: i for i, name in enumerate(graph.label_names)}
        weights = dense(graph)
        assert weights[place["chair"], place["diningtable"]] > 0
        assert weights[place["cat"], place["train"]] <= 0
    assert weights[place["person"], place["cat"]] < 0


SPECS = {
    "topk:k=0": "k must be 1 or more, not 0",
    "topk:n=3": "unknown option of topk edges 'n'",
    "topk:k=few": "option of topk edges: k: expected int, not 'few'",
    "topk:k": "expected option=value after each colon, not 'k'",
    "ppmi:min_image=3": "unknown option of ppmi edges 'min_image'. Did you mean min_images",
    "ppmi:min_images=0": "min_images must be 1 or more",
    "significant:alpha=0": "alpha must lie between 0 and 0.5, not 0",
    "significant:alpha=0.5": "alpha must lie between 0 and 0.5, not 0.5",
    "significant:alpha=much": "option of significant edges: alpha: expected float, not 'much'",
    "significant:correction=bonferoni": "unknown correction 'bonferoni'. Did you mean bonferroni",
    "signed:frequent=-1": "frequent must be 0 or more",
    "couplings:neighbors=0": "neighbors must be 1 or more",
    "conditional:threshold=0.3": "threshold is an argument beside the edges, not an option of a kind",
    "topk:p=0.3": "p is an argument beside the edges",
    "conditional:k=3": "conditional edges have no options, got 'k'",
    "topp": "unknown edges 'topp'. Did you mean topk",
}


@pytest.mark.parametrize("spec", SPECS)
def test_wrong_options_are_refused_by_their_words(spec):
    with pytest.raises(InputError) as error:
        label_graph(some_targets(), LETTERS, edges=spec, embeddings="onehot")
    assert SPECS[spec] in str(error.value)


def test_options_are_typed():
    assert parse_edges("significant:correction=bonferroni:alpha=1e-3") == (
        "significant",
        {"alpha": 0.001, "correction": "bonferroni"},
    )
    strict = label_space("coco2014", edges="significant:correction=bonferroni", embeddings="onehot")
    assert strict.num_edges < label_space("coco2014", edges="significant", embeddings="onehot").num_edges


# --- knowledge -----------------------------------------------------------------------------------------------


@pytest.fixture
def counted() -> LabelCounts:
    """Sea and Sky hear each other; Boat and Moon are never with another."""
    return count_labels([["Sea", "Sky"]] * 6 + [["Boat"], ["Moon"]], ["Sea", "Sky", "Boat", "Moon"])


def test_known_edges_join_before_the_weights(counted, tmp_path):
    file = tmp_path / "known.csv"
    file.write_text("source,target,weight\nSea,Boat,\nBoat,Sea,3\nMoon,Sky,-1\nSea,Sky,0.5\n\n", "utf-8-sig")
    expected = np.eye(4)
    expected[0, 2] = 1 / 4  # Boat hears Sea alone
    expected[1, 0], expected[2, 0] = 1 / 16, 3 / 16
    expected[0, 1], expected[3, 1] = 0.25 / 3, -0.5 / 3  # what was counted as 1 is known to be 0.5
    options = {"normalization": "none", "embeddings": "onehot"}
    graph = label_graph(counted, knowledge=file, **options)
    np.testing.assert_allclose(dense(graph), expected, atol=1e-6)
    assert graph.recipe["knowledge"] == "4 edges of known.csv, 1 in place of counted ones"
    listed = [("Sea", "Boat"), ("Boat", "Sea", 3), ("Moon", "Sky", -1.0), ["Sea", "Sky", 0.5]]
    assert torch.equal(label_graph(counted, knowledge=listed, **options).edge_weight, graph.edge_weight)
    table = tmp_path / "known.tsv"
    table.write_text("weight\ttarget\tsource\n\tBoat\tSea\n3\tSea\tBoat\n-1\tSky\tMoon\n0.5\tSky\tSea\n")
    assert torch.equal(label_graph(counted, knowledge=table, **options).edge_weight, graph.edge_weight)


@pytest.mark.parametrize("kind", ["ppmi", "signed"])
def test_the_unit_of_known_weights_is_a_counted_edge(kind):
    graph = label_space("voc2007", edges=kind, normalization="none", embeddings="onehot")
    weights = dense(graph)
    counts = label_counts("voc2007")
    known = label_space(
        "voc2007", edges=kind, knowledge=[("train", "person", 2)], normalization="none", embeddings="onehot"
    )
    train, person = (graph.label_names.index(name) for name in ("train", "person"))
    (source, target, weight), _ = make_edges(counts, kind, threshold=0.0)
    heard = (target == person) & (source != train)
    own = 2 * np.abs(weight).mean()
    expected = 0.25 * own / (np.abs(weight[heard]).sum() + own)
    assert dense(known)[train, person] == pytest.approx(expected, rel=1e-4)
    others = np.arange(20) != person
    np.testing.assert_allclose(dense(known)[:, others], weights[:, others], atol=1e-6)


def test_knowledge_alone():
    names = ["dog", "cat", "car"]
    graph = label_graph(
        np.eye(3, dtype=np.int8), names, knowledge=[("dog", "cat")], normalization="none", embeddings="onehot"
    )
    assert dense(graph)[0, 1] == pytest.approx(0.25, abs=1e-6)
    assert graph.num_edges == 4


# What a file holds, and the words of the error about it.
BAD_FILES = {
    "labels": (
        "source,target\nSee,Sky\nSky,Moon\nMoon,boat\n",
        "2 end(s) that are no label of the graph: known.csv line 2: unknown label 'See'. Did you mean Sea?; "
        "known.csv line 4: unknown label 'boat'. Did you mean Boat?",
    ),
    "many": ("source,target\n" + "x,y\n" * 4, "8 end(s) that are no label of the graph: "),
    "loops": (
        "source,target\nSea,Sea\n",
        "1 label(s) that hear themselves, which all do anyway: known.csv line 2",
    ),
    "twice": (
        "source,target\nSea,Sky\nSky,Sea\nSea,Sky\n",
        "1 edge(s) listed again: known.csv line 4: 'Sea' -> 'Sky', as known.csv line 2",
    ),
    "weights": (
        "source,target,weight\nSea,Sky,much\nSky,Sea,0\nSea,Boat,inf\nBoat,Sea,nan\n",
        "4 weight(s) that are 0 or no number: known.csv line 2: 'much'; known.csv line 3: '0'; "
        "known.csv line 4: 'inf'; ...",
    ),
    "ragged": (
        "source,target\nSea,Sky,3,4\nBoat\n",
        "2 edge(s) that are not source, target, weight: known.csv line 2: ['Sea', 'Sky', '3', '4']; "
        "known.csv line 3: ['Boat']",
    ),
    "no header": (
        "Sea,Sky\n",
        "line 1: expected the columns source, target and, if there are weights, weight",
    ),
    "relation": ("source,relation,target\nSea,near,Sky\n", "not 'source', 'relation', 'target'"),
    "empty": ("", "not nothing"),
    "no edges": ("source,target\n", "known.csv cannot be used:\n  it has no edges"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_what_is_wrong_with_known_edges_is_said_by_line(counted, tmp_path, case):
    content, words = BAD_FILES[case]
    (tmp_path / "known.csv").write_text(content)
    with pytest.raises(InputError) as error:
        label_graph(counted, knowledge=tmp_path / "known.csv", embeddings="onehot")
    assert words in str(error.value)


def test_other_knowledge_that_is_none(counted, tmp_path):
    (tmp_path / "latin.csv").write_bytes("source,target\nSea,Café\n".encode("latin-1"))
    for knowledge, words in [
        (tmp_path / "no.csv", "no such file"),
        (tmp_path / "latin.csv", "is not UTF-8"),
        ([], "knowledge cannot be used:\n  it has no edges"),
        (["Sea"], "edge 1: ('Sea',)"),
        ([("Sea", "Sky", 1, 2)], "edge(s) that are not source, target, weight: edge 1: ('Sea', 'Sky', 1, 2)"),
        ([("Sea", "Ski")], "edge 1: unknown label 'Ski'. Did you mean Sky?"),
    ]:
        with pytest.raises(InputError) as error:
            label_graph(counted, knowledge=knowledge, embeddings="onehot")
        assert words in str(error.value)
    with pytest.raises(InputError, match="couplings edges have final weights"):
        label_graph(counted, edges="couplings", knowledge=[("Sea", "Sky")], embeddings="onehot")


# --- on the command line -------------------------------------------------------------------------------------


def test_graph_on_the_command_line(tmp_path, capsys):
    (tmp_path / "known.csv").write_text("source,target\ncat,train\n")
    commands.graph(
        labels="voc2007",
        edges="topk:k=5",
        knowledge=str(tmp_path / "known.csv"),
        embeddings="onehot",
        output=str(tmp_path),
    )
    graph = load_graph(tmp_path / "label_graph.json")
    assert graph.recipe["edges"] == "topk"
    assert graph.recipe["k"] == 5
    assert graph.recipe["knowledge"] == "1 edges of known.csv"
    arguments = [
        "graph",
        "--labels=voc2007",
        "--edges=topk:kk=5",
        "--embeddings=onehot",
        f"--output={tmp_path}",
    ]
    assert main(arguments) == 2
    assert "unknown option of topk edges 'kk'" in capsys.readouterr().err


def test_train_on_the_command_line(tmp_path, colours, capsys):
    lines = [
        f"{image},{','.join(map(str, targets))},{split}"
        for image, targets, split in zip(
            colours.images, colours.targets.tolist(), colours.splits, strict=True
        )
    ]
    (tmp_path / "labels.csv").write_text("\n".join(["image,red,green,blue,split", *lines]))
    arguments = ["train", f"--data={tmp_path}", "--pretrained=false", "--workers=0", "--embeddings=random"]
    arguments += ["--epochs=1", "--freeze_backbone=true", f"--output={tmp_path / 'run'}", "--edges=topk:k=1"]
    assert main([*arguments, "--model=mlgcn-test_efficientnet:widths=[16]"]) == 0
    from zoo.saved_model import load

    recipe = load(tmp_path / "run" / "model").recipe
    assert (recipe["edges"], recipe["k"]) == ("topk", 1)
    assert main([*arguments, "--model=linear-test_efficientnet"]) != 0
    assert "head 'linear' uses no label graph, so that topk:k=1 would be left out" in capsys.readouterr().err
    assert main([*arguments, "--model=mlgcn-test_efficientnet", "--graph=g.json"]) != 0
    assert "g.json has edges already: give one of --graph and --edges" in capsys.readouterr().err


def test_a_file_by_its_name(counted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("known.csv").write_text("source,target\nSea,Moon\n")
    graph = label_graph(counted, knowledge="known.csv", embeddings="onehot")
    assert graph.recipe["knowledge"] == "1 edges of known.csv"
