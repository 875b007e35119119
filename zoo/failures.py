"""What goes wrong in the middle of a long run, in words that say what to do about it."""

from __future__ import annotations

import errno
from pathlib import Path

import torch

from zoo.lookup import InputError, message_alone

LESS_MEMORY = "lower batch_size, or keep it and compute it in parts with accumulate"


def explain(error: Exception, folder: Path) -> InputError | None:
    """An error of a training in one line with the way on, or None for one that is a fault of the program.

    Args:
        error: what was raised.
        folder: where the run keeps its checkpoints.
    """
    reason = _reason(error)
    if reason is None:
        return None
    if any(folder.glob("*.ckpt")):
        reason += f". What is finished is kept in {folder}: repeat the command with --resume true to go on from there"
    return InputError(reason)


def _reason(error: Exception) -> str | None:
    text = str(error)
    if isinstance(error, InputError):
        return message_alone(error)
    if isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in text:
        return f"out of memory: {LESS_MEMORY} ({text.splitlines()[0]})"
    if isinstance(error, MemoryError):
        return f"out of memory: {LESS_MEMORY}"
    if isinstance(error, RuntimeError) and "DataLoader worker" in text:
        if "bus error" in text:
            return "a process that reads images ran out of shared memory: enlarge /dev/shm, or lower workers"
        return f"a process that reads images was killed, most often for memory: lower workers or batch_size ({text})"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space left on the disk of {error.filename or 'the run'}"
    if isinstance(error, OSError):
        return text
    return None
