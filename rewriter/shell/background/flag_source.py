"""Switches from an OpenFeature provider, evaluated by a thread of their own: a slow or dead provider costs no search anything.

OpenFeature's evaluations have no deadline, and a provider may ask a server. So no search and no round of the background waits
for one: a daemon thread asks for each flag every `PERIOD_S` seconds and keeps what it got. A flag that the provider does
not know says nothing; while it fails in another way, or hangs, the last value holds. Flags are named `rewriter.SWITCH` and
`rewriter.POLICY.SWITCH`.
"""

from __future__ import annotations

import _thread
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from rewriter.decide.switch_text import SwitchesRead, parse
from rewriter.decide.switches import BOOLEANS, NAMES
from rewriter.errors import Fault

PERIOD_S = 0.5
HANGS_S = 10.0
"""Seconds after which a round of evaluations that has not ended is shown as a fault."""
PREFIX = "rewriter"
UNKNOWN = frozenset({"FLAG_NOT_FOUND"})
MISMATCH = "TYPE_MISMATCH"


class FlagSource:
    """The flags of one OpenFeature domain. `read` is called from one thread, and never waits.

    client: what makes the client of a domain; by default the SDK's own.
    """

    def __init__(
        self,
        domain: str,
        policies: Iterable[str],
        client: Callable[[str], Any] | None = None,
        period_s: float = PERIOD_S,
    ) -> None:
        self._domain = domain
        self._policies = frozenset(policies)
        self._client = client or _client
        self._names = (*NAMES, *(f"{policy}.{name}" for policy in sorted(self._policies) for name in NAMES))
        self._period_s = period_s
        self._values: Mapping[str, bool | float] = {}
        self._fault: Fault | None = None
        self._reads = 0
        self._began_s: float | None = None

    def read(self) -> SwitchesRead:
        """Return the values that the provider returned last. The thread begins with the second call, which is the background's."""
        self._reads += 1
        if self._reads == 2:
            try:
                _thread.start_new_thread(_fetch_again, (weakref.ref(self), self._period_s))
            except RuntimeError:  # at the limit of threads: the next round tries again
                self._reads = 1
        lines = [f"{name} {_spelled(value)}" for name, value in sorted(self._values.items())]
        found = parse("\n".join(lines), f"OpenFeature domain {self._domain!r}", self._policies)
        faults = [one for one in (self._fault, self._hangs()) if one is not None]
        return replace(found, faults=[*found.faults, *faults]) if faults else found

    def _hangs(self) -> Fault | None:
        began_s = self._began_s
        if began_s is None or (waited_s := time.monotonic() - began_s) < HANGS_S:
            return None
        return Fault(
            "switches.openfeature", f"the provider has not answered for {waited_s:.0f} s", "the last values hold"
        )

    def fetch(self) -> None:
        """Evaluate each flag once; may take as long as the provider takes."""
        self._began_s = time.monotonic()
        received = dict(self._values)
        fault: Fault | None = None
        try:
            client = self._client(self._domain)
            for name in self._names:
                boolean = name.rpartition(".")[2] in BOOLEANS
                details = (
                    client.get_boolean_details(f"{PREFIX}.{name}", False)
                    if boolean
                    else client.get_float_details(f"{PREFIX}.{name}", 0.0)
                )
                if not boolean and _code(details) == MISMATCH:  # 1 and 0 are whole numbers to many providers
                    details = client.get_integer_details(f"{PREFIX}.{name}", 0)
                code = _code(details)
                if not code and not isinstance(details.value, (bool,) if boolean else (int, float)):
                    code = MISMATCH  # from a provider that the SDK does not check
                if code in UNKNOWN:
                    received.pop(name, None)
                elif code:
                    fault = Fault(
                        f"OpenFeature flag {PREFIX}.{name}", f"cannot be evaluated: {code}", "its last value holds"
                    )
                else:
                    received[name] = details.value
        except ImportError:
            remedy = "pip install 'rewriter[openfeature]'"
            fault = Fault("switches.openfeature", "needs the OpenFeature SDK", remedy)
        except Exception as error:  # noqa: BLE001  a provider is foreign code: it may raise anything
            fault = Fault("switches.openfeature", f"the provider raised {type(error).__name__}", "the last values hold")
        self._values, self._fault, self._began_s = received, fault, None


def _code(details: Any) -> str:
    return str(getattr(details.error_code, "value", details.error_code) or "")


def _client(domain: str) -> Any:
    from openfeature import api  # noqa: PLC0415  an extra

    return api.get_client(domain)


def _spelled(value: bool | float) -> str:
    return ("off", "on")[value] if isinstance(value, bool) else f"{value:.12g}"


def _fetch_again(held: weakref.ref[FlagSource], period_s: float) -> None:
    """Evaluate the flags until the source is garbage-collected."""
    while (source := held()) is not None:
        source.fetch()
        del source
        time.sleep(period_s)
