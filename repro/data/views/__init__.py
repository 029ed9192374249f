"""Multi-crop with BYOL's augmentations (Sec. 3.1, App. C): the views that training shows.

`kinds.py` says which views an image has; three modules make them, from the same settings:

| module         | of which images       | by                | parity class                        |
| -------------- | --------------------- | ----------------- | ----------------------------------- |
| `reference.py` | decoded one by one    | torchvision, PIL  | A: the authors' own pipeline        |
| `fast.py`      | the same, faster      | torch, OpenCV     | B: the same draws, other rounding   |
| `batched.py`   | in memory, by batches | torch             | C: the same distribution, ledger D7 |
"""
