"""The version of the distribution; `setup.py` reads this file as text."""

VERSION = "0.1.0"
