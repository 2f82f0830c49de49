"""Which packages a wheel holds: ours, and the notebooks and grids, which lie beside the package in a checkout."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["lrtl_utils*"]), "lrtl_utils.notebooks"],
    package_dir={"lrtl_utils.notebooks": "notebooks"},
)
