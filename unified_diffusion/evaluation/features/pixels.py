"""The extractor whose features are the pixels of an image, or the coordinates of a point."""

import dataclasses

import numpy as np

from unified_diffusion.codecs import codec_for
from unified_diffusion.evaluation.features.base import FeatureExtractor, Features, in_batches


@dataclasses.dataclass(frozen=True)
class Pixels(FeatureExtractor):
    """All values of an example, in data units, [-1, 1] for images; these features do not tell what a picture shows."""

    name: str = "pixels"
    fingerprint: str = "pixels"
    note: str = "the values themselves, in data units"

    def extract(self, dataset, count=None):
        return in_batches(_values, dataset, count)


def load(train) -> Pixels:
    """The pixels, for any data."""
    return Pixels()


def _values(examples):
    codec = codec_for(examples.shape[1:])
    return Features(np.asarray(codec.encode(examples)).reshape(len(examples), -1))
