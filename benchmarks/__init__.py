"""What the README's figures are measured with; the tests' fake model and servers are its parts."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
