"""Whole models: names, every head on every backbone layout, prediction, folding, saving and loading."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import BACKBONES, COLOURS
from PIL import Image
from small_heads import FOLDING, SMALL, perturb
from torch import Tensor, nn
from torch_geometric.data import Data

from zoo.backbones import Backbone, resolve
from zoo.convs import CONVS
from zoo.graph import unlinked_labels
from zoo.heads import HEADS, Head, build_head, graph_edges, list_heads
from zoo.heads.linear import LinearHead
from zoo.label_spaces import label_space
from zoo.lookup import InputError
from zoo.model import MultiLabelClassifier, assemble, build, list_models, split_name
from zoo.saved_model import CONFIG, load

SIZE = 64  # pixels; smaller than the models' own 160, so that all is fast


@pytest.fixture(autouse=True)
def _same_numbers_every_time() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def backbones() -> dict[str, Backbone]:
    return {name: Backbone(name, img_size=SIZE).eval() for name in BACKBONES}


@pytest.fixture
def model(colour_graph: Data) -> MultiLabelClassifier:
    return build("mlgcn-test_efficientnet", colour_graph, img_size=32, widths=(16,)).eval()


# --- every head on every layout ------------------------------------------------------------------------------

every_pair = pytest.mark.parametrize(("head", "backbone"), [(h, b) for h in list_heads() for b in BACKBONES])
every_head = pytest.mark.parametrize("head", list_heads())


def voc_graph(head: str) -> Data:
    """The shipped label graph of VOC, of the kind that a head wants."""
    return label_space("voc2007", edges=graph_edges(head))


@every_pair
def test_logits_and_gradients(head, backbone, backbones):
    graph = voc_graph(head)
    model = assemble(backbones[backbone], head, graph, **SMALL.get(head, {}))
    perturb(model.head)
    assert model.name == f"{head}-{backbone}"
    logits = model(torch.randn(2, 3, SIZE, SIZE))
    assert logits.shape == (2, 20)
    assert model.label_names == graph.label_names
    (logits * torch.randn_like(logits)).sum().backward()
    for name, parameter in model.head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@every_head
def test_saved_and_loaded_logits_are_equal_to_the_bit(head, backbones, tmp_path):
    """On each layout of feature maps in turn."""
    backbone = backbones[BACKBONES[list_heads().index(head) % len(BACKBONES)]]
    model = assemble(backbone, head, voc_graph(head), **SMALL.get(head, {})).eval()
    perturb(model.head)
    images = torch.randn(2, 3, SIZE, SIZE)
    copy = load(model.save(tmp_path / "model")).eval()
    assert torch.equal(copy(images), model(images))
    assert (copy.name, copy.label_names, copy.recipe) == (model.name, model.label_names, model.recipe)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_exports(backbone, backbones, colour_graph):
    """With one head; tests of the heads export each of them on the channels of each of these backbones."""
    model = assemble(backbones[backbone], "mlgcn", colour_graph).eval()
    images = torch.randn(2, 3, SIZE, SIZE)
    program = torch.export.export(model, (images,))
    torch.testing.assert_close(program.module()(images), model(images), atol=1e-5, rtol=1e-4)


def test_forward_is_the_head_on_the_backbone(model):
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(images), model.head(model.backbone(images)))


# --- building by name ----------------------------------------------------------------------------------------


def test_the_readme_model_builds_without_arguments():
    with torch.device("meta"):
        backbone = Backbone("resnext50")
    model = assemble(backbone, "mlgcn", label_space("coco2014"))
    assert model.name == "mlgcn-resnext50_32x4d"
    assert model.head.classifiers().shape == (80, 2048)
    assert model.recipe["threshold"] == 0.1


def test_coco_is_the_default_label_space():
    model = build("mlgcn-test_efficientnet")
    assert len(model.label_names) == 80
    assert {"person", "dog", "toothbrush"} <= set(model.label_names)
    assert model(torch.randn(1, 3, 64, 64)).shape == (1, 80)


def test_labels_in_four_ways(colour_graph):
    by_name = build("linear-test_efficientnet", "voc2007")
    assert by_name.label_names == label_space("voc2007").label_names
    by_graph = build("linear-test_efficientnet", colour_graph)
    assert by_graph.label_names == COLOURS
    assert by_graph.recipe == colour_graph.recipe
    for names in (("dog", "cat"), ["dog", "cat"]):
        model = build("linear-test_efficientnet", names)
        assert model.label_names == ["dog", "cat"]
        assert model.recipe == {}


def test_a_graph_of_ones_own_needs_no_recipe_but_is_checked(colour_graph):
    graph = Data(**{k: v for k, v in colour_graph.to_dict().items() if k != "recipe"})
    assert build("mlgcn-test_efficientnet", graph).recipe == {}
    graph.edge_index = graph.edge_index + 1
    with pytest.raises(InputError, match=r"not a label graph: edge_index must lie in 0\.\.2"):
        build("mlgcn-test_efficientnet", graph)


def test_aliases_and_tags():
    assert split_name("mlgcn-resnext50") == ("mlgcn", "resnext50_32x4d")
    assert split_name("sgc-convnext_tiny.fb_in22k") == ("sgc", "convnext_tiny.fb_in22k")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "mlgnc-resnext50",
            r"unknown head 'mlgnc'\. Did you mean mlgcn\? Known: addgcn, ",
        ),
        ("mlgcn-resnext5", r"unknown backbone 'resnext5'\. Did you mean resnext50"),
        ("mlgcn-resnet50.a1_in2k", r"unknown pretrained tag of resnet50 'a1_in2k'\. Did you mean a1_in1k"),
        ("resnext50", r"is <head>-<timm name>, such as 'linear-resnext50'; 'resnext50' has no hyphen"),
        ("mlgcn", r"such as 'mlgcn-resnext50'; 'mlgcn' has no hyphen"),
        ("", "has no hyphen"),
        ("mlgcn-", "unknown backbone ''"),
    ],
)
def test_names_that_are_wrong(name, message):
    with pytest.raises(InputError, match=message):
        build(name)


def test_options_and_label_spaces_that_are_wrong(colour_graph):
    with pytest.raises(InputError, match=r"unknown option of head 'mlgcn' 'pooing'\. Did you mean pooling\?"):
        build("mlgcn-test_efficientnet", colour_graph, pooing="avg")
    with pytest.raises(InputError, match=r"unknown label space 'voc2017'\. Did you mean voc2007"):
        build("mlgcn-test_efficientnet", "voc2017")
    with pytest.raises(InputError, match="this head needs label vectors, and this label space has none"):
        build("mlgcn-test_efficientnet", ["dog", "cat"])
    with pytest.raises(InputError, match="dog"):
        build("linear-test_efficientnet", ["dog", "dog"])


class TwoThirds(nn.Module):
    """A convolution of a user's own."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels)

    def forward(self, x: Tensor, edge_index: Tensor, edge_weight: Tensor) -> Tensor:
        messages = self.linear(x)[edge_index[0]] * edge_weight[:, None] * 2 / 3
        return torch.zeros(len(x), messages.size(1)).index_add(0, edge_index[1], messages)


def test_a_conv_of_ones_own(colour_graph, tmp_path, monkeypatch):
    model = build("mlgcn-test_efficientnet", colour_graph, conv=TwoThirds, widths=(16,)).eval()
    images = torch.randn(1, 3, 32, 32)
    assert model(images).shape == (1, 3)
    with pytest.raises(
        InputError, match=r"cannot be saved.*A conv of your own needs a name: zoo\.convs\.CONVS"
    ):
        model.save(tmp_path / "model")
    assert not (tmp_path / "model" / CONFIG).exists()
    assert "TwoThirds" in model.fold().notes["folded_from"]["conv"]

    monkeypatch.setitem(CONVS, "mine", TwoThirds)
    model = build("mlgcn-test_efficientnet", colour_graph, conv="mine", widths=(16,)).eval()
    assert torch.equal(load(model.save(tmp_path / "model")).eval()(images), model(images))


def test_a_head_of_ones_own(tmp_path, monkeypatch):
    class TwiceHead(LinearHead):
        def classify(self, features: Tensor) -> Tensor:
            return 2 * super().classify(features)

    monkeypatch.setitem(HEADS, "mine", TwiceHead)
    model = build("mine-test_efficientnet", ["dog", "cat"], pooling="max").eval()
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(load(model.save(tmp_path)).eval()(images), model(images))
    assert "mine-resnet50" in list_models("mine-*")
    monkeypatch.delitem(HEADS, "mine")
    with pytest.raises(InputError, match="unknown head 'mine'"):
        load(tmp_path)


def test_list_models():
    names = list_models()
    assert len(names) == len(set(names)) == len(list_heads()) * len(list_models("linear-*"))
    assert list_models("mlg*-resnext50") == ["mlgcn-resnext50"]
    assert set(list_models("*gcn-resnext*")) >= {"mlgcn-resnext50_32x4d", "mlgcn-resnext101_32x8d"}
    assert list_models("sgc-test_vit?") == [f"sgc-test_vit{i}" for i in (2, 3, 4)]
    assert list_models("nothing*") == []
    for name in list_models("*-test_*"):
        head, backbone = split_name(name)
        assert (head in HEADS, resolve(backbone)) == (True, backbone)


# --- prediction ----------------------------------------------------------------------------------------------


class ColourBackbone(Backbone):
    """The image itself as the feature map, on a scale where the sigmoid is easily told."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        self.name, self.scale = "colours", nn.Parameter(torch.tensor(1.0))

    def transform(self):
        return lambda image: torch.from_numpy(np.asarray(image).transpose(2, 0, 1) / 25.5 - 5).float()

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * images


class ColourHead(Head):
    """Perfect for labels that are the channels."""

    def __init__(self) -> None:
        super().__init__(3, unlinked_labels(COLOURS), pooling="avg")

    def classify(self, features: Tensor) -> Tensor:
        return features


@pytest.fixture
def perfect() -> MultiLabelClassifier:
    return MultiLabelClassifier(ColourBackbone(), ColourHead(), name="perfect", options={}, recipe={})


def score(level: int) -> float:
    return 1 / (1 + np.exp(-(level / 25.5 - 5)))


ORANGE = (250, 150, 10)


def test_predict_takes_images_in_every_form(perfect, tmp_path):
    picture = Image.new("RGB", (8, 6), ORANGE)
    picture.save(tmp_path / "orange.png")
    pixels = np.asarray(picture)
    normalised = perfect.backbone.transform()(picture)
    expected = {"red": pytest.approx(score(250)), "green": pytest.approx(score(150))}
    for image in (tmp_path / "orange.png", str(tmp_path / "orange.png"), picture, pixels, normalised):
        assert perfect.predict(image) == [expected]
        assert perfect.predict([image]) == [expected]
        assert perfect.predict(iter([image, image])) == [expected, expected]
    assert perfect.predict(torch.stack([normalised] * 3)) == [expected] * 3
    assert perfect.predict(np.stack([pixels] * 3)) == [expected] * 3
    assert perfect.predict([picture, pixels, normalised, tmp_path / "orange.png"]) == [expected] * 4
    assert perfect.predict(normalised.double()) == [expected]
    assert perfect.predict([]) == []


def test_predict_turns_other_modes_into_rgb(perfect):
    assert list(perfect.predict(Image.new("L", (4, 4), 255))[0]) == COLOURS
    assert list(perfect.predict(Image.new("RGBA", (4, 4), (255, 0, 0, 0)))[0]) == COLOURS, (
        "white shows through"
    )


def test_threshold_and_top_k(perfect):
    picture = Image.new("RGB", (4, 4), (100, 250, 160))
    assert list(perfect.predict(picture, top_k=3)[0]) == ["green", "blue", "red"], "best first"
    assert list(perfect.predict(picture, top_k=1)[0]) == ["green"]
    assert list(perfect.predict(picture, top_k=99)[0]) == ["green", "blue", "red"]
    assert list(perfect.predict(picture)[0]) == ["green", "blue"]
    assert list(perfect.predict(picture, threshold=0.0)[0]) == ["green", "blue", "red"]
    assert perfect.predict(picture, threshold=1.0) == [{}]
    assert list(perfect.predict(picture, threshold=0.999, top_k=2)[0]) == ["green", "blue"]
    at_the_threshold = perfect.predict(picture)[0]["blue"]
    assert "blue" in perfect.predict(picture, threshold=at_the_threshold)[0]
    with pytest.raises(InputError, match="top_k must be at least 1, not 0"):
        perfect.predict(picture, top_k=0)


def test_equal_scores_keep_the_order_of_the_labels():
    model = build("linear-test_efficientnet", "coco2014")  # sorting that is not stable shows above 16 labels
    with torch.no_grad():
        model.head.linear.weight.zero_()
        model.head.linear.bias.zero_()
    assert list(model.predict(torch.zeros(3, 32, 32))[0]) == model.label_names


def test_batches_do_not_matter(model):
    images = torch.randn(5, 3, 32, 32)
    whole = model.scores(images)
    assert whole.shape == (5, 3)
    torch.testing.assert_close(whole, model(images).sigmoid(), atol=1e-6, rtol=0)
    torch.testing.assert_close(model.scores(images, batch_size=2), whole, atol=1e-5, rtol=0)
    assert model.scores([]).shape == (0, 3)


def test_predict_leaves_the_mode_alone_and_does_not_train(model, colours):
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    first = model.predict(colours.images[:4], top_k=3)
    assert model.training
    assert model.predict(colours.images[:4], top_k=3) == first, "dropout and batch statistics are off"
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    model.eval()
    model.predict(colours.images[0])
    assert not model.training


def test_predict_in_half_precision(model):
    assert model.bfloat16().scores(torch.randn(1, 3, 32, 32)).dtype == torch.float32


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 3)), r"cannot read an image from ndarray float64 \(4, 4, 3\)"),
        (np.zeros((3, 4, 4), np.uint8), r"from ndarray uint8 \(3, 4, 4\).*uint8 array \(H, W, 3\)"),
        (np.zeros((4, 4), np.uint8), r"from ndarray uint8 \(4, 4\)"),
        (torch.zeros(3, 4, 4, dtype=torch.uint8), r"from Tensor torch\.uint8 \(3, 4, 4\)"),
        (torch.zeros(4, 4, 3), r"from Tensor torch\.float32 \(4, 4, 3\)"),
        ([3], "cannot read an image from int"),
        (3, "unknown kind of image 'int'. Known: PIL image, float tensor, path, uint8 array"),
        (None, "unknown kind of image 'NoneType'"),
        ([torch.zeros(3, 4, 4), torch.zeros(3, 8, 8)], r"must be of one size, not \[\(4, 4\), \(8, 8\)\]"),
    ],
)
def test_what_is_no_image(perfect, image, message):
    with pytest.raises(InputError, match=message):
        perfect.predict(image)


def test_files_that_are_no_images(perfect, tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.jpg: no such image file"):
        perfect.predict(tmp_path / "nowhere.jpg")
    (tmp_path / "text.jpg").write_text("not a picture")
    good = tmp_path / "good.png"
    Image.new("RGB", (4, 4)).save(good)
    with pytest.raises(InputError, match=r"text\.jpg does not decode as an image"):
        perfect.predict([good, tmp_path / "text.jpg"])


def test_wrong_size_for_a_model_of_fixed_size(colour_graph):
    model = build("mlgcn-test_vit", colour_graph)
    with pytest.raises(InputError, match=r"takes images of 160 x 160 pixels .* not 96 x 96"):
        model.predict(torch.zeros(3, 96, 96))


# --- known labels --------------------------------------------------------------------------------------------


@pytest.fixture
def reasoning(colour_graph) -> MultiLabelClassifier:
    """Perfect for the colours, and in its world what is red is green, and never blue."""
    graph = colour_graph.clone()
    graph.recipe = {"edges": "couplings"}
    graph.edge_weight = torch.zeros(3, 3).flatten()
    graph.edge_weight[1], graph.edge_weight[2] = 3.0, -3.0  # red -> green, red -> blue
    head = build_head("coupled", 3, graph, sharing=0.0)
    with torch.no_grad():
        head.linear.weight.copy_(torch.eye(3))
        head.linear.bias.zero_()
    head.strength.fill_(1)
    return MultiLabelClassifier(ColourBackbone(), head, name="reasoning", options={}, recipe={}).eval()


GREY = Image.new("RGB", (4, 4), (128, 128, 128))


def test_known_labels_reach_the_head(reasoning):
    images, known = torch.randn(2, 3, 4, 4), torch.tensor([[1, -1, -1], [-1, 0, -1]])
    expected = reasoning.head(reasoning.backbone(images), known)
    assert torch.equal(reasoning(images, known), expected)
    assert not torch.equal(reasoning(images), expected)
    facts = [{"red": True}, {"green": False}]
    torch.testing.assert_close(reasoning.scores(images, known=facts), expected.sigmoid())
    torch.testing.assert_close(reasoning.scores(images, 1, known=facts), expected.sigmoid())


def test_predict_with_known_labels(reasoning):
    (plain,) = reasoning.predict(GREY, top_k=3)
    (red,) = reasoning.predict(GREY, known={"red": True}, top_k=3)
    assert list(red) == ["red", "green", "blue"]
    assert red["red"] == pytest.approx(1)
    assert red["green"] > plain["green"] + 0.2
    assert red["blue"] < plain["blue"] - 0.2
    (pale,) = reasoning.predict(GREY, known={"red": False}, top_k=3)
    assert list(pale) == ["blue", "green", "red"]
    assert pale["red"] == pytest.approx(0, abs=1e-6)
    assert reasoning.predict(GREY, known={"red": 1}, top_k=3) == [red]
    assert reasoning.predict(GREY, known={"red": 0}, top_k=3) == [pale]
    assert reasoning.predict(GREY, known={}, top_k=3) == [plain]


def test_known_labels_of_all_images_or_of_each(reasoning):
    (red,), (pale,), (plain,) = (
        reasoning.predict(GREY, known=known, top_k=3) for known in ({"red": True}, {"red": False}, None)
    )
    assert reasoning.predict([GREY] * 3, known={"red": True}, top_k=3) == [red] * 3
    each = [{"red": False}, {}, {"red": True}]
    for batch_size in (1, 2, 3):
        predicted = reasoning.predict([GREY] * 3, known=each, top_k=3, batch_size=batch_size)
        assert predicted == [pale, plain, red]
    assert reasoning.predict([], known={"red": True}) == []


def test_known_labels_that_are_wrong(reasoning):
    with pytest.raises(InputError, match=r"unknown label 'rde'\. Did you mean red\?"):
        reasoning.predict(GREY, known={"rde": True})
    with pytest.raises(InputError, match="known labels are given for 1 images, but there are 2"):
        reasoning.predict([GREY, GREY], known=[{"red": True}])
    for present in (2, -1):
        with pytest.raises(InputError, match="the known label 'red' must be True or False, not"):
            reasoning.predict(GREY, known={"red": present})
    assert not reasoning.training


@every_head
def test_a_head_reasons_from_known_labels_or_says_that_it_does_not(head, backbones):
    model = assemble(backbones["test_efficientnet"], head, voc_graph(head), **SMALL.get(head, {})).eval()
    images, known = torch.randn(2, 3, SIZE, SIZE), torch.full((2, 20), -1)
    known[0, 3], known[1, 5] = 1, 0
    if head in ("coupled", "logitgcn"):
        logits = model(images, known)
        assert logits[0, 3] > 4
        assert logits[1, 5] < -4
        return
    name = type(model.head).__name__
    with pytest.raises(InputError, match=f"{name} does not reason from known labels to others$"):
        model.head(model.backbone(images), known)
    with pytest.raises(
        InputError, match=f"{name} does not reason from .* others. Heads that do: coupled, logitgcn$"
    ):
        model.predict(images, known={"cat": True})


# --- folding -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FOLDING)
@pytest.mark.parametrize("bias", [False, True])
def test_folding_keeps_the_logits(name, bias, backbones):
    options = SMALL.get(name, {})
    model = assemble(
        backbones["test_mambaout"], name, voc_graph(name), pooling="gem", bias=bias, **options
    ).eval()
    perturb(model.head)
    model.head.standardize(torch.randn(64), torch.rand(64) + 0.5, torch.randn(20))
    images = torch.randn(4, 3, SIZE, SIZE)
    folded = model.fold()
    torch.testing.assert_close(folded(images), model(images), atol=1e-5, rtol=0)
    assert folded.name == "linear-test_mambaout"
    assert folded.label_names == model.label_names


def test_a_folded_model_remembers_what_it_was(model, tmp_path):
    model.notes["thresholds"] = [0.1, 0.2, 0.3]
    folded = model.fold()
    origin = folded.notes["folded_from"]
    assert origin["name"] == "mlgcn-test_efficientnet"
    assert origin["widths"] == "(16,)"
    assert origin["threshold"] == 0.1
    assert "folded_from" not in model.notes
    assert folded.notes["thresholds"] == [0.1, 0.2, 0.3]

    images = torch.randn(2, 3, 32, 32)
    copy = load(folded.save(tmp_path)).eval()
    assert torch.equal(copy(images), folded(images))
    assert copy.notes == folded.notes
    assert copy.fold().notes["folded_from"] == origin, "folding again must not forget it"


def test_a_folded_model_keeps_its_dropout_when_saved(colour_graph, tmp_path):
    model = build("mlgcn-test_efficientnet", colour_graph, dropout=0.3, bias=True, pooling="gem")
    head = load(model.fold().save(tmp_path)).head
    assert (head.dropout.p, head.pooling, head.linear.bias is not None) == (0.3, "gem", True)


def test_heads_that_do_not_fold(backbones, colour_graph):
    with pytest.raises(InputError, match=rf"MLPHead reasons about each image.*can: {', '.join(FOLDING)}$"):
        assemble(backbones["test_vit"], "mlp", colour_graph).fold()


# --- levels -------------------------------------------------------------------------------------------------


def test_a_shared_backbone_keeps_its_levels(backbones, colour_graph):
    backbone = backbones["test_efficientnet"]
    model = assemble(backbone, "cma", colour_graph, levels=2)
    assert (backbone.levels, model.backbone.levels) == (1, 2)
    assert model.backbone.model is backbone.model
    assert assemble(backbone, "cma", colour_graph).backbone is backbone
    with pytest.raises(InputError, match=r"test_vit has feature maps of 1 size and so no 2 levels"):
        assemble(backbones["test_vit"], "cma", colour_graph, levels=2)
    with pytest.raises(InputError, match="unknown option of head 'linear' 'levels'"):
        assemble(backbone, "linear", colour_graph, levels=2)


def test_feature_levels_travel(colour_graph, tmp_path):
    """The backbone gives as many maps as the head asks for, and does again when loaded."""
    model = build("cma-test_efficientnet", colour_graph, img_size=SIZE, levels=3, widths=(16,)).eval()
    assert model.backbone.levels == 3
    assert [level.classifiers.in_channels for level in model.head.levels] == model.backbone.level_features
    perturb(model.head)
    copy = load(model.save(tmp_path)).eval()
    assert copy.backbone.levels == 3
    images = torch.randn(2, 3, SIZE, SIZE)
    assert torch.equal(copy(images), model(images))
    assert torch.equal(model(images), model.head(model.backbone(images)))
    program = torch.export.export(model, (images,))
    torch.testing.assert_close(program.module()(images), model(images), atol=1e-5, rtol=1e-4)
    model.train()(images).sum().backward()
    assert all(parameter.grad.any() for parameter in model.head.parameters())
