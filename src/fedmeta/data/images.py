"""Reads greyscale images from their files' bytes."""

import io

import numpy as np

from fedmeta._extras import need
from fedmeta.errors import DataError

LARGEST = 1 << 12
"""Pixels of a side, at most."""


def grey(content: bytes) -> np.ndarray:
    """Return an image's brightness, uint8 of shape [height, width], 255 being white.

    Raises:
        DataError: it is no image, a damaged one, or a side of it is above 4,096 pixels.
        MissingPackage: the extra `images` is not installed.
    """
    pillow = need("PIL.Image", "reading images")
    try:
        with pillow.open(io.BytesIO(content), formats=("PNG",)) as image:
            if max(image.size) > LARGEST:
                raise DataError(f"it has {image.size[0]} x {image.size[1]} pixels; at most {LARGEST} a side are read")
            return np.asarray(image.convert("L"))
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"it is no whole PNG image ({error})") from error
