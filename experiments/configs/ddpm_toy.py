"""DDPM on points in the plane: a minute on two cores."""

from ml_collections import ConfigDict


def get_config():
    return ConfigDict(
        {
            "seed": 0,
            "data": {"name": "toy", "density": "gaussians8"},
            "perturbation": {
                "name": "ddpm",
                "ddpm": {"num_steps": 200, "schedule": "cosine"},
                "ncsn": {"num_steps": 50, "sigma_min": 0.02, "sigma_max": 5.0},
                "ve": {"sigma_min": 0.02, "sigma_max": 5.0},
            },
            "model": {"name": "mlp", "width": 128, "depth": 3},
            "denoiser": {"prediction": "eps", "scale_input": True},
            "objective": {"name": "denoising", "weighting": "simple"},
            "optimizer": {"learning_rate": 2e-3, "warmup_steps": 100, "schedule": "cosine"},
            "training": {
                "steps": 5000,
                "batch_size": 256,
                "ema_decay": 0.995,
                "log_every": 500,
                "checkpoint_every": 2500,
                "sample_every": 2500,
            },
            "sampler": {
                "name": "ancestral",
                **{name: {"clip_x0": False} for name in ("ddim", "euler", "heun", "dpm_solver", "unipc", "pndm")},
                "ancestral": {"clip_x0": False},
                "analytic_dpm": {"clip_x0": False, "last_noise": None},
                "annealed_langevin": {"steps_per_level": 20, "step_size": 0.1},
                "predictor_corrector": {"norms": "expected"},
            },
            "sampling": {"num_images": 5000, "batch_size": 5000},
            "evaluation": {"batch_size": 5000, "bound_examples": 2000, "pairwise": 2000},
        }
    )
