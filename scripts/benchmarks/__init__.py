"""Benchmarks: how fast and how small the farm is, shown and never asserted.

To add one, put a module into `suite`: its NAME, the first line of its docstring for the
list, add_options(parser), and run(options) -> Result. Nothing else needs to know of it.
"""
