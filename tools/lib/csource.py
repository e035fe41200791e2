"""Reading C as text: files of the tree, comments and strings blanked,
functions and the calls in them.  Enough for house rules, not a parser."""
import os
import re
import subprocess

_TOKEN = re.compile(
    r"""(?P<block>/\*.*?\*/)|(?P<line>//[^\n]*)|(?P<str>"(?:\\.|[^"\\\n])*")"""
    r"""|(?P<chr>'(?:\\.|[^'\\\n])*')""", re.S)


def files(top):
    """The .c and .h files under src/ that git knows or would add."""
    out = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "--", "src/*.c", "src/*.h"],
        cwd=top, capture_output=True, text=True, check=False)
    if out.returncode == 0:
        found = out.stdout.split("\n")
    else:
        found = [os.path.relpath(os.path.join(d, f), top)
                 for d, _, names in os.walk(os.path.join(top, "src")) for f in names]
    return sorted(f for f in set(found) if f.endswith((".c", ".h")) and
                  os.path.exists(os.path.join(top, f)))


def line_of(text, at):
    return text.count("\n", 0, at) + 1


def blank(text, keep_line_comments=False):
    """The same text with comments and what is in quotes turned to spaces."""
    def spaces(m):
        if keep_line_comments and m.group("line") is not None:
            return m.group(0)
        s = m.group(0)
        inner = re.sub(r"[^\n]", " ", s)
        if m.group("str") is not None or m.group("chr") is not None:
            return s[0] + inner[1:-1] + s[-1]
        return inner
    return _TOKEN.sub(spaces, text)


def without_directives(code):
    """Preprocessor lines, with what they continue on, turned to spaces."""
    return re.sub(r"^[ \t]*#(?:[^\n\\]|\\.|\\\n)*", lambda m: re.sub(r"[^\n]", " ", m.group(0)),
                  code, flags=re.M)


# Things that look like `name(...)` in a declarator and are not the name.
_NOT_NAMES = {"__attribute__", "PRINTF", "CLEANUP", "__asm__", "_Static_assert",
              "static_assert", "__declspec", "_Alignas", "if", "for", "while", "switch",
              "return", "sizeof", "typeof", "__typeof__", "do", "else", "defined"}


def name_of(head):
    """The function's name in a declaration or a definition's head, or None."""
    depth = 0
    name = None
    for m in re.finditer(r"(\w+)?\s*([()])", head):
        if m.group(2) == "(":
            if depth == 0 and m.group(1) and m.group(1) not in _NOT_NAMES:
                name = m.group(1)
            depth += 1
        else:
            depth -= 1
    return name


def pieces(text):
    """Yields (head, body or None, offset of head) for what stands at file level:
    declarations (body None) and definitions."""
    code = without_directives(blank(text))
    start = 0
    i = 0
    depth = 0
    body_at = 0
    for m in re.finditer(r"[{};]", code):
        i = m.start()
        c = m.group(0)
        if c == "{":
            if depth == 0:
                body_at = i
            depth += 1
        elif c == "}":
            depth -= 1
            if depth == 0:
                head = code[start:body_at]
                if "(" in head and "=" not in head:
                    yield head, code[body_at:i + 1], start
                    start = i + 1
        elif depth == 0:
            yield code[start:i], None, start
            start = i + 1


def calls(body):
    """Yields (name, offset) of calls in a body, CLEANUP(name) among them."""
    for m in re.finditer(r"(?<![\w.])(?<!->)(\w+)\s*\(", body):
        if m.group(1) == "CLEANUP":
            inner = re.match(r"\s*(\w+)", body[m.end():])
            if inner:
                yield inner.group(1), m.start()
        else:
            yield m.group(1), m.start()
