"""Measurements that anyone can run: one script per figure."""
