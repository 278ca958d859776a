import xml.etree.ElementTree as ET

from loadgen.page.elements import node, serialised


def test_children_attributes_and_text_between() -> None:
    made = node("p", "one ", node("b", "two"), " three", None, node("i", "four"), "five", class_="a", aria_label="x")
    written = '<p class="a" aria-label="x">one <b>two</b> three<i>four</i>five</p>'
    assert ET.tostring(made, encoding="unicode", method="html") == written


def test_what_is_none_is_left_out_and_numbers_are_short() -> None:
    made = node("rect", x=1 / 3, y=0, id=None, viewbox="0 0 1 1", aspect="none")
    assert made.attrib == {"x": "0.333333", "y": "0", "viewBox": "0 0 1 1", "preserveAspectRatio": "none"}


def test_lines_stay_lines() -> None:
    assert node("title", "one\ntwo").text == "one\ntwo"


def test_void_elements_and_doctype() -> None:
    page = serialised(node("html", node("head", node("meta", charset="utf-8"))))
    assert page == '<!DOCTYPE html>\n<html><head><meta charset="utf-8"></head></html>\n'
