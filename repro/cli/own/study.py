"""What `repro init` writes: the files of a study, by their places in its folder."""

from __future__ import annotations

from collections.abc import Mapping

from repro.harness.experiments.folders import experiments_dir
from repro.harness.experiments.own import schema_address

FIRST = "repro sweep teacher.momentum=0.9,0.99 --name first --scale smoke --seeds 2"

README = """\
# {name}

| folder | what it holds |
|:--|:--|
| `experiments/own` | your experiments, a file each: `repro sweep` and `repro new` write them |
| `experiments/clusters` | where else runs go: edit `mine.yaml`, then `--cluster mine` |
| `results/runs` | a folder a run; not for git |
| `results/figures`, `results/report` | drawn again at any time; not for git |

```sh
{first}
repro table first --scale smoke
repro runs
```

The paper's experiments are there as well (`repro list`). `REPRO_RESULTS` puts results elsewhere.
"""

IGNORED = """\
# Runs are too large for git; figures and reports are made again at any time.
/results/*
!/results/published/
"""

CLUSTER = """\
# yaml-language-server: $schema={schema}
# Your SLURM cluster: change what differs, then
#   repro doctor --cluster mine                # what works there, what will bite
#   repro plan first --scale gpu --cluster mine
# All keys, with what they mean: {all_keys}
profile: slurm
partition: ""
account: ""
gpus: 1            # of a process; 0: a CPU cluster
cpus: 8
memory_gb: 32
minutes: 720       # of one attempt: a longer run saves, is queued again, and goes on
data: {{}}           # folders of data sets, e.g. birds: /scratch/birds
setup: []          # shell lines before a job, e.g. "module load cuda/12.4"
"""


def files(name: str) -> Mapping[str, str]:
    """Of a study called so: their text."""
    all_keys = experiments_dir() / "clusters" / "slurm.yaml"
    return {
        "README.md": README.format(name=name, first=FIRST),
        ".gitignore": IGNORED,
        "experiments/own/.gitkeep": "",
        "experiments/clusters/mine.yaml": CLUSTER.format(
            schema=schema_address("cluster"), all_keys=all_keys
        ),
    }
