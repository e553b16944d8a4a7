"""PyTorch, as its documentation writes a training loop; and with what it offers beside."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from workloads import LSTM as RECURRENT
from workloads import RATES, TRANSFORMER

version = torch.__version__


def linear(weights, name):
    layer = nn.Linear(*weights[f"{name}.W"].shape)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weights[f"{name}.W"].T))
        layer.bias.copy_(torch.tensor(weights[f"{name}.b"]))
    return layer


def conv(weights, name):
    W = weights[f"{name}.W"]
    layer = nn.Conv2d(W.shape[2], W.shape[3], W.shape[:2])
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(W.transpose(3, 2, 0, 1)))
        layer.bias.zero_()
    return layer


class Recurrent(nn.Module):
    def __init__(self, weights):
        super().__init__()
        self.lstm = nn.LSTM(RECURRENT["inputs"], RECURRENT["units"], batch_first=True)
        with torch.no_grad():
            self.lstm.weight_ih_l0.copy_(torch.tensor(weights["0.W"].T))
            self.lstm.weight_hh_l0.copy_(torch.tensor(weights["0.U"].T))
            self.lstm.bias_ih_l0.zero_()
            self.lstm.bias_hh_l0.zero_()
        self.out = linear(weights, "1")

    def forward(self, x):
        return self.out(self.lstm(x)[0][:, -1])


class Block(nn.Module):
    def __init__(self, weights, i):
        super().__init__()
        d = TRANSFORMER["features"]
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        together = {f"qkv.{p}": np.concatenate([weights[f"{i}.{name}.{p}"] for name in "qkv"], axis=-1) for p in "Wb"}
        self.qkv = linear(together, "qkv")
        self.o, self.up, self.down = (linear(weights, f"{i}.{name}") for name in ("o", "up", "down"))

    def forward(self, x):
        n, t, d = x.shape
        q, k, v = (a.view(n, t, TRANSFORMER["heads"], -1).transpose(1, 2) for a in self.qkv(self.norm1(x)).split(d, dim=2))
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(a.transpose(1, 2).reshape(n, t, d))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Transformer(nn.Module):
    def __init__(self, weights):
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(torch.tensor(weights["embedding"]), freeze=False)
        self.positions = nn.Parameter(torch.tensor(weights["positions"]))
        self.blocks = nn.Sequential(*(Block(weights, i) for i in range(TRANSFORMER["blocks"])))
        self.norm, self.out = nn.LayerNorm(TRANSFORMER["features"]), linear(weights, "out")

    def forward(self, x):
        return self.out(self.norm(self.blocks(self.embedding(x) + self.positions))).flatten(0, 1)


def network(w, weights):
    if w.kind == "cnn":
        return nn.Sequential(conv(weights, "0"), nn.ReLU(), nn.MaxPool2d(2), conv(weights, "1"), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                             linear(weights, "2"))
    if w.kind != "dense":
        return Recurrent(weights) if w.kind == "lstm" else Transformer(weights)
    layers = []
    for i in range(len(w.sizes) - 1):
        layers += [linear(weights, str(i)), {"relu": nn.ReLU, "tanh": nn.Tanh}[w.activation]()]
    return nn.Sequential(*layers[:-1])


def make(w, x, t, weights, threads, fused=False, flush=False, compiled=False):
    torch.set_num_threads(threads)
    torch.set_flush_denormal(flush)
    net, x, t = network(w, weights), torch.tensor(x), torch.tensor(t)
    if w.kind == "cnn":
        net = net.to(memory_format=torch.channels_last)
    if w.kind == "transformer":
        t = t.flatten(1)
    if not w.train:
        if fused or flush:
            return None
        forward = torch.compile(net) if compiled else net

        def predict(i):
            with torch.inference_mode():
                return forward(x[i % len(x)])

        return predict
    loss_fn = {"softmax": F.cross_entropy, "binary": F.binary_cross_entropy_with_logits, "mse": F.mse_loss}[w.loss]
    parameters = net.parameters()
    options = {"fused": True} if fused else {}
    if w.kind == "transformer":
        optimizer = torch.optim.AdamW(parameters, lr=1e-3, **options)
    elif w.optimizer == "adam":
        optimizer = torch.optim.Adam(parameters, lr=RATES["adam"], **options)
    else:
        optimizer = torch.optim.SGD(parameters, lr=RATES[w.optimizer], momentum=0.9 if w.optimizer == "momentum" else 0.0, **options)

    def loss_of(x, t):
        return loss_fn(net(x), t)

    forward = torch.compile(loss_of) if compiled else loss_of

    def step(i):
        optimizer.zero_grad()
        loss = forward(x[i % len(x)], t[i % len(t)])
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step
