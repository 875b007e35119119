"""The main job: several models on one data set, under one protocol, with the controls that keep it honest.

The protocol. The label graph is counted from the training split alone. For each entry the learning rate and the
L2 strength are searched on the validation split, over the same ranges and with the same number of trials.
The winner is then trained with several seeds, and only these runs ever see the test split. Results are means
with 95 % t-intervals over the seeds, and differences to the best baseline are paired by seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import safetensors.torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from zoo.bench import Bench
from zoo.data import SPLITS, ImageDataset, open_dataset
from zoo.entry import Entry, default_entries, parse_entries, with_controls
from zoo.lookup import InputError
from zoo.protocol import Protocol
from zoo.report import Comparison, Result, provenance
from zoo.run_store import RunStore
from zoo.schedule import Schedule, entry_plan


def compare(
    data: str | Path | ImageDataset = "openmoji",
    models: str | Sequence[str] | None = None,
    *,
    controls: bool = True,
    protocol: Protocol | None = None,
    pretrained: bool | str | Path = True,
    output: str | Path = "runs/compare",
    runs: str | Path | None = None,
    workers: int = 2,
    ray: str | None = None,
    gpus_per_run: float = 0.0,
) -> Comparison:
    """Compares models on one data set and writes a report. A second call goes on where the first one stopped.

    Args:
        data: a data set by name, a label file or folder, or a data set object.
        models: entries such as ``mlgcn-resnet18`` or ``mlgcn-resnet18:conv=GATConv``, as a list or separated
            by commas; by default :func:`zoo.entry.default_entries`.
        controls: whether baselines and controls are added to models that use a label graph.
        protocol: search, seeds and training, the same for all.
        pretrained: the backbones' weights, as :func:`zoo.build` takes them.
        output: the report's folder, which also keeps every finished run,
        runs: unless another folder is to keep them, which several comparisons may share.
        workers: processes that read images.
        ray: address of a Ray cluster to run on, ``auto``, or ``local`` for one on this machine;
            :func:`zoo.ray_runs.check_cluster`. Without it, one run after the other runs here.
        gpus_per_run: share of a GPU that a run on Ray takes; 0: CPU.

    Raises:
        InputError: an unknown name, data that cannot be read, a split without images or without positives,
            a cluster that cannot be reached, and what goes wrong in a run, with its entry.
    """
    if ray is not None:
        from zoo.ray_runs import check_cluster

        check_cluster(ray, gpus_per_run)
    elif gpus_per_run:
        raise InputError(f"gpus_per_run={gpus_per_run:g} is for runs on Ray: give ray=local, or an address")
    protocol = protocol or Protocol()
    dataset = data if isinstance(data, ImageDataset) else open_dataset(data)
    given = default_entries(controls=False) if models is None else parse_entries(models)
    if not given:
        raise InputError("no model to compare; without models, the default ones are compared")
    entries = with_controls(given) if controls else given
    for split in SPLITS:  # raises now, not after an hour
        if not dataset.split(split).annotations.positives().any():
            raise InputError(f"{dataset.name}: no image of split {split!r} is positive for any label")
    bench = Bench(dataset, protocol, pretrained, workers)
    store = RunStore(Path(runs or Path(output) / "runs"))
    comparison = compare_entries(bench, entries, store, ray=ray, gpus_per_run=gpus_per_run)
    comparison.write(output)
    winner = comparison.winner
    entry = next(entry for entry in entries if entry.name == winner.name)
    model = bench.model(entry, seed=0)
    weights = safetensors.torch.load_file(store.weights(winner.runs[0]))
    (model.head if protocol.freeze_backbone else model).load_state_dict(weights)
    model.notes = {"data": dataset.name, "data_protocol": dataset.protocol, "run": winner.runs[0]}
    model.save(Path(output) / "best_model")
    return comparison


def compare_entries(
    bench: Bench,
    entries: Sequence[Entry],
    store: RunStore,
    *,
    ray: str | None = None,
    gpus_per_run: float = 0.0,
) -> Comparison:
    """Runs the protocol of a bench for every entry, here or on Ray, and writes nothing but the finished runs.

    Args:
        bench: data and protocol.
        entries: what is compared.
        store: of the finished runs.
        ray: as :func:`compare` takes it.
        gpus_per_run: likewise.
    """
    dataset, protocol = bench.data, bench.protocol
    bench.prepare(entries)
    schedule = Schedule([entry_plan(entry, protocol) for entry in entries], bench.identity, store)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, transient=True) as progress:
        task = progress.add_task("", total=len(entries) * (protocol.trials + protocol.seeds))

        def show(now: str) -> None:
            progress.update(task, description=now, completed=schedule.finished)

        if ray is None:
            run_in_turn(schedule, bench, show)
        else:
            from zoo.ray_runs import run_on_ray

            run_on_ray(schedule, bench, show, address=ray, gpus_per_run=gpus_per_run)
    results = [
        Result(entry.name, entry.kind, trials, runs, [store.scores(run) for run in runs])
        for entry, (trials, runs) in zip(entries, schedule.results, strict=True)
    ]
    return Comparison(
        data=dataset,
        results=results,
        protocol=asdict(protocol),
        # The protocol's own, whatever an entry made of it.
        graph=bench.graph(Entry("mlgcn-")) if any(entry.kind != "baseline" for entry in entries) else None,
        targets=[bench.question(seed).targets for seed in range(protocol.seeds)],
        provenance=provenance(dataset),
    )


def run_in_turn(schedule: Schedule, bench: Bench, show: Callable[[str], None]) -> None:
    """Carries out a schedule here, one run after the other."""
    while job := schedule.take():
        show(job.name)
        with job.named_in_errors():
            outcome = bench.run(job.request)
        schedule.finish(job, outcome)
