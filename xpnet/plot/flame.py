"""A profile as nested bars."""

from ..profiling import PARTS, Profile
from .style import COLOURS, GREY, Axes, one_axes, pyplot

FORWARD, BACKWARD = COLOURS[5], COLOURS[1]
COLOUR_OF = {"loss": COLOURS[4], "gradients": COLOURS[6], "optimizer": COLOURS[2], "remainder": GREY}


def profile(profile: Profile, ax: Axes = None) -> Axes:
    """Where a step's time goes: time runs to the right, the forward pass from the first layer to the last, the loss, the backward pass from
    the last layer to the first, and the rest. Below each container stand the layers inside it.

    The dark strip at the foot of a bar is its floor: as far as it goes, the machine could not be faster. Where nothing stands below a
    container, it works itself. Bars that have room bear a name, the others none; the table has them all.
    Raises TypeError for what is no Profile.
    """
    if not isinstance(profile, Profile):
        raise TypeError(f"profile takes the Profile that xpnet.profile gave, got {type(profile).__name__}")
    depth = max(_depth(path) for path in profile.spans)
    ax = one_axes(ax, (9.5, 1.5 + 0.42 * (depth + 1)))
    scale, unit = (1e3, "ms") if profile.seconds >= 5e-3 else (1e6, "µs")
    bars = _Bars(ax, profile, scale)
    rows = {row.kind: row for row in profile.rows if row.kind in PARTS}
    at = bars.layers("", 0.0, forward=True)
    at = bars.draw(at, 0, rows["loss"].total.seconds, "loss", COLOUR_OF["loss"], rows["loss"].total.floor)
    at = bars.layers("", at, forward=False)
    shown = profile.spans[""].forward + profile.spans[""].backward
    for kind in ("gradients", "optimizer"):
        at = bars.draw(at, 0, rows[kind].total.seconds, kind, COLOUR_OF[kind], rows[kind].total.floor)
    # What containers that have no row take is within their bars; of the remainder the rest is left.
    inside = sum(row.total.seconds for row in profile.rows if row.kind in ("layer", "container"))
    at = bars.draw(at, 0, max(0.0, rows["remainder"].total.seconds - (shown - inside)), "remainder", COLOUR_OF["remainder"])
    ax.set(xlim=(0.0, at * scale), ylim=(depth + 1, 0), xlabel=f"time of a step, {unit}", ylabel="layers within layers", yticks=[])
    bars.label()
    handles = [pyplot().Rectangle((0, 0), 1, 1, facecolor=c) for c in (FORWARD, BACKWARD, *COLOUR_OF.values(), "black")]
    ax.legend(handles, ["forward", "backward", *COLOUR_OF, "floor"], ncols=7, loc="lower left", bbox_to_anchor=(0.0, 1.0), fontsize="small",
              frameon=False, handlelength=1.0, columnspacing=1.2)
    return ax


class _Bars:
    """Draws bars, and names those that turn out wide enough."""

    def __init__(self, ax: Axes, profile: Profile, scale: float):
        self.ax, self.profile, self.scale = ax, profile, scale
        self.floors = {row.path: (row.forward, row.backward) for row in profile.rows if row.forward is not None}
        self.names: list[tuple[float, float, int, str]] = []

    def layers(self, path: str, at: float, forward: bool) -> float:
        """The bar of a layer in one pass, and below it those of the layers inside. Returns where it ends."""
        span = self.profile.spans[path]
        seconds = span.forward if forward else span.backward
        inside = [p for p in self.profile.spans if p and p.rpartition(".")[0] == path]
        work = self.floors.get(path, (None, None))[0 if forward else 1]
        passes = "forward" if forward else "backward"
        self.draw(at, _depth(path), seconds, f"{path.rpartition('.')[2]} {span.name}" if path else passes, FORWARD if forward else BACKWARD,
                  work.floor if work is not None and not inside else 0.0)
        start = at
        for child in inside if forward else inside[::-1]:
            start = self.layers(child, start, forward)
        return at + seconds

    def draw(self, at: float, depth: int, seconds: float, name: str, colour: str, floor: float = 0.0) -> float:
        left, width = at * self.scale, seconds * self.scale
        if width > 0.0:
            self.ax.broken_barh([(left, width)], (depth + 0.04, 0.92), facecolor=colour, edgecolor="white", linewidth=0.5)
            if floor > 0.0:
                self.ax.broken_barh([(left, min(floor * self.scale, width))], (depth + 0.82, 0.14), facecolor="black")
            self.names.append((left, width, depth, name))
        return at + seconds

    def label(self) -> None:
        """Names, as long as their bars are."""
        low, high = self.ax.get_xlim()
        self.ax.figure.draw_without_rendering()           # only then has the layout given the Axes their size
        letters = self.ax.get_window_extent().width / self.ax.figure.dpi * 72.0 / (0.6 * 7.0)   # that fit, 7 points high
        for left, width, depth, name in self.names:
            room = int(letters * width / (high - low)) - 1
            short = name if len(name) <= room else name.partition("(")[0]
            short = short if len(short) <= room else short.partition(" ")[0]
            if len(short) <= room:
                self.ax.text(left + width / 2, depth + 0.44, short, ha="center", va="center", fontsize=7, clip_on=True)


def _depth(path: str) -> int:
    return len(path.split(".")) if path else 0
