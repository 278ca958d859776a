"""What the page makes of a text: marks, links, emoji, mentions. Its modules are imported by a browser."""

import re

import pytest

from chatserver.protocol.validation import check_emoji
from tests.e2e.conftest import Run
from tests.e2e.servers import Server

pytestmark = pytest.mark.browser


LINKS = {
    "plain": [],
    "see https://a.example/x.": ["https://a.example/x"],
    "(http://a.example/wiki/Loris_(animal))": ["http://a.example/wiki/Loris_(animal)"],
    "HTTPS://A.EXAMPLE, and https://b.example/?q=1&r=2!": ["HTTPS://A.EXAMPLE", "https://b.example/?q=1&r=2"],
    # Without blanks, as in Chinese and Japanese, or with the signs of Arabic, German and French.
    "请看https://a.example/x\uff0c谢谢。\uff08https://a.example/佐々木\uff09": [
        "https://a.example/x",
        "https://a.example/佐々木",
    ],
    "https://a.example/あ\uff01 „https://a.example/“ https://a.example/؟": [
        *("https://a.example/あ", "https://a.example/", "https://a.example/"),
    ],
    "https://a.example/?a=% https://a.example/# «https://a.example/x_»…": [
        *("https://a.example/?a=%", "https://a.example/#", "https://a.example/x_"),
    ],
    "www.a.example/x, (WWW.b.example)": ["https://www.a.example/x", "https://WWW.b.example"],
    "www. a.www.b ftp://www.a.example/www.b": [],
    "ann@www.a.example, (Bo.Lee+x@a-b.example) and mailto:c_d@e.example.": [
        *("mailto:ann@www.a.example", "mailto:Bo.Lee+x@a-b.example", "mailto:c_d@e.example"),
    ],
    "写ann@a.example谢谢, bo@b.example: https://c@a.example/": [
        *("mailto:ann@a.example", "mailto:bo@b.example", "https://c@a.example/"),
    ],
    "git@a.example:b/c.git ann@localhost 2@4.50 a@b@c.example ftp://ann@a.example": [],
    "ann@a.example/x @a.example git@a.example:/b": [],
    "javascript:alert(1) data:text/html,x file:///etc ftp://a.example": [],
    "javascript:x//http://a.example": ["http://a.example"],
    "https:// http://[ https://": [],
    "[x](http://[) http://[).": [],
    "#lobby, (#Ops) and #team-1.2.": ["#lobby", "#ops", "#team-1.2"],
    "#ops/42 #ops/0 #ops/x": ["#ops/42"],
    "在#ops里, é#ops/7": ["#ops", "#ops/7"],
    "#include #1 # ops a#ops ##ops #ops- #ops_a &#ops;": [],
    "https://a.example/#ops a.example/#ops": ["https://a.example/#ops"],
}


def test_links_in_a_text_are_found(run: Run) -> None:
    body = """
        m.linkRooms(['lobby', 'ops', 'team-1.2']);
        return a.map((text) => {
          const holder = document.createElement('div');
          holder.append(...m.markdown(text));
          const links = [...holder.querySelectorAll(':any-link')];
          return [holder.textContent, links.map((link) => link.getAttribute('href'))];
        });
    """
    assert run("markdown.js", body, list(LINKS)) == [[text, links] for text, links in LINKS.items()]
    body = """
        document.body.append(...m.markdown('#later'));
        return ['later', 'another'].map((room) => {
          m.linkRooms([room]);
          return document.body.lastChild.querySelectorAll(':any-link').length;
        });
    """
    assert run("markdown.js", body) == [1, 0], "a text that is shown already"


MARKUP = {
    "plain": "<p>plain</p>",
    "two\nlines": "<p>two\nlines</p>",
    "**bold** *it* _it_ `code *x*`": "<p><strong>bold</strong> <em>it</em> <em>it</em> <code>code *x*</code></p>",
    "***both*** **a *b* c**": "<p><strong><em>both</em></strong> <strong>a <em>b</em> c</strong></p>",
    "*it **both** it* *2 **4": "<p><em>it <strong>both</strong> it</em> *2 **4</p>",
    "2*3*4 snake_case_name * not *": "<p>2*3*4 snake_case_name * not *</p>",
    "~~gone *all*~~ ~3~ ~~ ~~~no~~~": "<p><del>gone <em>all</em></del> ~3~ ~~ ~~~no~~~</p>",
    r"\*no\* \`no\` \~~no\~~ C:\dir": "<p>*no* `no` ~~no~~ C:\\dir</p>",
    r"¯\_(ツ)_/¯ \ `\*`": r"<p>¯\_(ツ)_/¯ \ <code>\*</code></p>",
    "- a\n- *b*\n\nthen": "<ul><li>a</li><li><em>b</em></li></ul><p>then</p>",
    "3. c\n4. d": '<ol start="3" style="padding-inline-start: 2.5ch;"><li>c</li><li>d</li></ol>',
    " - a\n   - b\n     - c\n - d": '<ul><li>a</li><li style="margin-inline-start: 1.4em;">b</li>'
    '<li style="margin-inline-start: 2.8em;">c</li><li>d</li></ul>',
    "1. a\n    - b\n99. c\n1. d": '<ol start="1" style="padding-inline-start: 2.5ch;"><li>a</li></ol>'
    '<ul><li style="margin-inline-start: 1.4em;">b</li></ul>'
    '<ol start="99" style="padding-inline-start: 4.5ch;"><li>c</li><li>d</li></ol>',
    "two\na\tb\n\t*c*\t\n\nno\ttable\n\n\tif\n\tx": '<p>two</p><table tabindex="0"><tr><td>a</td>\t<td>b</td>\t</tr>'
    "<tr><td></td>\t<td><em>c</em></td>\t<td></td>\t</tr></table><p>no\ttable\n\n\tif\n\tx</p>",
    "> said\nno": "<blockquote>said</blockquote><p>no</p>",
    "see:\n```py\n<b> *x*\n```\nok": '<p>see:</p><pre tabindex="0"><code>&lt;b&gt; *x*</code></pre><p>ok</p>',
    "``a ` b`` ```": "<p><code>a ` b</code> ```</p>",
    "``a`": "<p>``a`</p>",
    "`a``": "<p>`a``</p>",
    "*a*b _c_d ~~e~~~": "<p>*a*b _c_d ~~e~~~</p>",
    "#no-room": '<p><a class="room" dir="ltr" translate="no">#no-room</a></p>',
    "```a b```": '<pre tabindex="0"><code>a b</code></pre>',
    "**a ~~b~~ __c": "<p>**a <del>b</del> __c</p>",
    "**a\n**b** ~~c\n_d_ c~~": "<p>**a\n<strong>b</strong> ~~c\n<em>d</em> c~~</p>",
    "``` never closed": "<p>``` never closed</p>",
    "[a [b](javascript:x)": "<p>[a [b](javascript:x)</p>",
    "[x](javascript:alert(1)) [y](data:,z)": "<p>[x](javascript:alert(1)) [y](data:,z)</p>",
    "<img src=x onerror=alert(1)> &amp;": "<p>&lt;img src=x onerror=alert(1)&gt; &amp;amp;</p>",
    ":tada: **:tada:** `:tada:` :no:": "<p>🎉 <strong>🎉</strong> <code>:tada:</code> :no:</p>",
    ":+1: is :thumbsup:": "<p>👍 is 👍</p>",
    "12:30:45 :+1::heart:": "<p>12:30:45 :+1::heart:</p>",
    "```\n:tada:\n```": '<pre tabindex="0"><code>:tada:</code></pre>',
    "hi @Ann Lee, @Bo": '<p>hi <bdi class="mention" translate="no">@Ann Lee</bdi>, @Bo</p>',
}


def test_markup_is_built_and_never_parsed(run: Run, shared_server: Server) -> None:
    body = """
        return a.map((text) => {
          const holder = document.createElement('div');
          holder.append(...m.markdown(text, ['Ann Lee']));
          return holder.innerHTML;
        });
    """
    expected = [each.replace("<code>", '<code translate="no">') for each in MARKUP.values()]
    assert run("markdown.js", body, list(MARKUP)) == expected
    (linked,) = run("markdown.js", body, ["**[the #1 plan](https://a.example/x_(y))**, https://b.example/*z*."])
    assert re.findall('href="([^"]*)"', linked) == ["https://a.example/x_(y)", "https://b.example/*z"]
    assert linked.count('rel="noopener noreferrer"') == linked.count('target="_blank"') == 2
    within = run("markdown.js", body, ["ann@a.example", f"{shared_server.url}/healthz#ops/7"])
    assert [each.count("href=") - each.count("_blank") for each in within] == [1, 1]


LABELS = {
    "[https://bank.example/login](https://evil.example/x)": [],
    "[see WWW.bank.example](https://evil.example/x)": [],
    "[https://bank.example](https://bank.example@evil.example)": [],
    "[https://bank.example:x](https://evil.example)": [],
    "[https://bank.example/login](https://BANK.example/x?y)": ["https://BANK.example/x?y"],
    "[bank.example or www](https://a.example/)": ["https://a.example/"],
}


def test_a_links_label_is_not_the_address_of_another_site(run: Run) -> None:
    """A bank's address led elsewhere, which a phone shows nowhere."""
    body = """
        return a.map((text) => {
          const [block] = m.markdown(text);
          return [block.textContent, [...block.querySelectorAll('a')].map((link) => link.getAttribute('href'))];
        });
    """
    shown = [[text[1 : text.index("]")] if links else text, links] for text, links in LABELS.items()]
    assert run("markdown.js", body, list(LABELS)) == shown


PLAIN = {
    "plain": "plain",
    "**bold** *it* `code *x*` ~~gone~~ :tada:": "bold it code *x* gone 🎉",
    "- a\n- *b*\n\nthen\n> said": "a b then said",
    "see:\n```py\nx = 1\ny = 2\n```\n[the plan](https://a.example/)": "see: x = 1 y = 2 the plan",
    "a\tb\nc\td": "a b c d ",
    "/me **waves**": "waves",
    "2 ** 8 `never closed": "2 ** 8 `never closed",
    "": "…",
}


def test_a_message_in_short_has_no_marks(run: Run) -> None:
    assert run("markdown.js", "return a.map((text) => m.inShort({ text }))", list(PLAIN)) == list(PLAIN.values())


def test_markup_takes_no_longer_for_hostile_text(run: Run) -> None:
    """Eight kilobytes of half-open marks: backtracking without bound would take minutes."""
    hostile = [
        mark * (8000 // len(mark))
        for mark in (
            "*",
            "**a",
            "*a **b** ",
            "**b** ",
            "~~a",
            "_a ",
            "`",
            "\\*",
            "``a`",
            "[",
            "[a](http://(",
            "> ",
            "```\n",
            "-",
        )
    ]
    body = "return a.map((text) => m.markdown(text).length > 0)"
    assert all(run("markdown.js", body, hostile))


def test_texts_take_linear_time(run: Run) -> None:
    """With quadratic time a link of 8 KB takes 0.25 s and half-open blocks of code 70 ms, and these texts hours."""
    body = "return [`http://${')'.repeat(a)}`, '['.repeat(a)].map((text) => m.markdown(text)[0].textContent.length)"
    assert run("markdown.js", body, 3_000_000) == [3_000_007, 3_000_000]
    body = "return a.map((mark) => m.markdown(mark.repeat(250_000))[0].textContent.length)"
    assert run("markdown.js", body, ["_a ", "**a ", "~~a ", "```-\n"]) == [750_000, 1_000_000, 1_000_000, 1_249_999]


def test_an_item_of_a_list_takes_linear_time(run: Run) -> None:
    """One of 8 KB with many blanks and a line separator, which is no line feed, took 0.3 s; this would take hours."""
    body = """
        return ['- ', '> '].map((mark) => {
          const [block, ...more] = m.markdown(`${mark}${' '.repeat(a)}b\\u2028c`);
          return [block.localName, block.textContent.trim(), more.length];
        });
    """
    assert run("markdown.js", body, 3_000_000) == [["ul", "b\u2028c", 0], ["blockquote", "b\u2028c", 0]]


def test_up_to_three_emoji_and_nothing_else_are_shown_large(run: Run) -> None:
    large = ["🎉", "👩\u200d👩\u200d👧 ❤️", "\u2139\ufe0f" * 2, "1️⃣", "🇩🇪👍🏽🚀"]  # U+2139 is a letter too
    england = "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"
    large += [england, "🏳️\u200d🌈⛹🏽\u200d♀️ 👩\u200d🦰\n"]
    small = ["hi", "🎉a", "🎉 ab", "a", "1", "🎉🎉🎉🎉", "漢字", "", "©", "#", "\u200d"]
    assert run("text.js", "return a.map(m.isOnlyEmoji)", large) == [True] * len(large)
    assert run("text.js", "return a.map(m.isOnlyEmoji)", small) == [False] * len(small)


def test_names_of_emoji_in_code_and_links_stay(run: Run) -> None:
    """A text is sent with emoji in place of their names: a pasted link led elsewhere, and code was another."""
    texts = ["see https://a.example/:x:/?q=:key: :x:", "``a ` :x:`` :x:", "`:x:` ` :x:"]
    assert run("text.js", "return a.map(m.withEmoji)", texts) == [
        *("see https://a.example/:x:/?q=:key: ❌", "``a ` :x:`` ❌", "`:x:` ` ❌"),
    ]


def test_reactions_have_the_form_in_which_the_server_returns_them(run: Run) -> None:
    """Until the record is there, the page counts its own reaction by the emoji that it has sent."""
    emoji = run("text.js", "return [...m.NAMED.values()]")
    assert [check_emoji(each) for each in emoji] == emoji


def test_a_mention_is_the_longest_name_and_a_whole_word(run: Run) -> None:
    names = ["Bob", "Ann", "Ann Lee", "al", "me @Bob", "राम"]
    said = {
        "@Bob hi and @Bobby": ["Bob"],
        "@alice you there? @al.": ["al"],
        "@Ann Lee, not @Ann": ["Ann Lee", "Ann"],
        "@ @nobody ann@Bob": [],
        "@me @Bob @Bob": ["me @Bob", "Bob"],
        "@Bob@Ann_ @Ann-": ["Bob", "Ann"],
        "请@Ann Lee看 @Bobへ @Ann님": ["Ann Lee", "Bob", "Ann"],
        "@Annéa @Bob文x @al٣": ["Bob"],
        "@रामा और @राम, @Ann\u0301e": ["राम"],
    }
    body = "return a.map(([text, names]) => m.mentionsIn(text, names).map(({ name }) => name))"
    assert run("text.js", body, [[text, names] for text in said]) == list(said.values())


def test_a_mention_of_a_user_whom_the_page_has_not_met_is_marked_as_the_record_says(run: Run) -> None:
    """A message that mentioned somebody who had left showed no mention."""
    said: dict[str, tuple[list[str], int, list[str]]] = {
        "@Brisk Otter 34 look": ([], 1, ["Brisk Otter 34"]),
        "@ben, @Ann Lee: hi": ([], 2, ["ben", "Ann"]),
        "@Ann Lee and @ben": (["Ann Lee"], 2, ["Ann Lee", "ben"]),
        "@Ann Lee is here": ([], 1, ["Ann"]),
        "me@ben @Ann Lee @all @ben": (["Ann Lee"], 1, ["Ann Lee"]),
        "@jo.an-x. @jo": ([], 1, ["jo.an-x"]),
        "no names": (["Ann"], 1, ["Ann"]),
        "请@ben 看": ([], 1, ["ben"]),
        "@हिन्दी, सुनो": ([], 1, ["हिन्दी"]),
    }
    body = "return a.map((all) => m.mentionedIn(...all))"
    asked = [[text, known, count] for text, (known, count, _) in said.items()]
    assert run("text.js", body, asked) == [names for _, _, names in said.values()]


def test_initials_are_those_of_whole_words(run: Run) -> None:
    """Hindi has signs for vowels within a word, and an emoji may be followed by a sign that nobody sees."""
    names = {"Brisk Otter 42": "BO", "हिन्दी भाषा": "हभ", "❤️": "?", "7": "7"}
    assert run("text.js", "return a.map(m.initials)", list(names)) == list(names.values())


def test_mentions_are_found_among_the_names_of_all_users_that_a_page_has_met(run: Run) -> None:
    """The names of a page that stays open had no bound; each @ was compared with each name."""
    body = """
        const identity = new m.Identity({ getItem: () => null, setItem() {} }, { changed() {} });
        identity.is({ id: 'u', name: 'Ann Lee' });
        for (let at = 0; at < 20_000; at++) identity.meet({ id: `u${at}`, name: `a${at}` });
        const known = ['u', 'u0', 'u19999'].map((id) => identity.nameOf(id));
        return [...known, identity.namesIn('@a'.repeat(a) + ' @a19999, @Ann Lee')];
    """
    assert run("identity.js", body, 4_000) == ["Ann Lee", None, "a19999", ["a19999", "Ann Lee"]]
