"""A CUDA device made of processor memory, so that every run of the suite drives the paths for accelerators.

Tensors on it say `cuda:0`, refuse `numpy()`, and refuse company of processor tensors. Every kernel takes `kernel_ns` of
a clock of the device, behind what was asked before; only `synchronize` or reading a value waits for it. Memory is
counted as torch's caching allocator does: rounded, cached, and bounded.
"""

from __future__ import annotations

import contextlib
import time
import types
import weakref

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

CONTEXT = 400 * 2**20  # what a context of its own costs a process
ILLEGAL = "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be reported later"


class Device:
    """The device's clock, memory and health."""

    def __init__(self):
        self.reset()

    def reset(self):
        self.free_at, self.kernels = 0.0, 0
        self.kernel_ns, self.total, self.fault_after, self.tf32 = 2e4, 80 * 2**30, 0, False
        self.blocks, self.cached, self.fault = {}, 0, None
        self.allocated = self.peak_allocated = self.peak_reserved = 0
        self.cache_bytes = 50 * 2**20

    @property
    def reserved(self):
        return self.allocated + self.cached

    def check(self):
        if self.fault:
            raise torch.AcceleratorError(self.fault)

    def launch(self):
        self.check()
        self.kernels += 1
        self.free_at = max(self.free_at, time.perf_counter_ns()) + self.kernel_ns
        if self.fault_after and self.kernels >= self.fault_after:
            self.fault = ILLEGAL

    def hold(self, cycles):
        self.free_at = max(self.free_at, time.perf_counter_ns()) + cycles / 2

    def wait(self, *_):
        while (left := self.free_at - time.perf_counter_ns()) > 0:
            if left > 2e5:
                time.sleep(left * 1e-9)
        self.check()

    def room(self):
        return self.total - CONTEXT - self.reserved

    def alloc(self, key, size):
        size = -(-max(size, 1) // 512) * 512
        if key in self.blocks:
            self.blocks[key][1] += 1
            return
        if self.cached < size:
            segment = max(-(-(size - self.cached) // 2**21) * 2**21, 2**21)
            if segment > self.room():
                self.cached = 0  # the allocator gives its own cache back first
                segment = -(-size // 2**21) * 2**21
                if segment > self.room():
                    raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size / 2**20:.2f} MiB.")
            self.cached += segment
        self.cached -= size
        self.blocks[key] = [size, 1]
        self.allocated += size
        self.peak_allocated = max(self.peak_allocated, self.allocated)
        self.peak_reserved = max(self.peak_reserved, self.reserved)

    def release(self, key):
        block = self.blocks.get(key)
        if block is None:
            return
        block[1] -= 1
        if not block[1]:
            del self.blocks[key]
            self.allocated -= block[0]
            self.cached += block[0]

    def empty_cache(self):
        self.check()
        self.cached = 0

    def reset_peaks(self, *_):
        self.peak_allocated, self.peak_reserved = self.allocated, self.reserved


DEVICE = Device()


def is_cuda(value):
    if isinstance(value, str | torch.device):
        return torch.device(value).type == "cuda"
    return False


class CudaTensor(torch.Tensor):
    """A tensor that lies on the device."""

    @staticmethod
    def __new__(cls, inner):
        self = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device="cpu",
            requires_grad=False,
        )
        self._inner = inner
        key = inner.untyped_storage()._cdata
        DEVICE.alloc(key, inner.untyped_storage().nbytes())
        # The storage lives as long, so that no other gets its number.
        weakref.finalize(self, _forget, key, inner.untyped_storage()).atexit = False
        return self

    @property
    def device(self):
        return torch.device("cuda", 0)

    is_cuda = property(lambda _: True)
    is_cpu = property(lambda _: False)

    def get_device(self):
        return 0

    def __repr__(self, *, tensor_contents=None):
        return f"{self._inner!r} on cuda:0"

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in {"numpy", "__array__"}:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")
        if name == "tolist":
            return _Down.apply(args[0].detach()).tolist()
        if name == "cpu" and isinstance(args[0], CudaTensor):
            return _Down.apply(args[0])
        if name == "to":
            wanted = [*args[1:], kwargs.get("device")]
            target = next((torch.device(one) for one in wanted if isinstance(one, str | torch.device)), None)
            if target is not None and target.type == "cpu" and isinstance(args[0], CudaTensor):
                dtypes = [one for one in (*args[1:], kwargs.get("dtype")) if isinstance(one, torch.dtype)]
                down = _Down.apply(args[0])
                return down.to(dtypes[0]) if dtypes else down
            like = args[1] if len(args) > 1 else None
            if isinstance(like, torch.Tensor):
                moved = args[0] if isinstance(args[0], CudaTensor) == isinstance(like, CudaTensor) else None
                return (args[0].to(like.device) if moved is None else moved).to(like.dtype)
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return handle(func, args, kwargs or {})


def _forget(key, storage):
    DEVICE.release(key)


class _Down(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        DEVICE.wait()
        return x._inner.detach().clone()

    @staticmethod
    def backward(ctx, g):
        return CudaTensor(g.contiguous())


NONDETERMINISTIC = {"_adaptive_avg_pool2d_backward", "adaptive_max_pool2d_backward", "upsample_bilinear2d_backward"}
COPIES = {"copy_", "_to_copy"}
INDEXED = {"index", "index_put_", "index_put", "_unsafe_index"}
CONVOLUTIONS = {"convolution", "convolution_backward", "conv1d", "conv2d"}  # the last two in inference mode
PRODUCTS = {"mm": 0, "bmm": 0, "linear": 0, "matmul": 0, "addmm": 1, "baddbmm": 1}


def round_tf32(tensor):
    if tensor is None or tensor.dtype != torch.float32:
        return tensor
    with torch.no_grad():
        bits = tensor.detach().contiguous().view(torch.int32)
        return ((bits + 0x1000) & ~0x1FFF).view(torch.float32).view(tensor.shape)


def tensor_core(name, args):
    """Round what TF32 rounds, where torch's switches let it."""
    args = list(args)
    if name in CONVOLUTIONS and torch.backends.cudnn.conv.fp32_precision == "tf32":
        rounded = range(3 if name == "convolution_backward" else 2)
    elif name in PRODUCTS and torch.backends.cuda.matmul.fp32_precision == "tf32":
        rounded = range(PRODUCTS[name], PRODUCTS[name] + 2)
    else:
        return args
    for position in rounded:
        args[position] = round_tf32(args[position])
    return args


def handle(func, args, kwargs):  # noqa: C901 - what CUDA does, case by case
    flat, _ = pytree.tree_flatten((args, kwargs))
    ours = [one for one in flat if isinstance(one, CudaTensor)]
    wanted = kwargs.get("device")
    if not ours and not is_cuda(wanted):
        return func(*args, **kwargs)
    name = func._schema.name.split("::")[1]
    # In a backward pass torch itself makes zeros where it sees no gradient, and sees a processor.
    if ours and name not in COPIES and torch._C._current_graph_task_id() == -1:
        for one in flat:
            stranger = isinstance(one, torch.Tensor) and not isinstance(one, CudaTensor) and one.dim()
            if stranger and name not in INDEXED:
                raise RuntimeError(f"Expected all tensors to be on the same device, cuda:0 and cpu! (in {name})")
    strict = torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled()
    if strict and name in NONDETERMINISTIC:
        raise RuntimeError(f"{name} does not have a deterministic implementation")
    i_args, i_kwargs = pytree.tree_map(lambda x: x._inner if isinstance(x, CudaTensor) else x, (args, kwargs))
    if "device" in i_kwargs:
        i_kwargs["device"] = torch.device("cpu")
    onto_processor = name == "copy_" and not isinstance(args[0], CudaTensor)
    if onto_processor or name in {"_local_scalar_dense", "equal", "is_nonzero", "nonzero"}:
        DEVICE.wait()
    out = func(*(tensor_core(name, i_args) if DEVICE.tf32 else i_args), **i_kwargs)
    if not any(one.alias_info is not None and not one.alias_info.is_write for one in func._schema.returns):
        DEVICE.launch()
    if onto_processor:
        return args[0]
    if not pytree.tree_any(lambda x: isinstance(x, torch.Tensor), out):
        return out
    out = pytree.tree_map(
        lambda x: CudaTensor(x) if isinstance(x, torch.Tensor) and not isinstance(x, CudaTensor) else x, out
    )
    return return_and_correct_aliasing(func, args, kwargs, out)


class Mode(TorchDispatchMode):
    """Sees what makes tensors on the device."""

    @classmethod
    def _should_skip_dynamo(cls):
        return False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return handle(func, args, kwargs or {})


class Named(TorchFunctionMode):
    """Gives `cuda` its index, which torch asks of a guard that only a CUDA build has."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        def indexed(value):
            return torch.device("cuda", 0) if isinstance(value, str | torch.device) and is_cuda(value) else value

        kwargs = kwargs or {}
        if "device" in kwargs:
            kwargs = {**kwargs, "device": indexed(kwargs["device"])}
        if getattr(func, "__name__", "") == "to":
            args = (args[0], *map(indexed, args[1:]))
        return func(*args, **kwargs)


class Event:
    """A mark in the device's queue."""

    def __init__(self, device=None, *, enable_timing=False):
        self.timing, self.at = enable_timing, None

    def record(self, stream=None):
        self.at = max(DEVICE.free_at, time.perf_counter_ns())

    def elapsed_time(self, other):
        assert self.timing, "events without timing"
        assert time.perf_counter_ns() >= max(self.at, other.at), "events that are not completed"
        return (other.at - self.at) * 1e-6


@contextlib.contextmanager
def present(monkeypatch):
    """Let torch see the device inside."""
    DEVICE.reset()
    cuda, accelerator, put = torch.cuda, torch.accelerator, monkeypatch.setattr
    put(cuda, "_lazy_init", lambda: None)
    put(cuda, "_sleep", DEVICE.hold)
    for module in (cuda, accelerator):
        put(module, "is_available", lambda: True)
        put(module, "device_count", lambda: 1)
        put(module, "synchronize", DEVICE.wait)
        put(module, "current_stream", lambda device=None: None)
    put(accelerator, "current_accelerator", lambda check_available=False: torch.device("cuda"))
    put(cuda, "is_initialized", lambda: True)
    put(cuda, "current_device", lambda: 0)
    put(cuda, "device", lambda device: contextlib.nullcontext())
    put(cuda, "get_device_name", lambda device=None: "NVIDIA Fake")
    known = {"name": "NVIDIA Fake", "total_memory": DEVICE.total, "major": 9, "minor": 0, "multi_processor_count": 132}
    put(
        cuda,
        "get_device_properties",
        lambda device=None: types.SimpleNamespace(**known, uuid="fake", L2_cache_size=DEVICE.cache_bytes),
    )
    put(cuda, "mem_get_info", lambda device=None: (DEVICE.check() or max(0, DEVICE.room()), DEVICE.total))
    put(cuda, "memory_allocated", lambda device=None: DEVICE.allocated)
    put(cuda, "memory_reserved", lambda device=None: DEVICE.reserved)
    put(cuda, "max_memory_allocated", lambda device=None: DEVICE.peak_allocated)
    put(cuda, "max_memory_reserved", lambda device=None: DEVICE.peak_reserved)
    put(cuda, "reset_peak_memory_stats", DEVICE.reset_peaks)
    put(cuda, "empty_cache", DEVICE.empty_cache)
    for name in ("manual_seed_all", "manual_seed"):
        put(cuda, name, lambda seed: None)
    put(cuda, "get_rng_state", lambda device="cuda": torch.zeros(16, dtype=torch.uint8))
    put(cuda, "get_rng_state_all", list)
    put(cuda, "set_rng_state", lambda state, device="cuda": None)
    put(torch, "Event", Event)
    lift = torch._C._only_lift_cpu_tensors()
    overwrite = torch.__future__.get_overwrite_module_params_on_conversion()
    torch._C._set_only_lift_cpu_tensors(True)  # noqa: FBT003 - torch takes it so
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with Mode(), Named():
            yield DEVICE
    finally:
        torch._C._set_only_lift_cpu_tensors(lift)
        torch.__future__.set_overwrite_module_params_on_conversion(overwrite)
