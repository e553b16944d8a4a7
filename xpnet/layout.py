"""Layout: which slice of one contiguous vector is whose.

All parameters of a network are one vector, all gradients another of the same layout. It is sized once from the declared shapes
and never reallocated. Layers do not know that it exists: they are handed views, and return fresh gradients, which are copied in
here, once.
"""

import math
from typing import Any

import numpy as np

from .errors import unknown
from .layer import Layer, Param, draw, flatten, walk_layers, walk_params

Array = Any


class Slot:
    """A parameter's place in the vector. `paths` has more than one entry where it is shared."""

    __slots__ = ("param", "paths", "start", "stop")

    def __init__(self, path: str, param: Param, start: int):
        self.paths = [path]
        self.param = param
        self.start = start
        self.stop = start + math.prod(param.shape)


class Layout:
    """The slices of a network's parameters, in forward order, by readable path such as `0.W`."""

    def __init__(self, net: Layer):
        self.slots: list[Slot] = []
        self.by_path: dict[str, Slot] = {}
        self.size = 0
        by_param: dict[Param, Slot] = {}
        for path, layer in walk_layers(net):
            if any(layer.params()[name] is not p for name, p in layer.params().items()):
                raise TypeError(f"layer {path or 0} ({layer!r}): params() made new Param objects; make them in __init__ and return the "
                                "same at every call, since identity is sharing")
        for path, param in walk_params(net):
            slot = by_param.get(param)
            if slot is None:
                slot = by_param[param] = Slot(path, param, self.size)
                self.slots.append(slot)
                self.size = slot.stop
            else:
                slot.paths.append(path)
            self.by_path[path] = slot
        self._layers = [path for path, _ in walk_layers(net) if path]

    def slot(self, path: str) -> Slot:
        if path not in self.by_path:
            raise unknown("parameter", path, self.by_path)
        return self.by_path[path]

    def initial_vector(self, seed: int) -> np.ndarray:
        """The initial values as one float64 vector on the host."""
        flat = np.zeros(self.size)
        for i, slot in enumerate(self.slots):
            flat[slot.start:slot.stop] = np.reshape(draw(slot.param, seed, i), (-1,))
        return flat

    def parts(self, xp: Any, flat: Array) -> dict[Slot, Array]:
        """Each parameter's part of a vector, in its shape."""
        return {slot: xp.reshape(flat[slot.start:slot.stop], slot.param.shape) for slot in self.slots}

    def views(self, xp: Any, flat: Array) -> dict[str, Any]:
        """The parameters as views of the vector, nested by name: made once, since the vector is never reallocated."""
        made = self.parts(xp, flat)
        tree: dict[str, Any] = {}
        for path in self._layers:                         # a layer without parameters finds its empty place too
            _place(tree, path, {})
        for path, slot in self.by_path.items():
            _place(tree, path, made[slot])
        return tree

    def writer(self, parts: dict[Slot, Array]) -> Any:
        """A function that copies nested gradients into the parts of a vector: the first of a shared parameter is assigned, others add."""
        seen: set[Slot] = set()
        moves = []
        for path, slot in self.by_path.items():
            moves.append((tuple(path.split(".")), parts[slot], slot in seen))
            seen.add(slot)
        checked, own = False, set(map(id, parts.values()))

        def write(grads: dict[str, Any]) -> None:
            nonlocal checked
            if not checked:                               # the first time: an assignment would broadcast a wrong shape
                self._check(grads)
                checked = True
            given = []
            for keys, target, _ in moves:
                g: Any = grads
                for k in keys:
                    g = g[k]
                given.append(g.copy() if id(g) in own and g is not target else g)   # written where another's belongs
            for (_, target, add), g in zip(moves, given):
                if add:
                    target += g
                elif g is not target:
                    target[...] = g

        return write

    def _check(self, grads: dict[str, Any]) -> None:
        given = flatten(grads)
        if set(given) != set(self.by_path):
            missing, extra = sorted(set(self.by_path) - set(given)), sorted(set(given) - set(self.by_path))
            raise ValueError(f"backward's gradients are not those of the parameters: missing {missing}, unknown {extra}")
        for path, g in given.items():
            if tuple(g.shape) != self.by_path[path].param.shape:
                raise ValueError(f"backward returned a gradient of shape {tuple(g.shape)} for {path!r}, the parameter has "
                                 f"{self.by_path[path].param.shape}")

    def mask(self, keep: Any) -> np.ndarray:
        """A host vector over the layout from a number per parameter: `keep(paths, param) -> float`."""
        flat = np.empty(self.size)
        for slot in self.slots:
            flat[slot.start:slot.stop] = keep(slot.paths, slot.param)
        return flat


def _place(tree: dict[str, Any], path: str, value: Any) -> None:
    *parents, name = path.split(".")
    for k in parents:
        tree = tree[k]
    tree[name] = value
