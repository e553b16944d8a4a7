"""scikit-learn's multi-layer perceptron. A call of partial_fit on 16 batches, in their order, is 16 steps."""

import sklearn
from sklearn.neural_network import MLPClassifier, MLPRegressor
from workloads import BATCHES, RATES

version = sklearn.__version__
STEPS_A_CALL = BATCHES
TOLERANCE = 0.2                                           # its log-loss is cut off at 16 in float32: W4's first steps go beyond


def make(w, x, t, weights, threads):
    if w.kind != "dense" or w.batch == 1 or not w.train:
        return None
    x, t = x.reshape(-1, x.shape[-1]), t.reshape(len(t) // BATCHES, -1)
    half = 2.0 if w.loss == "mse" else 1.0                # its squared error has a factor of ½
    kind = MLPRegressor if w.loss == "mse" else MLPClassifier
    net = kind(hidden_layer_sizes=w.sizes[1:-1], activation=w.activation, solver="adam" if w.optimizer == "adam" else "sgd", alpha=0.0,
               batch_size=w.batch, learning_rate_init=half * RATES[w.optimizer], momentum=0.9 if w.optimizer == "momentum" else 0.0,
               nesterovs_momentum=False, shuffle=False, epsilon=1e-9)   # which is not corrected for the bias: at first this is ours
    options = {} if w.loss == "mse" else {"classes": range(max(2, w.sizes[-1]))}
    first = [None]

    def step(i):
        if first[0] is None:                              # makes the arrays, which take the given weights then
            net.partial_fit(x[:w.batch], t[0][:w.batch], **options)
            for j, (W, b) in enumerate(zip(net.coefs_, net.intercepts_)):
                W[...], b[...] = weights[f"{j}.W"], weights[f"{j}.b"]
            del net._optimizer                            # and its state
            first[0] = True
        net.partial_fit(x, t[i // BATCHES % len(t)])
        return half * net.loss_

    return step
