"""Saves small models with the code at hand, and the logits that they give, for tests/test_frozen_models.py.

Once a release, run it with that release's own code and keep what it writes; never write over an older version's:

    PYTHONPATH=. python tests/freeze_models.py tests/frozen/<version>

Weights are noise rounded to a few values, those of the backbone in half precision: a model takes 230 KB, which compress
to 45.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import zoo

NAMES = ["dog", "cat", "Ωμέγα", 'a "b", c']
ANNOTATIONS = [["dog", "cat"], ["dog", "cat"], ["dog", "Ωμέγα"], ["cat"], ["Ωμέγα", 'a "b", c'], ['a "b", c']]

# One for each way of saving something: parameters a label, the label graph, statistics, generated and random buffers,
# several feature maps. Heads that a version does not have are left out.
HEADS: dict[str, dict[str, Any]] = {
    "agcn": {"width": 4, "candidates": 2, "widths": (8,)},
    "cma": {"vectors": "given", "widths": (8,), "levels": 2},
    "coupled": {},
    "linear": {"pooling": "gem", "dropout": 0.2, "bias": True},
    "mldecoder": {"width": 8, "attention_heads": 2, "feedforward_width": 8, "groups": 2},
    "mlgcn": {"conv": "GATConv", "widths": (8,), "pooling": "max"},
    "mlp": {"widths": (8,)},
}


def fixed_images() -> Tensor:
    """(2, 3, 32, 32) of numbers that no random number generator decides."""
    steps = torch.arange(3 * 32 * 32, dtype=torch.float64)
    return torch.stack([(0.37 * steps).sin(), (0.011 * steps).cos()]).view(2, 3, 32, 32)


def fill(parameters: nn.Module, least: float) -> None:
    """Noise in the place of every parameter and statistic, as large as it was or ``least``, rounded to a few values."""
    for name, tensor in parameters.state_dict().items():
        # The label graph stays what it is.
        if tensor.is_floating_point() and name not in ("edge_weight", "x"):
            spread = tensor.std().item() if tensor.numel() > 1 else 0.0
            step = 2.0 ** round(torch.tensor(max(2 * spread, least)).log2().item())
            noisy = ((tensor + step / 2.5 * torch.randn_like(tensor)) / step).round() * step
            tensor.copy_(noisy.clamp(min=step) if name.endswith(("var", "std", "temperature")) else noisy)


def freeze(head: str, folder: Path) -> None:
    """Writes a saved model and ``logits.json``: of :func:`fixed_images`, by the saved model once it is loaded."""
    torch.manual_seed(0)
    kind = {"edges": "couplings"} if head == "coupled" else {}
    graph = zoo.label_graph(ANNOTATIONS, NAMES, embeddings="onehot", **kind)
    model = zoo.build(f"{head}-test_efficientnet", graph, img_size=32, **HEADS[head])
    if head == "linear":
        model.head.standardize(torch.zeros(256), torch.ones(256), torch.zeros(4))
    fill(model.backbone, 1 / 16)
    fill(model.head, 1 / 2)
    if hasattr(model, "thresholds"):
        model.thresholds = {"cat": 0.25}
    model.notes = {"test": {"mAP": 0.5}, "data": "frozen"}
    model.backbone.half()
    model.save(folder)
    with torch.inference_mode():
        # In double precision: what rounding does in single depends on the machine.
        logits = zoo.load(folder).double().eval()(fixed_images())
    (folder / "logits.json").write_text(json.dumps(logits.tolist(), indent=1))
    print(folder, *(" ".join(f"{logit:6.3f}" for logit in row) for row in logits.tolist()), sep="   ")


if __name__ == "__main__":
    for head in sys.argv[2:] or sorted(HEADS.keys() & {*zoo.list_heads()}):
        freeze(head, Path(sys.argv[1], head))
