"""Validate one row of a catalog: its parameters, its image, and whether an earlier job's result can be reused."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from shared.domain.batch import Batch
from shared.domain.job import Status
from shared.domain.parameters import PRESETS, Parameters, resolve
from shared.errors import InputRejected, JobNotFound, ObjectNotFound
from shared.manifest.row import ManifestRow
from shared.net.address_policy import public_url
from shared.repositories.batch_rows import Row, digest_of
from shared.repositories.jobs import JobRepository
from shared.storage import keys
from worker.batches.image_probe import ImageProbe, ProbedImage

_NOT_PARAMETERS = {"preset", "engine"}  # manifests name them among the parameters, jobs keep them apart


@dataclass(frozen=True, slots=True)
class RowValidator:
    """Turns a batch's manifest rows into planned rows. Safe from any thread. engines: the existing ones."""

    batch: Batch
    jobs: JobRepository
    probe: ImageProbe
    engines: Collection[str]

    def validate(self, row: ManifestRow) -> Row:
        """Return the planned row: with all its errors, or ready to become a job."""
        defaults = self.batch.defaults
        given = {**defaults.parameters, **_given_parameters(row)}
        preset = row.parameters.get("preset", defaults.preset)
        engine = str(row.parameters.get("engine", defaults.engine))
        if engine not in self.engines:
            row = row.with_error("parameter_invalid", f"there is no engine {engine!r}", field="engine")
        row, parameters = _resolve(row, given, preset)
        row = _check_delivery_urls(row)
        url, member = self._locate_image(row)
        if row.image and not url and not member:
            row = row.with_error("image_missing", f"{row.image} is not in the uploaded images", field="image")
        image = None
        if not row.errors:
            row, image = self._probe_image(row, url, member)
        if row.errors or parameters is None or image is None:
            return Row(number=row.number, line=row.line, custom_id=row.custom_id, errors=row.errors)
        digest = digest_of(image.fingerprint, engine, parameters, row.custom_id)
        return Row(
            number=row.number,
            line=row.line,
            custom_id=row.custom_id,
            url=url,
            member=member,
            upload_id=row.upload_id or None,
            width_px=image.header.width_px,
            height_px=image.header.height_px,
            engine=engine,
            preset=preset,
            given=given,
            digest=digest,
            reused=None if self.batch.ignore_cache else self._cached_job_id(digest),
            deliver=row.deliver,
        )

    def _locate_image(self, row: ManifestRow) -> tuple[str | None, str | None]:
        """Return the image's URL, or its member in the zip: named by the row's `image`, else by the row's id."""
        if "://" in row.image:
            return row.image, None
        images = self.probe.images
        if images is None or row.upload_id:
            return None, None
        return None, images.find(row.image or row.custom_id)

    def _probe_image(
        self, row: ManifestRow, url: str | None, member: str | None
    ) -> tuple[ManifestRow, ProbedImage | None]:
        try:
            if url:
                return row, self.probe.url(url)
            if member:
                return row, self.probe.member(member)
            if row.upload_id and keys.is_id(row.upload_id, "up"):
                return row, self.probe.upload(row.upload_id, keys.batch_image(self.batch.id, row.number))
        except InputRejected as error:
            return row.with_error(error.code, str(error), field="image"), None
        detail = "the row names no image, and no uploaded image has its id as name"
        return row.with_error("image_missing", detail, field="image"), None

    def _cached_job_id(self, digest: str) -> str | None:
        """Return the id of the job that made what this row asks for, if its files still exist."""
        try:
            job_id = self.jobs.store.get(keys.cached_result(self.batch.caller, digest)).body.decode()
            job = self.jobs.read(job_id).record
        except (ObjectNotFound, JobNotFound):
            return None
        is_usable = job.status is Status.SUCCEEDED and not job.purged_at and job.caller == self.batch.caller
        return job_id if is_usable else None


def _given_parameters(row: ManifestRow) -> dict[str, Any]:
    """Return the row's parameters, with its dimensions and with `formats` as a list."""
    given = {name: value for name, value in row.parameters.items() if name not in _NOT_PARAMETERS}
    if isinstance(formats := given.get("formats"), str):
        given["formats"] = formats.replace(",", " ").split()
    if row.dimensions and "dimensions_m" in Parameters.model_fields:
        given.setdefault("dimensions_m", row.dimensions)
    return given


def _resolve(row: ManifestRow, given: dict[str, Any], preset: Any) -> tuple[ManifestRow, Parameters | None]:
    """Resolve parameters over their preset; each one that is invalid becomes an error of the row."""
    if preset is not None and preset not in PRESETS:
        return row.with_error("parameter_invalid", f"there is no preset {preset!r}", field="preset"), None
    try:
        return row, resolve(given, preset)
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_input=False):
            name = str(problem["loc"][0]) if problem["loc"] else ""
            row = row.with_error("parameter_invalid", f"{name}: {problem['msg']}", field=name or None)
    return row, None


def _check_delivery_urls(row: ManifestRow) -> ManifestRow:
    for artifact, url in row.deliver.items():
        if public_url(url) is None:
            detail = f"the {artifact} cannot be uploaded: its URL is not a public https URL"
            row = row.with_error("url_unreachable", detail)
    return row
