"""The Hugging Face Hub: what a data set holds at one commit, and the bytes of one of its files.

In:  a source's repository, revision and patterns. HF_ENDPOINT and HF_TOKEN are read at each call.
Out: the commit, its files with size and sha256, one downloaded file (unverified: `raw` judges it).
Holds: the client's global cache is never read; nothing waits for ever; what may pass when tried
again is raised as MayPass, what will not as DataError.
"""

import contextlib
import functools
import json
import os
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import quote

from dataprep.errors import DataError, UsageError
from dataprep.sources import SHARD_SUFFIXES
from dataprep.urls import MayPass

API_TIMEOUT_S = 30  # the client's listing waits for ever by itself; its downloads wait 10 s per read
_AGAIN = "then the same command again"
_DENIED, _PASSING, _SERVER_ERROR = (401, 403), (408, 425, 429), 500


class RemoteFile(NamedTuple):
    """One file of a repository. `sha256` is None for the small ones that are not in large-file storage."""

    name: str
    bytes: int
    sha256: str | None


class RepositoryError(DataError):
    """The whole repository is out of reach: trying its other files is pointless."""


def endpoint() -> str:
    """The Hub's address. The client reads HF_ENDPOINT at import; we read it at call time and pass it on."""
    address = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
    if not address.startswith(("http://", "https://")):
        raise UsageError("HF_ENDPOINT is not an address", seen=address, wanted="https://…", fix="unset HF_ENDPOINT")
    return address


def resolve(repo: str, revision: str) -> str:
    """The 40-hex commit that `revision` means now."""
    with _judged(repo, revision):
        commit = _api().dataset_info(repo, revision=revision, timeout=API_TIMEOUT_S).sha
    if not commit:
        raise MayPass(f"{endpoint()} names no commit for {repo}@{revision}")
    return commit


def list_files(repo: str, commit: str, patterns: tuple[str, ...]) -> list[RemoteFile]:
    """The repository's parquet and JSONL files whose path matches one of `patterns`."""
    with _judged(repo, commit):
        entries = list(_api().list_repo_tree(repo, recursive=True, revision=commit, repo_type="dataset"))
    return [
        _remote_file(entry)
        for entry in entries
        if entry.path.endswith(SHARD_SUFFIXES)
        and hasattr(entry, "size")  # a folder has none
        and any(fnmatchcase(entry.path, pattern) for pattern in patterns)
    ]


def download(repo: str, commit: str, name: str, folder: Path, report: Callable[[int], None]) -> Path:
    """Fetch one file into `folder` with the hub's client (hf-xet where the file is stored that way)."""
    import huggingface_hub

    _prepare_client()
    with _judged(repo, commit):
        path = huggingface_hub.hf_hub_download(
            repo,
            name,
            repo_type="dataset",
            revision=commit,
            local_dir=folder,
            cache_dir=folder / ".cache",  # else a bad blob of the user's cache would be copied, unread
            endpoint=endpoint(),
            tqdm_class=_counting(report),
        )
    return Path(str(path))


def file_url(repo: str, commit: str, name: str) -> str:
    """Where the Hub hands out one file's bytes."""
    return f"{endpoint()}/datasets/{repo}/resolve/{commit}/{quote(name)}"


def token_header() -> dict[str, str]:
    """The user's token (HF_TOKEN, or of a login) as a header; nothing where there is none."""
    import huggingface_hub

    token = huggingface_hub.get_token()
    return {"authorization": f"Bearer {token}"} if token else {}


def gated(repo: str, seen: str) -> RepositoryError:
    """What a person is told whose account has not accepted the terms of `repo`."""
    fix = f"accept the terms at {endpoint()}/datasets/{repo}, export HF_TOKEN=hf_…, {_AGAIN}"
    return RepositoryError(f"{repo} is gated", seen=seen, wanted="an account that accepted its terms", fix=fix)


@functools.cache
def _prepare_client() -> None:
    """Silence the client's own warnings, and give every request a time limit.

    `list_repo_tree` passes timeout=None, which means for ever, and takes no other. The limit goes in
    by a request hook of a client like the one it would make.
    """
    import huggingface_hub
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()
    made = huggingface_hub.get_session()
    hooks = {**made.event_hooks, "request": [*made.event_hooks["request"], _limit_waiting]}
    kind = type(made)
    huggingface_hub.set_client_factory(lambda: kind(event_hooks=hooks, follow_redirects=True, timeout=API_TIMEOUT_S))


def _limit_waiting(request: Any) -> None:
    waits = request.extensions.get("timeout") or {}
    request.extensions["timeout"] = {step: API_TIMEOUT_S if wait is None else wait for step, wait in waits.items()}


def _api() -> Any:
    import huggingface_hub

    _prepare_client()
    return huggingface_hub.HfApi(endpoint=endpoint())


def _remote_file(entry: Any) -> RemoteFile:
    return RemoteFile(entry.path, entry.size, entry.lfs.sha256 if entry.lfs else None)


@contextlib.contextmanager
def _judged(repo: str, revision: str) -> Iterator[None]:
    """Turn the client's many errors into the two that matter: it may pass, or the user must act."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    transport_error: Any = HfHubHTTPError.__bases__[0]  # httpx's in client 1.x, httpx2's in 2.x
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise _offline(repo) from error
    except LocalEntryNotFoundError as error:  # how the client says "no answer, and the cache is empty"
        if isinstance(error.__cause__, OfflineModeIsEnabled):
            raise _offline(repo) from error
        if isinstance(error.__cause__, HfHubHTTPError):
            raise _refusal(repo, revision, error.__cause__) from error
        raise MayPass(error.__cause__ or error) from error
    except HfHubHTTPError as error:
        raise _refusal(repo, revision, error) from error
    except HFValidationError as error:
        raise _unusable(f"{repo}@{revision} is no name on the Hub", error, "owner/name") from error
    except (transport_error, json.JSONDecodeError, RuntimeError) as error:  # hf-xet raises RuntimeError
        raise MayPass(error) from error
    except OSError as error:
        # A consistency complaint of the client has no number; a full disk has one and is not the Hub's fault.
        if error.errno is not None and not isinstance(error, ConnectionError | TimeoutError):
            raise
        raise MayPass(error) from error


def _refusal(repo: str, revision: str, error: Any) -> Exception:
    from huggingface_hub import errors

    status = error.response.status_code
    seen = f"HTTP {status}"
    if status in _PASSING or status >= _SERVER_ERROR:
        return MayPass(f"{error.response.url.host} answered HTTP {status}")
    if isinstance(error, errors.RevisionNotFoundError):
        return _unusable(f"{repo} has no revision {revision!r}", seen, "a branch, tag or commit of it")
    if isinstance(error, errors.EntryNotFoundError):
        fix = f"list it again: --refresh, {_AGAIN}"
        return DataError(f"{repo}@{revision[:12]} does not hold the file", seen=seen, wanted="the file", fix=fix)
    if isinstance(error, errors.GatedRepoError) or (
        status in _DENIED and not isinstance(error, errors.RepositoryNotFoundError)
    ):
        return gated(repo, seen)
    if isinstance(error, errors.RepositoryNotFoundError):
        fix = f"correct `repo` in the catalogue, or export HF_TOKEN=hf_… if it is private; {_AGAIN}"
        what = f"the Hub shows no data set {repo}"
        return RepositoryError(what, seen=seen, wanted="a public one, or a token that sees it", fix=fix)
    return _unusable(f"{endpoint()} will not serve {repo}", seen, "HTTP 200")


def _unusable(what: str, seen: object, wanted: str) -> RepositoryError:
    return RepositoryError(what, seen=seen, wanted=wanted, fix=f"correct its entry in the catalogue; {_AGAIN}")


def _offline(repo: str) -> RepositoryError:
    what = f"{repo} cannot be reached"
    return RepositoryError(what, seen="HF_HUB_OFFLINE is set", wanted="the network", fix="unset HF_HUB_OFFLINE")


def _counting(report: Callable[[int], None]) -> type:
    """A progress bar, as the client wants one, that shows nothing and passes the bytes on."""

    class Counting:
        def __init__(self, *_: object, **__: object) -> None:
            self.n, self.total = 0, None

        def __enter__(self) -> Self:
            return self

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> None:
            """Leave nothing behind."""

        def update(self, n_bytes: float | None = 1) -> None:
            report(int(n_bytes or 0))

        def update_transfer(self, n_bytes: float) -> None:
            """Compressed bytes on the wire (xet): not the file's bytes, so not counted."""

        def set_postfix_str(self, *_: object, **__: object) -> None:
            """Show no speed."""

        set_transfer_postfix_str = refresh = close = set_postfix_str

    return Counting
