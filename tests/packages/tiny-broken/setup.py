from setuptools import Extension, setup

setup(py_modules=[], ext_modules=[Extension("tiny_broken", ["tiny_broken.c"])])
