"""``python -m clipmused_bids.cli``: the command without its entry point."""

import sys

from clipmused_bids.cli import main

sys.exit(main())
