"""Labels that a trained model never saw: what they get, that the others get nothing of them, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import COLOURS
from small_heads import EMBEDDING, NUM_FEATURES, NUM_LABELS, SMALL, entry_class, perturb, small_head
from torch import Tensor
from torch_geometric.data import Data

from zoo.backbones import Backbone
from zoo.convs import list_convs
from zoo.heads import Head, head_options, list_heads
from zoo.label_spaces import label_space
from zoo.larger_graphs import reordered_graph
from zoo.lookup import InputError
from zoo.model import MultiLabelClassifier, assemble, build
from zoo.new_labels import add_labels
from zoo.saved_model import load

ABLE = [name for name in list_heads() if entry_class(name).take_graph is not Head.take_graph]
READ_EDGES = [name for name in ABLE if name != "mldecoder_words"]
able_head = pytest.mark.parametrize("name", ABLE)

NEW = ["new", "newer"]
HEARD = [("label 0", "new", 0.3), ("label 4", "new", 0.1), ("label 4", "newer", 0.2), ("new", "newer", 0.5)]


def recipe_of(name: str) -> dict[str, str]:
    return {"edges": "couplings"} if name == "coupled" else {}


def head_and_recipe(name: str, graph: Data, **options: object) -> tuple[Head, dict]:
    """A small head in double precision: rounded to single, its logits are the same whatever the sizes of matrices.

    In single precision they are not: products of matrices of different sizes differ in the last bit.
    """
    graph.recipe = recipe_of(name)
    head = small_head(name, NUM_FEATURES, graph, **options).double().eval()
    perturb(head)
    return head, graph.recipe


def extend(
    head: Head, recipe: dict, vectors: Tensor | None = None, heard: list | None = None, **more
) -> dict:
    vectors = torch.randn(2, EMBEDDING) if vectors is None else vectors
    edges = (HEARD if heard is None else heard) if hasattr(head, "edge_index") else None
    return add_labels(head, recipe, NEW, edges=edges, embeddings=vectors, **more)


# --- the logits ----------------------------------------------------------------------------------------------


@able_head
@pytest.mark.parametrize("standardized", [False, True])
def test_known_labels_keep_their_logits_to_the_bit(name, standardized, graph, feature_map):
    head, recipe = head_and_recipe(name, graph, **({"bias": True} if "bias" in head_options(name) else {}))
    if standardized:
        moments = torch.randn(NUM_FEATURES), torch.rand(NUM_FEATURES) + 0.5
        head.standardize(*(m.double() for m in moments), torch.randn(NUM_LABELS).double())
    if name == "coupled":
        head.strength.fill_(0.7)
    before = head(feature_map.double())
    extend(head, recipe)
    after = head(feature_map.double())
    assert after.shape == (3, NUM_LABELS + 2)
    assert torch.equal(after[:, :NUM_LABELS].float(), before.float())
    assert after[:, NUM_LABELS:].std() > 0


@pytest.mark.parametrize("conv", list_convs())
def test_known_labels_keep_their_logits_under_every_convolution(conv, graph, feature_map):
    head, recipe = head_and_recipe("mlgcn", graph, conv=conv, widths=(16,))
    before = head(feature_map.double())
    if conv == "GPSConv":  # attention over all labels, edges or not
        with pytest.raises(InputError, match="conv 'GPSConv' lets every label hear all others"):
            extend(head, recipe)
        assert torch.equal(head(feature_map.double()), before)
        return
    extend(head, recipe)
    assert torch.equal(head(feature_map.double())[:, :NUM_LABELS].float(), before.float())


@able_head
def test_as_if_it_had_been_built_on_the_larger_graph(name, graph, weights, feature_map):
    """With the same parameters, and the larger graph spelled out as a matrix (source, target)."""
    head, recipe = head_and_recipe(name, graph)
    vectors = torch.randn(2, EMBEDDING)
    extend(head, recipe, vectors)

    larger = torch.zeros(NUM_LABELS + 2, NUM_LABELS + 2, dtype=torch.float64)
    larger[:NUM_LABELS, :NUM_LABELS] = weights
    larger[0, 7], larger[4, 7], larger[4, 8], larger[7, 8] = 0.3, 0.1, 0.2, 0.5
    larger[7, 7] = larger[8, 8] = weights.diagonal().mean() if name == "coupled" else 1
    edge_index = larger.nonzero().T.contiguous()
    built = Data(
        x=torch.cat([graph.x, vectors]),
        edge_index=edge_index,
        edge_weight=larger[edge_index[0], edge_index[1]],
        label_names=[*graph.label_names, *NEW],
        recipe=recipe_of(name) | {"added_labels": NEW},
    )
    other = small_head(name, NUM_FEATURES, built).double().eval()
    own = dict(head.named_parameters())
    assert [p.shape for p in other.parameters()] == [p.shape for p in own.values()]
    with torch.no_grad():
        for key, parameter in other.named_parameters():
            parameter.copy_(own[key])
    images = feature_map.double()
    torch.testing.assert_close(head(images), other(images), atol=1e-6, rtol=1e-5)
    assert head.label_names == other.label_names
    assert head.num_labels == NUM_LABELS + 2


@pytest.mark.parametrize("name", READ_EDGES)
def test_a_new_label_hears_what_its_edges_say(name, graph, feature_map):
    logits = []
    for heard in (HEARD, [("label 1", "new", 0.3), *HEARD[1:]], []):
        torch.manual_seed(1)
        head, recipe = head_and_recipe(name, graph)
        extend(head, recipe, torch.ones(2, EMBEDDING), heard)
        logits.append(head(feature_map.double()))
    for one, other in ((0, 1), (0, 2)):
        difference = (logits[one] - logits[other]).abs().amax(0)
        assert difference[NUM_LABELS] > 1e-6
        assert difference[:NUM_LABELS].max() < 1e-12


@pytest.mark.parametrize("name", ["mlgcn", "sgc", "mldecoder_words"])
def test_a_new_label_is_what_its_vector_says(name, graph, feature_map):
    """With the vector of a known label, and hearing itself and the same neighbours, it is that label."""
    graph.recipe = {}
    head = small_head(name, NUM_FEATURES, graph).eval()
    perturb(head)
    source, target = graph.edge_index
    heard = [
        (f"label {i}", "twin", float(w))
        for i, j, w in zip(source.tolist(), target.tolist(), graph.edge_weight, strict=True)
        if (i, j) != (3, 3) and j == 3
    ]
    graph.edge_weight[(source == 3) & (target == 3)] = 1  # as a new label's is
    if hasattr(head, "edge_weight"):
        head.edge_weight.copy_(graph.edge_weight)
    edges = heard if hasattr(head, "edge_index") else None
    add_labels(head, {}, ["twin"], edges=edges, embeddings=graph.x[3:4])
    logits = head(feature_map)
    if name == "mldecoder_words":
        torch.testing.assert_close(logits[:, -1], logits[:, 3])
    else:  # the self-loop of a label leads to its own vector and hidden state, which are equal too
        torch.testing.assert_close(logits[:, -1], logits[:, 3], atol=1e-5, rtol=1e-4)


def test_a_coupled_label_is_its_neighbours_alone(graph):
    head, recipe = head_and_recipe("coupled", graph)
    own = head.linear.weight.detach().clone()
    extend(head, recipe, heard=[("label 2", "new", 3.0), ("label 5", "new", -1.0)])
    expected = head.sharing * (3 * own[2] - own[5]) / 4
    torch.testing.assert_close(head.classifiers()[NUM_LABELS], expected)
    assert not head.linear.weight[NUM_LABELS:].any()
    torch.testing.assert_close(head.linear.bias[NUM_LABELS:], head.linear.bias[:NUM_LABELS].mean().repeat(2))
    assert not head.classifiers()[NUM_LABELS + 1].any()
    assert head.linear.out_features == NUM_LABELS + 2


@pytest.mark.parametrize("name", ["mlgcn", "gat", "agcn"])
def test_a_new_bias_is_the_mean_of_the_others(name, graph):
    head, recipe = head_and_recipe(name, graph, bias=True)
    before = head.bias.detach().clone()
    extend(head, recipe)
    assert torch.equal(head.bias[:NUM_LABELS], before)
    torch.testing.assert_close(head.bias[NUM_LABELS:], before.mean().repeat(2))
    assert head.bias.requires_grad


def test_agcn_learns_nothing_of_labels_that_are_new(graph):
    head, recipe = head_and_recipe("agcn", graph, candidates=100)
    before = head.label_graph.candidate_index
    extend(head, recipe)
    index = head.label_graph.candidate_index
    assert torch.equal(index[:, : before.size(1)], before)
    source, target = index[:, before.size(1) :]
    heard = {(0, 7), (4, 7), (4, 8)}
    expected = {(i, j) for j in (7, 8) for i in range(NUM_LABELS)} - heard
    assert {*zip(source.tolist(), target.tolist(), strict=True)} == expected


# --- log-odds ------------------------------------------------------------------------------------------------


@pytest.fixture
def standardized(graph) -> tuple[Head, dict]:
    head, recipe = head_and_recipe("mlgcn", graph)
    head.standardize(torch.zeros(8).double(), torch.ones(8).double(), torch.arange(7.0).double())
    return head, recipe


def test_the_offset_of_a_new_label(standardized):
    head, recipe = standardized
    extend(head, recipe)
    assert head.offset.tolist() == [*range(7), 3, 3]
    add_labels(head, recipe, ["a", "b"], embeddings=torch.zeros(2, 5), frequency={"b": 0.2})
    torch.testing.assert_close(head.offset[-2:], torch.tensor([3, math.log(0.2 / 0.8)]).double())
    add_labels(head, recipe, ["c", "d"], embeddings=torch.zeros(2, 5), frequency=0.75)
    torch.testing.assert_close(head.offset[-2:], torch.full((2,), math.log(3)).double())


def test_log_odds_among_couplings(graph):
    head, recipe = head_and_recipe("coupled", graph)
    _, before = head.pairwise()
    extend(head, recipe, frequency={"newer": 0.2})
    _, log_odds = head.pairwise()
    assert torch.equal(log_odds[:NUM_LABELS], before)
    torch.testing.assert_close(log_odds[NUM_LABELS], before.mean())
    torch.testing.assert_close(log_odds[NUM_LABELS + 1], torch.tensor(math.log(0.25)).double())


def test_couplings_that_a_head_does_not_read_say_nothing_of_its_offset(graph):
    """Its own graph has self-loops of 1 in their place."""
    head, _ = head_and_recipe("mldecoder_words", graph)
    head.standardize(torch.zeros(8).double(), torch.ones(8).double(), torch.arange(7.0).double())
    add_labels(
        head, {"edges": "couplings"}, NEW, embeddings=torch.zeros(2, EMBEDDING), frequency={"new": 0.2}
    )
    torch.testing.assert_close(head.offset[-2:], torch.tensor([math.log(0.25), 3]).double())


@pytest.mark.parametrize("frequency", [0.0, 1.0, -0.1, 20.0, math.nan])
def test_frequencies_that_are_none(frequency, standardized):
    head, recipe = standardized
    with pytest.raises(InputError, match=r"frequency of 'new' must lie between 0 and 1, not"):
        extend(head, recipe, frequency=frequency)
    with pytest.raises(InputError, match=r"unknown new label 'nwe'\. Did you mean new"):
        extend(head, recipe, frequency={"nwe": 0.5})
    assert head.num_labels == NUM_LABELS
    assert len(head.x) == NUM_LABELS


def test_a_frequency_without_effect(graph):
    head, recipe = head_and_recipe("mlgcn", graph)
    with pytest.raises(InputError, match="frequency changes nothing here"):
        extend(head, recipe, frequency=0.1)


# --- which heads ---------------------------------------------------------------------------------------------


def test_the_heads_that_can():
    """Fails when an entry of HEADS is added: decide whether it generates what it knows of a label."""
    graph_heads = {"appnp", "cheb", "gat", "gatv2", "mlgcn", "sgc", "ssgc", "transformer"}
    assert {*ABLE} == graph_heads | {"agcn", "coupled", "mldecoder_words"}


@pytest.mark.parametrize("name", sorted(set(list_heads()) - set(ABLE)))
def test_heads_that_cannot(name, graph):
    head = small_head(name, NUM_FEATURES, graph)
    with pytest.raises(InputError, match=rf"has parameters for each single label.*them: {', '.join(ABLE)}$"):
        add_labels(head, {}, NEW, embeddings=torch.zeros(2, EMBEDDING))
    with pytest.raises(InputError, match="cannot take labels that it was not trained on"):
        head.take_graph(graph, keep_logits=True)


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return Backbone("test_efficientnet").eval()


@pytest.fixture
def voc(backbone) -> MultiLabelClassifier:
    return assemble(backbone, "mlgcn", label_space("voc2007"), widths=(16,)).eval()


def test_a_folded_model_cannot(voc):
    with pytest.raises(InputError, match="LinearHead has parameters for each single label"):
        voc.fold().add_labels(["zebra"])
    assert voc.add_labels(["zebra"]).fold().label_names[-1] == "zebra"


def test_a_head_without_edges_takes_none(graph):
    with pytest.raises(
        InputError, match="MLDecoderWordsHead reads no edges, only label vectors: leave edges out"
    ):
        add_labels(small_head("mldecoder_words", NUM_FEATURES, graph), {}, NEW, edges=HEARD)


def test_coupled_without_couplings_takes_no_edges(graph):
    alone = small_head("coupled", NUM_FEATURES, reordered_graph_of_loops(graph))
    with pytest.raises(InputError, match="needs a label graph of couplings"):
        add_labels(alone, {}, NEW, edges=HEARD)
    assert alone.num_labels == len(alone.positives) == len(alone.linear.weight) == NUM_LABELS
    add_labels(alone, {}, NEW)
    assert alone.num_labels == NUM_LABELS + 2


def reordered_graph_of_loops(graph: Data) -> Data:
    loops = torch.arange(NUM_LABELS).repeat(2, 1)
    return Data(**{**graph.to_dict(), "edge_index": loops, "edge_weight": torch.ones(NUM_LABELS)})


# --- a whole label graph -------------------------------------------------------------------------------------


@pytest.fixture
def whole(weights) -> Data:
    """Nine labels, those of the fixture ``graph`` among them, in another order."""
    order = [8, 2, 0, 1, 3, 7, 6, 5, 4]
    matrix = torch.rand(9, 9) * (torch.rand(9, 9) < 0.5)
    matrix.fill_diagonal_(0.7)
    edge_index = matrix.nonzero().T.contiguous()
    return Data(
        x=torch.randn(9, EMBEDDING),
        edge_index=edge_index,
        edge_weight=matrix[edge_index[0], edge_index[1]],
        label_names=[
            ["label 0", "label 1", "label 2", "label 3", "label 4", "label 5", "label 6", *NEW][i]
            for i in order
        ],
        recipe={"of": "its own"},
        num_nodes=9,
    )


@able_head
def test_a_whole_graph_takes_the_place_of_the_old_one(name, graph, whole, feature_map):
    head, _ = head_and_recipe(name, graph)
    whole.recipe = recipe_of(name)
    recipe = add_labels(head, {"old": 1}, whole)
    assert recipe == recipe_of(name)
    built = reordered_graph(whole, graph.label_names)
    other = small_head(name, NUM_FEATURES, built).double().eval()
    with torch.no_grad():
        for (key, own), mine in zip(other.named_parameters(), head.parameters(), strict=True):
            assert own.shape == mine.shape, key
            own.copy_(mine)
    assert head.label_names == other.label_names
    images = feature_map.double()
    torch.testing.assert_close(head(images), other(images), atol=1e-6, rtol=1e-5)
    whole.x.zero_()
    whole.edge_weight.zero_()
    torch.testing.assert_close(head(images), other(images), atol=1e-6, rtol=1e-5, msg="the graph is a copy")


@able_head
def test_a_head_copies_the_graph_that_it_takes(name, graph, whole):
    head = small_head(name, NUM_FEATURES, graph)
    whole.recipe = recipe_of("coupled")
    larger = reordered_graph(whole, graph.label_names)
    head.take_graph(larger, keep_logits=False)
    for attribute in ("x", "edge_index", "edge_weight"):
        assert getattr(head, attribute, None) is not larger[attribute]


def test_a_whole_graph_gives_its_log_odds(graph, whole):
    head, _ = head_and_recipe("coupled", graph)
    head.standardize(torch.zeros(8).double(), torch.ones(8).double(), torch.arange(7.0).double())
    whole.recipe = recipe_of("coupled")
    add_labels(head, {}, whole, frequency={"new": 0.25})
    log_odds = torch.tensor([0.7, math.log(1 / 3)]).double()  # newer's self-loop, and new's frequency
    torch.testing.assert_close(head.offset[-2:], log_odds, atol=1e-6, rtol=0)
    torch.testing.assert_close(head.pairwise()[1][-2:], log_odds, atol=1e-6, rtol=0)
    assert (whole.edge_weight[whole.edge_index[0] == whole.edge_index[1]] == 0.7).all(), "not changed"


def test_whole_graphs_that_do_not_fit(graph, whole):
    head, _ = head_and_recipe("mlgcn", graph)
    with pytest.raises(InputError, match="the label graph has edges of its own"):
        add_labels(head, {}, whole, edges=HEARD)
    with pytest.raises(InputError, match="has no label that the model does not have"):
        add_labels(head, {}, graph)
    whole.label_names[2] = "label zero"
    with pytest.raises(InputError, match="lacks 1 of the model's 7 labels: 'label 0'"):
        add_labels(head, {}, whole)
    whole.label_names[2] = "label 0"
    whole.x = whole.x[:, :3]
    with pytest.raises(InputError, match="label vectors have 5 numbers, those of the label graph 3"):
        add_labels(head, {}, whole)
    whole.x = None
    with pytest.raises(InputError, match="this head needs label vectors, and this label space has none"):
        add_labels(head, {}, whole)
    whole.edge_index = whole.edge_index + 1
    with pytest.raises(InputError, match=r"not a label graph: edge_index must lie in 0\.\.8"):
        add_labels(head, {}, whole)


# --- whole models --------------------------------------------------------------------------------------------


@able_head
def test_models_grow_twice_are_saved_and_predict(name, backbone, tmp_path):
    edges = "couplings" if name == "coupled" else "conditional"
    graph = label_space("voc2007", edges=edges)
    model = assemble(backbone, name, graph, **SMALL.get(name, {})).eval()
    perturb(model.head)
    images = torch.randn(2, 3, 64, 64)
    logits = [model(images)]
    for names, heard in (
        (["zebra", "giraffe"], ("horse", "zebra", 0.5)),
        (["truck"], ("zebra", "truck", 0.2)),
    ):
        grown = model.add_labels(names, edges=None if name == "mldecoder_words" else [heard])
        assert grown is model
        logits.append(model(images))
        torch.testing.assert_close(logits[-1][:, : logits[-2].size(1)], logits[-2], atol=1e-5, rtol=1e-4)
    assert model.label_names[20:] == model.recipe["added_labels"] == ["zebra", "giraffe", "truck"]
    assert "added_labels" not in graph.recipe
    copy = load(model.save(tmp_path / "model")).eval()
    assert torch.equal(copy(images), logits[-1])
    assert (copy.label_names, copy.recipe) == (model.label_names, model.recipe)
    assert {*copy.predict(images[0], top_k=23)[0]} == {*model.label_names}
    copy.add_labels(["elephant"])
    torch.testing.assert_close(copy(images)[:, :23], logits[-1], atol=1e-5, rtol=1e-4)


def test_a_grown_model_can_be_trained_further(colour_graph, backbone):
    model = assemble(backbone, "mlgcn", colour_graph, widths=(16,), bias=True)
    model.add_labels(["white"], edges=[(colour, "white", 1.0) for colour in COLOURS], embeddings="random")
    model(torch.randn(2, 3, 32, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.head.parameters())


def test_in_half_precision(voc):
    voc.bfloat16().add_labels(["zebra"], edges=[("horse", "zebra", 1.0)])
    assert voc.head.x.dtype == voc.head.edge_weight.dtype == torch.bfloat16
    assert voc.scores(torch.randn(1, 3, 64, 64)).isfinite().all()


def test_a_graph_of_one_s_own_takes_weights_as_they_are(graph):
    graph.recipe = {}
    model = build("mlgcn-test_efficientnet", graph, widths=(16,))
    model.add_labels(NEW, edges=[("label 0", "new", -0.3)], embeddings=torch.zeros(2, EMBEDDING))
    index, weight = model.head.edge_index, model.head.edge_weight
    assert weight[(index[0] == 0) & (index[1] == 7)].tolist() == pytest.approx([-0.3])
    assert weight[(index[0] == 7) & (index[1] == 7)].tolist() == [1]
