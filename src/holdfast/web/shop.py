"""The demonstration shop: what it sells. Prices in minor units of its asset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from holdfast.base.money import Money, asset
from holdfast.web.locale import N_


@dataclass(frozen=True, slots=True)
class Product:
    """Something to buy. `picture` names a drawing in `templates/pictures.html`."""

    id: str
    name: str
    words: str
    price: Money
    picture: str


ASSET: Final = asset("CNY")
PRODUCTS: Final[dict[str, Product]] = {
    one.id: one
    for one in (
        Product(
            "teapot",
            N_("Celadon teapot"),
            N_("Thrown by hand, sea-green glaze"),
            Money(ASSET, 26_800),
            "teapot",
        ),
        Product("tea", N_("Spring oolong"), N_("100 g, roasted over charcoal"), Money(ASSET, 8_800), "tea"),
    )
}
