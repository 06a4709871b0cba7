"""The Hugging Face Hub: what a data set holds at one commit, and the bytes of one of its files.

In:  a source's repository, revision and patterns. HF_ENDPOINT and HF_TOKEN are read at each call.
Out: the commit, its files with size and sha256, one downloaded file (unverified: `raw` judges it).
Holds: the client's global cache is never read; nothing waits for ever; an answer is believed only
where it has the shape it should; what may pass when tried again is raised as MayPass, what will not as DataError.
"""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from dataprep import hub_client
from dataprep.errors import DataError, EnvironmentProblem
from dataprep.hub_client import counting, endpoint, endpoint_login, prepare_client, shown_endpoint
from dataprep.patience import MayPass
from dataprep.sources import SHARD_SUFFIXES
from dataprep.urls import DENIED

_AGAIN = "then the same command again"
_SHA256, _SHA1 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")
# What the client's own parsing raises where an answer has another shape: it looks at nothing before it reads it.
_MALFORMED = (ValueError, TypeError, KeyError, AttributeError)


class RemoteFile(NamedTuple):
    """One file of a repository. The small ones that are not in large-file storage have git's sha1, not a sha256."""

    name: str
    bytes: int
    sha256: str | None
    git_sha1: str | None


class RepositoryError(DataError):
    """The whole repository is out of reach: trying its other files is pointless."""


class GoneError(DataError):
    """The listing names a file that the Hub does not hold any more."""


def resolve(repo: str, revision: str) -> str:
    """The 40-hex commit that `revision` means now."""
    with _judged(repo, revision):
        commit = _api().dataset_info(repo, revision=revision, timeout=hub_client.API_TIMEOUT_S).sha
        if not _SHA1.fullmatch(commit):
            raise ValueError(f"a commit named {commit!r}")
    return commit


def list_files(repo: str, commit: str, patterns: tuple[str, ...]) -> list[RemoteFile]:
    """The repository's parquet and JSONL files whose path matches one of `patterns`."""
    with _judged(repo, commit):
        return [
            _remote_file(entry)
            for entry in _each_once(_api().list_repo_tree(repo, recursive=True, revision=commit, repo_type="dataset"))
            if entry.path.endswith(SHARD_SUFFIXES)
            and hasattr(entry, "size")  # a folder has none
            and any(fnmatchcase(entry.path, pattern) for pattern in patterns)
        ]


def _each_once(entries: Iterable[Any]) -> Iterator[Any]:
    """Each entry of a tree. Its pages name the next one: a server may send us in a circle."""
    paths = set()
    for entry in entries:
        if entry.path in paths:
            raise MayPass(f"{shown_endpoint()} lists {entry.path!r} twice")
        paths.add(entry.path)
        yield entry


def download(repo: str, commit: str, name: str, folder: Path, report: Callable[[int], None], *, relist: str) -> Path:
    """Fetch one file into `folder` with the hub's client.

    `relist` is the command that lists the source anew: what helps where the listed commit or file is gone.
    """
    import huggingface_hub

    prepare_client()
    with _judged(repo, commit, relist):
        path = huggingface_hub.hf_hub_download(
            repo,
            name,
            repo_type="dataset",
            revision=commit,
            local_dir=folder,
            cache_dir=folder / ".cache",  # else a bad blob of the user's cache would be copied, unread
            endpoint=endpoint(),
            tqdm_class=counting(report),
        )
    return Path(str(path))


def file_url(repo: str, commit: str, name: str) -> str:
    """Where the Hub hands out one file's bytes."""
    return f"{shown_endpoint()}/datasets/{repo}/resolve/{commit}/{quote(name)}"


def token_header() -> dict[str, str]:
    """HF_ENDPOINT's name and password, or the user's token (HF_TOKEN, or of a login), as a header; or nothing."""
    token = find_token()
    login = endpoint_login() or (f"Bearer {token}" if token else None)  # in the order of the Hub's client
    return {"authorization": login} if login else {}


def find_token() -> str | None:
    """The token as the client finds it. Raises EnvironmentProblem for one that no header can carry, unquoted.

    The clients would fail on it with a traceback, quote it in their complaint, or send it as it is.
    """
    import huggingface_hub

    token = huggingface_hub.get_token()
    if token is None or (token.isascii() and token.isprintable() and " " not in token):
        return token
    raise EnvironmentProblem(
        "the token of the Hub cannot be sent",
        seen=f"{len(token)} characters, among them a blank, a control code or one outside ASCII",  # never itself
        wanted="letters, digits and signs in one word",
        fix="export HF_TOKEN=hf_yours   # or, to go without: unset HF_TOKEN",
    )


def gone(repo: str, commit: str, name: str, seen: str, relist: str) -> GoneError:
    """A listed file is not on the Hub any more, or the whole commit is not."""
    what = f"{repo}@{commit[:12]} does not hold {name or 'the file'}"
    return GoneError(what, seen=seen, wanted="the file that was listed", fix=f"{relist}; {_AGAIN}")


def gated(repo: str, seen: str) -> RepositoryError:
    """What a person is told whose account has not accepted the terms of `repo`."""
    fix = f"accept the terms at {shown_endpoint()}/datasets/{repo}, export HF_TOKEN=hf_…, {_AGAIN}"
    return RepositoryError(f"{repo} is gated", seen=seen, wanted="an account that accepted its terms", fix=fix)


def _api() -> Any:
    import huggingface_hub

    prepare_client()
    return huggingface_hub.HfApi(endpoint=endpoint())


def _remote_file(entry: Any) -> RemoteFile:
    """An entry of the tree. ValueError where it is none: what is not known cannot be checked later."""
    sha256, git_sha1 = entry.lfs.sha256 if entry.lfs else None, None if entry.lfs else entry.blob_id
    if type(entry.size) is not int or entry.size < 0:
        raise ValueError(f"{entry.path!r} of {entry.size!r} bytes")
    if ".." in entry.path.split("/") or entry.path.startswith("/") or not entry.path.isprintable():
        # As it is listed, so it will be listed again: it is no answer that was garbled on its way.
        raise _unusable("the Hub lists a path that leads elsewhere", f"a file named {entry.path!r}", "a path inside it")
    if not (_SHA256.fullmatch(str(sha256)) or _SHA1.fullmatch(str(git_sha1))):
        raise ValueError(f"{entry.path!r} with the hash {sha256 or git_sha1!r}")
    return RemoteFile(entry.path, entry.size, sha256, git_sha1)


@contextlib.contextmanager
def _judged(repo: str, revision: str, relist: str | None = None) -> Iterator[None]:
    """Turn the client's many errors into the two that matter: it may pass, or the user must act."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    find_token()  # the client takes it by itself
    transport_error: Any = HfHubHTTPError.__bases__[0]  # httpx's in client 1.x, httpx2's in 2.x
    try:
        yield
    except OfflineModeIsEnabled as error:
        raise _offline(repo) from error
    except LocalEntryNotFoundError as error:  # how the client says "no answer, and the cache is empty"
        raise _no_answer(repo, revision, error, relist) from error
    except HfHubHTTPError as error:
        raise _refusal(repo, revision, error, relist) from error
    except HFValidationError as error:
        raise _unusable(f"{repo}@{revision} is no name on the Hub", error, "owner/name") from error
    except (transport_error, RuntimeError) as error:  # hf-xet raises RuntimeError
        raise MayPass(error) from error
    except _MALFORMED as error:
        raise MayPass(f"not an answer of a Hub: {type(error).__name__}: {error}") from error
    except OSError as error:
        # A consistency complaint of the client has no number; a full disk has one and is not the Hub's fault.
        if error.errno is not None and not isinstance(error, ConnectionError | TimeoutError):
            raise
        raise MayPass(error) from error


def _no_answer(repo: str, revision: str, error: Any, relist: str | None) -> Exception:
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(error.__cause__, OfflineModeIsEnabled):
        return _offline(repo)
    if isinstance(error.__cause__, HfHubHTTPError):
        return _refusal(repo, revision, error.__cause__, relist)
    return MayPass(error.__cause__ or error)


def _refusal(repo: str, revision: str, error: Any, relist: str | None) -> Exception:
    from huggingface_hub import errors

    status = error.response.status_code
    seen = f"HTTP {status}"
    if isinstance(error, errors.RevisionNotFoundError) and relist:  # the listing's own commit was taken back
        what, wanted = f"{repo} has no commit {revision[:12]} any more", "the commit that was listed"
        return RepositoryError(what, seen=seen, wanted=wanted, fix=f"{relist}; {_AGAIN}")
    if isinstance(error, errors.RevisionNotFoundError):
        return _unusable(f"{repo} has no revision {revision!r}", seen, "a branch, tag or commit of it")
    if isinstance(error, errors.EntryNotFoundError):
        return gone(repo, revision, "", seen, relist or "correct its entry in the catalogue")
    if isinstance(error, errors.GatedRepoError) or (
        status in DENIED and not isinstance(error, errors.RepositoryNotFoundError)
    ):
        return gated(repo, seen)
    if isinstance(error, errors.RepositoryNotFoundError):
        fix = f"correct `repo` in the catalogue, or export HF_TOKEN=hf_… if it is private; {_AGAIN}"
        what = f"the Hub shows no data set {repo}"
        return RepositoryError(what, seen=seen, wanted="a public one, or a token that sees it", fix=fix)
    return _unusable(f"{shown_endpoint()} will not serve {repo}", seen, "HTTP 200")


def _unusable(what: str, seen: object, wanted: str) -> RepositoryError:
    return RepositoryError(what, seen=seen, wanted=wanted, fix=f"correct its entry in the catalogue; {_AGAIN}")


def _offline(repo: str) -> RepositoryError:
    what = f"{repo} cannot be reached"
    return RepositoryError(what, seen="HF_HUB_OFFLINE is set", wanted="the network", fix="unset HF_HUB_OFFLINE")
