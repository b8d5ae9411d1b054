"""Networks. A network is a callable (x, noise_label, label=None, *, rngs=None) -> array.

`MODELS` names the built-in networks. All of them are built in the same way, with their own options:

    network = MODELS["unet"]((32, 32, 3), num_classes=10, rngs=nnx.Rngs(0), channels=64)
"""

from unified_diffusion.models.classifier import Classifier
from unified_diffusion.models.mlp import MLP
from unified_diffusion.models.parameters import count_parameters
from unified_diffusion.models.unet import UNet

MODELS = {"unet": UNet, "mlp": MLP, "classifier": Classifier}

__all__ = ["MLP", "MODELS", "Classifier", "UNet", "count_parameters"]
