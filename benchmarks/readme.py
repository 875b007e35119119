"""Writes the README's tables from ``benchmarks/results/*.csv``: ``python benchmarks/readme.py``."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

from zoo.metrics import mean_interval

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"


def rows(data: str) -> list[dict[str, str]]:
    """The results of one data set, best first."""
    with (RESULTS / f"{data}_results.csv").open() as file:
        return list(csv.DictReader(file))


def table(data: str) -> str:
    """One data set: every entry."""
    lines = [
        "| model | kind | test mAP | macro F1 | micro F1 | samples F1 | vs best baseline |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows(data):
        gain = (
            f"{float(row['gain_over_baseline']):+.3f} ± {float(row['gain_half_width']):.3f}"
            if row["gain_over_baseline"]
            else "-"
        )
        f1 = " | ".join(f"{float(row[name]):.3f}" for name in ("macro_f1", "micro_f1", "samples_f1"))
        lines.append(f"| `{short(row['entry'])}` | {row['kind']} | {interval(row)} | {f1} | {gain} |")
    first = rows(data)[0]
    lines += [
        "",
        f"Mean of {first['seeds']} seeds ± half of the 95 % t-interval over them, {first['trials']} trials of the "
        f"search an entry, one split. {first['device']}, {first['threads']} threads, torch {first['torch']}.",
        "",
        f"![Test mAP of each entry, with intervals](benchmarks/results/{data}.png)",
    ]
    return "\n".join(lines)


def summary(data_sets: list[str]) -> str:
    """Several data sets: the same entries, test mAP, one column a data set."""
    by_entry: dict[str, dict[str, str]] = {}
    for data in data_sets:
        for row in rows(data):
            by_entry.setdefault(short(row["entry"]), {"kind": row["kind"]})[data] = interval(row)
    lines = [f"| model | kind | {' | '.join(data_sets)} |", "|---|---" + "|---" * len(data_sets) + "|"]
    for entry, cells in by_entry.items():
        values = " | ".join(cells.get(data, "-") for data in data_sets)
        lines.append(f"| `{entry}` | {cells['kind']} | {values} |")
    return "\n".join(lines)


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


def accuracy(section: str, data: str) -> dict[str, dict[str, str]]:
    """One section of the grid on one data set, by entry, best first."""
    with (RESULTS / "accuracy.csv").open(newline="") as file:
        found = [row for row in csv.DictReader(file) if (row["section"], row["data"]) == (section, data)]
    return {short(row["entry"]): row for row in found}


def regimes(data: str, *sections: str) -> str:
    """Regimes in which a graph may help: mAP of the baselines, and what the others add to the best of them.

    Where an entry of all annotations is not in a section, nothing was taken away, and the one without stands for it.
    """
    every = "graph.annotations=all"
    found = {section: accuracy(section, data) for section in sections}
    entries = list(dict.fromkeys(entry for rows in found.values() for entry in sorted(rows)))
    baselines = [name for name in ("linear", "mlp") if name in entries]
    graphs = sorted(name for name in entries if name not in baselines)
    if any(every in name for name in graphs):
        twins = {name.replace(f":{every}", "") for name in graphs if every in name}
        graphs = [name for name in graphs if not (name in twins and name.endswith("shuffled"))]

    def cell(entry: str, rows: dict[str, dict[str, str]]) -> str:
        row = rows.get(entry) or rows.get(entry.replace(f":{every}", ""))
        if row is None:
            return "-"
        if row["kind"] == "baseline":
            return f"{float(row['mAP']):.3f}"
        star = "\\*" if float(row["gain_holm"]) < 0.05 else ""
        return f"{float(row['gain_over_baseline']):+.3f}{star} ± {float(row['gain_half_width']):.3f}"

    chance = " | ".join(f"{float(next(iter(rows.values()))['chance']):.3f}" for rows in found.values())
    lines = [
        f"| {data} | {' | '.join(COLUMNS[section] for section in sections)} |",
        "|---" * (len(sections) + 1) + "|",
        f"| chance | {chance} |",
    ]
    for entry in [*baselines, *graphs]:
        cells = " | ".join(cell(entry, rows) for rows in found.values())
        lines.append(f"| `{entry}` | {cells} |")
    return "\n".join(lines)


def ablation(section: str, *data_sets: str) -> str:
    """One question of the grid: test mAP of its entries, in brackets how much higher that of the training photos is."""
    found = {data: accuracy(section, data) for data in data_sets}
    lines = [f"| {section} | {' | '.join(data_sets)} |", "|---" * (len(data_sets) + 1) + "|"]
    for entry in sorted(found[data_sets[0]]):
        cells = " | ".join(
            f"{interval(rows[entry])} ({float(rows[entry]['train_test_gap']):+.3f})"
            for rows in found.values()
        )
        lines.append(f"| `{entry}` | {cells} |")
    return "\n".join(lines)


def depth(*data_sets: str) -> str:
    """Over-smoothing: mAP, and how alike the labels become layer by layer."""
    found = {data: accuracy("depth", data) for data in data_sets}
    lines = [f"| depth | {' | '.join(data_sets)} |", "|---" * (len(data_sets) + 1) + "|"]
    for entry, row in sorted(found[data_sets[0]].items()):
        if not row["label_similarity"]:
            continue
        cells = []
        for rows in found.values():
            layers = json.loads(rows[entry]["label_similarity"])
            cells.append(f"{interval(rows[entry])} ({', '.join(f'{value:.2f}' for value in layers)})")
        lines.append(f"| `{entry}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def control() -> str:
    """The positive control, a column for each strength of the evidence."""
    with (RESULTS / "accuracy.csv").open(newline="") as file:
        found = [row for row in csv.DictReader(file) if row["section"] == "positive-control"]
    data_sets = sorted({row["data"] for row in found})
    lines = [
        f"| evidence | {' | '.join(name.rpartition('-')[2] for name in data_sets)} |",
        "|---" * (len(data_sets) + 1) + "|",
    ]
    for entry in ("own evidence", "coupled", "coupled:graph=shuffled", "coupled:graph=identity"):
        rows = [next(r for r in found if (r["data"], r["entry"]) == (data, entry)) for data in data_sets]
        cells = (
            f"{float(row['gain_over_baseline']):+.4f} ± {float(row['gain_half_width']):.4f}"
            if row["gain_over_baseline"]
            else f"{float(row['mAP']):.3f}"
            for row in rows
        )
        name = f"`{entry}`" if entry.startswith("coupled") else entry
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def headroom(*data_sets: str) -> str:
    """What all other labels would add to the linear layer."""
    rows = [next(iter(accuracy("headroom", data).values())) for data in data_sets]
    return "\n".join(
        [
            f"| | {' | '.join(data_sets)} |",
            "|---" * (len(data_sets) + 1) + "|",
            f"| mAP of `linear` | {' | '.join('{:.3f}'.format(float(row['base_mAP'])) for row in rows)} |",
            "| all other labels known | "
            + " | ".join(f"{float(row['gain_over_baseline']):+.3f}" for row in rows)
            + " |",
        ]
    )


def speed(*sections: str) -> str:
    """Ratios of times, with the quartiles of their rounds."""
    with (RESULTS / "speed.csv").open(newline="") as file:
        found = [row for row in csv.DictReader(file) if row["section"] in sections]
    lines = ["| work | against | size | ratio | goal |", "|---|---|---|---|---|"]
    for row in found:
        work = row["work"].partition(f" against {row['against']}")[0]
        middle, low, high = (as_ratio(row[key]) for key in ("ratio", "ratio_low", "ratio_high"))
        ratio = f"{middle} ({low}-{high})"
        goal = f"{row['goal']}{'' if row['met'] == 'yes' else ', missed'}" if row["goal"] else ""
        lines.append(f"| {work} | {row['against']} | {row['size']} | {ratio} | {goal} |")
    first = found[0]
    lines += [
        "",
        f"Median of the rounds' ratios, with their quartiles. {first['machine']}, {first['cores']} cores, "
        f"{first['device']}, torch {first['torch']}.",
    ]
    return "\n".join(lines)


def as_ratio(number: str) -> str:
    """A ratio: 1.02, 0.43, 0.0041."""
    value = float(number)
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def unseen_labels() -> str:
    """Labels that a model was not trained on."""
    with (RESULTS / "unseen_labels.csv").open() as file:
        found = list(csv.DictReader(file))
    lines = ["| model | kind | trained labels | labels never seen |", "|---|---|---|---|"]
    for row in found:
        cells = (
            f"{float(row[f'{which}_mAP']):.3f} ± {float(row[f'{which}_mAP_half_width']):.3f}"
            for which in ("seen", "unseen")
        )
        entry = short(row["entry"]).replace("attention_heads=4:feedforward_width=256:width=128", "width=128")
        lines.append(f"| `{entry}` | {row['kind']} | {' | '.join(cells)} |")
    lines.append(f"| chance | | | {float(found[0]['unseen_chance']):.3f} |")
    return "\n".join(lines)


def short(entry: str) -> str:
    """An entry without the backbone, which is the same in all of a table."""
    return re.sub(r"^(\w+)-[^:]+", r"\1", entry)


def interval(row: dict[str, str]) -> str:
    """Mean and half width."""
    return f"{float(row['mAP']):.3f} ± {float(row['mAP_half_width']):.3f}"


def fine_tuning() -> str:
    """Whole networks: test mAP of each entry, at the learning rate that was best on validation."""
    with (RESULTS / "fine_tuning.csv").open() as file:
        found = list(csv.DictReader(file))
    lines = ["| model | test mAP | learning rate, of those tried |", "|---|---|---|"]
    for entry in dict.fromkeys(row["entry"] for row in found):
        own = [row for row in found if row["entry"] == entry]
        kept = [row for row in own if row["test_mAP"]]
        mean, half = mean_interval([float(row["test_mAP"]) for row in kept])
        rates = sorted({float(row["lr"]) for row in own})
        tried = ", ".join(f"{rate:g}" for rate in rates)
        lines.append(f"| `{entry}` | {mean:.3f} ± {half:.3f} | {float(kept[0]['lr']):g} of {tried} |")
    first = found[0]
    lines += [
        "",
        f"{first['data']}, {first['of_epochs']} epochs at {first['img_size']} pixels, mean of {len(kept)} seeds ± half "
        f"of the 95 % t-interval over them. {first['device']}, {first['threads']} threads, torch {first['torch']}.",
        "",
        "![Training loss and validation mAP, epoch by epoch](benchmarks/results/fine_tuning.png)",
    ]
    return "\n".join(lines)


def scale(section: str) -> str:
    """One section of the scaling: all its rows, or of ``labels`` a column for each number of labels."""
    with (RESULTS / "scale.csv").open() as file:
        found = [row for row in csv.DictReader(file) if row["section"] == section]
    if section != "labels":
        lines = ["| work | size | time | peak memory |", "|---|---|---|---|"]
        for row in found:
            peak = memory(float(row["peak_MiB"]))
            lines.append(
                f"| {words(row['work'])} | {row['size']} | {duration(float(row['seconds']))} | {peak} |"
            )
        return "\n".join(lines)
    cells: dict[str, dict[str, str]] = {}
    fits = {}
    for row in found:
        if row["time_exponent"]:
            fits[row["work"]] = f"{float(row['time_exponent']):.2f}, {float(row['memory_exponent']):.2f}"
            fitted = row["size"]
        else:
            cost = f"{duration(float(row['seconds']))}, {memory(float(row['increase_MiB']))}"
            cells.setdefault(row["work"], {})[row["size"]] = cost
    sizes = list(dict.fromkeys(size for own in cells.values() for size in own))
    lines = [f"| time, memory | {' | '.join(sizes)} | exponents |", "|---" * (len(sizes) + 2) + "|"]
    for work, own in cells.items():
        lines.append(f"| {words(work)} | {' | '.join(own.get(size, '-') for size in sizes)} | {fits[work]} |")
    first = found[0]
    lines += [
        "",
        f"Median times, and memory beyond Python and libraries; exponents are fitted to {fitted}. {first['machine']}, "
        f"{first['cores']} cores, torch {first['torch']}.",
        "",
        "![Time and memory against the number of labels](benchmarks/results/scale.png)",
    ]
    return "\n".join(lines)


def words(name: str) -> str:
    """A name of a function as it is read."""
    return name.replace("_", " ")


def duration(seconds: float) -> str:
    """In the unit that suits it."""
    return f"{two_digits(seconds)} s" if seconds >= 1 else f"{two_digits(seconds * 1e3)} ms"


def memory(mebibytes: float) -> str:
    """In the unit that suits it."""
    return f"{two_digits(mebibytes / 2**10)} GiB" if mebibytes >= 2**10 else f"{two_digits(mebibytes)} MiB"


def two_digits(number: float) -> str:
    """A number as exactly as a measurement is."""
    return f"{float(f'{number:.2g}'):,g}"


BLOCKS: dict[str, Callable[[list[str]], str]] = {
    "results": lambda names: table(*names),
    "summary": summary,
    "few labels": lambda names: "\n\n".join(
        regimes(data, "photos-100", "photos-tenth", "rare", "unseen") for data in names
    ),
    "known labels": lambda names: "\n\n".join(
        regimes(data, "known", "known-100", "known-unseen") for data in names
    ),
    "ablation": lambda names: ablation(*names),
    "depth": lambda names: depth(*names),
    "positive control": lambda _: control(),
    "headroom": lambda names: headroom(*names),
    "speed": lambda names: speed(*names),
    "unseen_labels": lambda _: unseen_labels(),
    "fine_tuning": lambda _: fine_tuning(),
    "scale": lambda names: scale(*names),
}


def rendered(text: str) -> str:
    """The README with every block between its markers written anew."""

    def block(match: re.Match[str]) -> str:
        kind, argument = match.group(1), match.group(2)
        body = BLOCKS[kind]([name.strip() for name in argument.split(",")])
        return f"<!-- {kind}: {argument} -->\n{body}\n<!-- end -->"

    return re.sub(rf"<!-- ({'|'.join(BLOCKS)}): (.*?) -->\n.*?<!-- end -->", block, text, flags=re.DOTALL)


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(rendered(readme.read_text()))
