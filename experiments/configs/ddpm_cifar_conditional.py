"""DDPM on CIFAR-10, told the classes but for one in ten, for guidance: all else is `ddpm_cifar.py`."""

from experiments.configs import ddpm_cifar


def get_config():
    config = ddpm_cifar.get_config()
    config.denoiser.conditional = True
    config.training.label_dropout = 0.1
    return config
