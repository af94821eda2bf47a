"""Teachers of the user's own; the example of the module's docstring is run as it stands."""

import sys
import textwrap

import numpy as np
import pytest

from aft_jax.config import TeacherConfig
from aft_jax.config.defaults import teacher
from aft_jax.errors import ConfigError, DataError
from aft_jax.teachers import custom_teacher as family  # the function: see the module below
from aft_jax.teachers import function_teacher, identify_teacher, make_teacher

DOCUMENTED = sys.modules["aft_jax.teachers.custom_teacher"].__doc__ or ""
BOTH = pytest.mark.parametrize("make", [make_teacher, identify_teacher])


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Text -> a module my_teachers that can be imported."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_teachers", raising=False)

    def write(text):
        (tmp_path / "my_teachers.py").write_text(textwrap.dedent(text))

    yield write
    sys.modules.pop("my_teachers", None)


def test_the_documented_example(module, images):
    blocks = DOCUMENTED.split(":\n\n    ")
    program = "    " + blocks[1].split("\n\nand in the config")[0]
    entry = blocks[2].split("\n\n")[0]
    module(program)
    written = eval(entry.partition(" = ")[2], {"teacher": teacher})
    colours = make_teacher(TeacherConfig(**written))
    features = colours.features(colours.prepare(images))["pooled"]
    assert features.shape == (5, 3 * 8)
    for row, example in zip(features, images, strict=True):
        red = example["image"][:, :, 0]
        shares = [np.mean((red >= low) & (red < low + 32)) for low in range(0, 256, 32)]
        np.testing.assert_allclose(row[:8] * 32, shares, rtol=1e-6)
    identity = identify_teacher(TeacherConfig(**written))
    assert identity == colours.identity
    assert identity is not None
    assert (identity.id, identity.weights_sha256) == (
        'custom/colours-8 {"bins": 8}',
        "version 1",
    )


def test_the_version_stands_in_for_the_weights():
    identities = [
        function_teacher(len, id="lengths", version=version).identity for version in ("1", "2")
    ]
    assert identities[0] != identities[1]
    assert identities[0]._replace(weights_sha256="version 2") == identities[1]


@pytest.mark.parametrize("shape", [(3,), (2, 4), (3, 4, 1)])
def test_a_function_gives_a_row_for_each_example(shape):
    teacher = function_teacher(lambda examples: np.zeros(shape), id="zeros", version="1")
    with pytest.raises(DataError, match=r"zeros returned shape \(.*\) for 3 examples"):
        teacher.features(teacher.prepare([{"array": 0}] * 3))


def test_a_module_that_is_elsewhere_has_no_identity_here(configure, module):
    assert identify_teacher(configure("custom", "no_such_module:function")) is None
    module("import no_such_package\ndef make():\n    pass")
    assert identify_teacher(configure("custom", "my_teachers:make")) is None
    with pytest.raises(ConfigError, match="no_such_package"):
        make_teacher(configure("custom", "my_teachers:make"))


@BOTH
@pytest.mark.parametrize("source", ["my_teachers", "my_teachers:other"])
def test_a_missing_function(make, source, configure, module):
    module("def make():\n    pass")
    with pytest.raises(ConfigError, match=r"teachers\.\*\.source names a function of yours"):
        make(configure("custom", source))


@BOTH
def test_options_that_the_function_does_not_take(make, configure, module):
    module("def make(bins):\n    pass")
    with pytest.raises(ConfigError, match=r"arguments of my_teachers:make: .*'width'"):
        make(configure("custom", "my_teachers:make", options={"bins": 1, "width": 2}))


@BOTH
def test_a_function_that_returns_no_teacher(make, configure, module):
    module("def make():\n    return 3")
    with pytest.raises(ConfigError, match=r"my_teachers:make returned int\. Wrap a plain func"):
        make(configure("custom", "my_teachers:make"))


def test_the_family_loads_what_the_function_returns(configure, module, texts):
    module(
        """
        import numpy as np
        from aft_jax.teachers import Teacher, TeacherIdentity

        def make():
            identity = TeacherIdentity("mine", "", "0" * 64, "letters", "counts")
            prepare = lambda examples: [len(example["text"]) for example in examples]
            return Teacher(identity, prepare, lambda n: {"pooled": np.array(n)[:, None]}, 0)
        """
    )
    mine = family(configure("custom", "my_teachers:make"))
    features = mine.features(mine.prepare(texts))["pooled"]
    np.testing.assert_array_equal(features[:, 0], [11, 26, 3, 9, 11])
