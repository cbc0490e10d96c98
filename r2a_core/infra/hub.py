"""What the Hugging Face Hub's client raises, as errors that say what to do."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from r2a_core.infra.errors import MissingPrerequisite, R2AError


@contextmanager
def hub_access(name: str, hint: str) -> Iterator[None]:
    """Turns whatever the Hub's client raises about `name` into MissingPrerequisite. Other errors pass."""
    from huggingface_hub import errors

    # The client's HTTP library differs by version; its base error stands in the client's own namespace.
    unreached = (errors.HfHubHTTPError, errors.HTTPError, ConnectionError, TimeoutError)  # type: ignore[attr-defined]
    log_in = "log in to an account that may read it: hf auth login (or set HF_TOKEN)"
    try:
        yield
    except errors.OfflineModeIsEnabled:
        raise MissingPrerequisite(
            f"{name} is not in the local Hub cache, and HF_HUB_OFFLINE is set", f"unset HF_HUB_OFFLINE, or {hint}"
        ) from None
    except errors.GatedRepoError:
        raise MissingPrerequisite(f"{name} is gated", f"accept its terms on the Hub, then {log_in}") from None
    except errors.RepositoryNotFoundError:
        raise MissingPrerequisite(f"{name} is not on the Hub, or private", f"correct its name, or {log_in}") from None
    except (errors.RevisionNotFoundError, errors.RemoteEntryNotFoundError) as error:
        raise MissingPrerequisite(f"{name}: the Hub has no such revision or file ({error})", "correct it") from None
    except errors.HFValidationError as error:
        raise R2AError(f"{name} is no name of a Hub repository: {error}", "write it as owner/name") from None
    except errors.LocalEntryNotFoundError as error:
        offline = " (HF_HUB_OFFLINE is set)" if isinstance(error.__cause__, errors.OfflineModeIsEnabled) else ""
        raise MissingPrerequisite(
            f"{name} is not in the local Hub cache{offline}, and the Hub was not reached", hint
        ) from None
    except unreached as error:
        raise MissingPrerequisite(f"the Hub was not reached for {name} ({type(error).__name__})", hint) from None
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise MissingPrerequisite(f"no space left for {name}", "free some space, or move HF_HOME") from None
