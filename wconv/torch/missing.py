"""What is not offered says so: a clear error that names it, what wconv is, and what to do."""

from __future__ import annotations

WHY = {
    "cuda": "wconv.torch works in the CPU's memory",
    "jit": "TorchScript's code is not run: torch.jit.load gives its weights",
    "jit.ScriptModule.forward": "TorchScript's code is not run: its weights are in state_dict()",
    "nn": "wconv.torch.nn holds names: layers need PyTorch",
    "nn.Module.cuda": "tensors stay in the CPU's memory",
    "nn.Module.forward": "modules hold names and weights, and compute nothing",
    "nn.functional": "layers and models need PyTorch: work on the state dict instead",
    "autograd": "no gradients are recorded",
    "optim": "no gradients are recorded",
    "compile": "nothing is compiled",
    "hub": "nothing is downloaded",
    "distributed": "one process only",
    "Tensor.cuda": "tensors stay in the CPU's memory",
    "Tensor.backward": "no gradients are recorded",
}
"""A reason for the names that scripts ask for most."""


def sentence(name: str) -> str:
    """The error message for torch's `name` ("jit", "Tensor.cuda")."""
    reason = WHY.get(name)
    return (
        f"torch.{name} is not offered by wconv.torch"
        + (f" ({reason})" if reason else "")
        + ": it stands in for the part of PyTorch that converts weights; install PyTorch for the rest"
    )


def attribute(name: str, owner: object = None) -> AttributeError:
    """The error for an attribute that is not offered."""
    return AttributeError(sentence(name), name=name.rpartition(".")[2], obj=owner)
