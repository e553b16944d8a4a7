"""The topics, in the order in which one learns: each file adds its own to TOPICS."""

from . import chain, layers, activations, losses, networks, convolution, normalization, recurrent, attention, training, optimizers, judging  # noqa: F401, I001 (the order of TOPICS)
