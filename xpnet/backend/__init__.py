"""The one place that knows which array library runs: everything else is written against its namespace `xp`."""

from .elementwise import HasRules, Rule, elementwise
from .graph import Recorder
from .products import sum_outer, times_transposed
from .random import DeviceRandom, Random
from .reduce import max_of, sum_of, sum_product, widened
from .registry import Backend, available_backends, backend_of, get_backend, kind, namespace
from .scatter import index_add, index_add_plain
from .special import erf

__all__ = ["Backend", "DeviceRandom", "HasRules", "Random", "Recorder", "Rule", "available_backends", "backend_of", "elementwise", "erf",
           "get_backend", "index_add", "index_add_plain", "kind", "max_of", "namespace", "sum_of", "sum_outer", "sum_product",
           "times_transposed", "widened"]
