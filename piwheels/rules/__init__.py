"""Decisions as pure functions: values in, values out, no clock and no sockets."""
