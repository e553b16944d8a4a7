r"""A small parser of the LaTeX that xpnet's formulas are written in, and an evaluator of what it reads.

    tree = parse(r"\delta^{(l+1)} (W^{(l+1)})^\top \odot f'(z^{(l)})")
    evaluate(tree, {"delta^(l+1)": d, "W^(l+1)": W, "z^(l)": z}, functions={"f'": slope})

Names are normalised:

    W^{(l)}  W^(l)         \hat m  mhat        \bar v  vbar        \beta_1  beta_1        \mathrm{fan}  fan
    \partial L/\partial W, \frac{\partial L}{\partial W}   dW      \frac{\partial y_j}{\partial x_i}   dy/dx with the indices j, i
    \left.\frac{\partial L}{\partial x}\right|_{0}   dx|0

A name with a subscript is the value of that very name ("beta_1") where there is one, else an entry of the array: x_{ni} is x[n, i].
A product of two arrays that are written side by side is the matrix product; \odot is the product entry by entry, as are / and powers.
`e^{...}` is exp, [a > b] is 1 where it holds and else 0.

Trees are tuples, (kind, ...): see `_Parser` for each. A formula with relations is ("relation", operators, sides).
"""

import itertools
import math
import operator
import re

import numpy as np

GREEK = {f"\\{g}": g for g in ("alpha", "beta", "gamma", "delta", "epsilon", "varepsilon", "eta", "theta", "lambda", "mu", "pi", "rho",
                               "sigma", "tau", "psi", "Delta", "Pi", "Phi", "ell", "infty")} | {"\\varphi": "phi", "\\phi": "phi"}
FUNCTIONS = {f"\\{f}": f for f in ("max", "min", "exp", "log", "tanh", "cosh", "sin", "cos")} | {"\\ln": "log"}
LETTERS = {"f", "f'", "sigma", "sigma'", "Phi", "phi", "L", "E"}       # functions where a bracket follows
RELATIONS = {"=": "=", "\\leftarrow": "<-", "\\approx": "~", "<": "<", ">": ">", "\\lt": "<", "\\gt": ">", "\\le": "<=", "\\leq": "<=",
             "\\ge": ">=", "\\geq": ">=", "\\ne": "!=", "\\neq": "!="}
IGNORED = {"\\,", "\\;", "\\:", "\\!", "\\ ", "~", "\\left", "\\big", "\\Big", "\\bigl", "\\bigr", "\\Bigl", "\\Bigr", "\\displaystyle"}
CLOSING = {"(": ")", "[": "]", "\\lvert": "\\rvert", "\\lVert": "\\rVert", "\\langle": "\\rangle", "|": "|"}
_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\d+(?:\.\d+)?|[A-Za-z]|\S", re.DOTALL)


class LatexError(ValueError):
    """What cannot be read, and where."""


def tokens(latex):
    found = [t for t in _TOKEN.findall(latex) if t not in IGNORED]
    made = []
    for t in found:
        if made and made[-1] == "\\right" and t == "|":
            made[-1] = "\\right|"
        elif made and made[-1] == "\\right":
            made[-1] = t
        else:
            made.append(t)
    return made


def statements(latex):
    r"""The trees of a formula that is several, apart by \quad, \qquad or a new line of `aligned`."""
    parts, depth, last = [[]], 0, None
    for t in tokens(re.sub(r"\\(begin|end)\{aligned\}", "", latex)):
        depth += (t in ("{", "\\begin")) - (t == "}") - (t == "\\end")
        if depth == 0 and last != "\\end" and t in ("\\\\", "\\quad", "\\qquad"):
            parts.append([])
        elif not (depth == 0 and t == "&"):
            parts[-1].append(t)
        last = t
    return [_Parser(p).whole() for p in (_stripped(p) for p in parts) if p]


def _stripped(part):
    while part and part[-1] in (",", "."):
        part = part[:-1]
    return part


def parse(latex):
    """The tree of one formula."""
    return _Parser(_stripped(tokens(latex))).whole()


class _Parser:
    def __init__(self, found):
        self.tokens, self.i = found, 0

    def peek(self, ahead=0):
        return self.tokens[self.i + ahead] if self.i + ahead < len(self.tokens) else ""

    def next(self):
        self.i += 1
        return self.tokens[self.i - 1]

    def expect(self, t):
        if self.peek() != t:
            raise LatexError(f"expected {t} at {' '.join(self.tokens[self.i:self.i + 6])!r} of {' '.join(self.tokens)!r}")
        return self.next()

    def accept(self, t):
        return self.peek() == t and bool(self.next())

    def whole(self):
        tree = self.relation()
        if self.peek():
            raise LatexError(f"cannot read {' '.join(self.tokens[self.i:])!r} in {' '.join(self.tokens)!r}")
        return tree

    # From the loosest to the tightest.

    def relation(self):
        sides, operators = [self.sum()], []
        while self.peek() in RELATIONS:
            operators.append(RELATIONS[self.next()])
            sides.append(self.sum())
        return ("relation", tuple(operators), tuple(sides)) if operators else sides[0]

    def sum(self):
        tree = ("neg", self.odot()) if self.accept("-") else self.odot()
        while self.peek() in ("+", "-"):
            tree = (self.next(), tree, self.odot())
        return tree

    def odot(self):
        tree = self.product()
        while self.accept("\\odot"):
            tree = ("odot", tree, self.product())
        return tree

    def product(self):
        tree = self.factor()
        while True:
            if self.peek() in ("\\cdot", "\\times"):
                self.next()
                tree = ("*", tree, self.factor())
            elif self.accept("/"):
                tree = ("/", tree, self.factor())
            elif self.starts_factor():
                tree = ("*", tree, self.factor())
            else:
                return tree

    def starts_factor(self):
        t = self.peek()
        return bool(t) and (t in CLOSING and t != "|" or t in FUNCTIONS or t in GREEK or t in _HEADS or t[0].isalnum())

    def factor(self):
        t = self.peek()
        if t == "\\sum":
            return self.over("sum")
        if t in ("\\max", "\\min") and self.peek(1) == "_":
            return self.over(FUNCTIONS[t])
        if t in FUNCTIONS:
            return self.function(FUNCTIONS[self.next()])
        return self.postfix()

    def over(self, kind):
        """(kind over, index, (lower, upper) or None, condition or None, body): a sum or maximum."""
        self.next()
        index, bounds, condition = None, None, None
        if self.accept("_"):
            inside = _Parser(self.group())
            condition = inside.whole()
            if condition[0] == "relation":
                index = condition[2][0][1]
                if condition[1] == ("=",):
                    bounds, condition = (condition[2][1], None), None
            else:
                index, condition = condition[1], None
        if self.accept("^"):
            bounds = (bounds[0], _Parser(self.group()).whole())
        return (f"{kind} over", index, bounds, condition, self.odot() if kind == "sum" else self.factor())

    def function(self, name):
        """("call", name, arguments)"""
        power = _Parser(self.group()).whole() if self.accept("^") else None
        if self.peek() in ("(", "["):
            close = CLOSING[self.next()]
            arguments = self.arguments(close)
        else:
            arguments = (self.factor(),)
        tree = ("call", name, arguments)
        return ("^", tree, power) if power else tree

    def arguments(self, close):
        found = [self.relation()]
        while self.accept(","):
            found.append(self.relation())
        self.expect(close)
        return tuple(found)

    def group(self):
        """The tokens of what follows ^, _ or \\frac: in braces, or the next one (of a number its first digit)."""
        if not self.accept("{"):
            t = self.next() if self.peek() else self.expect("something")
            if t[0].isdigit() and len(t) > 1:
                self.i -= 1
                self.tokens[self.i] = t[1:]
                return [t[0]]
            if t in ("\\mathrm", "\\text", "\\hat", "\\bar"):
                return [t, "{", *self.group(), "}"]
            return [t]
        depth, found = 1, []
        while depth:
            if not self.peek():
                raise LatexError(f"a brace is not closed in {' '.join(self.tokens)!r}")
            t = self.next()
            depth += (t == "{") - (t == "}")
            found.append(t)
        return found[:-1]

    def postfix(self):
        tree = self.primary()
        while self.peek() in ("^", "_"):
            if self.next() == "_":
                tree = self.subscript(tree)
            elif self.peek() == "\\top":
                self.next()
                tree = ("T", tree)
            else:
                inside = self.group()
                if inside == ["\\top"]:
                    tree = ("T", tree)
                elif inside[0] == "(" and inside[-1] == ")" and tree[0] == "name":
                    tree = ("name", tree[1] + "^" + "".join(inside), tree[2])
                else:
                    tree = ("^", tree, _Parser(inside).whole())
        if tree[0] == "name" and tree[1] in LETTERS and not tree[2] and self.peek() in ("(", "["):
            return self.function(tree[1])
        return tree

    def subscript(self, tree):
        inside = self.group()
        if ":" in inside and "," not in inside:
            at = inside.index(":")
            return ("part", tree, int("".join(inside[:at])), int("".join(inside[at + 1:])))
        if tree[0] != "name":
            raise LatexError(f"a subscript of {tree}")
        return ("name", tree[1], tree[2] + _indices(inside))

    def name(self):
        """A letter with hats, primes, tags and subscripts: what \\partial is of."""
        tree = self.postfix()
        if tree[0] != "name":
            raise LatexError(f"the derivative of {tree}")
        return tree

    def derivative(self, above, below):
        tag = "" if above[1] == "L" else f"/d{below[1]}"
        return ("name", f"d{below[1] if above[1] == 'L' else above[1]}{tag}", above[2] + below[2])

    def primary(self):
        t = self.next() if self.peek() else self.expect("something")
        if t[0].isdigit():
            return ("num", t)
        if t == "{":
            self.i -= 1
            return _Parser(self.group()).whole()
        if t == "(":
            return self.arguments(")")[0]
        if t == "[":
            inside = self.arguments("]")[0]
            return ("iverson", inside) if inside[0] == "relation" else inside
        if t in ("\\lvert", "|"):
            return ("abs", self.arguments(CLOSING[t])[0])
        if t == "\\lVert":
            return ("norm", self.arguments("\\rVert")[0])
        if t == "\\langle":
            return ("inner", *self.arguments("\\rangle"))
        if t in ("\\frac", "\\tfrac", "\\dfrac"):
            above, below = self.group(), self.group()
            if above[0] == "\\partial":
                return self.derivative(_Parser(above[1:]).name(), _Parser(below[1:]).name())
            return ("/", _Parser(above).whole(), _Parser(below).whole())
        if t == "\\partial":
            above = self.name()
            self.expect("/")
            self.expect("\\partial")
            return self.derivative(above, self.name())
        if t == "\\sqrt":
            return ("call", "sqrt", (_Parser(self.group()).whole(),))
        if t in ("\\hat", "\\bar"):
            inside = _Parser(self.group()).whole()
            return ("name", inside[1] + t[1:], inside[2])
        if t in ("\\mathrm", "\\operatorname", "\\text", "\\mathbf"):
            word = "".join(self.group())
            return self.function(word) if self.peek() in ("(", "[") else ("name", word, ())
        if t == "\\begin":
            return self.environment("".join(self.group()))
        if t == ".":                                      # what is left of \left. … \right|_{…}
            tree = self.relation()
            self.expect("\\right|")
            self.expect("_")
            return ("name", f"{tree[1]}|{''.join(self.group())}", tree[2])
        if t in GREEK or t.isalpha():
            name = GREEK.get(t, t)
            while self.accept("'"):
                name += "'"
            return ("name", name, ())
        raise LatexError(f"cannot read {t!r} in {' '.join(self.tokens)!r}")

    def environment(self, kind):
        """("cases", ((value, condition or None), …)) or ("matrix", rows)"""
        rows, row, cell, depth = [], [], [], 0
        while True:
            t = self.next() if self.peek() else self.expect("\\end")
            if t == "\\end" and depth == 0:
                self.group()
                break
            depth += (t == "\\begin") - (t == "\\end")
            if depth == 0 and t in ("&", "\\\\"):
                row.append(cell)
                cell = []
                if t == "\\\\":
                    rows.append(row)
                    row = []
            else:
                cell.append(t)
        rows.append([*row, cell])
        if kind == "cases":
            return ("cases", tuple((_Parser(_stripped(value)).whole(), _condition(words)) for value, words in rows))
        if kind in ("pmatrix", "bmatrix"):
            return ("matrix", tuple(tuple(_Parser(c).whole() for c in r) for r in rows))
        raise LatexError(f"no environment {kind!r}")


_HEADS = {"\\frac", "\\tfrac", "\\dfrac", "\\sqrt", "\\hat", "\\bar", "\\mathrm", "\\operatorname", "\\mathbf", "\\begin", "\\partial",
          "\\sum", "{", "."}


def _condition(words):
    """None for "else", or the relation; \\text{…} are words around it."""
    kept, i = [], 0
    while i < len(words):
        if words[i] == "\\text":
            i = words.index("}", i)
        else:
            kept.append(words[i])
        i += 1
    return _Parser(kept).whole() if kept else None


def _indices(inside):
    """The subscripts of x_{ni}, x_{n,i}, x_{t+1}, x_\\infty."""
    text = [GREEK.get(t, t) for t in inside if t not in ("\\mathrm", "\\text", "{", "}")]
    if any(t in ("+", "-") for t in text) or any(w in inside for w in ("\\mathrm", "\\text")):
        return ("".join(text),)
    return tuple(t for t in text if t != ",")


# What a tree says.


def sides(tree):
    """The operators and sides of a formula; a lone expression has one side."""
    return (tree[1], tree[2]) if tree[0] == "relation" else ((), (tree,))


def children(tree):
    """(path, subtree) of the trees right below."""
    def found(value, path):
        if isinstance(value, tuple) and value and isinstance(value[0], str) and value[0] in _KINDS:
            yield path, value
        elif isinstance(value, tuple):
            for i, v in enumerate(value):
                yield from found(v, (*path, i))

    for i, v in enumerate(tree[1:], 1):
        yield from found(v, (i,))


_KINDS = {"num", "name", "neg", "+", "-", "*", "/", "odot", "^", "T", "call", "abs", "norm", "inner", "iverson", "cases", "matrix", "part",
          "relation", "sum over", "max over", "min over"}


def replaced(tree, path, new):
    """The tree with another subtree at the path."""
    return new if not path else tuple(replaced(v, path[1:], new) if i == path[0] else v for i, v in enumerate(tree))


def walk(tree, path=()):
    """(path, subtree) of every tree in it, itself first."""
    yield path, tree
    for below, child in children(tree):
        yield from walk(child, path + below)


def key(tree):
    """A name as it stands in the dictionary."""
    return tree[1] + ("_" + ",".join(tree[2]) if tree[2] else "")


def text(tree):
    """A tree in one line: what the value of E[x^2] goes by, "E(x^2)"."""
    kind = tree[0]
    if kind == "num":
        return tree[1]
    if kind == "name":
        return key(tree)
    if kind == "call":
        return f"{tree[1]}({', '.join(map(text, tree[2]))})"
    if kind in ("+", "-", "*", "/", "^", "odot"):
        return f"{text(tree[1])}{kind}{text(tree[2])}"
    return f"{kind}({', '.join(text(c) for _, c in children(tree))})"


# What it is worth.


def _sigma(x):
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def _normal(x):
    return np.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)


def _erf(x):
    return np.vectorize(math.erf, otypes=[np.float64])(x)


def _softmax(x):
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def _reduced(reduce):
    return {"": lambda a: reduce(a), "n": lambda a: reduce(a, axis=0), "k": lambda a: reduce(a, axis=-1, keepdims=True),
            "d": lambda a: reduce(a, axis=0)}


_COMPARE = {"=": operator.eq, "!=": operator.ne, "<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge}
NUMPY = {
    "*": lambda a, b: a @ b if np.ndim(a) > 0 and np.ndim(b) > 0 else a * b,
    "number": lambda digits: float(digits) if "." in digits else int(digits),
    "sigma": _sigma, "sigma'": lambda x: _sigma(x) * _sigma(-x), "phi": _normal, "erf": _erf,
    "Phi": lambda x: 0.5 * (1.0 + _erf(np.asarray(x) / math.sqrt(2.0))),
    "exp": np.exp, "log": np.log, "tanh": np.tanh, "cosh": np.cosh, "sin": np.sin, "cos": np.cos, "sqrt": np.sqrt, "sign": np.sign,
    "abs": np.abs, "softmax": _softmax, "max": lambda *a: np.maximum(*a) if len(a) > 1 else np.max(a[0]),
    "min": lambda *a: np.minimum(*a) if len(a) > 1 else np.min(a[0]), "norm": lambda a: np.sqrt(np.sum(a * a)),
    "inner": lambda a, b: np.sum(a * b), "part": lambda a, start, stop: a[..., start:stop],
    "compare": lambda op, a, b: _COMPARE[op](a, b), "iverson": lambda a: np.asarray(a, dtype=np.float64) + 0.0,
    "cases": lambda values, conditions: np.select([np.asarray(c) for c in conditions], values), "sum over": _reduced(np.sum),
    "max over": _reduced(np.max), "min over": _reduced(np.min), "T": lambda a: np.swapaxes(a, -1, -2) if np.ndim(a) > 1 else a}


def evaluate(tree, names, at=None, functions=None):
    r"""The value of a tree.

    names      name: array or number; an int is also the value of an index of that name, as c in y_c
    at         index letter: its value, for x_i where i is free
    functions  what to use in the place of NUMPY's, as f of the formula, or SymPy's ("number" makes a number of its text). "sum over" and
               "max over" hold the sums over an axis by their letter

    \sum_i x_i is over all entries that i picks in its body. Where it picks none, as in \sum_n \delta, the sum is over an axis: n the first,
    k the last (kept, with length 1), no letter all. \sum_{i=1}^{t} goes from 1 to t.
    """
    table = {**NUMPY, **(functions or {})}

    def of(node, names, at):
        kind = node[0]
        if kind == "num":
            return table["number"](node[1])
        if kind == "name":
            return _lookup(node, names, at)
        if kind == "neg":
            return -of(node[1], names, at)
        if kind == "^" and node[1] == ("name", "e", ()) and "e" not in names:
            return table["exp"](of(node[2], names, at))
        if kind == "*":
            return table["*"](of(node[1], names, at), of(node[2], names, at))
        if kind in _BINARY:
            return _BINARY[kind](of(node[1], names, at), of(node[2], names, at))
        if kind == "T":
            return table["T"](of(node[1], names, at))
        if kind == "call":
            if text(node) in names:
                return names[text(node)]
            f = table.get(node[1], names.get(node[1]))
            if not callable(f):
                raise KeyError(f"no function {node[1]!r}, nor a value of {text(node)!r}")
            return f(*(of(a, names, at) for a in node[2]))
        if kind in ("abs", "norm", "inner"):
            return table[kind](*(of(a, names, at) for a in node[1:]))
        if kind == "iverson":                             # [k = j]: here k is the index, even where there is a number k
            return table["iverson"](of(node[1], {**names, **at}, at))
        if kind == "relation":
            values = [of(s, names, at) for s in node[2]]
            found = [table["compare"](op, a, b) for op, a, b in zip(node[1], values, values[1:])]
            return found[0] if len(found) == 1 else np.logical_and.reduce(found)
        if kind == "cases":
            return table["cases"]([of(v, names, at) for v, _ in node[1]],
                                  [True if c is None else of(c, {**names, **at}, at) for _, c in node[1]])
        if kind == "matrix":
            return np.array([[of(c, names, at) for c in row] for row in node[1]])
        if kind == "part":
            return table["part"](of(node[1], names, at), node[2], node[3])
        return over(node, names, at)

    def over(node, names, at):
        kind, index, bounds, condition, body = node
        if bounds and bounds[1] is not None:
            values = range(int(of(bounds[0], names, at)), int(of(bounds[1], names, at)) + 1)
        elif index is not None and (size := extent(index, body, names)) is not None:
            values = range(size)
        else:
            return table[kind][index or ""](of(body, names, at))
        inside = [{**at, index: i} for i in values]
        found = [of(body, names, here) for here in inside if condition is None or bool(of(condition, {**names, **here}, here))]
        if kind == "sum over":
            return sum(found[1:], found[0]) if found else 0
        return max(found) if kind == "max over" else min(found)

    with np.errstate(all="ignore"):
        return of(tree, names, at or {})


def extent(letter, tree, names):
    """How many values an index has: the length of the axis that it picks from. None where it picks from nothing."""
    sizes = set()
    for _, node in walk(tree):
        if node[0] == "name" and letter in node[2] and key(node) not in names and node[1] in names:
            array, position = names[node[1]], node[2].index(letter)
            position += np.ndim(array) == len(node[2]) + 1 and len(array) == 1
            sizes.add(np.shape(array)[position])
    if len(sizes) > 1:
        raise LatexError(f"index {letter} has {sorted(sizes)} values in {text(tree)}")
    return sizes.pop() if sizes else None


def _power(a, b):
    return float(a) ** b if isinstance(a, int) else a ** b


_BINARY = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "odot": lambda a, b: a * b, "/": lambda a, b: a / b, "^": _power}
_CONSTANTS = {"pi": math.pi, "e": math.e, "infty": math.inf}


def _lookup(node, names, at):
    if key(node) in names:
        return names[key(node)]
    if not node[2]:
        if node[1] in at:
            return at[node[1]]
        if node[1] in _CONSTANTS:
            return _CONSTANTS[node[1]]
    if node[1] not in names or not node[2]:
        raise KeyError(f"no value of {key(node)!r} among {', '.join(sorted(map(str, names)))}")
    array = names[node[1]]
    if np.ndim(array) == len(node[2]) + 1 and len(array) == 1:
        array = array[0]                                  # x_i of a single row
    found = tuple(slice(None) if i == ":" else int(i) if i.isdigit() else _index(i, names, at) for i in node[2])
    return array[found] if hasattr(array, "ndim") else array[found[0]]


def _index(i, names, at):
    if i in at:
        return at[i]
    if isinstance(names.get(i), int):
        return names[i]
    raise KeyError(f"index {i!r} has no value")


def free(tree, names):
    """The index letters of a tree that no sum binds, and how many values each has."""
    found = _free(tree, names, frozenset())
    return {letter: size for letter in sorted(found) if (size := extent(letter, tree, names)) is not None}


def _free(tree, names, bound):
    if tree[0] == "name":
        letters = set() if key(tree) in names else set(tree[2])
        return {i for i in letters if not i.isdigit() and i not in bound and not isinstance(names.get(i), int)}
    inner = bound | {tree[1]} if tree[0].endswith(" over") else bound
    return {letter for _, child in children(tree) for letter in _free(child, names, inner)}


def assignments(sizes):
    """Every value of the index letters: {letter: how many} to [{letter: value}]."""
    for values in itertools.product(*map(range, sizes.values())):
        yield dict(zip(sizes, values))
