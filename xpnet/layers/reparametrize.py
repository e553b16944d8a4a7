"""A random number that gradients pass through."""

from typing import Any

from ..backend import elementwise
from ..errors import whole
from ..layer import Backward, Context, Layer, takes

Array = Any


class Reparametrize(Layer):
    """z = μ + σ ⊙ ε,  ε drawn from N(0, 1), for x = [μ | s] with log-variances s = ln σ²: a sample of N(μ, σ²)

        ∂L/∂μ = ∂L/∂z        ∂L/∂s = ½ ∂L/∂z ⊙ σ ⊙ ε = ½ ∂L/∂z ⊙ (z - μ)

    Drawn so, z is a differentiable function of μ and s, and the chain rule goes through it; ε depends on neither.
    Inference takes the mean, z = μ.
    x: (n, ..., 2k), means and log-variances side by side    z: (n, ..., k)
    features  k
    Raises LayerError for an x whose last axis is not 2k.
    Kingma & Welling (2014), section 2.4.
    """

    def __init__(self, features: int):
        self.out_features = whole("Reparametrize: features", features, 1)
        self.in_features = 2 * self.out_features

    def forward(self, params: dict[str, Any], x: Array, ctx: Context) -> tuple[Array, Backward]:
        xp, k = ctx.xp, self.out_features
        if x.shape[-1:] != (self.in_features,) or x.ndim < 2:
            raise takes(f"(batch, {self.in_features}), {k} means and {k} log-variances,", x)
        mean = x[..., :k]
        if ctx.training:
            noise = ctx.random.normal(xp, mean.shape, x.dtype, x.device)
            z, moved = _sample_rule(xp, mean, x[..., k:], noise)
        else:
            z, moved = 1.0 * mean, xp.zeros_like(mean)

        def backward(dz: Array, input_grad: bool = True) -> tuple[Any, dict[str, Any]]:
            return (xp.concat([dz, 0.5 * (dz * moved)], axis=-1) if input_grad else None), {}

        return z, backward

    def __repr__(self) -> str:
        return f"Reparametrize({self.out_features})"


@elementwise
def _sample_rule(xp: Any, mean: Array, log_var: Array, noise: Array) -> tuple[Array, Array]:
    """z, and z - μ = e^(s/2) ε."""
    moved = xp.exp(0.5 * log_var) * noise
    return mean + moved, moved
