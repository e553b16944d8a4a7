"""Regression on the diabetes data: one neuron is least squares, and more is not always better.

    python examples/diabetes.py [--backend cupy]

442 patients; the target is a measure of the disease's progression one year later. With one input (body-mass index) and the last
20 patients held out, scikit-learn's "Ordinary least squares" example gets coefficient 938.2378612513521, intercept 152.91886182616113,
test MSE 2548.07 and R² 0.4726. A network of one linear neuron, trained by gradient descent, must land on the same line.
"""

import argparse

from xpnet import SGD, Adam, Dense, MeanSquaredError, Model, Sequential, evaluate, fit
from xpnet.data import load, split, standardize

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--backend", default=None, help="numpy, cupy, torch, ... (default: $XPNET_BACKEND or numpy)")
parser.add_argument("--quick", action="store_true", help="a few epochs only, to see that it runs")
args = parser.parse_args()

x, t = load("diabetes")                                   # (442, 10) and (442, 1)

# One neuron on one input. The column's variance is 1/442: scaled by √442 it is 1, and gradient descent is quick in both directions.
scale = len(x) ** 0.5
bmi = x[:, 2:3] * scale
model = Model(Sequential(Dense(1, 1)), backend=args.backend, dtype="float64")
fit(model, MeanSquaredError("half_batch_mean"), SGD(0.9), (bmi[:-20], t[:-20]), epochs=20 if args.quick else 400, batch_size=None,
    progress=False)
w, b = float(model.get_param("0.W")[0, 0]) * scale, float(model.get_param("0.b")[0])
result = evaluate(model, MeanSquaredError(), (bmi[-20:], t[-20:]), metrics=["r2"])
print("                 one neuron        least squares")
print(f"coefficient    {w:16.10f}   938.2378612514")
print(f"intercept      {b:16.10f}   152.9188618262")
print(f"test MSE       {result['loss']:16.10f}  2548.0723987260")
print(f"test R²        {result['r2']:16.10f}     0.4725754480")

# All ten inputs, without and with a hidden layer, on a random split; the target in units of its own standard deviation while training.
# 353 patients are few: the curve that a hidden layer adds does not pay here, and regularisation (L2) keeps it from costing much.
x_train, x_test, t_train, t_test = split(x, t, test=0.2, seed=0)
x_train, x_test = standardize(x_train, x_test)
mean, std = t_train.mean(), t_train.std()
networks = {"linear, 10 inputs": Sequential(Dense(10, 1)), "10-16-1 tanh, L2": Sequential(Dense(10, 16, "tanh"), Dense(16, 1))}
for name, net in networks.items():
    model = Model(net, backend=args.backend, seed=0)
    fit(model, MeanSquaredError(), Adam(3e-3, weight_decay=0.03, decay_biases=False), (x_train, (t_train - mean) / std),
        epochs=2 if args.quick else 200, batch_size=32, progress=False)
    y = model.predict(x_test) * std + mean
    print(f"{name:20} test R² {1 - ((y - t_test) ** 2).sum() / ((t_test - t_test.mean()) ** 2).sum():.3f}")
