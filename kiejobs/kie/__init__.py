"""Kie's API: families and envelopes (pure), the catalogue of models (data), and the one client that talks."""
