"""The card of the data set of published results: what its columns are and how to get the rows."""

from pathlib import Path

CARD = "README.md"

_TEXT = """\
---
pretty_name: {name}
tags:
- benchmark
- quantization
configs:
- config_name: default
  data_files: results.parquet
---

# {name}

Results of qbench, which measures ways of quantizing neural networks by one set of rules. Their page is
[{space}]({endpoint}/spaces/{space}).

`results.parquet` has one row per attempt at a cell of the benchmark, failures as well:

| column | holds |
|---|---|
| `result_id`, `cell_id` | names of the attempt and of the cell, computed from their contents |
| `track`, `target` | what was measured, and what was quantized |
| `quantizer`, `model`, `dataset`, `optimizer`, each with its parameters | the components |
| `seed`, `budget` | the rest of the cell |
| `status`, `error` | how the attempt ended |
| `measurements` | list of `name`, `value`, `unit`, `n`, `timing` (depends on the machine's speed) and raw `samples` |
| `facts` | rate class, policy and coverage, in words |
| `environment`, `device` | versions and hardware |
| `runs` | the runs that the result belongs to, with suite and digest of its track |

Columns of parameters, budget, facts, cell and environment are JSON. Only rows of equal track, target and digest may be
ranked together. All rows are as their submitters reported them.

    qbench leaderboard pull --repo {space}{option}    # take them over, each validated
    qbench results

This card is written once, when the data set is made; it is yours to edit.
"""


def card(space: str, dataset: str, endpoint: str, folder: Path) -> Path:
    """Write the card of ``dataset`` into ``folder``; ``space`` is the page's repository."""
    option = "" if dataset == f"{space}-results" else f" --dataset {dataset}"
    path = folder / f"data-set-{CARD}"
    text = _TEXT.format(name=dataset.partition("/")[2], space=space, endpoint=endpoint, option=option)
    path.write_text(text, encoding="utf-8")
    return path
