import re

import pytest

from aft_jax.aot.chips import CHIPS, parse_topology
from aft_jax.errors import UsageError


@pytest.mark.parametrize(
    ("text", "chips", "devices"),
    [
        ("v5e:1x1", 1, 1),
        ("v5e:4x4", 16, 16),
        ("v6e:16x16", 256, 256),
        ("v4:2x2x2", 8, 8),
        ("v5p:8x8x8", 512, 512),
        ("tpu7x:2x2x1", 4, 8),
    ],
)
def test_topology_has_its_chips_and_devices(text, chips, devices):
    found = parse_topology(text)
    assert (found.chips, found.devices) == (chips, devices)


@pytest.mark.parametrize("text", ["v3:2x2", "4x4", "", "h100:8"])
def test_unknown_chip_lists_the_known_ones(text):
    with pytest.raises(
        UsageError, match=re.escape(f"v4, v5e, v5p, v6e, tpu7x, like v5e:4x4; got {text!r}")
    ):
        parse_topology(text)


@pytest.mark.parametrize("text", ["v5e", "v5e:4", "v5e:4x4x4", "v5p:4x4", "v5e:0x4", "v5e:4x4 "])
def test_shape_has_an_axis_for_each_of_the_chip(text):
    with pytest.raises(UsageError, match=r"along each of [23] axes, like v5[ep]:4x4"):
        parse_topology(text)


def test_halves_of_what_the_tables_call_bidirectional():
    """The all-reduce bandwidth of a pod, by its chips, is what one chip sends: 51.2 TB/s by 256."""
    assert CHIPS["v5e"].ici_speed == 51.2e12 / 256
    assert CHIPS["v6e"].ici_speed == 102.4e12 / 256
