"""Places for the labels of a graph: what is linked stands together, and every name finds room.

A network of many labels is laid out as a group-in-a-box (Rodrigues et al. 2011,
https://doi.org/10.1109/PASSAT/SocialCom.2011.139): every community has a rectangle of the page to itself, beside the
communities that it is linked to. Springs alone make a ball of hair of it, and take minutes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int

from zoo.plots.communities import Network
from zoo.plots.page import fit, load

Box = tuple[float, float, float, float]  # Left, bottom, width, height, in inches.

TOGETHER = 120  # Linked labels that springs lay out; of more, every community has a box of its own.
IN_A_BOX = 60  # Labels of a community that Kamada and Kawai's springs lay out, which take seconds for more.
SHAPE = 0.7  # Height of the page by its width.
COVERED = 0.2  # The share of the page that names cover: so there is room to place them.
STEPS, PAIRS_IN_STEPS = 100, 1e7  # Of moving labels apart: fewer steps where there are more pairs of labels.


@dataclass
class Sheet:
    """Where the labels stand on a page of (width, height) inches, y upward.

    Attributes:
        width: of the page.
        height: of the page.
        points: (L, 2).
        boxes: the rectangle and the number of every community that has one to itself.
    """

    width: float
    height: float
    points: Float[np.ndarray, "L 2"]
    boxes: list[tuple[Box, int]] = field(default_factory=list)


def arrange(
    network: Network,
    community: Int[np.ndarray, " L"],
    sizes: Float[np.ndarray, "L 2"],
    radii: Float[np.ndarray, " L"],
) -> Sheet:
    """Lays out a network on a page as large as its names need; labels without a neighbour stand in rows below.

    Args:
        network: see :func:`zoo.plots.communities.network_of`.
        community: of every label.
        sizes: width and height of every name.
        radii: of the dots.
    """
    degree = np.array([network.degree(label) for label in range(len(network))])
    linked, unlinked = np.flatnonzero(degree > 0), np.flatnonzero(degree == 0)
    area = float(sizes[linked].prod(1).sum())
    width = max(float(np.clip(np.sqrt(len(linked)) + 2.5, 7, 13)), (area / COVERED / SHAPE) ** 0.5)
    above = SHAPE * width if len(linked) else 0.0
    column = 0.5 + float(sizes[:, 0].max(initial=0))
    width = max(width, column + 0.3)
    row = 0.12 + float(sizes[unlinked, 1].max(initial=0.2))
    columns = max(1, int((width - 0.3) / column))
    below = row * -(-len(unlinked) // columns) + 0.2
    sheet = Sheet(width, above + below, np.zeros((len(network), 2)))
    for k, label in enumerate(unlinked):
        sheet.points[label] = 0.3 + k % columns * column, below - (0.5 + k // columns) * row

    page = (0.3, below + 0.2, width - 0.6, above - 0.4)
    if len(linked) > TOGETHER:
        _box_communities(network, community, _rooms(sizes, radii), page, sheet)
        return sheet
    components = [sorted(found) for found in load("networkx").connected_components(network) if len(found) > 1]
    components.sort(key=lambda component: (-len(component), component))
    areas = [len(component) + 4.0 for component in components]
    for component, box in zip(map(np.array, components), divide(areas, page), strict=True):
        # Not to the very edge, and a few labels not far apart.
        inner = _inner(box, 0.14 * box[2], 0.08 * box[3], 0.9 * len(component))
        sheet.points[component] = fit(_springs(network, component, TOGETHER), inner)
    return sheet


def _box_communities(
    network: Network,
    community: Int[np.ndarray, " L"],
    rooms: Float[np.ndarray, "L 2"],
    page: Box,
    sheet: Sheet,
) -> None:
    """Fills in the points of all labels that have a neighbour, a box for each of their communities."""
    numbers = np.unique(community[community >= 0])
    groups = [np.flatnonzero(community == number) for number in numbers]
    boxes = divide([_area(rooms[group]) for group in groups], page, _places(network, groups))
    for number, group, box in zip(numbers.tolist(), groups, boxes, strict=True):
        sheet.boxes.append((box, number))
        inner = _inner(box, 0.9, 0.5)
        sheet.points[group] = spread(fit(_springs(network, group, IN_A_BOX), inner), rooms[group], inner)


def _rooms(sizes: Float[np.ndarray, "L 2"], radii: Float[np.ndarray, " L"]) -> Float[np.ndarray, "L 2"]:
    """What a dot and its name below it take: in so much space to itself a name finds its place at hand."""
    return np.stack([np.maximum(sizes[:, 0], 2 * radii) + 0.15, sizes[:, 1] + 2 * radii + 0.05], axis=1)


def _area(rooms: Float[np.ndarray, "L 2"]) -> float:
    """What labels of a community need of the page, with a little for the edges of their box."""
    area = rooms.prod(1)
    return float(area.sum() + 3 * area.mean())


def _inner(box: Box, across: float, up: float, most: float = np.inf) -> Box:
    """What is left of a box within margins that are ``across`` and ``up`` together, no side longer than ``most``."""
    left, bottom, width, height = box
    w, h = min(max(width - across, 0.4 * width), most), min(max(height - up, 0.4 * height), most)
    return left + (width - w) / 2, bottom + (height - h) / 2, w, h


def _springs(network: Network, labels: Int[np.ndarray, " K"], most: int) -> Float[np.ndarray, "K 2"]:
    """Kamada and Kawai's springs (https://doi.org/10.1016/0020-0190(89)90102-6); of more labels than ``most``, those of
    Fruchterman and Reingold (https://doi.org/10.1002/spe.4380211102), which are many times as fast."""
    nx = load("networkx")
    ordered = nx.Graph()  # The nodes of a subgraph come in the order of a set.
    ordered.add_nodes_from(labels.tolist())
    ordered.add_edges_from(network.subgraph(labels.tolist()).edges(data=True))
    if len(labels) > most:
        layout = nx.spring_layout(ordered, weight="share", seed=0, iterations=100)
    else:
        layout = _kamada_kawai(ordered)
    return np.array([layout[label] for label in labels.tolist()])


def _kamada_kawai(network: Network) -> dict[int, Float[np.ndarray, " 2"]]:
    """Their layout, also of a network in parts, as a community may be: these stand a little further apart."""
    nx = load("networkx")
    lengths = sp.csgraph.shortest_path(nx.to_scipy_sparse_array(network, weight="length"), directed=False)
    reached = np.isfinite(lengths)
    lengths[~reached] = 1.5 * lengths[reached].max() or 1.0
    by_label = {i: dict(zip(network, row, strict=True)) for i, row in zip(network, lengths, strict=True)}
    with load("threadpoolctl").threadpool_limits(1):  # Threads wait for each other longer than they work.
        return nx.kamada_kawai_layout(network, dist=by_label)


def _places(network: Network, groups: Sequence[Int[np.ndarray, " _"]]) -> Float[np.ndarray, "G 2"]:
    """Where groups of labels stand to one another, by the edges between them."""
    number = {label: k for k, group in enumerate(groups) for label in group.tolist()}
    between = np.zeros((len(groups), len(groups)))
    for j, i, share in network.edges(data="share"):
        if number[j] != number[i]:
            between[number[j], number[i]] += share
    between += between.T
    # Relative to what chance would have, or a large group would stand next to all others.
    strength = between.sum(0)
    expected = np.outer(strength, strength) / max(strength.sum(), 1e-9)
    nx = load("networkx")
    together = nx.from_numpy_array(np.where(between > 0, (between + 1e-9) / (expected + 1e-9), 0))
    for *_, edge in together.edges(data=True):
        edge["length"] = edge["weight"] ** -0.5
    layout = _kamada_kawai(together)
    return np.array([layout[k] for k in range(len(groups))])


def divide(areas: Sequence[float], box: Box, places: Float[np.ndarray, "N 2"] | None = None) -> list[Box]:
    """Cuts a box in two, the longer side across, and so on, into boxes with these shares of its area.

    Args:
        areas: of the N boxes, in any unit.
        box: what is cut.
        places: where the boxes had better lie, relative to one another; by default they come in their order.
    """
    if len(areas) < 2:
        return [box] * len(areas)
    left, bottom, width, height = box
    across = width > height
    order = np.arange(len(areas))
    if places is not None:
        order = np.argsort(places[:, 0] if across else -places[:, 1], kind="stable")
    sums = np.cumsum(np.asarray(areas)[order])
    cut = 1 + int(np.argmin(np.abs(sums[:-1] / sums[-1] - 0.5)))
    share = float(sums[cut - 1] / sums[-1])
    if across:
        first = (left, bottom, width * share, height)
        second = (left + width * share, bottom, width * (1 - share), height)
    else:
        first = (left, bottom + height * (1 - share), width, height * share)
        second = (left, bottom, width, height * (1 - share))
    boxes = [box] * len(areas)
    for part, of_part in ((order[:cut], first), (order[cut:], second)):
        cuts = divide([areas[k] for k in part], of_part, None if places is None else places[part])
        for k, found in zip(part, cuts, strict=True):
            boxes[k] = found
    return boxes


def spread(
    points: Float[np.ndarray, "N 2"], sizes: Float[np.ndarray, "N 2"], box: Box
) -> Float[np.ndarray, "N 2"]:
    """Moves points within a box until rectangles of these sizes around them do not overlap, if there is room.

    Where two overlap, each gives way by half, along the side on which less is missing, relative to what they need.
    """
    points, low = points.copy(), np.array(box[:2])
    high = low + box[2:]
    needed = (sizes[:, None] + sizes) / 2
    # Points on the very same place go apart in their order.
    order = np.sign(np.arange(len(points))[:, None] - np.arange(len(points)))
    steps = int(np.clip(PAIRS_IN_STEPS / len(points) ** 2, 20, STEPS))
    for _ in range(steps):
        apart = points[:, None] - points
        missing = needed - np.abs(apart)
        overlap = (missing.min(-1) > 1e-3) & (order != 0)
        if not overlap.any():
            break
        direction = np.where(apart == 0, order[..., None], np.sign(apart))
        relative = missing / needed
        narrow = relative == relative.min(-1, keepdims=True)
        push = np.where(overlap[..., None] & narrow, 0.5 * missing * direction, 0).sum(1)
        # In a crowd the pushes add up: no label is thrown across the box.
        points = (points + push.clip(-sizes / 2, sizes / 2)).clip(low, high)
    return points
