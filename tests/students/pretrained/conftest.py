"""Lets timm be imported beside a torch of another build than torchvision's."""

from tests.teachers.torchvision_ops import import_torchvision

import_torchvision()
