"""Which formats this service makes: judged at submit, so that nobody waits for what no worker can write."""

from collections.abc import Sequence

from shared.domain.parameters import ExportParameters, Format, PresetName
from shared.errors import FormatUnavailable


def require_formats(parameters: ExportParameters, made: Sequence[Format], preset: PresetName | None = None) -> None:
    """Refuse parameters that ask for a format which the service does not make.

    Raises:
        FormatUnavailable: with what to do instead.
    """
    lacking = [f"`{one}`" for one in parameters.formats if one not in made]
    if lacking:
        because = f" (the preset {preset} may ask for it)" if preset else ""
        raise FormatUnavailable(
            f"this service does not make {', '.join(lacking)}{because}; it makes {', '.join(made)}: "
            f"name only those in `formats`",
            pointer="/formats",
        )
