"""What the names in torch's pickles stand for: the table for the pickle machine. There is no other one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from wconv.formats.torch import tensors as torch_tensors
from wconv.formats.torch.pickle import numpy_names, python_names
from wconv.formats.torch.pickle.state import Constructor, MachineState
from wconv.tensors import dtypes

_FUNCTIONS: dict[str, Callable[[MachineState, Sequence[Any]], Any]] = {
    "torch._utils._rebuild_tensor": torch_tensors.tensor_v1,
    "torch._utils._rebuild_tensor_v2": torch_tensors.tensor_v2,
    "torch._utils._rebuild_tensor_v3": torch_tensors.tensor_v3,
    "torch._utils._rebuild_parameter": torch_tensors.parameter,
    "torch._utils._rebuild_parameter_with_state": torch_tensors.parameter,
    "torch.nn.parameter.Parameter": torch_tensors.parameter,
    "torch._tensor._rebuild_from_type": torch_tensors.from_type,
    "torch._tensor._rebuild_from_type_v2": torch_tensors.from_type,
    "torch.tensor._rebuild_from_type": torch_tensors.from_type,
    "torch.tensor._rebuild_from_type_v2": torch_tensors.from_type,
    "torch._utils._rebuild_qtensor": torch_tensors.quantized,
    "torch._utils._rebuild_sparse_tensor": torch_tensors.sparse,
    "torch._utils._rebuild_sparse_csr_tensor": torch_tensors.sparse,
    "torch._utils._rebuild_nested_tensor": torch_tensors.nested,
    "torch._utils._rebuild_meta_tensor_no_storage": torch_tensors.meta,
    "torch._utils._rebuild_device_tensor_from_numpy": torch_tensors.device_tensor,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": torch_tensors.device_tensor,
    "torch._utils._rebuild_xla_tensor": torch_tensors.device_tensor,
    "torch.storage._load_from_bytes": torch_tensors.load_from_bytes,
    "torch.serialization._get_layout": torch_tensors.layout,
    "torch.Size": torch_tensors.size,
    "torch.jit._pickle.restore_type_tag": torch_tensors.first_argument,
    "torch.jit._pickle.build_intlist": torch_tensors.first_argument,
    "torch.jit._pickle.build_tensorlist": torch_tensors.first_argument,
    "torch.jit._pickle.build_doublelist": torch_tensors.first_argument,
    "torch.jit._pickle.build_boollist": torch_tensors.first_argument,
    "numpy.dtype": numpy_names.numpy_dtype,
    "numpy.core.multiarray._reconstruct": numpy_names.numpy_reconstruct,
    "numpy._core.multiarray._reconstruct": numpy_names.numpy_reconstruct,
    "numpy.core.multiarray.scalar": numpy_names.numpy_scalar,
    "numpy._core.multiarray.scalar": numpy_names.numpy_scalar,
    "numpy.core.numeric._frombuffer": numpy_names.numpy_frombuffer,
    "numpy._core.numeric._frombuffer": numpy_names.numpy_frombuffer,
    "_codecs.encode": python_names.codecs_encode,
    "collections.OrderedDict": python_names.ordered_dict,
    "collections.defaultdict": python_names.default_dict,
    "collections.Counter": python_names.plain_dict,
    "copy_reg._reconstructor": python_names.reconstructor,
    "copyreg._reconstructor": python_names.reconstructor,
    "copy_reg.__newobj__": python_names.new_object,
    "copyreg.__newobj__": python_names.new_object,
}

_BUILTINS: dict[str, Callable[[MachineState, Sequence[Any]], Any]] = {
    "set": python_names.a_set,
    "frozenset": python_names.a_frozenset,
    "list": python_names.a_list,
    "tuple": python_names.a_tuple,
    "dict": python_names.plain_dict,
    "bytearray": python_names.a_bytearray,
    "bytes": python_names.a_bytes,
    "complex": python_names.a_complex,
    "slice": python_names.integers(slice),
    "range": python_names.integers(range),
    "xrange": python_names.integers(range),
}

NAMES: dict[tuple[str, str], Any] = {
    **{("torch", dtype.name): dtype for dtype in dtypes.TABLE},
    **{("ml_dtypes", dtype.name): dtype for dtype in dtypes.TABLE if dtype.module == "ml_dtypes"},
    **{
        (path.rpartition(".")[0], path.rpartition(".")[2]): Constructor(path, function)
        for path, function in _FUNCTIONS.items()
    },
    **{
        (module, name): Constructor(f"builtins.{name}", function)
        for module in ("builtins", "__builtin__")
        for name, function in _BUILTINS.items()
    },
}
"""What `(module, name)` stands for. Storage classes are not in it: they are told by their name alone."""
