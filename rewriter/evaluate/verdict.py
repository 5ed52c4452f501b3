"""The verdict of an evaluation as sentences: whether to switch a policy on, and which classes of queries gain by it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from typing import Any, Literal

from rewriter.plural import count_of

Effect = Literal["helps", "neutral", "harms"]
FEW_PERSONALIZED = 0.1
SMALL_PLACEBO = 0.5
"""Share of the policy's gain above which a placebo's gain shows that the gain is not personal."""


def class_effect(low: float, high: float) -> Effect:
    """Return the conclusion from the interval of a difference."""
    if isnan(low) or isnan(high):
        return "neutral"
    return "helps" if low > 0.0 else "harms" if high < 0.0 else "neutral"


def verdict(figures: Mapping[str, Any], measure: str) -> str:
    """Return a sentence or two on a variant, from its figures (`summary.figures`)."""
    every, new = figures["measures"]["all"][measure], figures["measures"]["new"][measure]
    if not every["searches"]:
        return "No search was judged."
    if figures["explores"]:
        return _price(every, measure)
    change = _change(every, measure)
    if every["low"] is None:
        return f"{change}; for one person, so nothing follows for others."
    if figures["placebo"]:
        gains = every["low"] > 0.0
        return f"{change}: " + ("another person's signals help too, so not all of the gain is personal." if gains else
                                "another person's signals do not help, as it should be.")  # fmt: skip
    if figures["personalized"] is not None and figures["personalized"] == 0.0:
        return "It personalized no search: see the reasons."
    if every["high"] < 0.0:
        return f"Do not switch it on: {change}."
    if every["low"] <= 0.0:
        if every["ratio"] is None and not every["difference"]:
            return "Not decided: no page shows a relevant document, with it or without it. Judge more searches, or raise --depth."
        return f"Not decided: {change}. The interval holds gain and loss; judge more searches, or a longer window."
    text = f"Switch it on: {change}"
    if new["high"] is not None and new["high"] < 0.0:
        text += f"; but {_change(new, measure)} for items that a person had not used before: lower the scales if that matters"
    elif new["low"] is not None and new["low"] > 0.0:
        text += f", and {_change(new, measure)} for items that a person had not used before"
    share = figures["personalized"]
    if share is not None and share < FEW_PERSONALIZED:
        text += f". It personalized {share:.0%} of the searches only"
    harmed = [one["name"] for one in figures.get("classes", ()) if one["effect"] == "harms"]
    if harmed:
        more = ", …" if len(harmed) > 3 else ""
        text += f". It harms {count_of(len(harmed), 'class')} of queries ({', '.join(harmed[:3])}{more})"
    return text + "."


def _price(every: Mapping[str, Any], measure: str) -> str:
    if every["ratio"] is None or every["ratio_low"] is None:
        return f"The price of exploration in {measure} is not known."
    price, low, high = (1.0 - every[name] for name in ("ratio", "ratio_high", "ratio_low"))
    ends = f"[{low:.1%}, {high:.1%}]"
    if high < 0.0:
        return f"Exploration raises {measure} by {-price:.1%} [{-high:.1%}, {-low:.1%}]."
    if low <= 0.0:
        return f"Exploration has no price in {measure} that these searches show: {price:.1%} {ends}."
    return f"Exploration costs {price:.1%} of {measure} {ends}."


def _change(one: Mapping[str, Any], measure: str) -> str:
    if one["ratio"] is None:
        return f"{measure} rises from 0 to {one['difference']:.4f}" if one["difference"] else f"{measure} stays 0"
    how = "rises" if one["difference"] > 0 else "falls" if one["difference"] < 0 else "stays the same"
    by = f" by {abs(one['ratio'] - 1.0):.1%}" if one["difference"] else ""
    if one["ratio_low"] is None and one["low"] is not None:  # so small a baseline that the ratio has no interval
        return f"{measure} {how}{by} ({one['difference']:+.3f} [{one['low']:+.3f}, {one['high']:+.3f}])"
    if one["ratio_low"] is None:
        return f"{measure} {how}{by}"
    return f"{measure} {how}{by} [{one['ratio_low'] - 1.0:+.1%}, {one['ratio_high'] - 1.0:+.1%}]"
