"""Search of settings: `ppo2.tune` and `ppo2 tune`.

| file | has |
|---|---|
| `spaces.yaml` | the settings that are searched, and their values, by family of environments |
| `axes.py` | the values of one setting, and the parameters that stand for them |
| `space.py` | a space: what it may hold, and the settings of a trial |
| `study.py` | Optuna's study, on the disk: asking for trials, telling it of them |
| `trial.py` | one training of a trial, planned and then watched |
| `trainers.py` | trainings side by side in processes, one after another, or together in one program |
| `search.py` | the search: which training is next, which trial is given up |
| `verdict.py` | the comparison with the preset, on seeds that the search has not seen |
| `directory.py` | the directory of a study, which goes on with the same arguments |
| `result.py`, `pictures.py` | what comes of it, and the files that have it |
| `tune.py` | all of it, in order |
"""
