"""Isochrone grids, posterior ages and evolutionary state."""
