"""`python -m kiejobs.cli`, the same as `kiejobs`."""

from kiejobs.cli import main

main()
