"""Suppression, the exact threshold sweep and operating points."""
