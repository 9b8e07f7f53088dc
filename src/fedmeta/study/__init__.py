"""Recipes, comparisons, plots and reports."""
