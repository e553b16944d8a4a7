"""Forecasting a real series a year ahead: the carbon dioxide of the air over Mauna Loa, month by month from 1958 to 2001.

    python examples/forecast.py [--backend cupy] [--seeds 5] [--out forecast.png]

The series rises, and breathes with the seasons. The seasonal naive forecast says that a month will be as it was a year before; with drift,
that it will have grown as much as the last month had in a year. The network corrects the latter: at each month a GRU reads the growth
since the same month of the year before, and the season, and says by how much the growth of each of the next 12 months will differ
(many-to-many: every month of the past is a lesson).

Protocol: trained on what was known before 1985, the number of epochs chosen on 1985 to 1990, judged on the forecasts made in each month
from 1991 on; root mean square error over all months and horizons, mean and worst over the seeds.

The measurements of Keeling & Whorf, weekly, as they ship with statsmodels: pip install 'xpnet[forecast]'.
"""

import argparse

import numpy as np

from xpnet import GRU, Adam, Cosine, Dense, Dropout, EarlyStopping, MeanSquaredError, Model, Sequential, fit

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--backend", default=None, help="numpy, cupy, torch, ... (default: $XPNET_BACKEND or numpy)")
parser.add_argument("--seeds", type=int, default=3, help="how many seeds to train from")
parser.add_argument("--out", default=None, help="file for the picture of the forecasts (needs matplotlib)")
parser.add_argument("--quick", action="store_true", help="one epoch, to see that it runs")
args = parser.parse_args()

try:
    from statsmodels.datasets import co2
except ImportError:
    raise SystemExit("this example needs statsmodels: pip install 'xpnet[forecast]'") from None

PAST, AHEAD = 48, 12                                      # months that are read, and months that are told
EPOCHS, SEEDS = (1, 1) if args.quick else (40, args.seeds)

series = co2.load_pandas().data["co2"].resample("MS").mean().interpolate()   # monthly means; five months have no measurement
y, year, season = series.to_numpy(), series.index.year.to_numpy(), 2 * np.pi * (series.index.month.to_numpy() - 1) / 12
growth = np.full(len(y), np.nan)                          # since the same month of the year before
growth[12:] = y[12:] - y[:-12]
known = growth[(year < 1985) & ~np.isnan(growth)]
scale = known.std()
inputs = np.stack([(growth - known.mean()) / scale, np.sin(season), np.cos(season)], axis=1)

# A month t is an origin where PAST months of growth and the AHEAD months after it are there.
origins = np.arange(12 + PAST - 1, len(y) - AHEAD)
horizons = np.arange(1, AHEAD + 1)
train = origins[year[origins + AHEAD] < 1985]
validation = origins[(year[origins] >= 1985) & (year[origins + AHEAD] < 1991)]
test = origins[year[origins] >= 1991]


def windows(ends):
    """x: (n, PAST, 3), the months up to each end. t: (n, PAST, AHEAD), by how much the growths after each of them differ from its own."""
    at = ends[:, None] + np.arange(1 - PAST, 1)[None, :]
    return inputs[at], (growth[at[..., None] + horizons] - growth[at][..., None]) / scale


def rmse(forecast, along=None):
    return np.sqrt(np.mean((forecast - truth) ** 2, axis=along))


truth = y[test[:, None] + horizons]
naive = y[test[:, None] + horizons - 12]
drift = naive + growth[test][:, None]

data, held_out = windows(train), windows(validation)
steps = EPOCHS * -(-len(train) // 16)
forecasts = []
for seed in range(SEEDS):
    model = Model(Sequential(GRU(3, 32), Dropout(0.4), Dense(32, AHEAD)), backend=args.backend, seed=seed)
    history = fit(model, MeanSquaredError(), Adam(Cosine(5e-3, steps)), data, validation=held_out, epochs=EPOCHS, batch_size=16,
                  callbacks=[EarlyStopping(patience=10)])
    if not len(history):                                  # Ctrl-C in the first epoch
        raise SystemExit("interrupted before the first epoch was complete")
    forecasts.append(drift + scale * model.predict(windows(test)[0].astype("float32"))[:, -1])
    print(f"seed {seed}: {model.backend.name}, {len(history)} epochs in {history['time'][-1]:.1f} s, RMSE {rmse(forecasts[-1]):.3f} ppm")

print(f"\n{len(test)} forecasts of {AHEAD} months, from {series.index[test[0]]:%B %Y} to {series.index[test[-1]]:%B %Y}; RMSE in ppm")
print(f"{'months ahead':25}{'1':>8}{'3':>8}{'6':>8}{'12':>8}{'all':>8}")
each = [(f"GRU, mean of {SEEDS} seed(s)", np.mean([rmse(f, 0) for f in forecasts], axis=0), np.mean([rmse(f) for f in forecasts])),
        ("seasonal naive", rmse(naive, 0), rmse(naive)), ("seasonal naive with drift", rmse(drift, 0), rmse(drift))]
for name, by_month, total in each:
    print(f"{name:25}" + "".join(f"{v:8.3f}" for v in (*by_month[[0, 2, 5, 11]], total)))
print(f"worst seed {max(map(rmse, forecasts)):.3f}")

if args.out:
    import matplotlib.pyplot as plt

    from xpnet import plot

    blue, orange, green = plot.COLOURS[:3]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), width_ratios=(2, 1), layout="constrained")
    dates = series.index.to_numpy()
    left.plot(dates[test[0] - 24:], y[test[0] - 24:], color="#444444", lw=1.2, label="measured")
    for i in range(11, len(test), 24):                    # a forecast made each second December
        months = dates[test[i] + horizons]
        left.plot(months, naive[i], color=orange, ls=":", lw=1.5, label="seasonal naive" if i == 11 else None)
        left.plot(months, forecasts[0][i], color=blue, lw=2, label="GRU" if i == 11 else None)
    left.set(xlabel="year", ylabel="carbon dioxide (ppm)", title="Forecasts of a year")
    left.legend()
    for (name, by_month, _), colour, style in zip(each, (blue, orange, green), ("-", ":", "--")):
        right.plot(horizons, by_month, color=colour, ls=style, marker="o", ms=3, label=name)
    right.set(xlabel="months ahead", ylabel="RMSE (ppm)", title="Error", ylim=(0, None))
    right.legend()
    figure.savefig(args.out, dpi=110)
    print(f"wrote {args.out}")
