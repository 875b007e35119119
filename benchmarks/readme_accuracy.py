"""The README's tables of accuracy: each function is a block, its arguments are what stands after the block's name."""

from __future__ import annotations

import json

from overview import EVERY
from readme_tables import Row, gain, interval, markdown, read, short

from zoo.metrics import mean_interval

# Sections of accuracy.csv as the README's columns call them.
COLUMNS = {
    "photos-100": "100 photos",
    "photos-tenth": "a tenth of the photos",
    "rare": "2 positives",
    "unseen": "never seen",
    "known": "all photos",
    "known-100": "100 photos",
    "known-unseen": "never seen",
}


def section_of(section: str, data: str) -> dict[str, Row]:
    """One section of the grid on one data set, by entry, best first."""
    return {short(row["entry"]): row for row in read("accuracy", section=section, data=data)}


def results(name: str) -> str:
    """One comparison: every entry, and its picture."""
    found = read(f"{name}_results")
    rows = []
    for row in found:
        f1 = (f"{float(row[metric]):.3f}" for metric in ("macro_f1", "micro_f1", "samples_f1"))
        rows.append([f"`{short(row['entry'])}`", row["kind"], interval(row), *f1, gain(row)])
    first = found[0]
    head = ["model", "kind", "test mAP", "macro F1", "micro F1", "samples F1", "vs best baseline"]
    return (
        f"{markdown(head, rows)}\n\n"
        f"Mean of {first['seeds']} seeds ± half of the 95 % t-interval over them, {first['trials']} trials of the "
        f"search an entry, one split. {first['device']}, {first['threads']} threads, torch {first['torch']}.\n\n"
        f"![Test mAP of each entry, with intervals](benchmarks/results/{name}.png)"
    )


def overall(*data_sets: str) -> str:
    """Test mAP of the same entries on several data sets, in the order of the first."""
    found = {data: section_of("overall", data) for data in data_sets}
    entries = dict.fromkeys(entry for rows in found.values() for entry in rows)
    kinds = {entry: row["kind"] for rows in found.values() for entry, row in rows.items()}
    return markdown(
        ["model", "kind", *data_sets],
        (
            [
                f"`{entry}`",
                kinds[entry],
                *(interval(rows[entry]) if entry in rows else "-" for rows in found.values()),
            ]
            for entry in entries
        ),
    )


def few_labels(*data_sets: str) -> str:
    """What is left where photos or labels are taken away."""
    return "\n\n".join(regimes(data, "photos-100", "photos-tenth", "rare", "unseen") for data in data_sets)


def known_labels(*data_sets: str) -> str:
    """What known labels add."""
    return "\n\n".join(regimes(data, "known", "known-100", "known-unseen") for data in data_sets)


def regimes(data: str, *sections: str) -> str:
    """Regimes in which a graph may help: mAP of the baselines, and what the others add to the best of them.

    Where an entry of all annotations is not in a section, nothing was taken away, and the one without stands for it.
    """
    found = {section: section_of(section, data) for section in sections}
    entries = list(dict.fromkeys(entry for rows in found.values() for entry in sorted(rows)))
    baselines = [name for name in ("linear", "mlp") if name in entries]
    graphs = sorted(name for name in entries if name not in baselines)
    twins = {name.replace(f":{EVERY}", "") for name in graphs if EVERY in name}
    graphs = [name for name in graphs if not (name in twins and name.endswith("shuffled"))]

    def cell(entry: str, rows: dict[str, Row]) -> str:
        row = rows.get(entry) or rows.get(entry.replace(f":{EVERY}", ""))
        if row is None:
            return "-"
        if row["kind"] == "baseline":
            return f"{float(row['mAP']):.3f}"
        star = "\\*" if float(row["gain_holm"]) < 0.05 else ""
        return gain(row).replace(" ±", f"{star} ±")

    chance = [f"{float(next(iter(rows.values()))['chance']):.3f}" for rows in found.values()]
    return markdown(
        [data, *(COLUMNS[section] for section in sections)],
        [
            ["chance", *chance],
            *([f"`{entry}`", *(cell(entry, rows) for rows in found.values())] for entry in [*baselines, *graphs]),
        ],
    )  # fmt: skip


def ablation(section: str, *data_sets: str) -> str:
    """One question of the grid: test mAP of its entries, in brackets how much higher that of the training photos is."""
    found = {data: section_of(section, data) for data in data_sets}
    rows = []
    for entry in sorted(found[data_sets[0]]):
        own = (rows_of[entry] for rows_of in found.values())
        rows.append(
            [f"`{entry}`", *(f"{interval(row)} ({float(row['train_test_gap']):+.3f})" for row in own)]
        )
    return markdown([section, *data_sets], rows)


VARIED = ("p", "normalisation", "vectors", "pooling", "loss", "noise", "missing")


def variants(*data_sets: str) -> str:
    """The other questions of the grid: test mAP of their entries, a group of rows for each."""
    rows = []
    for section in VARIED:
        found = {data: section_of(section, data) for data in data_sets}
        for k, entry in enumerate(sorted(found[data_sets[0]])):
            cells = (interval(rows_of[entry]) for rows_of in found.values())
            rows.append([section if k == 0 else "", f"`{entry}`", *cells])
    return markdown(["question", "model", *data_sets], rows)


def depth(*data_sets: str) -> str:
    """Over-smoothing: mAP, and how alike the labels become layer by layer."""
    found = {data: section_of("depth", data) for data in data_sets}
    rows = []
    for entry, first in sorted(found[data_sets[0]].items()):
        if not first["label_similarity"]:
            continue
        cells = []
        for row in (rows_of[entry] for rows_of in found.values()):
            layers = json.loads(row["label_similarity"])
            cells.append(f"{interval(row)} ({', '.join(f'{value:.2f}' for value in layers)})")
        rows.append([f"`{entry}`", *cells])
    return markdown(["depth", *data_sets], rows)


def positive_control(_: str) -> str:
    """Simulated evidence, a column for each strength of it."""
    found = read("accuracy", section="positive-control")
    data_sets = sorted({row["data"] for row in found})
    rows = []
    for entry in ("own evidence", "coupled", "coupled:graph=shuffled", "coupled:graph=identity"):
        own = [next(r for r in found if (r["data"], r["entry"]) == (data, entry)) for data in data_sets]
        cells = (gain(row, 4) if row["gain_over_baseline"] else f"{float(row['mAP']):.3f}" for row in own)
        rows.append([f"`{entry}`" if entry.startswith("coupled") else entry, *cells])
    return markdown(["evidence", *(name.rpartition("-")[2] for name in data_sets)], rows)


def headroom(*data_sets: str) -> str:
    """What all other labels would add to the linear layer."""
    found = [next(iter(section_of("headroom", data).values())) for data in data_sets]
    return markdown(
        ["", *data_sets],
        [
            ["mAP of `linear`", *(f"{float(row['base_mAP']):.3f}" for row in found)],
            ["all other labels known", *(f"{float(row['gain_over_baseline']):+.3f}" for row in found)],
        ],
    )


def unseen_labels(_: str) -> str:
    """Labels that a model was not trained on."""
    found = read("unseen_labels")
    rows = []
    for row in found:
        entry = short(row["entry"]).replace("attention_heads=4:feedforward_width=256:width=128", "width=128")
        rows.append([f"`{entry}`", row["kind"], interval(row, "seen_mAP"), interval(row, "unseen_mAP")])
    rows.append(["chance", "", "", f"{float(found[0]['unseen_chance']):.3f}"])
    return markdown(["model", "kind", "trained labels", "labels never seen"], rows)


def fine_tuning(_: str) -> str:
    """Whole networks: test mAP of each entry, at the learning rate that was best on validation."""
    found = read("fine_tuning")
    rows = []
    for entry in dict.fromkeys(row["entry"] for row in found):
        own = [row for row in found if row["entry"] == entry]
        kept = [row for row in own if row["test_mAP"]]
        mean, half = mean_interval([float(row["test_mAP"]) for row in kept])
        tried = ", ".join(f"{rate:g}" for rate in sorted({float(row["lr"]) for row in own}))
        rows.append([f"`{entry}`", f"{mean:.3f} ± {half:.3f}", f"{float(kept[0]['lr']):g} of {tried}"])
    first = found[0]
    return (
        f"{markdown(['model', 'test mAP', 'learning rate, of those tried'], rows)}\n\n"
        f"{first['data']}, {first['of_epochs']} epochs at {first['img_size']} pixels, mean of {len(kept)} seeds ± half "
        f"of the 95 % t-interval over them. {first['device']}, {first['threads']} threads, torch {first['torch']}.\n\n"
        "![Training loss and validation mAP, epoch by epoch](benchmarks/results/fine_tuning.png)"
    )
