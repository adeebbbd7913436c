"""Arrays that builds of the tests read."""

from pipelines import run
from pipelines.config.schema import parse_config

append, build = run.append, run.build


def make(source, output, *, overwrite=False, beam_options=(), **config):
    return build(str(source), str(output), parse_config(config), overwrite=overwrite, beam_options=list(beam_options))
