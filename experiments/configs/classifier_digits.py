"""A classifier of noisy 8×8 digits, to guide samplers with: a minute on two cores. See `config.sampling.classifier`."""

from experiments.configs import ddpm_digits


def get_config():
    config = ddpm_digits.get_config()
    config.model = {
        "name": "classifier",
        "channels": 32,
        "multipliers": (1, 2),
        "num_blocks": 1,
        "attention_resolutions": (4,),
        "dropout": 0.1,
        "num_groups": 8,
    }
    config.denoiser.conditional = True
    config.objective = {"name": "classification"}
    config.optimizer = {"learning_rate": 1e-3, "warmup_steps": 100, "schedule": "cosine", "weight_decay": 0.05}
    config.training.update({"steps": 1000, "batch_size": 128, "sample_every": 0})
    return config
