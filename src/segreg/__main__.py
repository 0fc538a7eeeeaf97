"""``python -m segreg``: the command line where no ``segreg`` is on the path."""

from segreg.cli import main

if __name__ == "__main__":
    main()
