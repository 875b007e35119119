"""Runs of a comparison on a Ray cluster: the same rows as on this machine, many at a time.

Each run is one task, so that Ray repeats it where its worker dies. Only the driver
writes, each run as soon as it arrives: killed and started again, it asks for those that are missing.

All machines need this package in the same version, and the driver's files (photos, label files, weights) under the
same paths. Frozen features that a machine's cache lacks are computed there.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from zoo.bench import Bench, Outcome
from zoo.lookup import InputError
from zoo.ray_worker import Setting, run_here
from zoo.schedule import Schedule

if TYPE_CHECKING:
    import ray

RETRIES = 3  # of a run whose worker died
PATIENCE = 15.0  # seconds in which a cluster has to answer


def run_on_ray(
    schedule: Schedule,
    bench: Bench,
    show: Callable[[str], None],
    *,
    address: str = "local",
    gpus_per_run: float = 0.0,
) -> None:
    """Carries out a schedule on Ray, all plans at the same time.

    A run takes as many CPU cores as this process has threads, since the last digits of sums depend on their number:
    with ``OMP_NUM_THREADS=1`` each core has a run of its own.

    Args:
        schedule: what to run.
        bench: prepared.
        show: is told how many runs are under way.
        address: as :func:`check_cluster` takes it. A connection that this process has already is used as it is.
        gpus_per_run: share of a GPU; 0: runs on CPU, on machines with GPUs too.

    Raises:
        InputError: no machine of the cluster has such a share of a GPU, a run's workers died again and again, or what
            a run itself raises.
    """
    import ray

    with connected(address):
        setting = ray.put(Setting.of(bench))
        task = ray.remote(run_here).options(**_needs(ray.nodes(), gpus_per_run), max_retries=RETRIES)
        running: dict[ray.ObjectRef, Any] = {}
        try:
            while True:
                while job := schedule.take():
                    # In a list, so that Ray hands over the reference and not, with every run, the data set.
                    running[task.remote([setting], job.request)] = job
                if not running:
                    return
                show(f"{len(running)} runs on Ray")
                (done, *_), _ = ray.wait(list(running))
                job = running.pop(done)
                with job.named_in_errors():
                    outcome = _outcome(done)
                schedule.finish(job, outcome)
        finally:
            for reference in running:
                ray.cancel(reference, force=True)


def check_cluster(address: str, gpus_per_run: float = 0.0) -> None:
    """Whether Ray is installed and answers, before anything else takes its time.

    Args:
        address: ``local`` starts Ray on this machine, ``auto`` finds one that runs here, ``host:port`` or
            ``ray://host:port`` is one elsewhere.
        gpus_per_run: as :func:`run_on_ray` takes it.

    Raises:
        InputError: it does not, within :data:`PATIENCE` seconds, or the share of a GPU is none.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise InputError("ray is not installed: pip install 'label-graph-zoo[ray]'") from error
    if not 0 <= gpus_per_run <= 1:
        raise InputError(
            f"gpus_per_run must lie in [0, 1], not {gpus_per_run}: a run trains on one GPU at most"
        )
    if address == "local" or ray.is_initialized():
        return
    if address != "auto":
        host, _, port = address.removeprefix("ray://").rpartition(":")
        if not host or not port.isdecimal():
            raise InputError(f"ray={address!r}: expected local, auto, host:port or ray://host:port")
        try:
            socket.create_connection((host, int(port)), timeout=PATIENCE).close()
        except (OSError, OverflowError) as error:
            raise InputError(f"ray={address!r} cannot be reached: {error}") from error
    if address.startswith("ray://"):
        return
    # Ray itself would try a port that is not its own for minutes, and then end this process.
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check"]
    command += [] if address == "auto" else ["--address", address]
    try:
        healthy = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        healthy = False
    if not healthy:
        advice = (
            "start one with: ray start --head"
            if address == "auto"
            else "its head listens on port 6379 by default"
        )
        raise InputError(f"ray={address!r}: no Ray cluster of this version answers there; {advice}")


@contextmanager
def connected(address: str) -> Iterator[None]:
    """A connection to Ray, for one comparison or for several; one that this process has already is left alone.

    Args:
        address: as :func:`check_cluster` takes it.

    Raises:
        InputError: it cannot be reached.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options["include_dashboard"] = False
    try:
        ray.init(address, **options)
    except ConnectionError as error:
        raise InputError(f"ray={address!r} cannot be reached: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _needs(nodes: list[dict[str, Any]], gpus_per_run: float) -> dict[str, Any]:
    """What a run asks of the cluster, as options of a task."""

    def most(resource: str) -> float:
        return max((node["Resources"].get(resource, 0.0) for node in nodes if node["Alive"]), default=0.0)

    if gpus_per_run > most("GPU"):
        raise InputError(
            f"gpus_per_run={gpus_per_run:g}: no machine of the cluster has more than {most('GPU'):g} GPUs"
        )
    names = ("ZOO_CACHE", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    # Ray would set OMP_NUM_THREADS itself, which NumPy's products go by; torch is told its own number.
    variables = {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": str(os.cpu_count())}
    variables |= {name: os.environ[name] for name in names if name in os.environ}
    if not gpus_per_run:
        variables["CUDA_VISIBLE_DEVICES"] = ""
    return {
        # Asked for more than any machine has, a run would wait forever.
        "num_cpus": 1 if gpus_per_run else min(torch.get_num_threads(), most("CPU")),
        "num_gpus": gpus_per_run,
        "runtime_env": {"env_vars": variables},
    }


def _outcome(reference: ray.ObjectRef) -> Outcome:
    """What a task returned; what it raised is raised here as it was raised there."""
    import ray
    from ray.exceptions import OutOfMemoryError, RayTaskError, WorkerCrashedError

    try:
        return ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, Exception):
            raise error.cause from error
        raise
    except (WorkerCrashedError, OutOfMemoryError) as error:
        raise InputError(
            f"the process that ran it was killed {RETRIES + 1} times, as it is where memory runs out: "
            "have fewer at a time on a machine, with a larger OMP_NUM_THREADS or gpus_per_run"
        ) from error
