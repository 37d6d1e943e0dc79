"""Diagnosis of an installation and of environments before a run: the command and the function `doctor`.

| file | content |
|---|---|
| `findings.py` | what a check found; the result of all |
| `subject.py` | the environment to be checked: how to make it, and what was learned of it so far |
| `making.py`, `contract_checks.py`, `repeating.py`, `playing.py`, `judging.py`, `acting.py` | the checks |
| `on_device.py` | those of device environments, in their places |
| `proposal.py` | settings for training, with reasons |
| `examiner.py`, `child.py` | the process, or thread, in which an environment is checked |
| `installation.py`, `machine.py` | what is checked without an environment |
| `doctor.py` | the whole |
"""
