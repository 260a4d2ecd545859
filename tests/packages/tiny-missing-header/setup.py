from setuptools import Extension, setup

setup(py_modules=[], ext_modules=[Extension("tiny_missing_header", ["tiny_missing_header.c"])])
