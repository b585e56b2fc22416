"""``python -m rlplastic``, where the script is not on the path."""

import sys

from rlplastic.cli import main

if __name__ == "__main__":
    sys.argv[0] = "rlplastic"  # the name that records and messages show
    main()
