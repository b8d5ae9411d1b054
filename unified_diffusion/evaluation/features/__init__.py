"""Feature extractors by name.

`FEATURES` names every built-in extractor by its function `load(train) -> FeatureExtractor`, which makes the extractor
for the training data, labelled or not, and raises `Unavailable` where it cannot be had. A new extractor is one file and
one line here, or a function of your own, named "my_module:load".
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
    """The pair (extractors, notes): the extractors that can be had, and for each other one a line that says why not.

        extractors, notes = feature_extractors("inception,pixels", train)

    Args:
        names: a comma list of names in `FEATURES` or "module:load"; "none" stands for no extractor. "auto" takes for
            images the first of inception, classifier and pixels that can be had, and for points "pixels", which are
            their coordinates.
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
