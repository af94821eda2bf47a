"""Layers that several students share; parameters in float32, computed in the dtype asked for."""
