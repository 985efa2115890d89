"""The sweeps: what beat runs. Each may run twice or from two beats at once; none claims, none touches a version."""
