"""What the doctor asks the Hub: whether a token may read the models."""

from collections.abc import Callable, Sequence

from infra.doctor.check import Check
from infra.modal_app.weights import HUB, SOURCES, Hub, Source, WeightsUnavailable


def licence_checks(hub: Hub, renew: str, sources: Sequence[Source] = SOURCES) -> list[list[Check]]:
    """The models, each on its own; `renew` is the command that puts another token in place."""

    def look(source: Source) -> Callable[[], None]:
        def allowed() -> None:
            if not hub.is_allowed(source):
                raise WeightsUnavailable("not open to HF_TOKEN")

        return allowed

    return [
        [
            Check(
                f"model {source.repo}",
                look(source),
                f"accept its licence at {HUB}/{source.repo}, or {renew}" if source.is_gated else renew,
            )
        ]
        for source in sources
    ]
