"""`python -m lrtl_utils`, the same as `lrtl`."""

from lrtl_utils.cli import main

if __name__ == "__main__":
    main()
