"""Components: what a recipe can name. Each is registered once, where it is defined, with its options.

A component is a class or a function with a name in one of the kinds below. Its options are its keyword parameters that
have a default, or its fields if it is a dataclass. Recipes, command-line options and help texts are made from them::

    from shortcut_snn import components

    @components.surrogate("cosine")
    def cosine(v, *, width: float = 1.0):
        return ...
"""

from .registry import Kind, component_of

__all__ = [
    "Kind", "augmentation", "branch_weight", "component_of", "data", "exporter", "gradient", "head", "logger",
    "lr_schedule", "network", "neuron", "objective", "optimizer", "penalty", "surrogate", "task",
]  # fmt: skip

network = Kind("network", context=("num_classes", "in_channels", "image_size", "make_neuron", "readout"))
neuron = Kind("neuron", context=("detach_membrane",))
surrogate = Kind("surrogate", context=("v",))
objective = Kind("objective", context=("output", "target", "branch_weight", "criterion"))
branch_weight = Kind("branch_weight", context=("step", "total"))
penalty = Kind("penalty", context=("rates",))
gradient = Kind("gradient", context=("layout",))
head = Kind("head", context=("channels", "num_classes"))
task = Kind(
    "task",
    context=("model", "method", "objective", "branch_weight", "optimizer", "lr_schedule", "training", "description"),
)
optimizer = Kind("optimizer", context=("params",))
lr_schedule = Kind("lr_schedule", context=("optimizer", "total"))
augmentation = Kind("augmentation")
data = Kind("data")
logger = Kind("logger", context=("save_dir",))
exporter = Kind("exporter")
