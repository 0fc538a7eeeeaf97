"""Runtime: volumes, regions, backends, pipeline, quality, report."""
