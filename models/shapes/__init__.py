"""Recipe and package of the default model."""
