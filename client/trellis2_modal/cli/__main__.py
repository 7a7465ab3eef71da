"""`python -m trellis2_modal.cli`."""

import sys

from trellis2_modal.cli import main

sys.exit(main())
