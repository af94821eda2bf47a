"""Makes JAX unforgiving before it starts: CPU, eight devices, checked shapes, strict promotion."""

import os
import pathlib

from tests.xla import flags

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = flags(devices=8)
os.environ["AFT_JAX_CHECK_SHAPES"] = "1"
# Tests, their child processes and the next run share what was compiled.
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(pathlib.Path(__file__).parents[1] / ".jax_cache")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "0"

import jax
import jaxtyping
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")

jaxtyping.install_import_hook("aft_jax", "beartype.beartype")


@pytest.fixture
def x64():
    """Double precision for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def standard_promotion():
    """Optax raises a Python float to an integer step, which strict promotion forbids."""
    jax.config.update("jax_numpy_dtype_promotion", "standard")
    yield
    jax.config.update("jax_numpy_dtype_promotion", "strict")


@pytest.fixture
def unchecked_shapes():
    """Lets wrong shapes through to the library's own errors, as in production."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
