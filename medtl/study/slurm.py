"""The runs of a study as jobs of SLURM, through submitit: an array of jobs at a time.

When the time of a job is up, either submitit or medtl could have it queued again. Here medtl does:
on SIGUSR1 it saves between two steps, asks SLURM to queue the job again, and the job goes on from
there (:mod:`medtl.runtime.signals`). Submitit would end the process within a step on SIGUSR2, and
give up after three times. So the jobs ask for SIGUSR1, and nothing sends SIGUSR2. On SIGTERM
submitit does nothing; medtl saves.

What became of a run is what its job wrote. Whether the job has ended is asked of ``squeue``, which
knows it without accounting; submitit would ask ``sacct``, which does not.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from getpass import getuser
from itertools import islice
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from medtl.errors import ConfigError, Interrupted, RunError, near_or_known, shown
from medtl.runtime.signals import watching
from medtl.study.arms import PlannedRun
from medtl.study.folder import State, StudyFolder
from medtl.study.work import Ended, Executor, work

if TYPE_CHECKING:
    from submitit import SlurmExecutor

#: Minutes of a job, if none are given, and the fewest: SLURM warns 90 seconds before the end.
USUAL_MINUTES, FEWEST_MINUTES = 240, 5

#: Jobs of an array; SLURM takes no more by default (MaxArraySize).
MOST_JOBS = 1000

#: Seconds between two questions to SLURM.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 15.0

#: Seconds in which cancelled jobs end, and in which a file that another node wrote is seen.
ENDING_S, LATE_S = 300.0, 60.0

#: Parameters of submitit that are not free, and why.
FIXED = {
    "additional_parameters": "name each option by itself",
    "array_parallelism": "use --jobs",
    "job_name": "medtl finds the jobs of a study by it",
    "nodes": "a run is one process",
    "ntasks_per_node": "a run is one process",
}

#: Parameters of submitit that are lists.
LISTS = ("setup", "teardown", "srun_args")

#: States of jobs that SLURM does not start again by itself.
OVER = (
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
)

#: Of a job that SLURM has forgotten.
FORGOTTEN = "FORGOTTEN"


def read_options(texts: Sequence[str]) -> dict[str, Any]:
    """The values of ``--slurm KEY=VALUE``, by the names of submitit."""
    options: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals):
            raise ConfigError(
                f"--slurm {shown(text)}: write KEY=VALUE, for example --slurm partition=gpu"
            )
        options[key.replace("-", "_")] = _value(value)
    return options


def _value(text: str) -> int | bool | str:
    """Not as YAML, which would read a time of 4:00:00 as a number."""
    if text.isdecimal():
        return int(text)
    return {"true": True, "false": False}.get(text, text)


def on_slurm(options: Mapping[str, Any], jobs: int) -> Executor:
    """Each run as a job.

    Args:
        options: parameters of ``submitit.SlurmExecutor``, named as the long options of ``sbatch``:
            partition, time (in minutes), mem, gpus_per_node, cpus_per_task and others.
        jobs: the most that run at once.

    Raises:
        ConfigError: submitit or SLURM is not there, or an option cannot be used.
    """
    parameters = {**_checked(options), "array_parallelism": jobs}

    def execute(folder: StudyFolder, runs: Iterable[PlannedRun]) -> Ended:
        waiting = iter(runs)
        while batch := list(islice(waiting, MOST_JOBS)):
            yield from _carried_out(folder, batch, parameters)

    return execute


def _checked(options: Mapping[str, Any]) -> dict[str, Any]:
    try:
        from submitit import SlurmExecutor
    except ModuleNotFoundError:
        raise ConfigError(
            "--executor slurm needs submitit; install it by pip install 'medtl[slurm]'"
        ) from None
    if shutil.which("sbatch") is None:
        raise ConfigError("--executor slurm: there is no sbatch here; use a login node of SLURM")
    known = SlurmExecutor._valid_parameters()
    for name, value in options.items():
        if name in FIXED:
            raise ConfigError(f"--slurm {name} cannot be chosen: {FIXED[name]}")
        if name not in known:
            raise ConfigError(
                f"submitit has no parameter {shown(name)}; {near_or_known(name, sorted(known))}"
            )
        if name == "time" and not (isinstance(value, int) and value >= FEWEST_MINUTES):
            raise ConfigError(
                f"--slurm time={value}: give whole minutes, {FEWEST_MINUTES} or more; a run that "
                "takes longer is queued again and goes on"
            )
    lists = {name: [options[name]] for name in LISTS if isinstance(options.get(name), str)}
    return {"time": USUAL_MINUTES, **options, **lists}


def _carried_out(
    folder: StudyFolder, runs: Sequence[PlannedRun], parameters: Mapping[str, Any]
) -> Ended:
    """Submit an array of jobs and wait for each; none is left in the queue, however this ends."""
    name = _name(folder.path)
    try:
        _clear(name)
        for run in runs:
            folder.forget_state(run.name)
        yield from _awaited(folder, _submitted(folder.path, runs, name, parameters), name)
    except KeyboardInterrupt:
        raise Interrupted("stopped, and the jobs are cancelled") from None
    finally:
        _cancel(name)


def _name(path: Path) -> str:
    """The name that all jobs of the study have, and no others."""
    return f"medtl-{hashlib.sha256(bytes(path.resolve())).hexdigest()[:16]}"


def _cancel(name: str) -> None:
    subprocess.run(["scancel", f"--user={getuser()}", f"--name={name}"], check=False)


def _clear(name: str) -> None:
    """Cancel jobs of a command that was killed, and wait until they have left their runs."""
    late = monotonic() + ENDING_S
    while any(state not in OVER for state in (_queue(name) or {}).values()):
        if monotonic() > late:
            raise RunError(f"jobs of an earlier command do not end; see squeue --name={name}")
        _cancel(name)
        sleep(FIRST_PAUSE_S)


def _queue(name: str) -> dict[str, str] | None:
    """Job -> its state; None while SLURM does not answer."""
    which = (f"--user={getuser()}", f"--name={name}", "--states=all", "--array")
    answer = subprocess.run(
        ["squeue", *which, "--noheader", "--format=%i %T"],
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode:
        return None
    return dict(line.split() for line in answer.stdout.splitlines())


def _submitted(
    path: Path, runs: Sequence[PlannedRun], name: str, parameters: Mapping[str, Any]
) -> dict[str, tuple[PlannedRun, Path]]:
    """Job -> its run and the file of what it prints on stderr.

    Raises:
        RunError: SLURM refuses the jobs.
    """
    from submitit.core.utils import FailedJobError

    try:
        jobs = _executor(path / "slurm", name, parameters).map_array(
            work_as_job, [path.absolute()] * len(runs), runs
        )
    except FailedJobError as problem:
        said = str(problem).strip().rpartition("\n")[2].removeprefix("sbatch: error: ")
        raise RunError(f"SLURM takes no jobs ({said}); see --slurm") from problem
    return {job.job_id: (run, job.paths.stderr) for run, job in zip(runs, jobs, strict=True)}


def _executor(folder: Path, name: str, parameters: Mapping[str, Any]) -> SlurmExecutor:
    from submitit import SlurmExecutor

    executor = SlurmExecutor(folder)
    delay = parameters.get("signal_delay_s", 90)
    own = {"signal": f"USR1@{delay}", "requeue": True}
    own |= parameters.get("additional_parameters", {})
    executor.update_parameters(**{**parameters, "job_name": name, "additional_parameters": own})
    return executor


def work_as_job(path: Path, run: PlannedRun) -> None:
    """One run within a job; where the job is stopped but not cancelled, it is queued again."""
    with watching():
        try:
            work(path, run)
        except (Interrupted, KeyboardInterrupt):
            _queue_again(os.environ["SLURM_JOB_ID"])
            raise


def _queue_again(job: str) -> None:
    """Have SLURM do it, unless it ends the job or has queued it again already.

    Where another job is to have the node, this one has a grace time, and is left as failed if it
    ends within it by itself.
    """
    words = ["squeue", "--noheader", "--format=%T", f"--jobs={job}"]
    state = subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    if state == "RUNNING":
        subprocess.run(["scontrol", "requeue", job], check=False)


def _awaited(folder: StudyFolder, waiting: dict[str, tuple[PlannedRun, Path]], name: str) -> Ended:
    pause = FIRST_PAUSE_S
    while waiting:
        sleep(pause)
        pause = min(pause * 1.1, LONGEST_PAUSE_S)
        states = _queue(name)
        if states is None:
            continue
        for job in [job for job in waiting if states.get(job, FORGOTTEN) in (*OVER, FORGOTTEN)]:
            pause = FIRST_PAUSE_S
            run, log = waiting.pop(job)
            yield run, _outcome(folder, run, states.get(job, FORGOTTEN), f"job {job}; see {log}")


def _outcome(folder: StudyFolder, run: PlannedRun, ended: str, job: str) -> State:
    """What the job wrote; a job that wrote nothing was ended from outside, or by a bug."""
    late = monotonic() + (LATE_S if ended in ("COMPLETED", FORGOTTEN) else 0)
    while (state := folder.state(run.name)) is None:
        if monotonic() >= late:
            said = ended.lower().replace("_", " ")
            state = State(status="failed", reason=f"{said}, says SLURM of {job}")
            folder.write_state(run.name, state)
            break
        sleep(FIRST_PAUSE_S)
    return state
