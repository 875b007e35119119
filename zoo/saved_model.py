"""A model on disk: ``model.safetensors`` (weights, label graph, label vectors) and ``config.json`` (all the rest).

    config.json   name, options          which backbone and head
                  label_names            in the order of the logits
                  thresholds             label to number, or null
                  recipe                 how the label graph was made
                  img_size, input        size and normalisation of images
                  notes                  metrics, the run that made it: whatever the model's ``notes`` hold
                  format, versions       what wrote it

A file may come from anyone: nothing in it is executed, nothing is downloaded for it, and whatever is wrong with it is
an InputError that names it.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch_geometric.data import Data

from zoo._version import __version__
from zoo.backbones import Backbone, load_weights
from zoo.graph import check_graph, unlinked_labels
from zoo.lookup import InputError
from zoo.model import MultiLabelClassifier, assemble, split_name
from zoo.saved_config import FORMAT, config_text, read_config

WEIGHTS, CONFIG = "model.safetensors", "config.json"
LIBRARIES = ("torch", "timm", "torch-geometric")

SPARE_ELEMENTS = 2**28  # what building may allocate (1 GiB of float32) beside what becomes weights


def save_model(model: MultiLabelClassifier, directory: str | Path) -> Path:
    """What :meth:`zoo.MultiLabelClassifier.save` does.

    Raises:
        InputError: an option or a note that JSON cannot hold, such as a class of your own as ``conv``.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    thresholds = None if model.thresholds is None else model.thresholds.tolist()
    config = {
        "format": FORMAT,
        "name": model.name,
        "options": model.options,
        "label_names": model.label_names,
        "thresholds": thresholds and dict(zip(model.label_names, thresholds, strict=True)),
        "recipe": model.recipe,
        "img_size": model.backbone.img_size,
        "input": model.backbone.data_config,
        "notes": model.notes,
        "versions": {
            "zoo": __version__,
            "python": platform.python_version(),
            **{library: importlib.metadata.version(library) for library in LIBRARIES},
        },
    }
    try:
        text = config_text(config)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{model.name} cannot be saved, its options and notes must be JSON: {error}. "
            "A conv of your own needs a name: zoo.convs.CONVS['mine'] = MyConv"
        ) from error
    tensors = {key: value.contiguous() for key, value in model.state_dict().items()}
    # Written aside and renamed, so that a stop in the middle leaves no half of a model behind.
    safetensors.torch.save_file(tensors, directory / f"{WEIGHTS}.part")
    (directory / f"{CONFIG}.part").write_text(text, encoding="utf-8")
    for file in (WEIGHTS, CONFIG):
        os.replace(directory / f"{file}.part", directory / file)
    return directory


def load(directory: str | Path) -> MultiLabelClassifier:
    """Loads what :meth:`zoo.MultiLabelClassifier.save` wrote, in this version or an earlier one.

    Raises:
        InputError: no model there, one of a newer format, files that are damaged or do not fit each other.
    """
    directory = Path(directory)
    for file in (CONFIG, WEIGHTS):
        if not (directory / file).is_file():
            raise InputError(f"{directory}: no saved model there ({file} is missing)")
    path, weights = directory / CONFIG, directory / WEIGHTS
    with _naming(path):
        config = read_config(path)
        labels = unlinked_labels(config["label_names"])
    with _naming(weights):
        # A model is built in single precision, whatever it was saved in; its label graph is part of the weights.
        stored = safetensors.torch.load_file(weights)
        tensors = {
            key: value.float() if value.is_floating_point() else value for key, value in stored.items()
        }
        labels = _with_graph(labels, tensors)
    labels.recipe = config["recipe"]
    with _naming(path), _NoMoreThan(2 * sum(map(Tensor.numel, tensors.values())) + SPARE_ELEMENTS):
        head, backbone = split_name(config["name"])
        # Not build(): the options of a file reach the head alone, and so can ask for no download.
        model = assemble(Backbone(backbone, img_size=config["img_size"]), head, labels, **config["options"])
        model.backbone.data_config = config["input"]
        model.backbone.transform()
        model.thresholds = config.get("thresholds")
    model.notes = config["notes"]
    with _naming(weights):
        _standardize(model, tensors)
    load_weights(model, tensors, weights)
    return model


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Whatever goes wrong is the file's fault: which of the numbers in it are possible, only building it tells."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except Exception as error:
        raise InputError(f"{path}: the saved model is damaged ({type(error).__name__}: {error})") from error


class _NoMoreThan(TorchFunctionMode):
    """Refuses to allocate more elements than that, counting tensors that are made from no other tensor.

    A line of JSON can ask for a layer of any size, whose weights the file of weights then does not hold.
    """

    def __init__(self, elements: int) -> None:
        super().__init__()
        self.left = elements

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        made = isinstance(result, Tensor) and not any(isinstance(arg, Tensor) for arg in args)
        if made and not result.is_meta:
            self.left -= result.numel()
            if self.left < 0:
                raise InputError("it asks for a larger model than the file of weights holds")
        return result


def _with_graph(labels: Data, tensors: dict[str, Tensor]) -> Data:
    for key in ("x", "edge_index", "edge_weight"):
        if f"head.{key}" in tensors:
            labels[key] = tensors[f"head.{key}"]
    return check_graph(labels)


def _standardize(model: MultiLabelClassifier, tensors: dict[str, Tensor]) -> None:
    """Makes place for what :meth:`zoo.heads.head.Head.standardize` gave the head, if it did."""
    keys = [f"head.{key}" for key in ("norm.mean", "norm.std", "offset")]
    if not tensors.keys() >= {*keys}:
        return
    sizes = (model.head.num_features, model.head.num_features, model.head.num_labels)
    for key, size in zip(keys, sizes, strict=True):
        if tensors[key].shape != (size,):
            raise InputError(f"{key} is of shape {tuple(tensors[key].shape)} instead of ({size},)")
    model.head.standardize(*(tensors[key] for key in keys))
