"""Every weighting under both perturbations: which of them is better, for what?

`--grid='seed=0,1'` gives each setting two seeds; `--only='objective.weighting=simple,vlb'` takes some weightings alone.
"""

from unified_diffusion.objectives import WEIGHTINGS

TITLE = "Weightings of the noise levels, under both perturbations"
NOTE = """\
Each run is one weighting w(t) of the squared error in ε, divided by its mean over the noise levels, under DDPM's or \
NCSN's perturbation. The network, the data and their order, the number of steps and the noise levels drawn are the same.

Both ladders have 1,000 levels and both are sampled by the ancestral sampler, with the same number of network \
evaluations from the same noise. NCSN's own sampler, annealed Langevin dynamics, is compared in the sweep swap.py."""

# One length of both ladders: then a sampler of N steps is N steps on each, and so is the chain of the bound.
LEVELS = 1000
CONFIG = {"perturbation.num_steps": LEVELS, "objective.normalize": True, "sampler.name": "ancestral"}


def get_sweep():
    return [
        {"objective.weighting": weighting, "perturbation.name": perturbation}
        for weighting in WEIGHTINGS
        for perturbation in ("ddpm", "ncsn")
    ]
