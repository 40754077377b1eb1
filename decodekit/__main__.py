"""`python -m decodekit` is the command `decodekit`."""

from decodekit.cli.main import main

if __name__ == "__main__":
    main()
