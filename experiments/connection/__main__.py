"""Write the page that shows how DDPM and NCSN are connected: index.html, and its numbers in connection.json.

python -m experiments.connection --workdir=DIR
"""

import argparse
import logging
import sys
import time
from pathlib import Path

from unified_diffusion.errors import UserError
from unified_diffusion.files import SUFFIX

OWN = {"index.html", "connection.json", "digits", "mixture", ".lock"}
SECTIONS = ("weightings", "identities", "steps", "gradients", "mixture")


def main(arguments=None):
    """Runs the command line; returns the exit code."""
    logging.basicConfig(format="%(name)s: %(message)s", level=logging.WARNING)
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax warns through it of options that it sets itself
    parser = argparse.ArgumentParser(
        prog="python -m experiments.connection", description=__doc__.partition("\n")[0], allow_abbrev=False
    )
    parser.add_argument("--workdir", type=Path, default=Path("runs/connection"), help="where (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="a rehearsal: hardly trained, few samples, wrong pictures")
    options = parser.parse_args(arguments)
    try:
        check(options.workdir)
        # Here, so that --help and a wrong folder are answered at once.
        from unified_diffusion.runs.folder import locked

        with locked(options.workdir):
            write(options.workdir, options.quick)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def check(workdir):
    """Refuses a folder with anything in it that this command did not write.

    Raises:
        UserError: there is such a thing; it is named.
    """
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"--workdir={workdir} is a file: take a folder")
    strange = [
        path.name
        for path in workdir.glob("*")
        if path.name not in OWN and not is_previous(path.name) and not is_partial(path)
    ]
    if strange:
        raise UserError(f"--workdir={workdir} has other things in it, such as {min(strange)}: take an empty folder")


def is_partial(path):
    """Whether a file is one that a run which was killed while it wrote may have left."""
    return path.suffix == SUFFIX and path.name.rsplit(".", 2)[0] in OWN


def is_previous(name):
    """Whether a file is a kept one: index.1.html, connection.2.json."""
    parts = name.split(".")
    return len(parts) == 3 and parts[1].isdigit() and f"{parts[0]}.{parts[2]}" in OWN


def write(workdir, quick):
    """Makes the sections one after the other, and then the page."""
    import importlib

    import jax

    from experiments.connection.page import page
    from experiments.connection.training import claimed
    from unified_diffusion.files import write_json, write_text
    from unified_diffusion.runs.folder import keep_previous

    sections, seconds = [], {}
    modules = {name: importlib.import_module(f"experiments.connection.{name}") for name in SECTIONS}
    for module in modules.values():
        if hasattr(module, "run"):  # a network to train: is its folder free?
            claimed(*module.run(workdir, quick))
    for number, (name, module) in enumerate(modules.items(), 1):
        print(f"[{number}/{len(SECTIONS)}] {module.TITLE}", flush=True)
        begin = time.monotonic()
        sections.append(module.section(workdir, quick))
        seconds[name] = round(time.monotonic() - begin, 1)
    total = sum(seconds.values())
    html, table = workdir / "index.html", workdir / "connection.json"
    keep_previous(html, table)
    numbers = {name: section.numbers for name, section in zip(SECTIONS, sections, strict=True)}
    write_json(table, {"quick": quick, "seconds": seconds, **numbers})
    devices = f"{jax.device_count()} × {jax.devices()[0].device_kind}"
    write_text(html, page(sections, quick=quick, seconds=total, devices=devices, jax=jax.__version__))
    print(f"wrote {html} and {table} in {total:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
