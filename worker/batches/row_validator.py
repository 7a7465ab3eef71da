"""Judges one row of a catalog: its parameters, its picture, and whether just that has been made before."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from shared.domain.batch import Batch
from shared.domain.job import Status
from shared.domain.parameters import PRESETS, Parameters, resolve
from shared.errors import InputRejected, JobNotFound, ObjectNotFound
from shared.manifest.row import ManifestRow
from shared.manifest.zip_format import ImageArchive
from shared.net.address_policy import public_url
from shared.repositories.batch_rows import Row, digest_of
from shared.repositories.jobs import JobRepository
from shared.storage import keys
from worker.batches.image_probe import ImageProbe, ProbedImage

_NAMED_TWICE = {"preset", "engine"}


@dataclass(frozen=True, slots=True)
class RowValidator:
    """Turns rows of one batch's catalog into planned rows. Safe from any thread. engines: those that there are."""

    batch: Batch
    jobs: JobRepository
    looker: ImageProbe
    engines: Collection[str]

    def validate(self, row: ManifestRow) -> Row:
        """The row as it is planned: with all that is wrong with it, or ready to become a job."""
        given = {**self.batch.defaults.parameters, **_given(row)}
        preset = row.given.get("preset", self.batch.defaults.preset)
        engine = str(row.given.get("engine", self.batch.defaults.engine))
        if engine not in self.engines:
            row = row.wrong("parameter_invalid", f"no such engine: {engine}", field="engine")
        row, parameters = _resolved(row, given, preset)
        row = _judged_deliveries(row)
        url, member = self._place(row)
        if row.image and not url and not member:
            row = row.wrong("image_missing", f"no picture {row.image!r} came along", field="image")
        looked = None
        if not row.errors:
            row, looked = self._look(row, url, member)
        if row.errors or parameters is None or looked is None:
            return Row(number=row.number, line=row.line, custom_id=row.custom_id, errors=row.errors)
        digest = digest_of(looked.fingerprint, engine, parameters, row.custom_id)
        return Row(
            number=row.number,
            line=row.line,
            custom_id=row.custom_id,
            url=url,
            member=member,
            upload_id=row.upload_id or None,
            width_px=looked.header.width_px,
            height_px=looked.header.height_px,
            engine=engine,
            preset=preset,
            given=given,
            digest=digest,
            reused=None if self.batch.ignore_cache else self._made_before(digest),
            deliver=row.deliver,
        )

    def _place(self, row: ManifestRow) -> tuple[str | None, str | None]:
        """The picture's URL, or its name in the zip: by what the row calls it, else by the row's id."""
        if "://" in row.image:
            return row.image, None
        images: ImageArchive | None = self.looker.images
        if images is None or row.upload_id:
            return None, None
        names = [name for name in (row.image, "" if row.image else row.custom_id) if name]
        return None, images.find(*names)

    def _look(self, row: ManifestRow, url: str | None, member: str | None) -> tuple[ManifestRow, ProbedImage | None]:
        try:
            if url:
                return row, self.looker.url(url)
            if member:
                return row, self.looker.member(member)
            if row.upload_id and keys.is_id(row.upload_id, "up"):
                return row, self.looker.upload(row.upload_id, keys.batch_image(self.batch.id, row.number))
        except InputRejected as error:
            return row.wrong(error.code, str(error), field="image"), None
        return row.wrong("image_missing", "the row names no picture, and none came along for it", field="image"), None

    def _made_before(self, digest: str) -> str | None:
        """The job that has made what this row asks for, if what it made is still there."""
        try:
            job_id = self.jobs.store.get(keys.cached_result(self.batch.caller, digest)).body.decode()
            job = self.jobs.read(job_id).record
        except (ObjectNotFound, JobNotFound):
            return None
        is_there = job.status is Status.SUCCEEDED and not job.purged_at and job.caller == self.batch.caller
        return job_id if is_there else None


def _given(row: ManifestRow) -> dict[str, Any]:
    """The row's parameters, its dimensions among them."""
    given = {name: value for name, value in row.given.items() if name not in _NAMED_TWICE}
    if isinstance(formats := given.get("formats"), str):
        given["formats"] = formats.replace(",", " ").split()
    if row.dimensions and "dimensions_m" in Parameters.model_fields:
        given.setdefault("dimensions_m", row.dimensions)
    return given


def _resolved(row: ManifestRow, given: dict[str, Any], preset: Any) -> tuple[ManifestRow, Parameters | None]:
    if preset is not None and preset not in PRESETS:
        return row.wrong("parameter_invalid", f"no such preset: {preset}", field="preset"), None
    try:
        return row, resolve(given, preset)
    except ValidationError as error:
        for one in error.errors(include_url=False, include_input=False):
            name = str(one["loc"][0]) if one["loc"] else ""
            row = row.wrong("parameter_invalid", f"{name}: {one['msg']}", field=name or None)
    return row, None


def _judged_deliveries(row: ManifestRow) -> ManifestRow:
    for artifact, url in row.deliver.items():
        if public_url(url) is None:
            row = row.wrong("url_unreachable", f"the {artifact} cannot be put there: not a public https URL")
    return row
