"""NCSN on scikit-learn's 8×8 digits, sampled by annealed Langevin dynamics: all else is `ddpm_digits.py`."""

from experiments.configs import ddpm_digits


def get_config():
    config = ddpm_digits.get_config()
    config.perturbation.name = "ncsn"
    config.sampler.name = "annealed_langevin"
    return config
