"""Which runs of a comparison may begin, and what has come of them; where they run is not decided here.

Each entry has a plan, which asks for runs a batch at a time, since its search goes on from what its trials have given.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from zoo.bench import Outcome
from zoo.entry import Entry
from zoo.lookup import InputError, message_alone
from zoo.protocol import EXPLORING, Protocol
from zoo.run_identity import RunRequest
from zoo.run_store import RunStore

Row = dict[str, Any]
# Yields runs that need nothing of each other, is sent their rows, and returns those of the search and of the seeds.
Plan = Generator[list[RunRequest], list[Row], tuple[list[Row], list[Row]]]


def entry_plan(entry: Entry, protocol: Protocol) -> Plan:
    """The runs of one entry: the search, then its best point with every seed."""

    def trial(lr: float, weight_decay: float) -> RunRequest:
        return RunRequest(entry, lr, weight_decay, seed=0, test=False)

    # The first points explore: they are the same whatever the trials before them gave.
    exploring = [protocol.next_point([{}] * i) for i in range(min(EXPLORING, protocol.trials))]
    trials = yield [trial(*point) for point in exploring]
    while len(trials) < protocol.trials:
        trials = trials + (yield [trial(*protocol.next_point(trials))])
    best = max(trials, key=lambda row: row["val_mAP"])
    seeds = range(protocol.seeds)
    runs = yield [RunRequest(entry, best["lr"], best["weight_decay"], seed, test=True) for seed in seeds]
    return trials, runs


@dataclass(frozen=True)
class Job:
    """A run that may begin.

    Attributes:
        request: what to run.
        identity: its part of the row, known before it runs.
        plan: number of the plan that waits for it.
        place: in the plan's batch.
    """

    request: RunRequest
    identity: Row
    plan: int
    place: int

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.request.entry.name}: {f'seed {self.request.seed}' if self.request.test else 'search'}"

    @contextmanager
    def named_in_errors(self) -> Iterator[None]:
        """Whatever goes wrong within says whose run it was."""
        try:
            yield
        except InputError as error:
            raise InputError(f"{self.request.entry.name}: {message_alone(error)}") from error
        except Exception as error:
            error.add_note(f"in a run of {self.request.entry.name}")
            raise


class Schedule:
    """Carries out plans with the help of whoever takes jobs from it, and keeps what comes back.

    Runs that the store has are never given out.

    Args:
        plans: one an entry.
        identify: the identity of a run, with its key under ``run``.
        store: of finished runs.
    """

    def __init__(self, plans: Sequence[Plan], identify: Callable[[RunRequest], Row], store: RunStore) -> None:
        self._plans, self._identify, self._store = plans, identify, store
        self._rows: list[list[Row | None]] = [[] for _ in plans]  # of the batch that each plan waits for
        self._waiting: list[Job] = []
        self._results: list[tuple[list[Row], list[Row]] | None] = [None] * len(plans)
        self.finished = 0  # runs, those found in the store too
        for number in reversed(range(len(plans))):
            self._go_on(number, next(plans[number]))

    def take(self) -> Job | None:
        """The next run that may begin, those of the first plans first; None if there is none now."""
        return self._waiting.pop(0) if self._waiting else None

    def finish(self, job: Job, outcome: Outcome) -> None:
        """Keeps the outcome of a job, in the store before anywhere else."""
        row = job.identity | outcome.measured
        self._store.put(row, outcome.scores, outcome.weights)
        self._rows[job.plan][job.place] = row
        self.finished += 1
        self._send_complete_batches(job.plan)

    @property
    def results(self) -> list[tuple[list[Row], list[Row]]]:
        """Rows of the search and of the seeds, for each plan, once all jobs are finished."""
        return [result for result in self._results if result is not None]

    def _go_on(self, number: int, requests: list[RunRequest]) -> None:
        identities = [self._identify(request) for request in requests]
        self._rows[number] = rows = [self._store.get(identity["run"]) for identity in identities]
        jobs = [
            Job(request, identity, number, place)
            for place, (request, identity, row) in enumerate(zip(requests, identities, rows, strict=True))
            if row is None
        ]
        self.finished += len(rows) - len(jobs)
        self._waiting[:0] = jobs
        self._send_complete_batches(number)

    def _send_complete_batches(self, number: int) -> None:
        rows = [row for row in self._rows[number] if row is not None]
        if len(rows) < len(self._rows[number]):
            return
        try:
            requests = self._plans[number].send(rows)
        except StopIteration as end:
            self._results[number] = end.value
        else:
            self._go_on(number, requests)
