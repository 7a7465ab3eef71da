"""What the doctor asks Modal: whether it lets us in, and holds what a deployment needs."""

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from infra.doctor.bucket import ANSWER_S, VARIABLES
from infra.doctor.check import Check, CheckFailed
from infra.modal_app.weights import SOURCES
from infra.settings.modal import ModalSettings

if TYPE_CHECKING:
    from collections.abc import Coroutine

GPU_WAIT_S = 300.0


def package_check() -> Check:
    """Modal's own package, which brings the command `modal`."""

    def look() -> None:
        if find_spec("modal") is None:
            raise CheckFailed("it is not installed")

    return Check("package modal", look, "pip install -e '.[modal]'")


def modal_checks(layout: ModalSettings) -> list[Check]:
    """The account, and what must lie in it before a deployment."""
    return [
        package_check(),
        Check("Modal token", _asked(_greet), "modal token new"),
        Check(
            f"Modal secret {layout.bucket_secret}",
            _secret(layout.bucket_secret, "TRELLIS2_BUCKET"),
            bucket_command(layout),
        ),
        *(
            [
                Check(
                    f"Modal secret {layout.huggingface_secret}",
                    _secret(layout.huggingface_secret, "HF_TOKEN"),
                    hub_command(layout),
                )
            ]
            if layout.gpu
            else []
        ),
    ]


def bucket_command(layout: ModalSettings, *, again: bool = False) -> str:
    """What makes the bucket's secret, or another one in its place."""
    return f"modal secret create {'--force ' if again else ''}{layout.bucket_secret} {VARIABLES}"


def hub_command(layout: ModalSettings, *, again: bool = False) -> str:
    """What makes the Hub's secret, or another one in its place."""
    return f"modal secret create {'--force ' if again else ''}{layout.huggingface_secret} HF_TOKEN=hf_..."


def volume_checks(layout: ModalSettings) -> list[Check]:
    """The weights in their volume."""

    async def present() -> None:
        import modal

        names = {entry.path for entry in await modal.Volume.from_name(layout.weights_volume).listdir.aio("/")}
        if lacking := [source.repo for source in SOURCES if source.repo.split("/")[0] not in names]:
            raise CheckFailed(", ".join(lacking))

    fill = "modal run -m infra.app::fetch_weights"
    return [Check(f"weights in volume {layout.weights_volume}", _asked(present), fill)]


def gpu_checks(layout: ModalSettings, spawn: Callable[[], Any]) -> list[Check]:
    """A GPU, by starting one: no call of Modal's tells a quota. `spawn` gives the call that does."""

    def start() -> None:
        try:
            spawn().get(timeout=GPU_WAIT_S)
        except TimeoutError as error:
            raise CheckFailed(f"none came within {GPU_WAIT_S:g} s") from error

    plan = f"ask Modal for {' or '.join(layout.gpu)}, or export TRELLIS2_GPU= to a kind that your plan has"
    return [Check(f"GPU {' or '.join(layout.gpu)} starts", start, plan)]


def _asked(call: "Callable[[], Coroutine[Any, Any, object]]") -> Callable[[], object]:
    def ask() -> object:
        from infra.modal_app.rpc import ModalCalls

        calls = ModalCalls(bound_s=ANSWER_S)
        return calls.run(call, calls.deadline())

    return ask


async def _greet() -> None:
    import modal

    client = await modal.Client.from_env.aio()
    await client.hello.aio()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped


def _secret(name: str, key: str) -> Callable[[], object]:
    async def hydrate() -> None:
        import modal

        await modal.Secret.from_name(name, required_keys=[key]).hydrate.aio()

    return _asked(hydrate)
