"""What an interrupted batch raises."""

from typing import Any

import numpy as np

from jaxlsq.status import Status

__all__ = ["Interrupted"]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in a batch of fits; what is done is in `result`.

    It is a `KeyboardInterrupt`, so that a loop over files ends as it does with any other.

    Attributes
    ----------
    result : FitResult, StoredResult or Bootstrap
        Of all fits; those that are not done have the status INTERRUPTED, and NaN in a bootstrap.
        Where results were written to a path, what is there.
    """

    def __init__(self, result: Any) -> None:
        super().__init__(result)
        self.result = result

    def __str__(self) -> str:
        if hasattr(self.result, "samples"):
            return "what is done of the bootstrap is in this exception's `result`."
        status = getattr(self.result, "status", None)
        if status is None:
            return f"what is done is in {self.result.path!r}; the same call goes on after it."
        left = int(np.count_nonzero(status == Status.INTERRUPTED))
        text = (
            f"{status.size - left:,} of {status.size:,} fits are done: they are in this "
            "exception's `result` (in a notebook: import sys; result = sys.last_value.result)."
        )
        if left:
            text += " Go on with result.refit(where=result.status == jaxlsq.Status.INTERRUPTED)."
        return text
