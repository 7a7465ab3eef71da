"""Every problem code that a client may meet, with its status, its title and what it means; for the documents."""

from collections.abc import Iterator

from api.http.problem_details import status_and_title
from shared.errors import ImageRejected, InputRejected, ServiceError

# PictureRejected says itself which of these it is.
IMAGE_CODES = {
    "not_an_image": "The bytes are no picture.",
    "format_unsupported": "A picture, but neither PNG nor JPEG nor WebP.",
    "image_too_large": "Over 20 MB, 40 megapixels, or 16,384 pixels a side.",
    "animation_unsupported": "More than one frame.",
    "image_truncated": "The file is cut off.",
    "image_broken": "The file contradicts itself.",
}


def _kinds(kind: type[ServiceError] = ServiceError) -> Iterator[type[ServiceError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _kinds(child)


def _meaning(kind: type[ServiceError]) -> str:
    return (kind.__doc__ or "").partition("\n")[0].replace("`", "")


CODES: dict[str, tuple[int, str, str]] = {
    **{kind.code: (*status_and_title(kind), _meaning(kind)) for kind in _kinds() if kind is not ImageRejected},
    **{code: (*status_and_title(InputRejected), meaning) for code, meaning in IMAGE_CODES.items()},
    "internal_error": (500, "Internal error", "Something that nobody foresaw."),
    "not_found": (404, "Not found", "No such route."),
    "method_not_allowed": (405, "Method not allowed", "The route has no such method."),
}
