"""Feature extractors by name.

`FEATURES` names every built-in one; each is `load(train) -> FeatureExtractor`, made for the labelled or unlabelled
training data, and raises `Unavailable` where it cannot be had. A new one is a file here and a line, or named
"my_module:load".
"""

from unified_diffusion.codecs import codec_for
from unified_diffusion.evaluation.features import classifier, inception, pixels
from unified_diffusion.evaluation.features.base import FeatureExtractor, Features, Unavailable, spread
from unified_diffusion.registry import lookup

FEATURES = {
    "inception": inception.load,
    "classifier": classifier.load,
    "pixels": pixels.load,
}

__all__ = ["FEATURES", "FeatureExtractor", "Features", "Unavailable", "feature_extractors", "spread"]


def feature_extractors(names, train):
    """(extractors, notes): those that can be had, and for each of the others a line that says why not.

    Args:
        names: a comma list of names in `FEATURES` or "module:load"; "none" is none; "auto" is for images the first of
            inception, classifier and pixels that can be had, and for points their coordinates, "pixels".
        train: the training data.

    Raises:
        UserError: an unknown name.
    """
    found, notes = [], []
    if names == "none":
        return found, notes
    automatic = FEATURES if codec_for(train.shape).are_images else ("pixels",)
    for name in automatic if names == "auto" else names.split(","):
        try:
            found.append(lookup(FEATURES, name.strip(), "features")(train))
        except Unavailable as reason:
            notes.append(str(reason))
        if found and names == "auto":
            break
    return found, notes
