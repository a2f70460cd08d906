"""What packages import beside the functions that move weights: layers, training, other processes.

They can be imported, named in annotations, inherited from and compared with; whoever makes an instance or
calls one gets the error that names it. So a package whose conversion needs no layers can be imported whole.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from wconv.torch import missing
from wconv.torch.modules import Module

LAYERS = frozenset(
    """
    AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveLogSoftmaxWithLoss AdaptiveMaxPool1d
    AdaptiveMaxPool2d AdaptiveMaxPool3d AlphaDropout AvgPool1d AvgPool2d AvgPool3d BCELoss BCEWithLogitsLoss
    BatchNorm1d BatchNorm2d BatchNorm3d Bilinear CELU CTCLoss ChannelShuffle CircularPad1d CircularPad2d
    CircularPad3d ConstantPad1d ConstantPad2d ConstantPad3d Conv1d Conv2d Conv3d ConvTranspose1d
    ConvTranspose2d ConvTranspose3d CosineEmbeddingLoss CosineSimilarity CrossEntropyLoss CrossMapLRN2d
    DataParallel Dropout Dropout1d Dropout2d Dropout3d ELU Embedding EmbeddingBag FeatureAlphaDropout Flatten
    Fold FractionalMaxPool2d FractionalMaxPool3d GELU GLU GRU GRUCell GaussianNLLLoss GroupNorm Hardshrink
    Hardsigmoid Hardswish Hardtanh HingeEmbeddingLoss HuberLoss Identity InstanceNorm1d InstanceNorm2d
    InstanceNorm3d KLDivLoss L1Loss LPPool1d LPPool2d LPPool3d LSTM LSTMCell LayerNorm LazyBatchNorm1d
    LazyBatchNorm2d LazyBatchNorm3d LazyConv1d LazyConv2d LazyConv3d LazyConvTranspose1d LazyConvTranspose2d
    LazyConvTranspose3d LazyInstanceNorm1d LazyInstanceNorm2d LazyInstanceNorm3d LazyLinear LeakyReLU Linear
    LocalResponseNorm LogSigmoid LogSoftmax MSELoss MarginRankingLoss MaxPool1d MaxPool2d MaxPool3d
    MaxUnpool1d MaxUnpool2d MaxUnpool3d Mish MultiLabelMarginLoss MultiLabelSoftMarginLoss MultiMarginLoss
    MultiheadAttention NLLLoss NLLLoss2d PReLU PairwiseDistance ParameterDict PixelShuffle PixelUnshuffle
    PoissonNLLLoss RMSNorm RNN RNNBase RNNCell RNNCellBase RReLU ReLU ReLU6 ReflectionPad1d ReflectionPad2d
    ReflectionPad3d ReplicationPad1d ReplicationPad2d ReplicationPad3d SELU SiLU Sigmoid SmoothL1Loss
    SoftMarginLoss Softmax Softmax2d Softmin Softplus Softshrink Softsign SyncBatchNorm Tanh Tanhshrink
    Threshold Transformer TransformerDecoder TransformerDecoderLayer TransformerEncoder
    TransformerEncoderLayer TripletMarginLoss TripletMarginWithDistanceLoss Unflatten Unfold Upsample
    UpsamplingBilinear2d UpsamplingNearest2d ZeroPad1d ZeroPad2d ZeroPad3d
    """.split()  # noqa: SIM905
)
"""The layers of torch 2.13's `nn`."""

WITH_WEIGHTS = re.compile(
    r"(Lazy.*|(Sync)?BatchNorm.*|Bilinear|Conv.*|Embedding(Bag)?|GroupNorm|GRU(Cell)?|InstanceNorm.*|LSTM(Cell)?"
    r"|LayerNorm|Linear|MultiheadAttention|PReLU|ParameterDict|RMSNorm|RNN.*|Transformer.*|Adaptive.*Loss"
    r"|CrossEntropyLoss|BCE.*|NLLLoss.*|Multi.*MarginLoss|DataParallel)"
)
"""Layers that would have to fill weights, or hold some."""

MODULES = frozenset(
    """
    amp autograd autograd.function autograd.profiler compiler distributed distributed.algorithms
    distributed.algorithms._checkpoint distributed.algorithms._checkpoint.checkpoint_wrapper
    distributed.algorithms.ddp_comm_hooks distributed.checkpoint distributed.checkpoint.default_planner
    distributed.checkpoint.format_utils distributed.checkpoint.state_dict distributed.device_mesh
    distributed.elastic distributed.elastic.multiprocessing distributed.elastic.multiprocessing.errors
    distributed.fsdp distributed.fsdp.fully_sharded_data_parallel distributed.fsdp.wrap distributed.tensor
    distributed.tensor.experimental distributed.tensor.experimental._attention distributed.tensor.parallel
    distributed._functional_collectives distributions fft func fx linalg multiprocessing
    multiprocessing.spawn nn.attention nn.attention.flex_attention nn.functional nn.init
    nn.modules.activation nn.modules.batchnorm nn.modules.conv nn.modules.dropout nn.modules.linear
    nn.modules.loss nn.modules.normalization nn.modules.pooling nn.modules.rnn nn.modules.sparse
    nn.modules.transformer nn.modules.upsampling nn.modules.utils nn.parallel nn.utils
    nn.utils.parametrizations nn.utils.parametrize nn.utils.rnn nn.utils.stateless optim optim.lr_scheduler
    optim.optimizer overrides profiler special types utils._pytree utils.checkpoint utils.data
    utils.data.distributed utils.hooks
    """.split()  # noqa: SIM905
)
"""Modules of torch in which every name stands for itself only."""

FUNCTIONS = frozenset(
    {"SymBool", "SymFloat", "SymInt", "conv1d", "conv2d", "conv3d", "lobpcg", "pca_lowrank", "svd_lowrank"}
)
"""Names of torch itself that packages import and that compute."""


class Placeholder:
    """A name of torch's that can be imported and not be used."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(missing.sentence(_stands_for(cls)))

    def __class_getitem__(cls, item: Any) -> Any:
        return cls


def _refuse(self: Any, *args: Any, **kwargs: Any) -> None:
    raise NotImplementedError(missing.sentence(_stands_for(type(self))))


def _hold_nothing(self: Any, *args: Any, **kwargs: Any) -> None:
    Module.__init__(self)


def _stands_for(kind: type) -> str:
    return next(str(base.__dict__["_stands_for"]) for base in kind.__mro__ if "_stands_for" in base.__dict__)


@functools.cache
def layer(name: str) -> type[Module]:
    """The class that stands for `torch.nn`'s layer: a Module that can only be made if it holds no weights."""
    if name == "Linear":
        from wconv.torch.layers import Linear

        return Linear
    begin = _refuse if WITH_WEIGHTS.fullmatch(name) else _hold_nothing
    return type(name, (Module,), {"__module__": "torch.nn", "__init__": begin, "_stands_for": f"nn.{name}"})


@functools.cache
def placeholder(name: str) -> type:
    """What stands for torch's `name` ("optim.AdamW"): a class, for classes and functions alike."""
    home, _, last = name.rpartition(".")
    home = home or "torch"
    if home.startswith("nn.modules.") and last.lstrip("_")[:1].isupper():
        if last in LAYERS:
            return layer(last)
        return type(
            last, (Module,), {"__module__": f"torch.{home}", "__init__": _refuse, "_stands_for": name}
        )
    return type(last, (Placeholder,), {"__module__": f"torch.{home}", "_stands_for": name})
