"""Which recordings were for training, validation and test, for the record."""

from ..images import Images
from .images import EventImages


def split_text(train: Images, validation: Images, test: Images) -> str:
    """Return a line for each recording: its part, its label and its name, in the order of the parts."""
    parts = {"train": train, "validation": validation, "test": test}
    lines = [
        f"{part} {label} {recording.name}\n"
        for part, images in parts.items()
        if isinstance(images, EventImages)
        for recording, label in zip(images.recordings, images.labels.tolist(), strict=True)
    ]
    return "".join(lines)
