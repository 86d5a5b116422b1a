import numpy as np
import pytest
import torch

from shortcut_snn.data import ArrayImages


def make(count: int = 6) -> ArrayImages:
    return ArrayImages(
        torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 2, 3, 4), torch.arange(count)
    )


def test_an_item_is_a_uint8_image_and_an_int() -> None:
    image, label = make()[4]
    assert image.dtype == torch.uint8
    assert image.shape == (2, 3, 4)
    assert (image == 4).all()
    assert label == 4
    assert isinstance(label, int)
    assert make()[-1][1] == 5


def test_what_is_fetched_is_a_copy() -> None:
    images = make()
    images.fetch([1, 1, 2]).zero_()
    assert int(images[1][0].max()) == 1


def test_a_subset_keeps_order_and_may_be_empty() -> None:
    chosen = make().subset(np.array([3, 1]))
    assert [label for _, label in chosen] == [3, 1]
    empty = make().subset([])
    assert len(empty) == 0
    assert empty.shape == (2, 3, 4)


def test_other_tensors_are_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        ArrayImages(torch.zeros(2, 1, 4, 4), torch.zeros(2))
    with pytest.raises(ValueError, match="labels"):
        ArrayImages(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(3))
