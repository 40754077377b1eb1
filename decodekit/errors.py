"""Every error that a user can cause: one sentence that says what is wrong, where, and the way out.

All derive from :class:`DecodekitError`, which is a :class:`ValueError`, so ``except ValueError`` works and the
command line can turn each into exit code 2 without a traceback.
"""


class DecodekitError(ValueError):
    """Base of all errors that decodekit raises on purpose."""


class SpecError(DecodekitError):
    """A strategy string cannot be read; the message names the column."""


class UnknownPlugin(DecodekitError):
    """No plugin has this name; the message offers near names."""


class BrokenPlugin(DecodekitError):
    """A registered plugin cannot be imported or is declared twice; the message names the distribution."""


class OptionError(DecodekitError):
    """An option of a plugin is unknown, of the wrong type, or out of range."""


class CompositionError(DecodekitError):
    """Plugins that exclude each other, or a plugin whose needs nothing in the composition meets."""


class ModelError(DecodekitError):
    """A model cannot be loaded or cannot be served."""


class UnknownModel(ModelError):
    """No embedded model has this name, or a path holds no model."""


class PromptError(DecodekitError):
    """A prompt is empty, too long for the model, or of an unknown kind."""


class ConstraintError(DecodekitError):
    """A schema, grammar, pattern or database cannot be used as a constraint."""


class DataWarning(UserWarning):
    """A line of a data file is left out; the rest is used. The message names file and line."""


class ConstraintWarning(UserWarning):
    """Something in a schema means nothing, or less than it seems to. The message names it and where it stands."""
