"""Measure training and sampling on whatever device JAX finds.

python -m experiments.benchmark [--config=NAME.py] [--batch_size=8,64] [--json=FILE] [--config.FIELD=VALUE …]
"""

import argparse
import json
import platform
import resource
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments.main import split_overrides
from unified_diffusion.codecs import codec_for
from unified_diffusion.errors import UserError
from unified_diffusion.files import write_json
from unified_diffusion.keys import named_key
from unified_diffusion.runs import config as configs
from unified_diffusion.runs.build import create
from unified_diffusion.training import initial_state, make_train_step, objective_state, scan_steps
from unified_diffusion.training.mesh import batch_sharding, check_batch_size, data_mesh, place_batch, replicated

SHAPES = {"digits": (8, 8, 1), "cifar10": (32, 32, 3), "toy": (2,)}
COLUMNS = {
    "batch_size": "batch",
    "train_images_per_second": "train images/s",
    "train_tflops": "train TFLOP/s",
    "train_compile_seconds": "compile s",
    "evaluations_per_second": "sampling evaluations/s",
    "sampling_images_per_second": "sampled images/s",
    "sampling_tflops": "sampling TFLOP/s",
    "sampling_compile_seconds": "compile s",
    "sampler_overhead": "sampler / forward",
    "peak_memory_gib": "peak GiB",
}


def main(arguments=None):
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m experiments.benchmark", description=__doc__, allow_abbrev=False)
    parser.add_argument("--config", default="ddpm_cifar.py", help="a file in experiments/configs, or a path")
    parser.add_argument("--batch_size", default="8", help="one or several, 8,64,128")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each figure; the median is told")
    parser.add_argument("--steps", type=int, default=0, help="steps a measurement; 0: 1 on CPU, 20 elsewhere")
    parser.add_argument("--json", help="write the figures to this file, too")
    overrides, rest = split_overrides(sys.argv[1:] if arguments is None else arguments, parser)
    options = parser.parse_args(rest)
    try:
        report = benchmark(options, overrides)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(report))
    print(json.dumps(report))
    if options.json:
        from pathlib import Path

        write_json(Path(options.json), report)
    return 0


def benchmark(options, overrides):
    """The figures of every batch size, with the device and the versions they were measured on."""
    config = configs.resolve(configs.read_config(options.config), overrides)
    shape = example_shape(config["data"])
    experiment = create(config, {"shape": shape, "num_classes": 10})
    try:
        sizes = [int(size) for size in options.batch_size.split(",")]
    except ValueError:
        raise UserError(f"--batch_size={options.batch_size}: give whole numbers, such as 8,64,128") from None
    mesh = data_mesh()
    for size in sizes:
        check_batch_size(size, mesh, "--batch_size")
    steps = options.steps or (1 if jax.default_backend() == "cpu" else 20)
    rows = []
    for size in tqdm(sizes, desc="batch sizes", disable=not sys.stderr.isatty()):
        batch = synthetic_batch(shape, size, experiment.model.conditional)
        row = {"batch_size": size}
        row |= measure_training(experiment, batch, mesh, steps, options.rounds)
        row |= measure_sampling(experiment, batch, mesh, max(steps, 5), options.rounds)
        rows.append(row | {"peak_memory_gib": round(peak_memory() / 2**30, 3)})
    return {
        "config": options.config,
        "overrides": ["=".join(pair) for pair in overrides],
        "dtype": config["model"].get("dtype"),
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(experiment.params)),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "jax": jax.__version__,
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
        "rows": rows,
    }


def measure_training(experiment, batch, mesh, steps, rounds):
    """Images and FLOP a second of the training step, dispatched as the training loop does it."""
    transformation = experiment.optimizer.transformation(experiment.training.steps)
    step = make_train_step(
        experiment.model,
        experiment.objective,
        transformation,
        ema_decay=experiment.training.ema_decay,
        dequantized=experiment.training.dequantize,
        codec=experiment.codec,
    )
    memory = objective_state(experiment.objective, experiment.model.perturbation)
    state = jax.device_put(initial_state(experiment.params, transformation, memory), replicated(mesh))
    key = jax.device_put(named_key(0, "benchmark"), replicated(mesh))
    flops = count_flops(step, state, batch, key)
    if steps == 1:
        function, data = step, place_batch(batch, batch_sharding(mesh))
    else:
        stacked = jax.tree.map(lambda array: np.stack([array] * steps), batch)
        function, data = scan_steps(step), place_batch(stacked, batch_sharding(mesh, leading=1))
    compiled, compile_seconds = compile_timed(jax.jit(function, donate_argnums=0), state, data, key)

    def once(state):
        return jax.block_until_ready(compiled(state, data, key))[0]

    state = once(state)
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        state = once(state)
        seconds.append((time.perf_counter() - start) / steps)
    second = float(np.median(seconds))
    return {
        "train_images_per_second": round(len(batch["x0"]) / second, 2),
        "train_tflops": round(flops / second / 1e12, 4),
        "train_gflop_per_image": round(flops / len(batch["x0"]) / 1e9, 2),
        "train_compile_seconds": round(compile_seconds, 1),
    }


def measure_sampling(experiment, batch, mesh, steps, rounds):
    """Network evaluations and images a second of a sampler of a few steps, and its time over as many forward passes."""
    process, size = experiment.sampled_under, len(batch["x0"])
    sampler, full = shortened(experiment.sampler, steps), experiment.sampler.num_evaluations(process)
    evaluations = sampler.num_evaluations(process)
    denoiser = experiment.for_sampling(experiment.model.denoiser(experiment.params))
    denoiser = jax.device_put(denoiser, replicated(mesh))
    if experiment.model.conditional:
        denoiser = denoiser.given(jax.device_put(jnp.asarray(batch["label"]), batch_sharding(mesh)))
    x = jax.device_put(jnp.zeros((size, *experiment.shape), jnp.float32), batch_sharding(mesh))
    keys = jax.device_put(jax.random.split(named_key(0, "benchmark"), size), batch_sharding(mesh))

    def sample(denoiser, keys):
        return sampler(denoiser, keys, x.shape)

    def forward(denoiser, x):
        return denoiser(x, jnp.asarray(process.times[-1])).x0

    flops = count_flops(forward, denoiser, x)
    sampled, compile_seconds = compile_timed(jax.jit(sample), denoiser, keys)
    single, _ = compile_timed(jax.jit(forward), denoiser, x)
    sampled_seconds, single_seconds = interleaved(
        [lambda: sampled(denoiser, keys), lambda: [single(denoiser, x) for _ in range(evaluations)]], rounds
    )
    rate = size * evaluations / sampled_seconds
    return {
        "evaluations_per_second": round(rate, 2),
        "num_evaluations": full,
        "sampling_images_per_second": float(f"{rate / full:.4g}"),
        "sampling_tflops": round(flops * evaluations / sampled_seconds / 1e12, 4),
        "forward_gflop_per_image": round(flops / size / 1e9, 2),
        "sampling_compile_seconds": round(compile_seconds, 1),
        "timed_evaluations": evaluations,
        "sampler_overhead": round(sampled_seconds / single_seconds, 3),
    }


def shortened(sampler, steps):
    """The sampler with this many steps; annealed Langevin dynamics takes them at one level.

    Raises:
        UserError: a sampler whose number of evaluations is not fixed, or one that must be fitted first.
    """
    name = type(sampler).__name__
    if sampler.adaptive:
        raise UserError(f"{name} takes as many network evaluations as it needs: time one that takes a fixed number")
    short = sampler.with_steps(steps)
    if short.needs_data:
        raise UserError(f"{name} has to be fitted to a trained network first: time another, such as ancestral")
    return short


def count_flops(function, *arguments):
    """The floating-point operations of one call, counted by XLA before it optimises the program.

    The program is lowered for the CPU, whatever device is measured: XLA counts on no other before it compiles, and the
    count is a property of the arithmetic.
    """
    shapes = jax.tree.map(lambda array: jax.ShapeDtypeStruct(array.shape, array.dtype), arguments)
    with jax.default_device(jax.devices("cpu")[0]):
        return jax.jit(function).lower(*shapes).cost_analysis()["flops"]


def compile_timed(function, *arguments):
    """(compiled function, seconds it took to compile)."""
    start = time.perf_counter()
    compiled = function.lower(*arguments).compile()
    return compiled, time.perf_counter() - start


def interleaved(functions, rounds):
    """The median seconds of each function, measured in turn so that noise of the machine falls on all alike."""
    for function in functions:
        jax.block_until_ready(function())
    seconds = [[] for _ in functions]
    for _ in range(rounds):
        for index, function in enumerate(functions):
            start = time.perf_counter()
            jax.block_until_ready(function())
            seconds[index].append(time.perf_counter() - start)
    return [float(np.median(times)) for times in seconds]


def synthetic_batch(shape, size, conditional):
    """Random data of the right kind: speed does not depend on what is in it."""
    generator = np.random.default_rng(0)
    if codec_for(shape).are_images:
        batch = {"x0": generator.integers(0, 256, (size, *shape), dtype=np.uint8)}
    else:
        batch = {"x0": generator.standard_normal((size, *shape)).astype(np.float32)}
    return batch | ({"label": generator.integers(0, 10, size, dtype=np.int32)} if conditional else {})


def example_shape(data):
    """The shape of one example, without loading any."""
    if data["name"] == "folder":
        return (data["image_size"], data["image_size"], data["channels"])
    if data["name"] not in SHAPES:
        raise UserError(f"the benchmark knows the shapes of {', '.join([*SHAPES, 'folder'])}, not of {data['name']!r}")
    return SHAPES[data["name"]]


def peak_memory():
    """Bytes: of the device where it counts them, of this process where it is the device."""
    statistics = jax.local_devices()[0].memory_stats()
    if statistics and "peak_bytes_in_use" in statistics:
        return statistics["peak_bytes_in_use"]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def table(report):
    """The figures as a Markdown table under a line that names the device."""
    head = f"{report['config']} {' '.join(report['overrides'])}".strip()
    lines = [
        f"{head}: {report['parameters']:,} parameters, {report['dtype']}, {report['device']}, JAX {report['jax']}",
        "",
        "| " + " | ".join(COLUMNS.values()) + " |",
        "|" + " --- |" * len(COLUMNS),
    ]
    lines += ["| " + " | ".join(f"{row[name]:,}" for name in COLUMNS) + " |" for row in report["rows"]]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
