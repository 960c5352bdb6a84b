"""How many bytes the tensors of a computation take, told without a device: it may run on tensors that have no data."""

import weakref
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Adds up the bytes of all tensors alive, by their storages, as operations make and drop them.

    `now` and `peak` count what was made, or given to `start`, inside a `with` block.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.start(*(leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)))
        return result

    def start(self, *tensors: Tensor) -> None:
        """Count these tensors, unless their storages are counted already."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key in self._known:
                continue
            size = storage.nbytes()
            self._known[key] = weakref.finalize(storage, self._drop, key, size)
            self.now += size
            self.peak = max(self.peak, self.now)

    def _drop(self, key: int, size: int) -> None:
        del self._known[key]
        self.now -= size
