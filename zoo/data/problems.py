"""What is wrong with annotations, gathered so that one run shows every kind of problem."""

from __future__ import annotations

from collections import Counter

from zoo.lookup import InputError


class Problems:
    """Kinds of problems, how often each was met, and the first three places of each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def add(self, kind: str, example: str) -> None:
        """Notes one problem.

        Args:
            kind: in the plural, to follow a number: ``"images listed again"``.
            example: the value and its place: ``"000005 (trainval.txt line 7)"``.
        """
        self.counts[kind] += 1
        if self.counts[kind] <= 3:
            self.examples.setdefault(kind, []).append(example)

    def raise_any(self, source: object) -> None:
        """Raises one InputError for all of them, with a line for each kind, unless there is none."""
        lines = [
            f"{count:,} {kind}: {'; '.join(self.examples[kind])}{'; ...' if count > 3 else ''}"
            for kind, count in self.counts.items()
        ]
        if lines:
            raise InputError("\n  ".join([f"{source} cannot be used:", *lines]))
