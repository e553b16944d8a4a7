"""xpnet: backpropagation you can read, that really trains networks, on NumPy, CuPy and any Array API library.

    net = Sequential(Dense(784, 128, "relu"), Dense(128, 10))
    model = Model(net, backend="numpy", seed=0)
    history = fit(model, SoftmaxCrossEntropy(), Adam(1e-3), (x, t), validation=(xv, tv), epochs=10, batch_size=128)
    model.predict_classes(x_test)
"""

from typing import TYPE_CHECKING, Any

from . import initializers, metrics
from .backend import Backend, available_backends, elementwise, get_backend
from .data import batches, minmax, one_hot, split, standardize
from .errors import BackendError, LayerError
from .layer import Buffer, Context, Layer, Param
from .layers import (
    ELU,
    GELU,
    GRU,
    LSTM,
    RNN,
    SELU,
    Activation,
    AvgPool1D,
    AvgPool2D,
    BatchNorm,
    Bidirectional,
    Checkpoint,
    Concat,
    Conv1D,
    Conv2D,
    ConvTranspose2D,
    Decoder,
    DecoderBlock,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Embedding,
    EncoderBlock,
    Flatten,
    GlobalAvgPool1D,
    GlobalAvgPool2D,
    GroupNorm,
    HardSigmoid,
    HardSwish,
    Identity,
    InstanceNorm,
    LayerNorm,
    LeakyReLU,
    LearnedPositions,
    LogSoftmax,
    MaxPool1D,
    MaxPool2D,
    MultiHeadAttention,
    Parallel,
    PReLU,
    ReLU,
    Reparametrize,
    Reshape,
    Residual,
    RMSNorm,
    RotaryPositions,
    Sequential,
    Sigmoid,
    SiLU,
    SinusoidalPositions,
    Softmax,
    Softplus,
    SpectralNorm,
    Stacked,
    Tanh,
    TransformerBlock,
    Unembedding,
    Upsample,
    WeightNorm,
)
from .losses import (
    CTC,
    ELBO,
    BinaryCrossEntropy,
    Contrastive,
    GaussianNLL,
    Hinge,
    Huber,
    KLDivergence,
    LogCosh,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    MulticlassHinge,
    NormalKL,
    Poisson,
    SoftmaxCrossEntropy,
    Triplet,
)
from .model import Model
from .optim import (
    SGD,
    AdaDelta,
    AdaGrad,
    Adam,
    AdamW,
    AMSGrad,
    ClipNorm,
    ClipValue,
    Constant,
    Cosine,
    Exponential,
    Lion,
    Momentum,
    NAdam,
    Nesterov,
    OneCycle,
    Optimizer,
    Plateau,
    Polynomial,
    RAdam,
    RMSProp,
    Step,
)
from .train import EarlyStopping, History, LearningRate, evaluate, fit

if TYPE_CHECKING:
    from .advice import advise
    from .comparison import parity
    from .derivation import explain
    from .exercises import exercise
    from .gradcheck import gradient_check
    from .profiling import profile

# Tools that a training script does not need: imported when they are first asked for.
_LATER = {"advise": "advice", "exercise": "exercises", "explain": "derivation", "gradient_check": "gradcheck", "parity": "comparison",
          "profile": "profiling"}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'xpnet' has no attribute {name!r}")
    from importlib import import_module

    globals()[name] = found = getattr(import_module(f".{_LATER[name]}", __name__), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
