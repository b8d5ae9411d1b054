"""The metrics that a run writes: metrics.jsonl, TensorBoard events, and a line on the screen."""

import collections
import contextlib
import json
import math
import sys
import time
from pathlib import Path

import jax
import numpy as np
import tensorboardX
from tqdm import tqdm

from unified_diffusion.errors import NotFinite
from unified_diffusion.files import write_text


class Metrics:
    """Takes each step's metrics while they are still being computed, and reads them a few dispatches later.

    So the device never waits for the host, the host never runs far ahead, and a loss that is not finite is soon seen.
    A line is written for the first step and every `log_every` steps, with the means since the line before.
    """

    IN_FLIGHT = 2

    def __init__(self, workdir, first_step, last_step, log_every, batch_size):
        self._path = Path(workdir) / "metrics.jsonl"
        self._log_every, self._last_step, self._batch_size = log_every, last_step, batch_size
        self._pending, self._window = collections.deque(), []
        self._time, self._time_step = time.monotonic(), first_step
        _drop_lines_after(self._path, first_step)
        self._file = self._path.open("a")
        self._events = tensorboardX.SummaryWriter(str(Path(workdir) / "tensorboard"), purge_step=first_step + 1)
        self._bar = tqdm(
            total=last_step, initial=first_step, unit="step", disable=not sys.stderr.isatty(), dynamic_ncols=True
        )

    def push(self, step, metrics):
        """Takes the metrics of the steps up to and including `step`: scalars, or arrays with one entry per step."""
        self._pending.append((step, metrics))
        while len(self._pending) > self.IN_FLIGHT:
            self._record(*self._pending.popleft())

    def drain(self):
        """Reads all metrics that are still pending.

        Raises:
            NotFinite: a loss or gradient was not finite; the message names the step.
        """
        while self._pending:
            self._record(*self._pending.popleft())

    @contextlib.contextmanager
    def paused(self):
        """A context for work that is not training, whose time does not count in images/s."""
        start = time.monotonic()
        yield
        self._time += time.monotonic() - start

    def picture(self, name, image, step):
        """Adds an image `[H, W, C]` uint8 to the TensorBoard events."""
        self._events.add_image(name, image, step, dataformats="HWC")

    def close(self):
        """Closes the files and the progress bar."""
        self._bar.close()
        self._events.close()
        self._file.close()

    def _record(self, step, metrics):
        metrics = {name: np.atleast_1d(value) for name, value in jax.device_get(metrics).items()}
        count = len(metrics["loss"])
        for offset in range(count):
            row = {name: float(values[offset]) for name, values in metrics.items()}
            self._check(step - count + 1 + offset, row)
            self._window.append(row)
            if self._is_due(step - count + 1 + offset):
                self._write(step - count + 1 + offset)
        self._bar.update(count)

    def _is_due(self, step):
        return step == 1 or step % self._log_every == 0 or step == self._last_step

    def _check(self, step, row):
        for name, value in row.items():
            if not math.isfinite(value):
                raise NotFinite(f"the {name.replace('_', ' ')} is {value} at step {step}")

    def _write(self, step):
        now = time.monotonic()
        means = {name: float(np.mean([row[name] for row in self._window])) for name in self._window[0]}
        rate = (step - self._time_step) / max(now - self._time, 1e-9)
        self._window, self._time, self._time_step = [], now, step
        line = {"step": step, **means, "images_per_second": round(rate * self._batch_size, 2), "time": time.time()}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        for name in (*means, "images_per_second"):
            self._events.add_scalar(name, line[name], step)
        speed = f"{rate * self._batch_size:,.0f} images/s"
        left = tqdm.format_interval((self._last_step - step) / rate)
        with tqdm.external_write_mode():
            print(f"step {step:,}/{self._last_step:,}  loss {means['loss']:.4f}  {speed}  {left} left", flush=True)


def _drop_lines_after(path, step):
    """Removes the lines of steps after `step`, which an interrupted run wrote and will write again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (json.JSONDecodeError, KeyError):
            continue
    write_text(path, "".join(kept))
