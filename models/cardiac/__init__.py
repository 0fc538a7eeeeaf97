"""Recipes and package of the cardiac model."""
