"""Arrays that builds of the tests read."""

from pipelines.build import build
from pipelines.config.schema import parse_config


def make(source, output, *, overwrite=False, beam_options=(), **config):
    return build(str(source), str(output), parse_config(config), overwrite=overwrite, beam_options=list(beam_options))
