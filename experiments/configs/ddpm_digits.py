"""DDPM on scikit-learn's 8×8 digits: minutes on two cores. `--config.perturbation.name=ncsn` makes it an NCSN."""

from ml_collections import ConfigDict


def get_config():
    return ConfigDict(
        {
            "seed": 0,
            "data": {"name": "digits"},
            "perturbation": {
                "name": "ddpm",
                "ddpm": {"num_steps": 1000, "schedule": "cosine"},
                "ncsn": {"num_steps": 50, "sigma_min": 0.05, "sigma_max": 5.0},
                "ve": {"sigma_min": 0.05, "sigma_max": 5.0},
            },
            "model": {
                "name": "unet",
                "channels": 32,
                "multipliers": (1, 2),
                "num_blocks": 1,
                "attention_resolutions": (4,),
                "dropout": 0.0,
                "num_groups": 8,
            },
            "denoiser": {"prediction": "eps", "scale_input": True},
            "objective": {"name": "denoising", "weighting": "simple"},
            "optimizer": {"learning_rate": 2e-3, "warmup_steps": 100, "schedule": "cosine"},
            "training": {
                "steps": 1400,
                "batch_size": 64,
                "ema_decay": 0.995,
                "checkpoint_every": 700,
                "sample_every": 700,
            },
            "sampler": {
                "name": "ancestral",
                "ancestral": {"num_steps": 50, "variance": "small"},
                "annealed_langevin": {"steps_per_level": 2, "step_size": 0.5},
            },
            "sampling": {"num_images": 1000, "batch_size": 250},
            # The bound of a chain of 100 steps on 128 images: seconds; 0 and 0 are the full one.
            "evaluation": {"num_levels": 25, "bound_steps": 100, "bound_examples": 128},
        }
    )
