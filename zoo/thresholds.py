"""What a threshold on P(label | given) leaves of the label graph: edges, components, labels without any.

counts (L,), co-occurrence (L,L) --threshold--> edges (M,) --connected components--> a row of the report
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from zoo.counts import LabelCounts

THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)


@dataclass(frozen=True)
class Connectivity:
    """What a threshold leaves of the label graph.

    Attributes:
        threshold: an edge needs P(label | given) of at least this.
        edges: directed ones, self-loops not counted.
        isolated: names of the labels without any edge, in or out.
        components: of at least two labels that edges connect, whatever their direction.
        largest: labels in the largest of them.
    """

    threshold: float
    edges: int
    isolated: tuple[str, ...]
    components: int
    largest: int

    def __str__(self) -> str:
        alone = f"{len(self.isolated):,} label{'' if len(self.isolated) == 1 else 's'}"
        line = f"threshold {self.threshold:<5g} {self.edges:>7,} edges, {alone} without any"
        if not self.edges:
            return line
        return f"{line}; {self.components:,} component{'' if self.components == 1 else 's'}, largest {self.largest:,}"


def connectivity(counts: LabelCounts, thresholds: Sequence[float] = THRESHOLDS) -> list[Connectivity]:
    """Edges, isolated labels and components at each threshold."""
    from scipy.sparse.csgraph import connected_components  # it takes a fifth of a second to import

    pairs, rows = counts.p_column_given_row().tocoo(), []
    for threshold in thresholds:
        kept = pairs.data >= threshold
        edges = (kept[kept], (pairs.row[kept], pairs.col[kept]))
        _, component = connected_components(sp.coo_array(edges, shape=pairs.shape), connection="weak")
        sizes = np.bincount(component)
        alone = tuple(counts.label_names[i] for i in np.flatnonzero(sizes[component] == 1))
        several = sizes[sizes > 1]
        rows.append(
            Connectivity(threshold, int(kept.sum()), alone, len(several), int(several.max(initial=0)))
        )
    return rows


def threshold_for(counts: LabelCounts, share: float = 0.5) -> float | None:
    """The largest threshold, in hundredths, at which this share of the labels still has an edge; or ``None``."""
    pairs = counts.p_column_given_row().tocoo()
    strongest = np.zeros(len(counts.label_names))
    for ends in (pairs.row, pairs.col):
        np.maximum.at(strongest, ends, pairs.data)
    needed = max(int(np.ceil(share * len(strongest))), 1)
    hundredths = int(np.sort(strongest)[-needed] * 100 + 1e-9)
    return hundredths / 100 if hundredths else None
