"""Reads src/conf/params.def, for the tools that make something of it."""
import re
import sys

TYPES = ('bool', 'int', 'size', 'time', 'str', 'raw', 'path', 'list', 'match', 'tables',
         'restr', 'enum')


def read(path):
    """Yields one dict for each declaration."""
    seen = set()
    with open(path, encoding='utf-8') as f:
        for number, line in enumerate(f, 1):
            line = line.rstrip('\n')
            if not line.strip() or line.startswith('#'):
                continue
            p = [x.strip() for x in line.split(' | ')] + [''] * 3
            m = re.match(r'([-+!]) (\w+)(?:\(([^)]*)\))?((?: (?:restart|ours))*)$',
                         p[1])
            if not m or m.group(2) not in TYPES:
                sys.exit(f'{path}:{number}: bad state or type "{p[1]}"')
            if p[0] in seen:
                sys.exit(f'{path}:{number}: {p[0]} is there twice')
            if not p[3].endswith('.') or (m.group(1) != '+' and not p[4]):
                sys.exit(f'{path}:{number}: no meaning or no reason')
            seen.add(p[0])
            yield {'name': p[0], 'state': m.group(1), 'type': m.group(2),
                   'args': m.group(3) or '', 'restart': 'restart' in m.group(4),
                   'ours': 'ours' in m.group(4), 'def': p[2], 'meaning': p[3],
                   'note': p[4], 'rules': p[5], 'line': number}


def unit(row, rows, depth=0):
    """The unit of a time is that of its default, through $names."""
    m = re.match(r'\$(\w+)$', row['def'])
    if m and m.group(1) in rows and depth < 5:
        return unit(rows[m.group(1)], rows, depth + 1)
    m = re.search(r'([smhdw])$', row['def'])
    return m.group(1) if m else 's'
