"""Static images: the stem normalises once, and its neuron integrates over time."""

import torch

from shortcut_snn import nets


def test_a_static_image_is_normalised_once() -> None:
    # The unbiased variance that batch normalisation keeps tells how many values it saw.
    network = nets.spiking_resnet18(3, 5, width=2)
    norm = network.stem.spike.norm
    norm.momentum = 1.0
    images = torch.rand(2, 3, 4, 4)
    current = network.stem.conv(images)
    network(images)
    assert norm.num_batches_tracked == 1
    torch.testing.assert_close(norm.running_var, current.var((0, 2, 3), correction=1))
    network(images.expand(5, 2, 3, 4, 4))
    torch.testing.assert_close(norm.running_var, current.expand(5, *current.shape).var((0, 1, 3, 4), correction=1))
