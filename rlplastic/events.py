"""TensorBoard's view of a cell. The record is the source of numbers; this is for looking."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import HParam, Logger, TensorBoardOutputFormat
from torch.utils.tensorboard import SummaryWriter

from rlplastic import store
from rlplastic.cell import Cell


class EventFiles(TensorBoardOutputFormat):
    """TensorBoard's files; what an interrupted attempt wrote from `step` on is not shown."""

    def __init__(self, folder: str, step: int | None) -> None:
        self.folder = Path(folder)
        with store.naming(self.folder):
            self.writer = SummaryWriter(log_dir=folder, purge_step=step)
        self._is_closed = False

    def write(
        self,
        key_values: dict[str, Any],
        key_excluded: dict[str, tuple[str, ...]],
        step: int = 0,
    ) -> None:
        """See `KVWriter.write`; a full disk is an error that names the folder."""
        with store.naming(self.folder):
            super().write(key_values, key_excluded, step)

    def close(self) -> None:
        """See `KVWriter.close`."""
        with store.naming(self.folder):
            super().close()


class StreamLogger(Logger):
    """One logger for all lives of a cell, on the stream's clock rather than the agent's age."""

    def __init__(self, folder: store.CellFolder, cell: Cell, step: int | None) -> None:
        super().__init__(str(folder.path), [EventFiles(str(folder.tensorboard), step)])
        self.offset = 0
        if step is not None:
            return
        values: dict[str, bool | str | float | None] = {
            "task": cell.task,
            "agent": cell.agent,
            "arm": cell.arm,
            "seed": cell.seed,
        }
        numbers = {k: v for k, v in cell.hyperparameters.items() if isinstance(v, int | float)}
        values.update(numbers)
        self.record("hparams", HParam(values, {"rollout/ep_rew_mean": 0.0}))

    def dump(self, step: int = 0) -> None:
        """Write what was recorded, at the stream's clock."""
        super().dump(step + self.offset)
