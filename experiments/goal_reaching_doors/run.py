"""Goal reaching without reward in four rooms behind closed doors.

python -m experiments.goal_reaching_doors.run --publish
"""

import sys
from functools import partial
from pathlib import Path

from experiments.common import guarded
from experiments.goal_reaching.run import main

if __name__ == "__main__":
    sys.exit(guarded(partial(main, Path(__file__).parent)))
