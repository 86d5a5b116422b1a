"""Image data sets as uint8 tensors, and augmentations whose every choice is a function of (seed, epoch, index)."""
