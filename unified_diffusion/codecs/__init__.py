"""Codecs stand between the data and x_0: they say how examples are shown to a model, written, drawn and measured.

`CODECS` names every built-in codec. A new codec is one file and one line here, or a class of one's own that a config
names as "my_module:MyCodec".
"""

from unified_diffusion.codecs.base import Codec
from unified_diffusion.codecs.images import Images
from unified_diffusion.codecs.points import Points
from unified_diffusion.errors import UserError

CODECS = {"images": Images, "points": Points}


def codec_for(example_shape) -> Codec:
    """The built-in codec that goes with the shape of an example: three axes are an image, and one axis is a point.

    A config calls this choice "auto".

    Raises:
        UserError: no built-in codec is for examples of that many axes.
    """
    for codec in CODECS.values():
        if len(example_shape) == codec.rank:
            return codec()
    raise UserError(f"no codec is for examples of shape {tuple(example_shape)}: name your own in config.codec.name")


__all__ = ["CODECS", "Codec", "Images", "Points", "codec_for"]
