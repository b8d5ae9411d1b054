"""Two devices compute what one computes."""

import json

import numpy as np


def test_two_devices_give_the_losses_and_samples_of_one(tiny, start, tmp_path):
    results = {}
    for devices in (1, 2):
        workdir = tmp_path / str(devices)
        run = start(
            [*tiny, "--config.training.steps=30", f"--workdir={workdir}"],
            XLA_FLAGS=f"--xla_force_host_platform_device_count={devices}",
        )
        code, output = run.wait()
        assert code == 0, output
        again = start(
            [f"--workdir={workdir}", "--mode=sample", "--config.sampling.batch_size=20"],
            XLA_FLAGS=f"--xla_force_host_platform_device_count={devices}",
        )
        code, output = again.wait()
        assert code == 0, output
        losses = [json.loads(line)["loss"] for line in (workdir / "metrics.jsonl").read_text().splitlines()]
        results[devices] = losses, np.load(workdir / "samples.npz")["arr_0"]
    np.testing.assert_allclose(results[1][0], results[2][0], rtol=1e-4)
    np.testing.assert_allclose(results[1][1], results[2][1], atol=1e-3)
