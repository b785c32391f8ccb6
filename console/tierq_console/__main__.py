"""`python -m tierq_console` is the `tierq` command."""

from tierq_console.entry import main

main()
