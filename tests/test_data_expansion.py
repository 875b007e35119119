from __future__ import annotations

import numpy as np
import scipy.sparse as sp

import zoo.data.expansion
from zoo.annotations import NEGATIVE, POSITIVE, Annotations
from zoo.data.expansion import ancestors, expand


def test_expanded_as_a_loop_does(monkeypatch):
    monkeypatch.setattr(zoo.data.expansion, "BLOCK", 7)
    generator = np.random.default_rng(0)
    edges = [(a, b) for a in range(12) for b in range(a + 1, 12) if generator.random() < 0.15]
    mids = [f"/m/{i}" for i in range(12)]
    targets = generator.choice([-1, 0, 1], (50, 12), p=[0.8, 0.1, 0.1])
    codes = np.array([0, NEGATIVE, POSITIVE], dtype=np.int8)[targets + 1]
    above = ancestors(mids, [(mids[parent], mids[child]) for parent, child in edges])

    def up(label):
        found = {label}
        for parent, child in edges:
            if child == label:
                found |= up(parent)
        return found

    expected = np.full_like(targets, -1)
    for image in range(50):
        positive = set().union(*(up(label) for label in range(12) if targets[image, label] == 1))
        for label in range(12):
            denied = {b for b in range(12) if targets[image, b] == 0} - positive
            if up(label) & denied:
                expected[image, label] = 0
            if label in positive:
                expected[image, label] = 1
    assert (expected != targets).sum() > 50
    result, _ = expand(Annotations(sp.csr_array(codes), -1), above)
    np.testing.assert_array_equal(result.targets(), expected)
    assert result.stored.nnz == (expected != -1).sum()


def test_ancestors():
    above = ancestors(["pup", "dog", "animal", "sky"], [("animal", "dog"), ("dog", "pup")])
    assert above.toarray().astype(int).tolist() == [[1, 1, 1, 0], [0, 1, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert ancestors(["a", "b"], []).toarray().tolist() == [[True, False], [False, True]]


def test_by_hand():
    above = ancestors(["dog", "cat", "animal"], [("animal", "dog"), ("animal", "cat")])
    given = np.array([[1, 0, NEGATIVE], [0, 0, NEGATIVE], [NEGATIVE, 1, 0]], dtype=np.int8)
    result, remark = expand(Annotations(sp.csr_array(given), -1), above)
    assert result.targets().tolist() == [[1, -1, 1], [0, 0, 0], [0, 1, 1]]
    assert (
        remark
        == "the hierarchy made 2 entries positive, 1 of which were verified as negative, and 2 negative"
    )
