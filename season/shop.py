"""The policy of the simulated shop: the policy of `bench.ndcg` for repeated purchases, and manufacturers across product types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CLASS = "product_type"
SHOP: Mapping[str, Any] = {
    "class_field": CLASS, "category_field": "manufacturer", "max_boost": 2,
    "fields": {
        "manufacturer": {"scale": 0.3},
        **{name: {"of": [CLASS, of], "scale": 0.6, "pseudo_count": 2}
           for name, of in (("type_size", "package_size"), ("type_maker", "manufacturer"), ("type_brand", "brand"))},
    },
}  # fmt: skip
