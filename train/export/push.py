"""Push: a published export onto the Hub, or onto whatever answers at HF_ENDPOINT.

In:  the folder, OWNER/NAME. HF_TOKEN or a login is read by the client. Out: the repository's address.
Holds: private unless --public was said, also where the repository is there already; the token is never printed.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dataprep.errors import EnvironmentProblem, UsageError
from dataprep.hub import find_token
from dataprep.hub_client import endpoint, shown_endpoint
from dataprep.patience import MayPass


def push(folder: Path, repo: str, *, label: str, public: bool) -> str:
    """Make the repository where there is none, and put every file of the export there in one commit."""
    import huggingface_hub

    api: Any = huggingface_hub.HfApi(endpoint=endpoint())
    if find_token() is None:
        raise EnvironmentProblem(
            f"nothing may be pushed to {repo}",
            seen="no token of the Hub",
            wanted="one that may write",
            fix="export HF_TOKEN=hf_…   # or: hf auth login",
        )
    with _judged(repo):
        api.create_repo(repo, repo_type="model", private=not public, exist_ok=True)
        if not (public or api.model_info(repo).private):
            raise UsageError(
                f"{repo} is public",
                seen="a repository that everybody can read",
                wanted="a private one, or --public",
                fix="the same command with --public, or another --push OWNER/NAME",
            )
        api.upload_folder(
            repo_id=repo, repo_type="model", folder_path=folder, commit_message=f"{label}, exported by Quern"
        )
    return f"{shown_endpoint()}/{repo}"


@contextlib.contextmanager
def _judged(repo: str) -> Iterator[None]:
    """Turn the client's errors into one that says what to do. The folder is there whatever the Hub says."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    transport_error: Any = HfHubHTTPError.__bases__[0]  # httpx's in client 1.x, httpx2's in 2.x
    try:
        yield
    except HFValidationError as error:
        seen = str(error).partition("\n")[0]
        raise UsageError(
            f"{repo} is no name on the Hub", seen=seen, wanted="OWNER/NAME", fix="correct --push"
        ) from None
    except HfHubHTTPError as error:
        raise _refused(repo, f"HTTP {error.response.status_code}") from None
    except (transport_error, MayPass, ConnectionError, TimeoutError) as error:
        raise _refused(repo, f"{type(error).__name__}: no answer") from None


def _refused(repo: str, seen: str) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"{shown_endpoint()} did not take {repo}; the export itself is in its folder",
        seen=seen,
        wanted="a repository that your token may write to",
        fix="hf auth whoami; then the same command again",
    )
