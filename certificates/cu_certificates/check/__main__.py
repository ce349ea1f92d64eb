"""Run the checker from a copied folder: ``python -m check FILE``."""

import sys

from .main import main

sys.exit(main())
