"""NCSN on CIFAR-10, as published but for the network, DDPM's U-Net. Song & Ermon 2019, section 5 and appendix B.

The ten sigmas are 1 to 0.01 for data in [0, 1], and so 2 to 0.02 here.
"""

from experiments.configs import ddpm_cifar


def get_config():
    config = ddpm_cifar.get_config()
    config.perturbation.name = "ncsn"
    config.sampler.name = "annealed_langevin"
    config.optimizer = {"learning_rate": 1e-3, "warmup_steps": 0, "gradient_clip": 0.0}
    config.training.update({"steps": 200_000, "ema_decay": 0.0, "dequantize": True})
    return config
