"""Plots and pictures, what is attached to the dashboard, and its server."""
