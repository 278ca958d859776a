from loadgen.output.page.elements import node, serialised


def test_elements_attributes_and_text_between() -> None:
    lines = node("title", "one\ntwo", class_="a", aria_label=None)
    drawing = node("rect", x=1 / 3, y=0, id=None, viewbox="0 0 1 1", aspect="none")
    made = node(
        "p", "one", " ", node("b", "two"), " ", "three", None, node("i", "four"), "five", lines, drawing, aria_label="x"
    )
    assert serialised(made) == (
        '<!DOCTYPE html>\n<p aria-label="x">one <b>two</b> three<i>four</i>five<title class="a">one\ntwo</title>'
        '<rect x="0.333333" y="0" viewBox="0 0 1 1" preserveAspectRatio="none"></rect></p>\n'
    )
