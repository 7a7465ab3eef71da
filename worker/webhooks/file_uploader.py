"""Brings a job's finished files to where its caller wants them: a PUT for each, under a URL of the caller's."""

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from shared.domain.job import Artifact, Job
from shared.net.egress import Answer, Egress
from shared.storage.ports import ObjectStore

BRING_S = 60.0  # all files of a job, everything included
CHUNK_BYTES = 1 << 20
ANSWER_BYTES = 20_000


@dataclass(frozen=True, slots=True)
class FileUploader:
    """Puts files where they belong; putting one twice leaves the same file there."""

    store: ObjectStore
    egress: Egress

    def upload(self, job: Job) -> Answer:
        """Put every file that the job has and its caller wants; the first answer that is no success, or the last one.

        Raises:
            UrlUnreachable: a URL is not allowed, or nothing answered there in time.
            StoreError: a file cannot be read.
        """
        answer = Answer(204, {}, b"")
        for name, url in job.deliver.items():
            if name in job.artifacts:
                answer = self._put(job.artifacts[name], url)
                if not 200 <= answer.status < 300:
                    return answer
        return answer

    def _put(self, artifact: Artifact, url: str) -> Answer:
        headers = {"Content-Type": artifact.content_type, "User-Agent": "trellis2-service"}
        if (urlsplit(url).hostname or "").endswith(".blob.core.windows.net"):
            headers["x-ms-blob-type"] = "BlockBlob"  # without it Azure takes no upload
        return self.egress.put(
            url,
            headers=headers,
            body=self._parts(artifact),
            size_bytes=artifact.bytes,
            max_answer_bytes=ANSWER_BYTES,
            timeout_s=BRING_S,
        )

    def _parts(self, artifact: Artifact) -> Iterator[bytes]:
        for start in range(0, artifact.bytes, CHUNK_BYTES):
            yield self.store.get(artifact.key, first_byte=start, length=CHUNK_BYTES).body
