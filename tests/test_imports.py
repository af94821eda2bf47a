"""What importing costs, which way imports point, and that every module imports at all."""

import ast
import functools
import importlib
import os
import pathlib
import pkgutil
import subprocess
import sys

import pytest

import aft_jax

PACKAGE = pathlib.Path(aft_jax.__file__).parent
NEVER = (
    *("tensorflow", "torch", "flax", "optax", "orbax", "jaxtyping", "ml_collections", "grain"),
    *("tensorstore", "safetensors", "tensorboardX", "sklearn", "tqdm", "matplotlib", "jinja2"),
    *("PIL", "datasets", "pyarrow", "tensorflow_datasets", "timm", "transformers"),
)
FLOW = [
    ("types", "errors", "distributed", "preemption", "files", "text_table", "progress", "tensors"),
    ("version", "entry_point"),
    ("hub", "lazy_tensors"),
    ("losses",),
    ("scores",),
    ("config",),
    ("data",),
    ("students",),
    ("teachers",),
    ("features",),
    ("training",),
    ("aot",),
    ("experiments",),
    ("export",),
    ("flags",),
    ("cli",),
    ("__main__",),
]
RANK = {room: rank for rank, rooms in enumerate(FLOW) for room in rooms}
# The package's own face shows the losses and the version, so importing it costs no more.
RANK["__init__"] = RANK["losses"]


@functools.cache
def top_level_modules_after(statement: str) -> set[str]:
    environment = {k: v for k, v in os.environ.items() if k != "AFT_JAX_CHECK_SHAPES"}
    program = f"{statement}; import sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    child = subprocess.run(
        [sys.executable, "-c", program],
        cwd=PACKAGE.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(child.stdout.split())


@pytest.mark.parametrize("module", ["aft_jax", "aft_jax.losses.regularizer"])
def test_import_costs_jax_and_numpy_only(module):
    ours = top_level_modules_after(f"import {module}")
    assert ours - top_level_modules_after("import jax, numpy") == {"aft_jax"}
    assert ours.isdisjoint(NEVER)


def room_of(path: pathlib.Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def rooms_imported(tree: ast.AST) -> set[str]:
    """Rooms that a file imports anywhere, also inside its functions."""
    modules = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"imports are absolute; got `{ast.unparse(node)}`"
            # `from aft_jax import x` takes x from the face, which is reached as `__init__`.
            modules.append("aft_jax.__init__" if node.module == "aft_jax" else str(node.module))
    parts = [module.split(".") for module in modules]
    return {names[1] if names[1:] else "__init__" for names in parts if names[0] == "aft_jax"}


def test_imports_point_one_way():
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 20
    backwards = [
        f"{path.relative_to(PACKAGE)} imports {imported}"
        for path in files
        for imported in rooms_imported(ast.parse(path.read_text()))
        if RANK[imported] > RANK[room_of(path)]
    ]
    assert backwards == []


def test_the_losses_import_only_jax_and_the_types():
    for path in sorted((PACKAGE / "losses").glob("*.py")):
        assert rooms_imported(ast.parse(path.read_text())) <= {"losses", "types"}, path


def test_every_module_imports():
    found = [
        module.name
        for module in pkgutil.walk_packages(aft_jax.__path__, "aft_jax.")
        if module.name != "aft_jax.__main__"  # runs the command line
    ]
    assert {"aft_jax.cli", "aft_jax.experiments.reporting.report"} <= set(found)
    for name in found:
        importlib.import_module(name)
