"""`python -m aft_jax` is `aft-jax`."""

import sys

from aft_jax.cli import main

sys.exit(main())
