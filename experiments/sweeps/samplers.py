"""One trained network under many samplers, at several numbers of network evaluations."""

from unified_diffusion.perturbations import DDPM
from unified_diffusion.samplers import SAMPLERS

TITLE = "One network under many samplers"
NOTE = """\
One training, with the config's own perturbation, and its network under every sampler at about 10, 20 and 50 network \
evaluations a sample: as many steps as fit in. All samples are drawn from the same seed.

Annealed Langevin dynamics runs on NCSN's ladder, one step at each level and the last denoising one; all others run on \
the network's own perturbation. Everything else is the config's, or the sampler's default."""

EVALUATIONS = (10, 20, 50)
# No measure of the network alone, which is the same in all runs.
CONFIG = {"evaluation.bound": False, "evaluation.num_levels": 5}
# Each a line of the figure: a sampler's name, and its settings.
STEPPED = [
    ("ancestral", {}),
    ("ddim", {}),
    ("ddim", {"eta": 1.0}),
    ("dpm_solver", {}),
    ("dpm_solver", {"stochastic": True}),
    ("unipc", {}),
    ("heun", {}),
    ("pndm", {}),
    ("euler_maruyama", {}),
    ("reverse_diffusion", {}),
    ("predictor_corrector", {}),
]


def stepped(name, options, evaluations):
    """A sampler with the most steps that take no more network evaluations."""

    def cost(steps):
        return SAMPLERS[name](**options, num_steps=steps).num_evaluations(DDPM())

    steps = max(steps for steps in range(1, evaluations + 1) if cost(steps) <= evaluations)
    given = {f"sampler.{option}": value for option, value in options.items()}
    return {"sampler.name": name, **given, "sampler.num_steps": steps}


def langevin(evaluations):
    """Annealed Langevin dynamics on a ladder of NCSN, with the denoising step."""
    ladder = {"under.name": "ncsn", "under.num_steps": evaluations - 1}
    return {"sampler.name": "annealed_langevin", **ladder, "sampler.steps_per_level": 1, "sampler.denoise": True}


def get_sweep():
    runs = [stepped(name, options, number) for name, options in STEPPED for number in EVALUATIONS]
    return [*runs, *map(langevin, EVALUATIONS)]
