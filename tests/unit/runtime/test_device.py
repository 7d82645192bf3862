"""Who starts a run's processes, as SLURM's variables say."""

from __future__ import annotations

import pytest

from medtl.errors import ConfigError
from medtl.runtime.device import build_fabric

#: What a batch script of ``sbatch --ntasks=2`` sees.
BATCH = {"SLURM_JOB_ID": "1", "SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
#: What a program sees that ``srun`` started there.
STEP = BATCH | {"SLURM_STEP_ID": "0", "SLURM_NODEID": "0", "SLURM_NNODES": "1"}


def test_without_srun_there_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in BATCH.items():
        monkeypatch.setenv(name, value)
    assert build_fabric("cpu", "fp32").world_size == 1


@pytest.mark.parametrize(
    ("variables", "devices", "nodes", "message"),
    [
        (STEP, 1, 1, r"srun started 2 tasks \(SLURM_NTASKS\).*--cpus-per-task"),
        (STEP | {"SLURM_NTASKS": "x"}, 1, 1, "srun started x tasks"),
        (STEP | {"SLURM_NTASKS_PER_NODE": "1", "SLURM_NNODES": "2"}, 2, 1, "ntasks-per-node=2"),
        (BATCH, 1, 2, "--num-nodes 2 needs srun"),
    ],
)
def test_tasks_that_do_not_fit_the_devices_are_refused(
    variables: dict[str, str],
    devices: int,
    nodes: int,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message):
        build_fabric("cpu", "fp32", devices, nodes)


def test_one_task_of_srun_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (STEP | {"SLURM_NTASKS": "1"}).items():
        monkeypatch.setenv(name, value)
    assert build_fabric("cpu", "fp32").world_size == 1
