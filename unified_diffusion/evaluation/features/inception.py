"""The standard FID network, through torch-fidelity, which gets the same arrays; its numbers are taken unchanged."""

# torch and torch-fidelity are the extra [fid]; where types are checked they need not be installed.
# pyright: reportMissingImports=false

import contextlib
import dataclasses
import hashlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import softmax

from unified_diffusion.codecs import codec_for
from unified_diffusion.data.cache import cache_dir
from unified_diffusion.evaluation.features.base import FeatureExtractor, Features, Unavailable, spread

NETWORK, VECTORS, LOGITS = "inception-v3-compat", "2048", "logits_unbiased"
NUMBERS = {
    "frechet_distance": "frechet_inception_distance",
    "kernel_distance": "kernel_inception_distance_mean",
    "inception_score": "inception_score_mean",
    "precision": "precision",
    "recall": "recall",
}


@dataclasses.dataclass(frozen=True)
class Inception(FeatureExtractor):
    """torch-fidelity's Inception-v3, converted from the TensorFlow network of 2015-12-05 that FID is defined by.

    Attributes:
        weights: the file of the weights.
        network: the name of the extractor in torch-fidelity.
        layers: the names of two layers, that of the vectors and that of the logits.
    """

    weights: Path
    fingerprint: str
    note: str
    name: str = "inception"
    network: str = NETWORK
    layers: tuple[str, str] = (VECTORS, LOGITS)

    def extract(self, dataset, count=None):
        with _foreign():
            from torch_fidelity import utils

            keywords = self._keywords(dataset, count)
            extractor = utils.create_feature_extractor(self.network, list(self.layers), **keywords)
            found = utils.extract_featuresdict_from_input_id_cached(1, extractor, **keywords)
            vectors, logits = (np.asarray(found[layer]) for layer in self.layers)
        return Features(vectors, softmax(logits.astype(np.float64), axis=1))

    def own_numbers(self, samples, reference, reference_count=None):
        """The FID, KID, inception score, precision and recall that torch-fidelity computes in Inception's features.

        The KID is the mean over 100 subsets of 1,000 examples, or of all examples where there are fewer. The inception
        score is the mean over ten parts.
        """
        with _foreign():
            import torch_fidelity

            keywords = self._keywords(samples, None, reference, reference_count)
            smaller = min(len(keywords["input1"]), len(keywords["input2"]))
            numbers = torch_fidelity.calculate_metrics(
                **keywords,
                **dict.fromkeys(("fid", "kid", "isc", "prc"), True),
                kid_subset_size=min(1000, smaller),
                isc_splits=min(10, len(samples)),
            )
            # The features of the samples serve this run alone, so only those of the reference stay in the cache.
            for path in keywords["cache_root"].glob(f"{keywords['input1_cache_name']}-*"):
                path.unlink(missing_ok=True)  # another process may have measured the same samples
        return {name: float(numbers[key]) for name, key in NUMBERS.items()}

    def _keywords(self, first, first_count, second=None, second_count=None):
        """The arguments of torch-fidelity; they name the extractor, or precision and recall would be in VGG-16's."""
        import torch

        vectors, logits = self.layers
        inputs = {"input1": (first, first_count), "input2": (second, second_count)}
        keywords: dict[str, Any] = {name: _images(*given) for name, given in inputs.items() if given[0] is not None}
        for name in keywords.copy():
            keywords[f"{name}_cache_name"] = _name(*inputs[name])
        return keywords | {
            "feature_extractor": self.network,
            "feature_extractor_weights_path": str(self.weights),
            "feature_layer_isc": logits,
            **{f"feature_layer_{metric}": vectors for metric in ("fid", "kid", "prc")},
            "cuda": torch.cuda.is_available(),
            "cache_root": cache_dir() / "torch_fidelity",
            "save_cpu_ram": True,
            "verbose": False,
        }


def load(train) -> Inception:
    """The Inception network for images; nothing is downloaded.

    torch-fidelity must be installed, and the weights must lie where torch keeps them.

    Raises:
        Unavailable: the data are points, torch-fidelity or the weights are missing, or the weights are damaged.
    """
    if not codec_for(train.shape).are_images:
        raise Unavailable("inception: it is for images, and these data are points")
    if importlib.util.find_spec("torch_fidelity") is None:
        raise Unavailable("inception: torch-fidelity is not installed: pip install 'unified_diffusion[fid]'")
    with _foreign():
        import torch
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

        weights = Path(torch.hub.get_dir()) / "checkpoints" / URL_INCEPTION_V3.rsplit("/")[-1]
    if not weights.is_file():
        raise Unavailable(f"inception: no weights at {weights}: put {URL_INCEPTION_V3} there (95 MB)")
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    if not digest.startswith(weights.stem.rsplit("-")[-1]):
        raise Unavailable(f"inception: {weights} is damaged: download it again from {URL_INCEPTION_V3}")
    return Inception(weights, digest[:16], "torch-fidelity's Inception-v3, and its own numbers")


@contextlib.contextmanager
def _foreign():
    """Turns any error of torch or torch-fidelity into Unavailable, so that the other metrics are not lost with it."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())
        raise Unavailable(f"inception: torch-fidelity failed with {type(error).__name__}: {reason}") from error


def _images(dataset, count):
    """A torch data set of `count` examples: uint8 tensors `[3, H, W]`, where grey images fill all three channels."""
    import torch

    class Images(torch.utils.data.Dataset):
        rows = spread(dataset, count)

        def __len__(self):
            return len(self.rows)

        def __getitem__(self, index):
            image = dataset.gather(self.rows[index : index + 1])["x0"][0]
            image = np.broadcast_to(image, (*image.shape[:2], 3)).transpose(2, 0, 1)
            return torch.from_numpy(np.ascontiguousarray(image))

    return Images()


def _name(dataset, count):
    """The name of `count` images of a data set in the cache of torch-fidelity."""
    return f"{dataset.fingerprint}-{min(count or len(dataset), len(dataset))}"
