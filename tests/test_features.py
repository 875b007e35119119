"""Frozen features against the backbone itself, and what the cache keeps, resumes and tells apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from zoo.annotations import Annotations
from zoo.backbones import Backbone
from zoo.data import ImageDataset, cache_dir
from zoo.features import OnFeatures, features_kind, frozen_features, standardize_features
from zoo.graph import unlinked_labels
from zoo.heads import Head, build_head
from zoo.heads.head import POOLINGS
from zoo.lookup import InputError


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def backbone() -> Backbone:
    return Backbone("test_efficientnet", img_size=32)


@pytest.fixture
def seen(backbone: Backbone) -> list[int]:
    """The sizes of the batches that reach the backbone."""
    sizes: list[int] = []
    backbone.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    return sizes


def directly(backbone: Backbone, data: ImageDataset) -> Tensor:
    transform = backbone.transform()
    with torch.no_grad():
        return backbone.eval()(torch.stack([data.with_transform(transform)[i][0] for i in range(len(data))]))


def test_equal_to_backbone_and_pooling(backbone, colours):
    feature_map = directly(backbone, colours)
    backbone.train()
    for kind in ("avg", "max"):
        features = frozen_features(backbone, colours, kind, batch_size=5, workers=0)
        assert features.dtype == torch.float32
        torch.testing.assert_close(features, POOLINGS[kind]()(feature_map), atol=1e-5, rtol=1e-4)
    features = frozen_features(backbone, colours, "map", batch_size=5, workers=0)
    assert features.dtype == torch.float16
    torch.testing.assert_close(features.float(), feature_map, atol=1e-3, rtol=1e-3)
    assert backbone.training, "its mode is what it was"


def test_worker_processes_keep_the_order(backbone, colours):
    torch.testing.assert_close(
        frozen_features(backbone, colours, "avg", batch_size=3, workers=2),
        directly(backbone, colours).mean((2, 3)),
        atol=1e-5,
        rtol=1e-4,
    )


def test_computed_once(backbone, colours, seen):
    first = frozen_features(backbone, colours, "avg", workers=0)
    assert sum(seen) == 32
    again = frozen_features(backbone, colours, "avg", workers=0)
    frozen_features(backbone, colours, "max", workers=0)
    assert sum(seen) == 32, "avg and max come from one pass"
    assert torch.equal(first, again)
    frozen_features(backbone, colours, "map", workers=0)
    assert sum(seen) == 64
    assert sorted(file.name for file in cache_dir().rglob("*") if file.is_file()) == [
        "avg.npy",
        "map.npy",
        "max.npy",
    ]


def test_writing_into_the_result_leaves_the_cache_alone(backbone, colours):
    first = frozen_features(backbone, colours, "avg", workers=0)
    kept = first.clone()
    first.zero_()
    assert torch.equal(frozen_features(backbone, colours, "avg", workers=0), kept)


def stop_at(batch: int):
    def hook(module, inputs, count=[0]):  # noqa: B006 - the default is the counter
        count[0] += 1
        if count[0] == batch:
            raise KeyboardInterrupt

    return hook


@pytest.mark.parametrize("kind", ["avg", "map"])
def test_an_interrupted_run_goes_on_where_it_was(kind, backbone, colours, seen):
    handle = backbone.register_forward_pre_hook(stop_at(26))
    backbone.train()
    with pytest.raises(KeyboardInterrupt):
        frozen_features(backbone, colours, kind, batch_size=1, workers=0)
    assert backbone.training, "its mode is what it was after a stop, too"
    handle.remove()
    seen.clear()
    features = frozen_features(backbone, colours, kind, batch_size=1, workers=0)
    assert len(seen) == 12, "20 of the 32 batches were noted"
    feature_map = directly(backbone, colours)
    expected = feature_map if kind == "map" else feature_map.mean((2, 3))
    torch.testing.assert_close(features.float(), expected, atol=1e-3, rtol=1e-3)
    assert not [file for file in cache_dir().rglob("*") if file.suffix in (".rows", ".part")]


def test_a_run_that_is_interrupted_early_starts_again(backbone, colours, seen):
    handle = backbone.register_forward_pre_hook(stop_at(5))
    with pytest.raises(KeyboardInterrupt):
        frozen_features(backbone, colours, "avg", batch_size=1, workers=0)
    handle.remove()
    seen.clear()
    features = frozen_features(backbone, colours, "avg", batch_size=1, workers=0)
    assert len(seen) == 32
    torch.testing.assert_close(features, directly(backbone, colours).mean((2, 3)), atol=1e-5, rtol=1e-4)


def test_what_the_key_depends_on(backbone, colours, seen):
    def runs(some: Backbone = backbone, data: ImageDataset = colours) -> int:
        seen.clear()
        frozen_features(some, data, "avg", workers=0)
        return sum(seen)

    assert runs() == 32
    assert runs() == 0
    with torch.no_grad():
        next(backbone.parameters())[0] += 0.01
    assert runs() == 32, "the weights"
    backbone.model.bn1.running_mean += 0.01
    assert runs() == 32, "the statistics of batch normalisation"
    backbone.data_config["mean"] = [0.1, 0.2, 0.3]
    assert runs() == 32, "the input"
    other_labels = replace(
        colours,
        annotations=Annotations.from_array(1 - colours.targets),
        splits=np.repeat(["val", "train"], 16),
    )
    assert runs(data=other_labels) == 0, "not the labels and the splits"
    assert runs(data=colours.split("train")) == 16, "the images"
    backwards = replace(colours, images=colours.images[::-1])
    assert runs(data=backwards) == 32, "their order"


# --- heads on features ---------------------------------------------------------------------------------------


class NoPoolHead(Head):
    uses_positions = True

    def __init__(self, num_features, labels):
        super().__init__(num_features, labels, pooling="none")
        self.votes = torch.nn.Conv2d(num_features, self.num_labels, 1)

    def classify(self, features):
        return self.votes(features).amax((2, 3))


@pytest.mark.parametrize(
    ("name", "pooling"),
    [
        *((name, pooling) for name in ("linear", "mlgcn", "mlp") for pooling in ("avg", "max", "gem")),
        ("positions", None),
    ],
)
def test_a_head_on_frozen_features_is_the_head(name, pooling, backbone, colours, colour_graph):
    if name == "positions":
        head: Head = NoPoolHead(256, colour_graph)
    else:
        head = build_head(name, 256, colour_graph, pooling=pooling)
    head.eval()
    kind = features_kind(head)
    assert kind == (pooling if pooling in ("avg", "max") else "map")
    features = frozen_features(backbone, colours, kind, workers=0)
    expected = head(directly(backbone, colours))
    torch.testing.assert_close(OnFeatures(head)(features), expected, atol=3e-3, rtol=1e-3)


def test_several_levels_are_refused_before_any_work(backbone, colours, seen):
    with pytest.raises(
        InputError, match=r"hold one feature map, and this head takes 2: .*freeze_backbone=False, or"
    ):
        frozen_features(backbone.with_levels(2), colours, "map", workers=0)
    assert not seen
    assert not (cache_dir() / "features").exists()


def test_dropout_acts_on_frozen_features():
    on_features = OnFeatures(build_head("linear", 8, unlinked_labels(["dog"]), dropout=0.5))
    features = torch.ones(4, 8)
    assert not torch.equal(on_features(features), on_features(features))
    assert torch.equal(on_features.eval()(features), on_features(features))


@pytest.mark.parametrize("kind", ["avg", "gem"])
def test_standardised_features_have_mean_0_and_deviation_1_in_training(kind, colour_graph):
    head = build_head("linear", 6, colour_graph, pooling=kind)
    scale = torch.tensor([1.0, 2, 3, 4, 5, 1e-6])[:, None, None]
    maps = scale * torch.rand(40, 6, 2, 2) + 3 * scale
    features = head.pool(maps) if kind == "avg" else maps
    rows = torch.arange(0, 40, 2)
    standardize_features(head, features.detach(), torch.ones(len(maps), head.num_labels), rows)
    channels = head.norm(head.pool(maps))[rows].detach()
    torch.testing.assert_close(channels.mean(0), torch.zeros(6), atol=1e-4, rtol=0)
    torch.testing.assert_close(channels.std(0, correction=0)[:5], torch.ones(5), atol=1e-3, rtol=0)
    assert channels[:, 5].std() < 1e-3, "a channel that is nearly silent stays so"


def test_standardised_features_that_do_not_vary_are_finite(colour_graph):
    head = build_head("linear", 6, colour_graph)
    standardize_features(head, torch.ones(10, 6), torch.ones(10, 3), torch.arange(10))
    assert head.norm(torch.ones(2, 6)).abs().max() == 0


def test_the_start_is_the_log_odds_of_the_training_targets(colour_graph):
    head = build_head("linear", 6, colour_graph)
    targets = torch.tensor([[1, 0, -1], [1, 0, 1], [0, 0, -1], [1, 1, 1]])
    standardize_features(head, torch.randn(4, 6), targets, torch.tensor([0, 1, 2]))
    # 2 and 1, 0 and 3, 1 and 0 of the known ones in the first three rows, each with a half more.
    odds = torch.tensor([2.5 / 1.5, 0.5 / 3.5, 1.5 / 0.5])
    torch.testing.assert_close(head.offset, odds.log())


def test_standardising_a_feature_map_goes_by_channels():
    head = NoPoolHead(3, unlinked_labels(["dog", "cat"]))
    maps = torch.randn(300, 3, 2, 2) * 5 + 1
    standardize_features(head, maps, torch.ones(300, 2), torch.arange(300))  # more than it reads at a time
    torch.testing.assert_close(head.norm.mean, maps.mean((0, 2, 3)), atol=1e-5, rtol=0)
    torch.testing.assert_close(head.norm.std, maps.std((0, 2, 3), correction=0), atol=1e-5, rtol=0)
    assert head(maps[:2]).shape == (2, 2)
