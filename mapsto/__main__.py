"""`python -m mapsto VERB …`: the same as `mapsto VERB …`, where the command is not on the path."""

import sys

from mapsto.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
