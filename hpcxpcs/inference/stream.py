"""The version of the random stream, kept apart so that naming it costs no import of the sampler."""

STREAM_VERSION = 2
"""Version of everything that decides which draws a seed gives; a change of code that moves a draw raises it."""
