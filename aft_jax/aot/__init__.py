"""Ahead of time: a run's train step compiled for TPUs that are not here, and what it will take.

chips        kinds of TPU chips, their sizes and published peaks
hlo          the text of a compiled program -> computations and instructions
products, traffic, collectives   what an instruction computes, moves and sends
costs        their sums over a program, loops as often as they run
parts        config -> the parts of a step, as shapes
lowered      parts -> the program of a slice
child        the process that compiles
estimate     costs -> seconds
compilation  the verb
table        what it prints
"""

from aft_jax.aot.compilation import Compilation as Compilation
from aft_jax.aot.compilation import compile_for as compile_for
from aft_jax.aot.compilation import parse_widths as parse_widths
from aft_jax.aot.table import format_compilation as format_compilation
