"""The launcher that started this process, and how many others with it, read from the environment without JAX."""

import ipaddress
import os
import re
import socket
from collections.abc import Mapping
from typing import NamedTuple

Environment = Mapping[str, str]

FIRST_PORT, PORTS = 2**14, 2**14  # below those that Linux gives out by itself


class Launch(NamedTuple):
    """One process of a job.

    Attributes:
        by: the launcher, for messages.
        rank: index of this process, from 0.
        size: number of processes.
        local_size: number of them on this machine.
        local_rank: index of this process among these, from 0.
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
        """True if some of the processes are on other machines."""
        return self.size > self.local_size


ALONE = Launch("nobody", 0, 1, 1, 0, None)


def detect(environment: Environment | None = None) -> Launch:
    """The job that this process was started in; `ALONE` if it was started by itself, or PPO2_ALONE=1 says so.

    Looked for in this order: variables of JAX's own (`JAX_COORDINATOR_ADDRESS`, `JAX_NUM_PROCESSES` and
    `JAX_PROCESS_ID`, for the last of which Kubernetes' `JOB_COMPLETION_INDEX` does), torchrun's, those of Open MPI's
    mpirun, of srun, and of the mpirun of MPICH and Intel.

    Raises:
        ValueError: variables that contradict each other, or tell too little.
    """
    given = os.environ if environment is None else environment
    if given.get("PPO2_ALONE", "0") not in ("", "0"):
        return ALONE
    for find in (_explicit, _torchrun, _open_mpi, _slurm, _mpich):  # mpirun may have been started by srun
        found = find(given)
        if found is not None and (found.size > 1 or found.rank):  # others may have left what says one of one
            if not 0 <= found.rank < found.size:
                raise ValueError(
                    f"{found.by} started process {found.rank} of {found.size}: it must be from 0 to {found.size - 1}."
                )
            return found
    return ALONE


def detected() -> Launch:
    """`detect`, but `ALONE` where the environment contradicts itself, which `ppo2.distributed.init` reports."""
    try:
        return detect()
    except ValueError:
        return ALONE


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


def by_hand(by: str, coordinator: str, size: int, rank: int) -> Launch:
    """The launch of processes that are all on this machine, or each on one of its own."""
    here = size if is_loopback(coordinator) else 1
    return Launch(by, rank, size, here, rank % here, coordinator)


def is_loopback(coordinator: str) -> bool:
    """True if "host:port" is of this machine alone."""
    return coordinator.rpartition(":")[0] in ("127.0.0.1", "localhost", "[::1]")


def _explicit(given: Environment) -> Launch | None:
    coordinator = given.get("JAX_COORDINATOR_ADDRESS")
    if not coordinator or not given.get("JAX_NUM_PROCESSES"):
        return None
    name = next((name for name in ("JAX_PROCESS_ID", "JOB_COMPLETION_INDEX") if given.get(name)), None)
    if name is None:
        raise ValueError(
            "JAX_COORDINATOR_ADDRESS and JAX_NUM_PROCESSES are set, but not which of them this process is: set "
            "JAX_PROCESS_ID too (Kubernetes' indexed jobs set JOB_COMPLETION_INDEX, which does)."
        )
    size, rank = _number(given, "JAX_NUM_PROCESSES"), _number(given, name)
    return by_hand("JAX_COORDINATOR_ADDRESS", coordinator, size, rank)


def _torchrun(given: Environment) -> Launch | None:
    if not all(given.get(name) for name in ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE")):
        return None
    rank, size, port = (_number(given, name) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
    here, mine = _number(given, "LOCAL_WORLD_SIZE", size), _number(given, "LOCAL_RANK", 0)
    return Launch("torchrun", rank, size, here, mine, f"{given['MASTER_ADDR']}:{port + 1}")  # itself listens at `port`


def _slurm(given: Environment) -> Launch | None:
    # only srun's steps have the second: the script of sbatch itself is one process, whatever was asked for
    if not given.get("SLURM_JOB_ID") or not given.get("SLURM_STEP_NODELIST"):
        return None
    rank = _number(given, "SLURM_PROCID")
    size = _number(given, "SLURM_STEP_NUM_TASKS", _number(given, "SLURM_NTASKS", 1))
    tasks = re.match(r"\d+", given.get("SLURM_STEP_TASKS_PER_NODE", ""))  # such as 4(x2),3
    here, mine = int(tasks[0]) if tasks else 1, _number(given, "SLURM_LOCALID", 0)
    # on several machines JAX finds the first one, at a port that all steps of a job share
    step = f"{given['SLURM_JOB_ID']}.{given.get('SLURM_STEP_ID', '')}"
    return Launch("srun", rank, size, here, mine, _local_port("srun", size, here, step) if size == here else None)


def _open_mpi(given: Environment) -> Launch | None:
    if not given.get("OMPI_COMM_WORLD_SIZE"):
        return None
    size, here = (_number(given, f"OMPI_COMM_WORLD_{what}") for what in ("SIZE", "LOCAL_SIZE"))
    rank, mine = (_number(given, f"OMPI_COMM_WORLD_{what}", 0) for what in ("RANK", "LOCAL_RANK"))
    found = "OMPI_MCA_orte_hnp_uri" in given  # from which JAX takes the coordinator; Open MPI 5 has it no more
    coordinator = None if found else _local_port("mpirun", size, here, given.get("PMIX_NAMESPACE", ""))
    return Launch("mpirun", rank, size, here, mine, coordinator)


def _mpich(given: Environment) -> Launch | None:
    if not given.get("PMI_SIZE") or not given.get("PMI_RANK"):
        return None
    rank, size = _number(given, "PMI_RANK"), _number(given, "PMI_SIZE")
    here, mine = _number(given, "MPI_LOCALNRANKS", 1), _number(given, "MPI_LOCALRANKID", 0)
    # Intel's gives the job a name. MPICH's doesn't: the launcher is our parent, if it is who made us lead a group.
    job = given.get("I_MPI_HYDRA_UUID", str(os.getppid()))
    if "I_MPI_HYDRA_UUID" not in given and size > 1 and os.getpgrp() != os.getpid():
        raise ValueError(
            "mpirun started another program, such as a shell, which started this process, so that the job has no name "
            "here: let mpirun start it, or the shell by `exec`; or set JAX_COORDINATOR_ADDRESS=127.0.0.1:PORT, "
            "JAX_NUM_PROCESSES and JAX_PROCESS_ID for each."
        )
    return Launch("mpirun", rank, size, here, mine, _local_port("mpirun", size, here, job))


def _local_port(by: str, size: int, local_size: int, job: str) -> str | None:
    """The address of rank 0 where all processes are on one machine: its port is made of the job's name."""
    if size == 1:
        return None
    if size != local_size:
        raise ValueError(
            f"{by} started {size} processes on several machines but doesn't say where the first one is: set "
            "JAX_COORDINATOR_ADDRESS=HOST:PORT (of the machine of rank 0, any free port), JAX_NUM_PROCESSES and "
            "JAX_PROCESS_ID for each."
        )
    return f"127.0.0.1:{FIRST_PORT + sum(ord(c) * 31**i for i, c in enumerate(job)) % PORTS}"


def _number(given: Environment, name: str, default: int | None = None) -> int:
    text = given.get(name)
    if text is None and default is not None:
        return default
    if text is None or not re.fullmatch(r"\d{1,9}", text):
        raise ValueError(f"{name} (={text!r}) must be a whole number: the environment describes a job of processes.")
    return int(text)
