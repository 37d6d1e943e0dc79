"""Launchers and what they leave in the environment."""

import os
import socket

import pytest

from ppo2.system import launch
from ppo2.system.launch import ALONE, Launch, detect

TORCHRUN = {
    "MASTER_ADDR": "node0",
    "MASTER_PORT": "29500",
    "RANK": "5",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
}
SLURM = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}
SRUN = SLURM | {"SLURM_LOCALID": "1", "SLURM_STEP_TASKS_PER_NODE": "2(x2)", "SLURM_NTASKS": "4"}
OPEN_MPI = {
    f"OMPI_COMM_WORLD_{name}": value
    for name, value in {"SIZE": "2", "RANK": "1", "LOCAL_SIZE": "2", "LOCAL_RANK": "1"}.items()
}
OPEN_MPI_4 = OPEN_MPI | {"OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:1"}
MPICH = {"PMI_RANK": "0", "PMI_SIZE": "2", "MPI_LOCALNRANKS": "2"}
KUBERNETES = {"JAX_COORDINATOR_ADDRESS": "job-0.svc:1234", "JAX_NUM_PROCESSES": "16", "JOB_COMPLETION_INDEX": "9"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ALONE),
        (TORCHRUN, Launch("torchrun", 5, 8, 4, 1, "node0:29501")),
        (TORCHRUN | {"WORLD_SIZE": "1", "RANK": "0"}, ALONE),
        (SRUN, Launch("srun", 3, 4, 2, 1, None)),
        (KUBERNETES | {"PPO2_ALONE": "1"}, ALONE),
        ({**SRUN, "SLURM_STEP_NODELIST": ""}, ALONE),  # the script of sbatch itself
        (OPEN_MPI | {"OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:1"}, Launch("mpirun", 1, 2, 2, 1, None)),
        (SRUN | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"} | OPEN_MPI_4, Launch("mpirun", 1, 2, 2, 1, None)),
        (KUBERNETES, Launch("JAX_COORDINATOR_ADDRESS", 9, 16, 1, 0, "job-0.svc:1234")),
        (KUBERNETES | TORCHRUN, Launch("JAX_COORDINATOR_ADDRESS", 9, 16, 1, 0, "job-0.svc:1234")),
    ],
)
def test_launchers_are_recognised(environment: dict[str, str], expected: Launch) -> None:
    assert detect(environment) == expected


def test_each_job_of_one_machine_has_a_port_of_its_own() -> None:
    jobs = [detect(OPEN_MPI | {"PMIX_NAMESPACE": name}) for name in ("prterun-a-1@1", "prterun-a-2@1")]
    jobs += [detect(MPICH | {"I_MPI_HYDRA_UUID": name}) for name in ("d11d0000-7fe9", "271e0000-452f")]
    ports = [int(str(job.coordinator).removeprefix("127.0.0.1:")) for job in jobs]
    assert len(set(ports)) == 4
    assert all(2**14 <= port < 2**15 for port in ports)


def test_mpich_names_its_job_by_our_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getppid", lambda: 1000)
    monkeypatch.setattr(os, "getpgrp", os.getpid)
    ports = [detect(MPICH | {"PMI_RANK": rank}).coordinator for rank in "01"]
    assert ports[0] == ports[1] is not None
    monkeypatch.setattr(os, "getppid", lambda: 1001)
    assert detect(MPICH).coordinator != ports[0]
    monkeypatch.setattr(os, "getpgrp", lambda: 999)  # that of a shell between mpirun and this process
    with pytest.raises(ValueError, match="mpirun started another program, such as a shell"):
        detect(MPICH)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (OPEN_MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "1"}, "set JAX_COORDINATOR_ADDRESS"),
        ({**KUBERNETES, "JOB_COMPLETION_INDEX": ""}, "not which of them"),
        (KUBERNETES | {"JAX_NUM_PROCESSES": "many"}, "must be a whole number"),
        (KUBERNETES | {"JOB_COMPLETION_INDEX": "16"}, "it must be from 0 to 15"),
    ],
)
def test_environments_that_say_too_little_or_nonsense(environment: dict[str, str], words: str) -> None:
    given = {name: value for name, value in environment.items() if value}
    with pytest.raises(ValueError, match=words):
        detect(given)


def test_a_host_name_that_means_the_machine_itself_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [(2, 1, 6, "", ("127.0.1.1", 0))])
    with pytest.raises(ValueError, match=r"resolves to 127\.0\.1\.1"):
        launch.check_host_name()
