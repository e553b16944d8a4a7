"""The gradient check: is every backward pass the derivative of its forward pass, and if not, which is the first that is not?

What `backward` says, a, is compared in float64 with the central difference

    n = (f(x + h) - f(x - h)) / 2h,    h = ∛ε √max(1, |x|), ∛ε = 6.1·10⁻⁶,    by |a - n| / max(|a| + |n|, floor)

Its truncation error is h² f'''/6 and its rounding error about ε|f|/h; their sum is least near h = ∛ε times the length over which f
changes (Press, Teukolsky, Vetterling & Flannery, Numerical Recipes, section 5.7). That length is 1 for a tanh and |x| for a product;
√|x| lies between. The floor is the rounding error / 10⁻⁷: what agrees to rounding is right.

Each layer is checked by itself, f(x) = ⟨y(x), dy⟩, with the x, the parameters and the dy that it has in the network. So no layer
is blamed for what a wrong one handed back to it, and the first wrong one in the order of the backward pass is the culprit. A
container is checked the same way once all that it holds is right, and at last the whole, end to end. Of a large array some entries
are checked, and random directions v: ⟨dy, J v⟩ = ⟨Jᵀ dy, v⟩.

Bands, after the notes of Stanford's CS231n ("Gradient checks"): below 10⁻⁷ is right, above 10⁻⁴ is wrong; between the two is what a
kink or lost precision may do, but no smooth layer in float64: suspicious. (The notes let a deep network go up to 10⁻², since its
errors add; one layer at a time needs no such allowance.)

Kinks: where f has no derivative, n is the mean of the two one-sided slopes, while a is one of them. So an entry that disagrees is
looked at again with a step 64 times smaller. The one-sided slopes of a smooth f are then 64 times closer; at a kink they stay apart.
"""


from .check import gradient_check
from .report import Report, Row

__all__ = ["Report", "Row", "gradient_check"]
