"""Components: what a recipe can name, each registered once, beside its definition, and its own configuration.

A component is a class or a function with a name in one of the kinds below. Its options are its fields (of a dataclass)
or the keyword arguments of its signature; their types, defaults and help come from there and from nowhere else. So
recipes, the command's options and its help know whatever has been registered, of this package or of a user's file::

    from shortcut_snn import components

    @components.surrogate("cosine")
    def cosine(v, *, width: float = 1.0):
        return ...
"""

from .entries import Slot, check, hints_of, merge, read, slot, write
from .help import Option, hint_text, options
from .registry import Kind, Settings, kind_and_name, suggestion

__all__ = [
    "Kind", "Option", "Settings", "Slot", "augmentation", "check", "data", "exporter", "gradient", "head", "hint_text",
    "hints_of", "kind_and_name", "logger", "lr_schedule", "merge", "network", "neuron", "objective", "optimizer",
    "options", "read", "schedule", "slot", "suggestion", "surrogate", "task", "write",
]  # fmt: skip

network = Kind("network", ("num_classes", "in_channels", "image_size", "make_neuron", "readout"))
neuron = Kind("neuron", ("detach_membrane",))
surrogate = Kind("surrogate", ("v",))
objective = Kind("objective", ("output", "target", "balance", "criterion"))
schedule = Kind("lambda schedule", ("step", "total"))
gradient = Kind("gradient mechanism")
head = Kind("branch head", ("channels", "num_classes"))
task = Kind(
    "task",
    ("model", "objective", "schedule", "by_epoch", "optimizer", "lr_schedule", "training", "description"),
)
optimizer = Kind("optimizer", ("params",))
lr_schedule = Kind("learning rate schedule", ("optimizer", "total"))
augmentation = Kind("augmentation")
data = Kind("data set")
logger = Kind("logger", ("save_dir",))
exporter = Kind("export format")
