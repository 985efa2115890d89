"""Accounts: which key belongs to which account, its credits, and how fast it may call.

The limits are sliding windows per account, not per key, as Kie documents them; a refused call does not count. Knows
nothing of tasks or HTTP. Nothing here waits: over the limit means refused, never queued.
"""

from collections import deque
from collections.abc import Collection, Mapping

_SCHEME = "bearer "


class SlidingWindow:
    """At most `limit` calls in any `span_s` seconds; a limit of 0 is none."""

    def __init__(self, limit: int, span_s: float) -> None:
        """Begin with an empty window."""
        self._limit = limit
        self._span_s = span_s
        self._calls: deque[float] = deque()

    def admits(self, now_s: float) -> bool:
        """Whether a call at `now_s` is within the limit; if so, it is counted."""
        if not self._limit:
            return True
        while self._calls and self._calls[0] <= now_s - self._span_s:
            self._calls.popleft()
        if len(self._calls) >= self._limit:
            return False
        self._calls.append(now_s)
        return True


class Account:
    """One customer: a balance and two limits."""

    def __init__(self, name: str, credits: float, creates: SlidingWindow, queries: SlidingWindow) -> None:
        """A fresh account."""
        self.name = name
        self.balance = credits
        self.creates = creates
        self.queries = queries

    def pays(self, price: float) -> bool:
        """Take `price` from the balance, or leave it alone and say False."""
        if self.balance < price:
            return False
        self.balance = round(self.balance - price, 4)
        return True

    def is_refunded(self, price: float) -> None:
        """Give `price` back."""
        self.balance = round(self.balance + price, 4)


class Accounts:
    """Every account seen so far, found by the key of a request."""

    def __init__(
        self,
        keys: Mapping[str, str] | Collection[str] | None,
        credits: float,
        create_limit: int,
        create_window_s: float,
        query_limit_per_s: int,
    ) -> None:
        """`keys` maps keys to account names, or lists the good keys, or is None: any key is good."""
        self._names = dict(keys) if isinstance(keys, Mapping) else None if keys is None else {key: key for key in keys}
        self._credits = credits
        self._create_limit = create_limit
        self._create_window_s = create_window_s
        self._query_limit_per_s = query_limit_per_s
        self._accounts: dict[str, Account] = {}

    def of(self, authorization: str) -> Account | None:
        """The account an Authorization header speaks for, or None if it is no good."""
        if authorization[: len(_SCHEME)].lower() != _SCHEME:
            return None
        key = authorization[len(_SCHEME) :].strip()
        name = (key or None) if self._names is None else self._names.get(key)
        return None if name is None else self.named(name)

    def named(self, name: str) -> Account:
        """The account of that name, opened with its first credits if it is new."""
        account = self._accounts.get(name)
        if account is None:
            creates = SlidingWindow(self._create_limit, self._create_window_s)
            account = Account(name, self._credits, creates, SlidingWindow(self._query_limit_per_s, 1.0))
            self._accounts[name] = account
        return account

    def balances(self) -> dict[str, float]:
        """What each account has left."""
        return {name: account.balance for name, account in self._accounts.items()}

    def clear(self) -> None:
        """Forget all accounts: each starts again with its first credits and empty windows."""
        self._accounts.clear()
