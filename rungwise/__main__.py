"""`python -m rungwise`, which launchers such as `torchrun -m` need."""

from rungwise.cli import main

main()
