"""Train, sample, evaluate, interpolate or inpaint with one config.

python -m experiments.main --config=NAME.py [--workdir=DIR]
    [--mode=train|sample|eval|interpolate|inpaint] [--config.FIELD=VALUE …]
"""

import argparse
import logging
import sys
from pathlib import Path

from unified_diffusion.errors import UserError


def main(arguments=None):
    """Runs the command line; returns the exit code."""
    logging.basicConfig(format="%(name)s: %(message)s", level=logging.WARNING)
    # Orbax warns through absl of every option that it sets itself.
    logging.getLogger("absl").setLevel(logging.ERROR)
    options, overrides = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        return run(options, overrides)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; what was trained is in its checkpoints", file=sys.stderr)
        return 130


def parse(arguments):
    """(options, overrides): what argparse knows, and the pairs of --config.FIELD=VALUE."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.main",
        description="Train, sample, evaluate, interpolate or inpaint with one config.",
        epilog="--config.FIELD=VALUE sets a field: --config.perturbation.name=ncsn --config.training.steps=1000",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", help="a file in experiments/configs, or a path; all modes but train know their run's own"
    )
    parser.add_argument("--workdir", type=Path, help="the run's folder (default: runs/NAME of the config)")
    parser.add_argument("--mode", default="train", choices=("train", "sample", "eval", "interpolate", "inpaint"))
    overrides, rest = split_overrides(arguments, parser)
    options = parser.parse_args(rest)
    if options.config is None and (options.mode == "train" or options.workdir is None):
        parser.error("--config=NAME.py is needed" + ("" if options.mode == "train" else ", or --workdir=DIR of a run"))
    if options.workdir is None:
        options.workdir = Path("runs") / Path(options.config).stem
    return options, overrides


def split_overrides(arguments, parser):
    """(pairs of --config.FIELD=VALUE, all other arguments)."""
    overrides, rest = [], []
    pending = iter(arguments)
    for argument in pending:
        if not argument.startswith("--config."):
            rest.append(argument)
            continue
        field, equals, value = argument.removeprefix("--config.").partition("=")
        value = value if equals else next(pending, None)
        if value is None:
            parser.error(f"{argument} needs a value: {argument}=VALUE")
        overrides.append((field, value))
    return overrides, rest


def run(options, overrides):
    """Does what the options say; returns the exit code."""
    # Here, so that --help and a mistyped option answer at once.
    from unified_diffusion.runs import commands
    from unified_diffusion.runs.folder import reopened

    if options.mode == "train":
        return commands.start(options.config, options.workdir, overrides)
    later_modes = {
        "sample": commands.sample,
        "eval": commands.evaluate,
        "interpolate": commands.interpolate,
        "inpaint": commands.inpaint,
    }
    return later_modes[options.mode](reopened(options.workdir, overrides, options.config), options.workdir)


if __name__ == "__main__":
    sys.exit(main())
