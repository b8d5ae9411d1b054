"""NCSN on CIFAR-10, told the classes but for one in ten, for guidance: all else is `ncsn_cifar.py`."""

from experiments.configs import ncsn_cifar


def get_config():
    config = ncsn_cifar.get_config()
    config.denoiser.conditional = True
    config.training.label_dropout = 0.1
    return config
