"""The layers. Each file sorts by increasing complexity."""

from .activations import (
    ELU,
    GELU,
    SELU,
    Activation,
    HardSigmoid,
    HardSwish,
    Identity,
    LeakyReLU,
    LogSoftmax,
    PReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from .attention import MultiHeadAttention
from .containers import Checkpoint, Concat, Parallel, Residual, Sequential
from .convolution import Conv1D, Conv2D, ConvTranspose2D, DepthwiseConv2D
from .dense import Dense
from .dropout import Dropout
from .embedding import Embedding, LearnedPositions, RotaryPositions, SinusoidalPositions, Unembedding
from .normalization import BatchNorm, GroupNorm, InstanceNorm, LayerNorm, RMSNorm, SpectralNorm, WeightNorm
from .pooling import AvgPool1D, AvgPool2D, GlobalAvgPool1D, GlobalAvgPool2D, MaxPool1D, MaxPool2D, Upsample
from .recurrent import GRU, LSTM, RNN, Bidirectional, Stacked
from .reparametrize import Reparametrize
from .shape import Flatten, Reshape
from .transformer import Decoder, DecoderBlock, EncoderBlock, TransformerBlock

__all__ = ["ELU", "GELU", "GRU", "LSTM", "RNN", "SELU", "Activation", "AvgPool1D", "AvgPool2D", "BatchNorm", "Bidirectional",
           "Checkpoint", "Concat", "Conv1D", "Conv2D", "ConvTranspose2D", "Decoder", "DecoderBlock", "Dense", "DepthwiseConv2D",
           "Dropout", "Embedding", "EncoderBlock", "Flatten", "GlobalAvgPool1D", "GlobalAvgPool2D", "GroupNorm", "HardSigmoid",
           "HardSwish", "Identity", "InstanceNorm", "LayerNorm", "LeakyReLU", "LearnedPositions", "LogSoftmax", "MaxPool1D", "MaxPool2D",
           "MultiHeadAttention", "PReLU", "Parallel", "RMSNorm", "ReLU", "Reparametrize", "Reshape", "Residual", "RotaryPositions",
           "Sequential", "SiLU", "Sigmoid", "SinusoidalPositions", "Softmax", "Softplus", "SpectralNorm", "Stacked", "Tanh",
           "TransformerBlock", "Unembedding", "Upsample", "WeightNorm"]
