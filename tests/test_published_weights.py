"""Checkpoints of ML-GCN and of the tutorial, written by models stated here once more, densely, on torchvision."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn
from torch.testing import assert_close

import zoo
from zoo import published_weights
from zoo.cli import main
from zoo.lookup import InputError
from zoo.weight_files import read_state_dict

DATA = Path(zoo.__file__).parent / "label_space_data"


class GraphConvolution(nn.Module):
    def __init__(self, size_in: int, size_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size_in, size_out).uniform_(-1, 1) / size_out**0.5)


class DenseMLGCN(nn.Module):
    """The network of both code bases, in the words of the paper: A and X as matrices.

    Args:
        network: a ResNet of torchvision's.
        matrix: A, (L, L).
        tutorial: the tutorial's form, otherwise ML-GCN's.
    """

    def __init__(self, network: nn.Module, matrix: Tensor, tutorial: bool) -> None:
        super().__init__()
        width, network.fc = network.fc.in_features, nn.Identity()
        self.tutorial = tutorial
        if tutorial:
            self.features = network  # with its average pooling
        else:
            stem = network.conv1, network.bn1, network.relu, network.maxpool
            self.features = nn.Sequential(
                *stem, network.layer1, network.layer2, network.layer3, network.layer4
            )
        self.gc1, self.gc2 = GraphConvolution(300, 1024), GraphConvolution(1024, width)
        self.A = nn.Parameter(matrix)

    def forward(self, images: Tensor, vectors: Tensor) -> Tensor:
        features = self.features(images)
        if not self.tutorial:
            features = features.amax((2, 3))
        degree = torch.diag(self.A.sum(1) ** -0.5)
        adjacency = (self.A @ degree).T @ degree
        hidden = nn.functional.leaky_relu(adjacency @ (vectors @ self.gc1.weight), 0.2)
        logits = features @ (adjacency @ (hidden @ self.gc2.weight)).T
        return logits.sigmoid() if self.tutorial else logits


def checkpointed(architecture: str, matrix: Tensor, tutorial: bool, images: Tensor) -> DenseMLGCN:
    """A model whose batch norms have statistics near those of its own activations, but not equal to them."""
    model = DenseMLGCN(getattr(torchvision.models, architecture)(weights=None), matrix, tutorial)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train().features(images)
        for norm in norms:
            for tensor in (norm.running_var, norm.weight):
                tensor.mul_(torch.empty_like(tensor).uniform_(0.8, 1.2))
            for tensor in (norm.running_mean, norm.bias):
                tensor.add_(0.1 * torch.randn_like(tensor))
            norm.num_batches_tracked.fill_(7)
    return model.eval()


def names_of(space: str) -> list[str]:
    return json.loads((DATA / f"{space}.json").read_text())["labels"]


def vectors_of(names: list[str]) -> Tensor:
    with np.load(DATA / "glove300.npz") as arrays:
        rows = dict(zip(arrays["labels"].tolist(), arrays["vectors"], strict=True))
    return torch.from_numpy(np.stack([rows[name] for name in names]).astype(np.float32))


def random_matrix(num_labels: int) -> Tensor:
    """A: not symmetric, so that its direction matters."""
    weights = torch.rand(num_labels, num_labels) * (torch.rand(num_labels, num_labels) < 0.1)
    return weights.fill_diagonal_(1)


@pytest.fixture(scope="module")
def images() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(4, 3, 96, 64)


@pytest.fixture(scope="module")
def small(images: Tensor) -> DenseMLGCN:
    """ML-GCN's form on VOC's labels, with a ResNet-18: quick."""
    torch.manual_seed(1)
    return checkpointed("resnet18", random_matrix(20), False, images)


@pytest.fixture
def state(small: DenseMLGCN) -> dict[str, Tensor]:
    return dict(small.state_dict())


def load_small(path: Path, content: object, labels: object = "voc2007", **options: object):
    torch.save(content, path)
    return zoo.load_published(path, labels, **{"backbone": "resnet18", **options})


def assert_same_logits(model: nn.Module, small: DenseMLGCN, images: Tensor, names: list[str]) -> None:
    with torch.no_grad():
        expected = small(images, vectors_of(names))
        assert expected.std() > 0.3, "logits that say nothing"
        assert_close(model(images), expected, rtol=1e-4, atol=1e-4)


# --- the two published architectures, whole -----------------------------------------------------------------


def test_mlgcn_resnet101(images, tmp_path):
    torch.manual_seed(2)
    dense = checkpointed("resnet101", random_matrix(80), False, images)
    path = tmp_path / "coco_checkpoint.pth.tar"
    state = prefixed(dense.state_dict())
    torch.save(
        {"epoch": 30, "arch": "gcn_resnet101", "state_dict": state, "best_score": np.float64(83)}, path
    )
    model = zoo.load_published(path)
    assert not model.training
    assert (model.name, model.head.pooling) == ("mlgcn-resnet101", "max")
    assert model.label_names == names_of("coco2014")
    assert_same_logits(model, dense, images, model.label_names)


def test_the_tutorials_resnext50(images, tmp_path):
    torch.manual_seed(3)
    names = ["dog", "cat", "person", "chair", "boat"]
    dense = checkpointed("resnext50_32x4d", random_matrix(5), True, images)
    path = tmp_path / "checkpoint-000035.pth"
    torch.save(dense.state_dict(), path)
    model = zoo.load_published(path, names)
    assert not model.training
    assert (model.name, model.head.pooling) == ("mlgcn-resnext50_32x4d", "avg")
    assert model.label_names == names
    with torch.no_grad():
        logits = model(images)
        assert logits.std() > 0.05
        assert_close(logits.sigmoid(), dense(images, vectors_of(names)), rtol=1e-4, atol=1e-5)


# --- what a checkpoint looks like ---------------------------------------------------------------------------


def prefixed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"module.{key}": value for key, value in state.items()}


def without(state: dict[str, Tensor], part: str) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if part not in key}


FORMS = {
    "plain": lambda state: state,
    "prefixed": prefixed,
    "wrapped": lambda state: {"state_dict": state, "epoch": 1, "arch": "x", "best_score": np.float32(80)},
    "wrapped and prefixed": lambda state: {
        "state_dict": prefixed(state), "epoch": np.int64(1), "best_score": torch.tensor(80.0)
    },
    "backbone prefixed": lambda state: {
        key.replace("features.", "features.module."): value for key, value in state.items()
    },
    "before PyTorch 0.4.1": lambda state: without(state, "num_batches_tracked"),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_a_checkpoint(form, state, small, images, tmp_path):
    model = load_small(tmp_path / "c.pth.tar", FORMS[form](state))
    assert model.name == "mlgcn-resnet18"
    assert_same_logits(model, small, images, names_of("voc2007"))
    counted = model.backbone.model.bn1.num_batches_tracked.item()
    assert counted == (0 if form == "before PyTorch 0.4.1" else 7)


def test_safetensors(state, small, images, tmp_path):
    safetensors.torch.save_file(state, tmp_path / "c.safetensors")
    model = zoo.load_published(tmp_path / "c.safetensors", "voc2007", backbone="resnet18")
    assert_same_logits(model, small, images, names_of("voc2007"))


def test_a_number_as_older_numpy_pickled_it(state, tmp_path):
    """In the file format of that time, too."""
    path = tmp_path / "c.pth.tar"
    content = {"state_dict": state, "best_score": np.float64(80)}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    written = path.read_bytes()
    assert b"cnumpy._core.multiarray\nscalar\n" in written
    path.write_bytes(written.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n"))
    assert read_state_dict(path).keys() == state.keys()


# --- labels, graph, provenance ------------------------------------------------------------------------------


def test_labels_in_another_order(state, small, images, tmp_path):
    names, order = names_of("voc2007"), torch.randperm(20)
    turned = {**state, "A": state["A"][order][:, order]}
    renamed = [names[i] for i in order]
    model = load_small(tmp_path / "c.pth", turned, renamed)
    assert model.label_names == renamed
    with torch.no_grad():
        expected = small(images, vectors_of(names))[:, order]
        assert_close(model(images), expected, rtol=1e-4, atol=1e-4)
        wrong = load_small(tmp_path / "c.pth", turned)(images)
    assert not torch.allclose(wrong, expected, atol=0.1)


def test_coco_by_category_id(images, tmp_path, capsys, monkeypatch):
    torch.manual_seed(4)
    dense = checkpointed("resnet18", random_matrix(80), False, images)
    labels = "coco2014:label_order=category_id"
    model = load_small(tmp_path / "c.pth", dense.state_dict(), labels)
    assert model.label_names[:2] + model.label_names[-1:] == ["person", "bicycle", "toothbrush"]
    assert sorted(model.label_names) == names_of("coco2014")
    assert_same_logits(model, dense, images, model.label_names)
    monkeypatch.chdir(tmp_path)
    assert main(["convert", "c.pth", "--labels", labels, "--backbone", "resnet18", "--output", "m"]) == 0
    assert zoo.load("m").label_names == model.label_names


def test_label_vectors_of_ones_own(state, small, images, tmp_path):
    vectors = torch.randn(20, 300)
    model = load_small(tmp_path / "c.pth", state, [f"label {i}" for i in range(20)], embeddings=vectors)
    with torch.no_grad():
        assert_close(model(images), small(images, vectors), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("space", ["coco2014", "voc2007"])
def test_the_matrix_of_mlgcns_code_gives_the_shipped_label_graph(space):
    """A as the reference code makes it of the counts, with tau 0.4 and its 0.25 for the paper's p = 0.2."""
    table = json.loads((DATA / f"{space}.json").read_text())
    kept = np.array(table["cooccurrence"]) / np.array(table["counts"])[:, None] >= 0.4
    matrix = torch.from_numpy(kept * 0.25 / (kept.sum(0) + 1e-6) + np.eye(len(kept))).float()
    tensors = {"A": matrix, "gc1.weight": torch.zeros(300, 1024)}
    graph = published_weights._label_graph(Path("c.pth"), tensors, table["labels"], "glove")
    expected = zoo.label_space(space, threshold=0.4)
    assert graph.edge_index.tolist() == expected.edge_index.tolist()
    assert_close(graph.edge_weight, expected.edge_weight)
    assert_close(graph.x, expected.x)


def test_what_is_loaded_can_be_saved_and_needs_nothing_else(state, images, tmp_path):
    path = tmp_path / "voc.pth"
    model = load_small(path, state)
    path.unlink()
    again = zoo.load(model.save(tmp_path / "model")).eval()
    with torch.no_grad():
        assert_close(again(images), model(images))
        assert_close(model.fold()(images), model(images), rtol=1e-4, atol=1e-4)
    origin = again.notes["imported_from"]
    assert (origin["file"], origin["layout"]) == ("voc.pth", "ml-gcn")
    assert origin["source"] == "https://github.com/Megvii-Nanjing/ML-GCN"
    assert len(origin["sha256"]) == 64
    assert again.recipe["embeddings"] == "GloVe 6B 300-d (shipped)"
    assert again.options == {"widths": [1024], "pooling": "max"}


@pytest.mark.parametrize(("tutorial", "size"), [(False, 448), (True, 256)])
def test_images_are_preprocessed_as_in_that_code(tutorial, size, images, tmp_path):
    dense = DenseMLGCN(torchvision.models.resnet18(weights=None), random_matrix(20), tutorial)
    model = load_small(tmp_path / "c.pth", dense.state_dict())
    pixels = np.random.default_rng(0).integers(0, 256, (300, 200, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    squashed = np.asarray(image.resize((size, size), Image.Resampling.BILINEAR), dtype=np.float32) / 255
    expected = (squashed - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    actual = model.backbone.transform()(image).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(actual, expected, atol=1e-5)


# --- what can be wrong --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: without(s, "features.7.1."), "missing \\(backbone.model.layer4.1.conv1.weight, backbone"),
        (lambda s: {**s, "features.8.weight": torch.ones(2)}, "1 unexpected \\(features.8.weight\\)"),
        (lambda s: {**s, "gc1.bias": torch.ones(2), "fc.bias": torch.ones(2)}, "2 unexpected \\(gc1.bias, fc.bias\\)"),
        (lambda s: {**s, "features.0.weight": torch.ones(64, 3, 3, 3)}, "conv1.weight is \\(64, 3, 3, 3\\) instead of"),
        (lambda s: without(s, "gc2"), "expected the keys features.0.weight, gc1.weight, gc2.weight, A \\(ml-gcn\\) or"),
        (lambda s: without(s, "A"), "expected the keys .* it holds features.0.weight, features.1.weight, "),
        (lambda s: torchvision.models.resnet18().state_dict(), "it holds conv1.weight, bn1.weight, "),
        (lambda s: {}, "expected the keys"),
        (lambda s: list(s.values()), "holds no state dict"),
        (lambda s: {"epoch": 3, "best_score": np.float64(3)}, "holds no state dict"),
        (lambda s: {0: torch.ones(2)}, "holds no state dict"),
        (lambda s: {**s, "A": s["A"][:19, :19]}, "its label graph A is 19 x 19, but there are 20 labels"),
        (lambda s: {**s, "A": s["A"][:, :19]}, "its label graph A is 20 x 19, but there are 20 labels"),
        (lambda s: {**s, "A": s["A"] * float("nan")}, "A must be finite"),
        (lambda s: {**s, "A": 3 * torch.eye(20) - s["A"]}, "A must be finite and not negative"),
        (lambda s: {**s, "A": s["A"] - torch.eye(20)}, "every label its own neighbour"),
        (lambda s: {**s, "gc1.weight": s["gc1.weight"][:50]}, "vectors of 50 numbers, but those of GloVe .* have 300"),
        (lambda s: {"state_dict": s, "best_score": np.ones(2)}, "refused, .* the file holds numpy._core.multiarray._"),
    ],
)  # fmt: skip
def test_a_wrong_checkpoint(change, message, state, tmp_path):
    with pytest.raises(InputError, match=message) as error:
        load_small(tmp_path / "c.pth", change(state))
    assert str(error.value).startswith(f"{tmp_path / 'c.pth'}: ")
    assert "\n" not in str(error.value)


def test_a_checkpoint_of_another_backbone(state, tmp_path):
    message = "these are the weights of another model: .* missing \\(backbone.model.layer1.0.conv3.weight"
    with pytest.raises(InputError, match=message):
        load_small(tmp_path / "c.pth", state, backbone="resnet50")


@pytest.mark.parametrize("name", ["c.pth.tar", "c.safetensors"])
def test_a_file_that_is_none_of_weights(name, tmp_path):
    (tmp_path / name).write_text("these are no weights")
    with pytest.raises(InputError, match=f"{name}: not a readable file of weights"):
        zoo.load_published(tmp_path / name)


def test_a_download_that_stopped(state, tmp_path):
    torch.save(state, tmp_path / "c.pth")
    whole = (tmp_path / "c.pth").read_bytes()
    (tmp_path / "c.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="not a readable file of weights"):
        zoo.load_published(tmp_path / "c.pth")


def test_no_file(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.pth: no such file"):
        zoo.load_published(tmp_path / "nowhere.pth")


def test_layouts(state, tmp_path):
    assert load_small(tmp_path / "c.pth", state, layout="ml-gcn").notes["imported_from"]["layout"] == "ml-gcn"
    with pytest.raises(
        InputError, match=r"expected the keys features\.conv1\.weight, .* \(learnopencv\); it"
    ):
        load_small(tmp_path / "c.pth", state, layout="learnopencv")
    with pytest.raises(InputError, match=r"unknown layout 'mlgcn'\. Did you mean ml-gcn"):
        load_small(tmp_path / "c.pth", state, layout="mlgcn")


def test_unknown_labels(state, tmp_path):
    with pytest.raises(InputError, match=r"unknown label space 'voc2070'\. Did you mean voc2007"):
        load_small(tmp_path / "c.pth", state, "voc2070")
    with pytest.raises(InputError, match="unknown option of label space 'voc2007' 'label_order'"):
        load_small(tmp_path / "c.pth", state, "voc2007:label_order=category_id")
    with pytest.raises(InputError, match=r"space 'coco2014' 'order'\. Did you mean label_order"):
        load_small(tmp_path / "c.pth", state, "coco2014:order=category_id")
    with pytest.raises(InputError, match=r"order of COCO's labels 'category'\. Did you mean category_id"):
        load_small(tmp_path / "c.pth", state, "coco2014:label_order=category")


class Malicious:
    def __init__(self, function: object, path: Path) -> None:
        self.function, self.path = function, path

    def __reduce__(self):
        return self.function, (str(self.path),)


@pytest.mark.parametrize("in_a_zip", [True, False])
def test_code_in_a_checkpoint_does_not_run(state, in_a_zip, tmp_path):
    path, made = tmp_path / "c.pth.tar", tmp_path / "made"
    content = {"state_dict": state, "best_score": Malicious(os.mkdir, made)}
    torch.save(content, path, _use_new_zipfile_serialization=in_a_zip)
    with pytest.raises(
        InputError, match=r"refused, .* the file holds \w+.mkdir, and reading that would run code"
    ):
        zoo.load_published(path, "voc2007", backbone="resnet18")
    assert not made.exists()
    torch.load(path, weights_only=False)
    assert made.exists(), "a file that was harmless anyway"


def test_code_in_a_pickle_does_not_run(tmp_path):
    (tmp_path / "c.pth").write_bytes(pickle.dumps(Malicious(os.mkdir, tmp_path / "made"), protocol=2))
    with pytest.raises(InputError, match="refused"):
        zoo.load_published(tmp_path / "c.pth")
    assert not (tmp_path / "made").exists()


# --- the command --------------------------------------------------------------------------------------------


def test_convert(state, small, images, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(state, "voc.pth.tar")
    arguments = ["convert", "voc.pth.tar", "--labels", "voc2007", "--backbone", "resnet18"]
    assert main([*arguments, "--output", "model"]) == 0
    printed = capsys.readouterr().out
    assert printed == "mlgcn-resnet18, 20 labels, from a checkpoint of ml-gcn\nModel: model\n"
    assert_same_logits(zoo.load("model").eval(), small, images, names_of("voc2007"))
    names = names_of("voc2007")[::-1]
    arguments[3] = str(names).replace("'", "")
    assert main(arguments) == 0
    assert zoo.load("runs/convert/voc.pth.tar").label_names == names


def test_convert_what_is_no_checkpoint(tmp_path, capsys):
    assert main(["convert", str(tmp_path / "c.pth")]) == 2
    assert capsys.readouterr().err == f"zoo: {tmp_path / 'c.pth'}: no such file\n"
    assert main(["convert"]) == 2
    assert "the following arguments are required: checkpoint" in capsys.readouterr().err
