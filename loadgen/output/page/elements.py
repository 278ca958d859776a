"""HTML and SVG as elements, so that text is always escaped.

Owns: how an element is written in Python, and the serialising. May not: know what a report is.
"""

import xml.etree.ElementTree as ET
from typing import Final

from loadgen.report import format as fmt

Element = ET.Element

#: Names that Python spells differently.
_NAMES: Final = {
    "class_": "class",
    "viewbox": "viewBox",
    "aspect": "preserveAspectRatio",
}


def node(tag: str, *children: Element | str | None, **attributes: str | float | None) -> Element:
    """Make an element. Children and attributes that are `None` are left out."""
    named = {_NAMES.get(name, name): value for name, value in attributes.items() if value is not None}
    element = ET.Element(tag, {name.replace("_", "-"): _value(value) for name, value in named.items()})
    for child in children:
        if isinstance(child, ET.Element):
            element.append(child)
        elif child is not None:
            _add_text(element, fmt.printable_lines(child))
    return element


def _value(value: str | float) -> str:
    return fmt.printable(value) if isinstance(value, str) else f"{value:.6g}"


def _add_text(element: Element, text: str) -> None:
    """Append text; in ElementTree it belongs to the element before it."""
    if len(element):
        element[-1].tail = (element[-1].tail or "") + text
    else:
        element.text = (element.text or "") + text


def serialised(root: Element) -> str:
    return f"<!DOCTYPE html>\n{ET.tostring(root, encoding='unicode', method='html')}\n"
