"""Builds that tests make."""

import pipelines


def build(source, output, config=None, *, workers=1, **options):
    """The manifest of a build by one process, without a page that shows it unless one is asked for."""
    return pipelines.build(source, output, config, **{"workers": workers, "report": False} | options).manifest


def append(source, output, *, workers=1, **options):
    return pipelines.append(source, output, workers=workers, **options)


def make(source, output, *, overwrite=False, beam_options=(), **config):
    return build(source, output, config, overwrite=overwrite, beam_options=list(beam_options))
