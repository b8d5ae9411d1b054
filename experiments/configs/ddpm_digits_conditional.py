"""DDPM on scikit-learn's 8×8 digits, told the classes but for one in ten, for guidance: else as `ddpm_digits.py`."""

from experiments.configs import ddpm_digits


def get_config():
    config = ddpm_digits.get_config()
    config.denoiser.conditional = True
    config.training.label_dropout = 0.1
    return config
