"""The device and precision of a run: Fabric set up from the command's options."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor

from medtl.errors import ConfigError
from medtl.runtime.memory import keep_freed_memory

#: Value of ``--precision`` -> Fabric's name.
PRECISIONS: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


#: torch's generator is the process's: of several threads one works at a time, else each would draw
#: what the other was to draw.
_DRAWING = RLock()


def gpu_name(device: str) -> str:
    """The GPU that :func:`build_fabric` would take; "" where it takes the processor."""
    if device in ("auto", "cuda") and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    apple = device in ("auto", "mps") and torch.backends.mps.is_available()
    return "Apple GPU" if apple else ""


def build_fabric(device: str, precision: str, devices: int = 1, nodes: int = 1) -> Fabric:
    """Set up Fabric and start its processes. ``auto`` takes bf16 if the device computes in it.

    Within ``torchrun`` the numbers of devices and nodes are torchrun's.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = next((name for name, there in present.items() if there), "cpu")
    if device not in ("cpu", *present):
        raise ConfigError(f"--device {device}: use auto, cpu, cuda or mps")
    if not present.get(device, True):
        lacking = "CUDA device" if device == "cuda" else "Apple GPU"
        raise ConfigError(f"--device {device}: no {lacking} is available; use --device auto")
    if precision == "auto":
        precision = "bf16" if has_bf16(device) else "fp32"
    if precision not in PRECISIONS:
        raise ConfigError(f"--precision {precision}: use auto, {', '.join(PRECISIONS)}")
    keep_freed_memory()
    local = os.environ.get("LOCAL_WORLD_SIZE")
    if local is not None:
        devices, nodes = int(local), int(os.environ["WORLD_SIZE"]) // int(local)
    # On a machine with SLURM medtl may be used without it, too.
    warnings.filterwarnings("ignore", "The `srun` command is available")
    fabric = Fabric(
        accelerator=device,
        devices=devices,
        num_nodes=nodes,
        strategy="ddp" if devices * nodes > 1 else "auto",
        plugins=None if local is not None else _slurm(devices, nodes),
        precision=PRECISIONS[precision],
    )
    if devices * nodes > 1:
        # A false alarm for 1x1 kernels, whose two memory layouts are the same.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        fabric.launch()
    return fabric


def _slurm(devices: int, nodes: int) -> LightningEnvironment | None:
    """Who starts the processes: None where ``srun`` has (or nothing says SLURM), else this one.

    A batch script, or a shell of ``salloc``, has SLURM's variables too; what it starts without
    ``srun`` is one process, however many tasks were asked for.
    """
    tasks = os.environ.get("SLURM_NTASKS")
    if tasks is None:
        return None
    if "SLURM_STEP_ID" not in os.environ:
        if nodes > 1:
            raise ConfigError(f"--num-nodes {nodes} needs srun before medtl, or torchrun")
        return LightningEnvironment()
    per_node = os.environ.get("SLURM_NTASKS_PER_NODE", tasks if nodes == 1 else "")
    if (tasks, per_node) != (str(devices * nodes), str(devices)):
        raise ConfigError(
            f"srun started {tasks} tasks (SLURM_NTASKS), but --devices {devices} and --num-nodes "
            f"{nodes} make {devices * nodes} processes; give srun --ntasks-per-node={devices} "
            f"--nodes={nodes}, and cores by --cpus-per-task"
        )
    os.environ["SLURM_NTASKS_PER_NODE"] = per_node
    return None


def processes_here(fabric: Fabric) -> int:
    """The number of the run's processes on this machine, which share its cores."""
    strategy = fabric.strategy
    parallel = strategy.parallel_devices if isinstance(strategy, DDPStrategy) else None
    return len(parallel or (fabric.device,))


def precision_name(fabric: Fabric) -> str:
    """The precision as ``--precision`` names it."""
    named = str(fabric.strategy.precision.precision)
    return next(name for name, fabrics in PRECISIONS.items() if fabrics == named)


def has_bf16(device: str) -> bool:
    """Whether the device computes in bf16 natively."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def in_double(values: Tensor) -> Tensor:
    """The values in double precision; on the CPU if their device (Apple's) has none."""
    return (values.cpu() if values.device.type == "mps" else values).double()


def autocast_dtype(fabric: Fabric) -> torch.dtype | None:
    """The autocast type of a fabric's precision, for inference; None in fp32."""
    return {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(
        str(fabric.strategy.precision.precision)
    )


@contextmanager
def own_randomness() -> Iterator[None]:
    """torch's random state is afterwards what it was before."""
    # Of all GPUs only the one in use; asking for the others' states would wake them.
    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = [torch.cuda.current_device()] if used else []
    with _DRAWING, torch.random.fork_rng(devices):
        yield
