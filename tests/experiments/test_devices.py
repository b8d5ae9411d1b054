"""Two devices compute what one computes."""

import json

import numpy as np

from experiments.main import main


def test_two_devices_give_the_losses_and_samples_of_one(tiny, start, tmp_path):
    """A process has two devices, and this one has one; the two restore the run to draw the samples again."""
    arguments = [*tiny, "--config.training.steps=30"]
    devices = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    one, two = tmp_path / "one", tmp_path / "two"
    training = start([*arguments, f"--workdir={two}"], **devices)
    assert main([*arguments, f"--workdir={one}"]) == 0
    code, output = training.wait()
    assert code == 0, output
    code, output = start([f"--workdir={two}", "--mode=sample", "--config.sampling.batch_size=20"], **devices).wait()
    assert code == 0, output
    lines = [(workdir / "metrics.jsonl").read_text().splitlines() for workdir in (one, two)]
    losses = [[json.loads(line)["loss"] for line in part] for part in lines]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    samples = [np.load(workdir / "samples.npz")["arr_0"] for workdir in (one, two)]
    np.testing.assert_allclose(*samples, atol=1e-3)
