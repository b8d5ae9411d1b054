"""Each trained network under each perturbation's sampler: two trainings, and three samplings of each."""

TITLE = "Each network under each perturbation's sampler"
NOTE = """\
A network trained under one perturbation is read under another by matching the log-SNR. So DDPM's network can run \
NCSN's annealed Langevin dynamics on NCSN's ladder, and NCSN's network can run DDPM's chain backwards.

Every sampling takes 100 network evaluations: 100 ancestral steps; or 33 levels of 3 Langevin steps and the last \
denoising one. Ancestral sampling on NCSN's ladder stands between the two: it changes the ladder and not the kind of \
step. The bound and the test errors are the networks' own, under the perturbation that each was trained with."""

LEVELS = 1000
CONFIG = {"perturbation.num_steps": LEVELS}
STEPS, LANGEVIN_LEVELS, STEPS_PER_LEVEL = 100, 33, 3


def ancestral(ladder):
    """Ancestral sampling on a ladder of all levels."""
    kind = {"under.name": ladder, "sampler.name": "ancestral"}
    return {**kind, "under.num_steps": LEVELS, "sampler.num_steps": STEPS}


def langevin(ladder):
    """Annealed Langevin dynamics on a shorter ladder, with the denoising step."""
    kind = {"under.name": ladder, "sampler.name": "annealed_langevin"}
    steps = {"under.num_steps": LANGEVIN_LEVELS, "sampler.steps_per_level": STEPS_PER_LEVEL}
    return {**kind, **steps, "sampler.denoise": True}


SAMPLINGS = [ancestral("ddpm"), ancestral("ncsn"), langevin("ncsn")]


def get_sweep():
    return [
        {"perturbation.name": perturbation, **sampling} for perturbation in ("ddpm", "ncsn") for sampling in SAMPLINGS
    ]
