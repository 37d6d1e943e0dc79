"""Who started this process, and how many like it: read from what launchers leave in the environment, without JAX."""

import contextlib
import ipaddress
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class Launch(NamedTuple):
    """One process of a job.

    Attributes:
        by: who started it, for messages.
        rank: which of the processes it is, from 0.
        size: how many there are.
        local_size: how many of them are on this machine.
        local_rank: which of these it is, from 0.
        coordinator: "host:port" where rank 0 listens; None: JAX finds it itself.
    """

    by: str
    rank: int
    size: int
    local_size: int
    local_rank: int
    coordinator: str | None

    @property
    def spans_machines(self) -> bool:
        """Whether some of them are on other machines."""
        return self.size > self.local_size


def detect(environment: Mapping[str, str] | None = None) -> Launch | None:
    """How this process was started as one of several; None if it wasn't.

    Looked for in this order: variables of JAX's own (`JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and
    `JAX_PROCESS_ID`, for the last of which Kubernetes' `JOB_COMPLETION_INDEX` does), torchrun's, those of Open MPI's
    mpirun, of srun, and of the mpirun of MPICH and Intel. With PPO2_ALONE=1 a process is by itself, whoever started it.

    Raises:
        ValueError: variables that contradict each other, or tell too little.
    """
    given = os.environ if environment is None else environment
    if given.get("PPO2_ALONE", "0") not in ("", "0"):
        return None
    for find in (_explicit, _torchrun, _open_mpi, _slurm, _mpich):  # mpirun may have been started by srun
        found = find(given)
        if found is not None and (found.size > 1 or found.rank):  # others may have left what says one of one
            if not 0 <= found.rank < found.size:
                raise ValueError(
                    f"{found.by} started process {found.rank} of {found.size}: it must be from 0 to {found.size - 1}."
                )
            return found
    return None


def process_count() -> int:
    """How many processes this job has; 1 for one that was started by itself."""
    found = detected()
    return 1 if found is None else found.size


def local_process_count() -> int:
    """How many of them share this machine."""
    found = detected()
    return 1 if found is None else found.local_size


def detected() -> Launch | None:
    """`detect`; None too where the environment contradicts itself, which `ppo2.distributed.init` tells of."""
    try:
        return detect()
    except ValueError:
        return None


def check_host_name() -> None:
    """Raises ValueError where this machine's name means the machine itself: processes on others would be told to look
    for it there, and wait for ever.
    """
    name = socket.gethostname()
    try:
        address = str(socket.getaddrinfo(name, None)[0][4][0])
    except OSError as error:
        raise ValueError(
            f"this machine's name, {name}, can't be resolved ({error}), so that processes on other machines can't "
            "reach it. Give it an address in DNS, or in /etc/hosts of all machines."
        ) from None
    if ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        raise ValueError(
            f"this machine's name, {name}, resolves to {address}, which on every machine is the machine itself: "
            f"processes on others would wait for this one for ever. Replace the line '{address} {name}' of /etc/hosts "
            f"(Debian writes it) by one with the address that others reach it by, such as '10.0.0.5 {name}'."
        )


def _explicit(given: Mapping[str, str]) -> Launch | None:
    coordinator = given.get("JAX_COORDINATOR_ADDRESS")
    if not coordinator or not given.get("JAX_NUM_PROCESSES"):
        return None
    rank = given.get("JAX_PROCESS_ID") or given.get("JOB_COMPLETION_INDEX")
    if rank is None:
        raise ValueError(
            "JAX_COORDINATOR_ADDRESS and JAX_NUM_PROCESSES are set, but not which of them this process is: set "
            "JAX_PROCESS_ID too (Kubernetes' indexed jobs set JOB_COMPLETION_INDEX, which does)."
        )
    size = _number(given, "JAX_NUM_PROCESSES")
    name = "JAX_PROCESS_ID" if given.get("JAX_PROCESS_ID") else "JOB_COMPLETION_INDEX"
    return by_hand("JAX_COORDINATOR_ADDRESS", coordinator, size, _number(given, name))


def by_hand(by: str, coordinator: str, size: int, rank: int) -> Launch:
    """Of processes that are all on this machine, or each on one of its own."""
    here = size if is_loopback(coordinator) else 1
    return Launch(by, rank, size, here, rank % here, coordinator)


def _torchrun(given: Mapping[str, str]) -> Launch | None:
    if not all(given.get(name) for name in ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE")):
        return None
    size = _number(given, "WORLD_SIZE")
    # torchrun itself listens at MASTER_PORT
    coordinator = f"{given['MASTER_ADDR']}:{_number(given, 'MASTER_PORT') + 1}"
    here = _number(given, "LOCAL_WORLD_SIZE", size)
    return Launch("torchrun", _number(given, "RANK"), size, here, _number(given, "LOCAL_RANK", 0), coordinator)


def _slurm(given: Mapping[str, str]) -> Launch | None:
    # only srun's steps have the second: the script of sbatch itself is one process, whatever was asked for
    if not given.get("SLURM_JOB_ID") or not given.get("SLURM_STEP_NODELIST"):
        return None
    size = _number(given, "SLURM_STEP_NUM_TASKS", _number(given, "SLURM_NTASKS", 1))
    tasks = re.match(r"\d+", given.get("SLURM_STEP_TASKS_PER_NODE", ""))  # such as 4(x2),3
    here, mine = int(tasks[0]) if tasks else 1, _number(given, "SLURM_LOCALID", 0)
    # on several machines JAX finds the first one, at a port that all steps of a job share
    step = f"{given['SLURM_JOB_ID']}.{given.get('SLURM_STEP_ID', '')}"
    coordinator = _beside("srun", size, here, step) if size == here else None
    return Launch("srun", _number(given, "SLURM_PROCID"), size, here, mine, coordinator)


def _open_mpi(given: Mapping[str, str]) -> Launch | None:
    if not given.get("OMPI_COMM_WORLD_SIZE"):
        return None
    size, here = (_number(given, f"OMPI_COMM_WORLD_{what}") for what in ("SIZE", "LOCAL_SIZE"))
    found = "OMPI_MCA_orte_hnp_uri" in given  # from which JAX takes the coordinator; Open MPI 5 has it no more
    coordinator = None if found else _beside("mpirun", size, here, given.get("PMIX_NAMESPACE", ""))
    rank, mine = (_number(given, f"OMPI_COMM_WORLD_{what}", 0) for what in ("RANK", "LOCAL_RANK"))
    return Launch("mpirun", rank, size, here, mine, coordinator)


def _mpich(given: Mapping[str, str]) -> Launch | None:
    if not given.get("PMI_SIZE") or not given.get("PMI_RANK"):
        return None
    size = _number(given, "PMI_SIZE")
    here = _number(given, "MPI_LOCALNRANKS", 1)
    rank, mine = _number(given, "PMI_RANK"), _number(given, "MPI_LOCALRANKID", 0)
    return Launch("mpirun", rank, size, here, mine, _beside("mpirun", size, here, str(_starter("PMI_RANK"))))


FIRST_PORT, PORTS = 2**14, 2**14  # below those that Linux gives out by itself


def _beside(by: str, size: int, local_size: int, job: str) -> str | None:
    """Where processes that are all on one machine meet: at a port made of their job's name."""
    if size == 1:
        return None
    if size != local_size:
        raise ValueError(
            f"{by} started {size} processes on several machines but doesn't say where the first one is: set "
            "JAX_COORDINATOR_ADDRESS=HOST:PORT (of the machine of rank 0, any free port), JAX_NUM_PROCESSES and "
            "JAX_PROCESS_ID for each."
        )
    return f"127.0.0.1:{FIRST_PORT + sum(ord(c) * 31**i for i, c in enumerate(job)) % PORTS}"


def _starter(mark: str) -> int:
    """The process that gave us a variable: our parent, or beyond it where a shell was between."""
    process = os.getppid()
    with contextlib.suppress(OSError, ValueError):  # no /proc, or not for us to read
        while f"\0{mark}=".encode() in b"\0" + Path(f"/proc/{process}/environ").read_bytes():
            status = Path(f"/proc/{process}/stat").read_text()
            process = int(status.rpartition(")")[2].split()[1])
    return process


def _number(given: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = given.get(name)
    if text is None and default is not None:
        return default
    if text is None or not re.fullmatch(r"\d{1,9}", text):
        raise ValueError(f"{name} (={text!r}) must be a whole number: the environment describes a job of processes.")
    return int(text)


def is_loopback(coordinator: str) -> bool:
    """Whether "host:port" is of this machine alone."""
    return coordinator.rpartition(":")[0] in ("127.0.0.1", "localhost", "[::1]")
