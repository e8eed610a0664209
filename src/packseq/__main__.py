"""``python -m packseq``: the command line."""

import sys

from packseq.cli import main

sys.exit(main())
