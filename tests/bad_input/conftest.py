"""What every bad input must come to: an R2AError whose sentence names the fault and whose hint names a way out."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from r2a_core.infra.errors import R2AError

Refused = Callable[..., R2AError]


@pytest.fixture(scope="session")
def refused() -> Refused:
    """`refused(call, says, hint)`: runs `call`, which must raise R2AError with these words in sentence and hint."""

    def check(call: Callable[[], Any], says: str | Sequence[str], hint: str | Sequence[str]) -> R2AError:
        with pytest.raises(R2AError) as caught:
            call()
        error = caught.value
        for words, text in ((says, error.message), (hint, error.hint)):
            for word in [words] if isinstance(words, str) else words:
                assert word in text, f"{word!r} is not in {text!r}"
        assert len(error.message) < 1000
        assert error.hint
        assert error.exit_code in (2, 3)
        return error

    return check
