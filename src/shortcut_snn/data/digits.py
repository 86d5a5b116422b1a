"""scikit-learn's handwritten digits: 1,797 real images of 8x8, installed with the package."""

import numpy as np
import torch

from .config import DataConfig
from .images import ArrayImages
from .source import Source, held_out_test


def read_digits(config: DataConfig) -> Source:
    """Read the digits; scikit-learn has no test set, so a seeded, stratified 20 % become one."""
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ValueError("data.name=digits needs scikit-learn: pip install 'shortcut-snn[train]'") from error
    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    images = ArrayImages(torch.from_numpy(pixels).unsqueeze(1), torch.from_numpy(digits.target))
    return held_out_test(images, [str(digit) for digit in range(10)], config.seed)
