from setuptools import setup

setup(name="tiny-legacy", version="1.0", py_modules=["tiny_legacy"])
