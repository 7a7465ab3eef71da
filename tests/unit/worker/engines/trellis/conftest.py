"""Where PyTorch is not installed, only `test_requirement.py` is collected: it says so."""

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("torch") else ["test_[!r]*.py"]
