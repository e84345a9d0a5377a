"""``python -m clipmused_bids``: the command, for launchers of several processes such as ``torchrun -m``."""

import sys

from clipmused_bids.cli import main

sys.exit(main())
