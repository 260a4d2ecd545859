from setuptools import Extension, setup

setup(py_modules=[], ext_modules=[Extension("tiny_extension", ["tiny_extension.c"])])
