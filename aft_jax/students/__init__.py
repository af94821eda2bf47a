"""Students: the seam, the architectures and their weights on disk."""

from aft_jax.students.adapters import from_linen as from_linen
from aft_jax.students.adapters import from_nnx as from_nnx
from aft_jax.students.start import Start as Start
from aft_jax.students.start import find_start as find_start
from aft_jax.students.student import STUDENTS as STUDENTS
from aft_jax.students.student import make_student as make_student
from aft_jax.students.student import normalised as normalised
from aft_jax.students.student import parameter_count as parameter_count
from aft_jax.students.student import with_precision as with_precision
from aft_jax.students.weights import SavedStudent as SavedStudent
from aft_jax.students.weights import has_student as has_student
from aft_jax.students.weights import load_student as load_student
from aft_jax.students.weights import read_description as read_description
from aft_jax.students.weights import save_student as save_student
from aft_jax.students.weights import with_pretrained_body as with_pretrained_body
