"""NCSN on points in the plane, sampled by annealed Langevin dynamics: all else is `ddpm_toy.py`."""

from experiments.configs import ddpm_toy


def get_config():
    config = ddpm_toy.get_config()
    config.perturbation.name = "ncsn"
    config.sampler.name = "annealed_langevin"
    return config
