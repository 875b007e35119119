"""Whole models: folded ones against timm's own classifiers, training steps against the head without a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import timm
import torch
from scale_labels import sparse_graph
from speed_ratio import Sizes, alternate, judged, largest_difference
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Data

import zoo


def graph_of(num_labels: int) -> Data:
    """COCO's label graph, or a random one of average degree 10."""
    return zoo.label_space("coco2014") if num_labels == 80 else sparse_graph(num_labels)


def operations(model: nn.Module, images: Tensor) -> list[str]:
    """What an exported model calls, in order."""
    graph = torch.export.export(model, (images,)).graph
    return [str(node.target) for node in graph.nodes if node.op == "call_function"]


def inference(sizes: Sizes, device: str) -> Iterator[dict[str, Any]]:
    """Section: a folded ``mlgcn`` against timm's classifier of the same backbone, both pooling by the mean."""
    images = torch.randn(sizes.batch, 3, sizes.pixels, sizes.pixels, device=device)
    for num_labels in sizes.labels:
        yield judged(against_timm(num_labels, images, sizes, device), 1.02)


def against_timm(num_labels: int, images: Tensor, sizes: Sizes, device: str) -> dict[str, Any]:
    """A row: a folded model against timm's with the same weights, so that what differs is the code."""
    name = f"mlgcn-{sizes.backbone}"
    model = zoo.build(name, labels=graph_of(num_labels), pooling="avg", pretrained=False)
    folded = model.to(device).eval().fold()
    peer = timm.create_model(sizes.backbone, num_classes=num_labels).to(device).eval()
    weights = {key.removeprefix("model."): value for key, value in folded.backbone.state_dict().items()}
    missing = peer.load_state_dict(weights, strict=False).missing_keys
    assert [name.rpartition(".")[2] for name in missing] == ["weight", "bias"], "all but the classifier"
    with torch.no_grad():
        peer.get_parameter(missing[0]).copy_(folded.head.classifiers())
        peer.get_parameter(missing[1]).zero_()
    same = operations(folded, images) == operations(peer, images)
    with torch.inference_mode():
        difference = largest_difference(folded(images), peer(images))
        figures = alternate(lambda: folded(images), lambda: peer(images), sizes.rounds, device)
    return {
        "work": f"folded {name}",
        "against": f"timm's {sizes.backbone}",
        "size": f"{num_labels:,} labels, {sizes.batch} images of {sizes.pixels} pixels",
        **figures,
        "equal_to": difference,
        "note": f"the same list of operations: {'yes' if same else 'no'}",
    }


def step_of(model: nn.Module, images: Tensor, targets: Tensor) -> Callable[[], None]:
    """What trains a model by one step: forward, backward, SGD."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    model.train()

    def step() -> None:
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(model(images), targets).backward()
        optimizer.step()

    return step


def training_step(sizes: Sizes, device: str) -> Iterator[dict[str, Any]]:
    """Section: a training step of ``mlgcn`` with COCO's 80 labels against ``linear``, and against timm's own model."""
    images = torch.randn(sizes.batch, 3, sizes.pixels, sizes.pixels, device=device)
    targets = (torch.rand(sizes.batch, 80, device=device) < 0.04).float()

    def built(head: str) -> nn.Module:
        model = zoo.build(f"{head}-{sizes.backbone}", labels="coco2014", pooling="avg", pretrained=False)
        return model.to(device)

    peers = {
        f"linear-{sizes.backbone}": built("linear"),
        f"timm's {sizes.backbone}": timm.create_model(sizes.backbone, num_classes=80).to(device),
    }
    ours = step_of(built("mlgcn"), images, targets)
    goal = 1.03 if device == "cuda" else 1.05
    for name, peer in peers.items():
        row = {
            "work": f"training step of mlgcn-{sizes.backbone} against {name}",
            "against": name,
            "size": f"80 labels, {sizes.batch} images of {sizes.pixels} pixels",
            **alternate(ours, step_of(peer, images, targets), sizes.rounds, device),
        }
        yield judged(row, goal)


def mixed_precision(sizes: Sizes, device: str) -> Iterator[dict[str, Any]]:
    """Section, on a GPU: bf16, channels last and compiled against fp32 as it is; and how much of the GPU is used."""
    if device != "cuda":
        return
    batch, pixels = 8 * sizes.batch, 2 * sizes.pixels
    images = torch.randn(batch, 3, pixels, pixels, device=device)
    targets = (torch.rand(batch, 80, device=device) < 0.04).float()

    def built() -> nn.Module:
        return zoo.build("mlgcn-resnext50", labels="coco2014", pretrained=False).to(device)

    fast = built().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(fast.parameters(), lr=1e-3, momentum=0.9)
    compiled, last = torch.compile(fast.train()), images.to(memory_format=torch.channels_last)

    def fast_step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16):
            loss = F.binary_cross_entropy_with_logits(compiled(last), targets)
        loss.backward()
        optimizer.step()

    row = alternate(fast_step, step_of(built(), images, targets), sizes.rounds, device)
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        step_of(built(), images, targets)()
    rate = counter.get_total_flops() / row["seconds"]
    square = torch.randn(8192, 8192, device=device, dtype=torch.bfloat16)
    product = alternate(lambda: square @ square, lambda: square @ square, sizes.rounds, device)
    matrix_rate = 2 * 8192**3 / product["seconds"]
    yield judged(
        {
            "work": "training step of mlgcn-resnext50, bf16, channels last, compiled",
            "against": "the same in fp32, eager",
            "size": f"80 labels, {batch} images of {pixels} pixels",
            **row,
            "note": f"{rate / 1e12:.1f} TFLOP/s, {rate / matrix_rate:.0%} of {matrix_rate / 1e12:.0f} measured in a "
            "product of bf16 matrices",
        },
        0.5,
    )
