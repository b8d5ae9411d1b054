"""Networks: callables (x, noise_label, label=None, *, rngs=None) -> array, named in `MODELS`.

Built as `MODELS[name](example_shape, num_classes=..., rngs=nnx.Rngs(0), **options)`.
"""

from unified_diffusion.models.classifier import Classifier
from unified_diffusion.models.mlp import MLP
from unified_diffusion.models.parameters import count_parameters
from unified_diffusion.models.unet import UNet

MODELS = {"unet": UNet, "mlp": MLP, "classifier": Classifier}

__all__ = ["MLP", "MODELS", "Classifier", "UNet", "count_parameters"]
