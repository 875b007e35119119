"""The README's tables of time and memory: each function is a block, its arguments what stands after its name."""

from __future__ import annotations

from readme_tables import Row, markdown, read


def speed(*sections: str) -> str:
    """Ratios of times, with the quartiles of their rounds."""
    found = [row for row in read("speed") if row["section"] in sections]
    rows = []
    for row in found:
        work = row["work"].partition(f" against {row['against']}")[0]
        middle, low, high = (as_ratio(row[key]) for key in ("ratio", "ratio_low", "ratio_high"))
        goal = f"{row['goal']}{'' if row['met'] == 'yes' else ', missed'}" if row["goal"] else ""
        rows.append([work, row["against"], row["size"], f"{middle} ({low}-{high})", goal])
    table = markdown(["work", "against", "size", "ratio", "goal"], rows)
    return f"{table}\n\nMedian of the rounds' ratios, with their quartiles. {machine(found[0])}."


def heads(_: str) -> str:
    """Every head against the linear one: time, memory, parameters, FLOPs."""
    found = read("speed", section="heads", device="cpu")
    rows = [
        [
            f"`{row['work'].partition(',')[0]}`",
            two_digits(float(row["ratio"])),
            f"{int(row['peak_MiB']) - int(row['against_peak_MiB']):+d} MiB",
            f"{two_digits(int(row['parameters']) / 1e6)} M",
            f"{two_digits(int(row['flops_image']) / 1e6)} M",
            f"{two_digits(int(row['flops_once']) / 1e6)} M",
        ]
        for row in sorted(found, key=lambda row: float(row["ratio"]))
    ]
    head = ["head", "time / `linear`", "memory - `linear`", "parameters", "FLOPs an image", "FLOPs a pass"]
    return (
        f"{markdown(head, rows)}\n\nForward and backward, {found[0]['size']}; `linear` takes "
        f"{float(found[0]['against_seconds']) * 1e3:.1f} ms. {machine(found[0])}."
    )


def as_ratio(number: str) -> str:
    """A ratio: 1.02, 0.43, 0.0041."""
    value = float(number)
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def scale(*sections: str) -> str:
    """Time and peak memory of great amounts."""
    rows = [
        [words(row["work"]), row["size"], duration(float(row["seconds"])), memory(float(row["peak_MiB"]))]
        for section in sections
        for row in read("scale", section=section)
    ]
    return markdown(["work", "size", "time", "peak memory"], rows)


def labels(_: str) -> str:
    """Time and memory against the number of labels, a column for each."""
    found = read("scale", section="labels")
    measured = [row for row in found if not row["time_exponent"]]
    sizes = list(dict.fromkeys(row["size"] for row in measured))
    cells = {(row["work"], row["size"]): cost(row) for row in measured}
    rows = []
    for fit in (row for row in found if row["time_exponent"]):
        exponents = f"{float(fit['time_exponent']):.2f}, {float(fit['memory_exponent']):.2f}"
        own = (cells.get((fit["work"], size), "-") for size in sizes)
        rows.append([words(fit["work"]), *own, exponents])
        fitted = fit["size"]
    return (
        f"{markdown(['time, memory', *sizes, 'exponents'], rows)}\n\n"
        f"Median times, and memory beyond Python and libraries; exponents are fitted to {fitted}. "
        f"{machine(found[0])}.\n\n![Time and memory against the number of labels](benchmarks/results/scale.png)"
    )


def cost(row: Row) -> str:
    """Time and memory of a piece of work."""
    return f"{duration(float(row['seconds']))}, {memory(float(row['increase_MiB']))}"


def machine(row: Row) -> str:
    """What a row was measured on."""
    return f"{row['machine']}, {row['cores']} cores, torch {row['torch']}"


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
