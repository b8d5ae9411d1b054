"""DDPM on CIFAR-10, as published. Ho et al. 2020, appendix B."""

from ml_collections import ConfigDict


def get_config():
    return ConfigDict(
        {
            "seed": 0,
            "data": {"name": "cifar10"},
            "perturbation": {
                "name": "ddpm",
                "ddpm": {"num_steps": 1000, "schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02},
                "ncsn": {"num_steps": 10, "sigma_min": 0.02, "sigma_max": 2.0},
            },
            "model": {
                "name": "unet",
                "channels": 128,
                "multipliers": (1, 2, 2, 2),
                "num_blocks": 2,
                "attention_resolutions": (16,),
                "dropout": 0.1,
                "num_groups": 32,
            },
            "denoiser": {"prediction": "eps"},
            "objective": {"name": "denoising", "weighting": "simple"},
            "optimizer": {"learning_rate": 2e-4, "warmup_steps": 5000, "gradient_clip": 1.0},
            "training": {
                "steps": 800_000,
                "batch_size": 128,
                "ema_decay": 0.9999,
                "flip": True,
                "checkpoint_every": 10_000,
                "sample_every": 50_000,
            },
            "sampler": {
                "name": "ancestral",
                "ancestral": {"variance": "large", "clip_x0": True},
                "annealed_langevin": {"steps_per_level": 100, "step_size": 0.2, "denoise": False},
            },
            "sampling": {"num_images": 50_000, "batch_size": 1000},
        }
    )
