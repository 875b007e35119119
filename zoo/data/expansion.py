"""Annotations that follow a hierarchy: a dog is an animal, and where there is no animal, there is no dog."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from zoo.annotations import NEGATIVE, POSITIVE, Annotations

BLOCK = 2**18  # images at once


def ancestors(labels: Sequence[str], parents: Sequence[tuple[str, str]]) -> sp.csr_array:
    """(L, L) true where the column is the row's label or an ancestor of it, by (parent, child) pairs."""
    at = {mid: i for i, mid in enumerate(labels)}
    edges = np.array([(at[child], at[parent]) for parent, child in parents], dtype=np.int64).reshape(-1, 2)
    shape = (len(labels), len(labels))
    reached = sp.csr_array(sp.eye_array(len(labels), dtype=bool, format="csr"))
    reached += sp.csr_array((np.ones(len(edges), dtype=bool), edges.T), shape=shape)
    while (further := reached @ reached).nnz > reached.nnz:
        reached = further
    return reached


def expand(annotations: Annotations, above: sp.csr_array) -> tuple[Annotations, str]:
    """Lets annotations follow a hierarchy, by the rule of the Open Images Challenge.

    What is positive makes its ancestors positive, what is negative makes its descendants negative
    (https://storage.googleapis.com/openimages/web/challenge.html). Where the two meet, positive counts, and a
    negative that is overruled is handed on to nothing: our choice, by which no entry contradicts another.

    Args:
        annotations: (N, L), whose rule is unknown.
        above: (L, L), :func:`ancestors`.

    Returns:
        The annotations, and a remark that counts the entries that were made.
    """
    from rich.console import Console
    from rich.progress import track

    below = sp.csr_array(above.T)
    console = Console(stderr=True)
    steps = -(-len(annotations) // BLOCK)
    counts: Counter[str] = Counter()
    blocks = []
    for block in track(
        annotations.blocks(BLOCK),
        "Following the hierarchy",
        total=steps,
        console=console,
        transient=True,
        disable=steps == 1 or not console.is_terminal,
    ):
        given, denied = block.where(POSITIVE).astype(bool), block.where(NEGATIVE).astype(bool)
        positive = given @ above  # of booleans: or, not plus
        standing = denied > positive
        negative = standing @ below
        counts["positive"] += positive.nnz - given.nnz
        counts["overruled"] += denied.nnz - standing.nnz
        counts["negative"] += negative.nnz - standing.nnz
        blocks.append(POSITIVE * positive.astype(np.int8) + NEGATIVE * negative.astype(np.int8))
    remark = (
        f"the hierarchy made {counts['positive']:,} entries positive, {counts['overruled']:,} of which were "
        f"verified as negative, and {counts['negative']:,} negative"
    )
    return Annotations(sp.csr_array(sp.vstack(blocks, format="csr")), annotations.absent), remark
