"""The letters of an explanation: W⁽⁰⁾ is the parameter `0.W`, a⁽⁰⁾ the output of layer 0, δ⁽⁰⁾ the gradient of its z."""

from typing import NamedTuple


class Symbol(NamedTuple):
    """letter  as it is written in formulas: "W", "z", "lr"
    path    of the layer it belongs to, "" for none; it is the superscript
    grad    "L" where it is ∂L/∂(letter), "ℓ" where it is that of each sample's own loss, else empty
    via     of a gradient that is one part of several which add: the path of the layer that it comes through
    """

    letter: str
    path: str = ""
    grad: str = ""
    via: str | None = None

    def gradient(self, via: str | None = None) -> "Symbol":
        return Symbol(self.letter, self.path, "L", via)

    @property
    def text(self) -> str:
        """In Unicode, for a terminal."""
        letter = letters(self.letter)[0] + superscript(self.path)
        if not self.grad:
            return letter
        made = f"δ{superscript(self.path)}" if self.letter == "z" else f"∂{self.grad}/∂{letter}"
        return made if self.via is None else f"{made}|{self.via or 'here'}"

    @property
    def latex(self) -> str:
        letter = letters(self.letter)[1] + (f"^{{({self.path})}}" if self.path else "")
        if not self.grad:
            return letter
        made = f"\\delta^{{({self.path})}}" if self.letter == "z" and self.path else "\\delta" if self.letter == "z" else \
            f"\\frac{{\\partial {self.grad.replace('ℓ', chr(92) + 'ell')}}}{{\\partial {letter}}}"
        return made if self.via is None else f"\\left.{made}\\right|_{{{self.via or '0'}}}"


def parameter(name: str, path: str) -> Symbol:
    """The symbol of a layer's parameter. A slope `a` is α: a is the output of a layer."""
    return Symbol("alpha" if name == "a" else name, path)


def letters(name: str) -> tuple[str, str]:
    """A letter in Unicode and in LaTeX; x0 has an index."""
    if name in LETTERS:
        return LETTERS[name]
    if len(name) == 2 and name.isalpha():                 # Wq, bo, Kr
        return name, f"{name[0]}_{{{name[1]}}}"
    base = name.rstrip("0123456789")
    index = name[len(base):]
    return (base + index.translate(_SUB), f"{base}_{{{index}}}") if index and base else (name, name)


_SUB = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
LETTERS = {                                                # in Unicode, in LaTeX
    "alpha": ("α", "\\alpha"), "beta": ("β", "\\beta"), "gamma": ("γ", "\\gamma"), "mu": ("μ", "\\mu"), "xhat": ("x̂", "\\hat x"),
    "Xhat": ("X̂", "\\hat X"),
    "lr": ("η", "\\eta"), "lam": ("λ", "\\lambda"), "Delta": ("Δ", "\\Delta"),
    "mhat": ("m̂", "\\hat m"), "vhat": ("v̂", "\\hat v"), "v_max": ("v̄", "\\bar v"),
    "L_after": ("L after", "L_{\\text{after}}"), "L_mistake": ("L with the mistake", "L_{\\text{mistake}}")}
_SUPER = dict(zip("0123456789().abcdefghijklmnoprstuvwxyzABDEGHIJKLMNOPRTUVW",
                  "⁰¹²³⁴⁵⁶⁷⁸⁹⁽⁾·ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻᴬᴮᴰᴱᴳᴴᴵᴶᴷᴸᴹᴺᴼᴾᴿᵀᵁⱽᵂ"))


def superscript(path: str) -> str:
    text = f"({path})" if path else ""
    return "".join(_SUPER[c] for c in text) if set(text) <= set(_SUPER) else f"^{text}"
