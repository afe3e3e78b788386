"""`python -m tests.commands JSON` runs several commands of the project in one process, until one fails."""

import json
import sys

from beans_exp.__main__ import main

if __name__ == "__main__":
    for words in json.loads(sys.argv[1]):
        sys.argv = ["python -m beans_exp", *words]
        try:
            main()
        except SystemExit as ended:
            if ended.code:
                sys.exit(f"{' '.join(words)}: exit status {ended.code}")
