"""The kinds of generated block."""

from collections.abc import Mapping

from tests.docs.generator import facts, machines, messages, options
from tests.docs.generator.blocks import Render

RENDERS: Mapping[str, Render] = {
    "options": options.options,
    "common": options.common,
    "transitions": machines.transitions,
    "diagram": machines.diagram,
    "messages": messages.messages,
    "vocabularies": messages.vocabularies,
    "kinds": messages.kinds,
    "arrows": facts.arrows,
    "benchmarks": facts.benchmarks,
    "failures": facts.failures,
    "schema": facts.schema,
}
