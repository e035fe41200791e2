#!/usr/bin/env python3
"""Compares the room conf with Debian's postconf: the language, the names, the
defaults, what postconf -n and -M print; and loads Debian's stock files.

usage: test_peer.py peer_dump PEERS
PEERS holds postfix/ as dpkg -x unpacked it (HATO_PEERS in the environment wins).
Ends with 77 (skipped) where there is none.
"""
import concurrent.futures
import os
import subprocess
import sys
import tempfile

DUMP = sys.argv[1]
PEERS = os.environ.get('HATO_PEERS', sys.argv[2])
POSTCONF = PEERS + '/postfix/usr/sbin/postconf'
SHARE = PEERS + '/postfix/usr/share/postfix'

HEAD = 'one = 1\ntwo =\nthree = $two\ncompatibility_level = 3.6\n'
GOOD = r'''
${one:foo} [${two:foo}] [${two?x}] [${one?y}]
${one?{a b}:{c d}} ${two ? {q} : {r s}}
${{$one} == {1} ? {eq} : {ne}}
[${{$one} == {1}}] [${{$one} == {2}}]
${{abc} < {abd} ? {lt} : {ge}} ${{10} < {9} ? {lt}:{ge}} ${{10x} < {9x} ? {lt}:{ge}}
$$one $(one) ${one}
${undefinedx}|
${{3.10} <level {3.9} ? {lt} : {ge}} ${{3.10} >=level {3.9} ? {x} }
${one?a:b}
${one?{a}:b}
${ one }
$one-x $one.y
${{a} == {b} : {d}}
[${one? {a} : {b} }]
${two?{a}:{${one?{in}:{out}}}}
[${one?{a}}] [${one?}] [${two:}]
[${one? a }]
[${one?{ a }:{ b }}]
${{1}>{2}?{a}:{b}} ${{1}>={2}?{a}:{b}}${{1}<={2}?{a}:{b}}
[${{}=={}?{a}:{b}}]
${{ x }=={x}?{a}:{b}} ${{ABC}=={abc}?{a}:{b}}
$(one?{a}:{b}) $(one)
${one?{a}:{b}}}
$(one?(a))
${{01} == {1} ?{eq}:{ne}} ${{1} == {1.0}?{eq}:{ne}} ${{-1} < {0}?{lt}:{ge}}
${one?$$one} ${one?${two:{z}}}
${two?{x}:y}
[${three?{set}:{empty}}] ${two:one}
[${{$three} == {} ? {eq} : {ne}}]
${{3.6.1} >level {3.6} ? {y}:{n}} ${{3} ==level {3.0} ? {y}:{n}}
[${one?{}:{x}}] ${one?{a}:}|${two?{a}:}
${one?a}b}
${{$one}=={1}?x y:z}
${{$one}=={1}:z}|
$myhostname|$mydomain|$myorigin|$mydestination
$smtpd_timeout $smtpd_hard_error_limit $relay_domains|$syslog_name
$smtpd_relay_restrictions|$mynetworks_style|$append_dot_mydomain
$mynetworks
'''.strip().split('\n')

# Each is an error to both.
BAD = r'''
a$ b
a$
${one
${one?{a}b}
${}
${{$one}==1?{a}:{b}}
${{3} <level {x}?{a}:{b}}
${smtpd_banner}
${two:{x}:{y}}
${two:{x}y}
${{3.6} ==foo {3.6}}
${(one)}
${one.foo}
${one !}
'''.strip().split('\n')

FILES = [
    'a = b\n  c\n# no\n\n\td\nmua_x=$a\nsmtpd_banner = $mua_x   y\n',
    'smtpd_banner=x\n   # comment inside\n  y\nrelayhost =\n'
    'mydestination = a,\n b,\n\n c\n',
    'biff = no\nbiff = yes\nmydomain = x.org\nmyhostname = m.$mydomain\n',
]

# Installation parameters and those that name the system itself are Hato's own.
OWN = set('''command_directory config_directory daemon_directory data_directory
html_directory mail_name mail_owner mail_release_date mail_version
manpage_directory meta_directory queue_directory readme_directory
sample_directory shlib_directory process_id process_name alias_maps
myhostname mydomain mynetworks'''.split())


def peer(directory, *args):
    """Standard output of postconf, or None when it fails."""
    env = dict(os.environ, LD_LIBRARY_PATH=PEERS + '/postfix/usr/lib/postfix')
    p = subprocess.run([POSTCONF, '-c', directory, *args], env=env,
                       capture_output=True, text=True)
    return p.stdout if p.returncode == 0 else None


def ours(directory, *args):
    return subprocess.run([DUMP, directory, *args], capture_output=True,
                          text=True).stdout


def write(directory, main, master=''):
    for name, text in (('main.cf', main), ('master.cf', master)):
        with open(directory + '/' + name, 'w', encoding='utf-8') as f:
            f.write(text)


def words(text):
    """postconf joins words by one space."""
    return ' '.join(text.split())


def compare(what, theirs, mine):
    if theirs == mine:
        return 0
    print(f'{what}:\n  postconf: {theirs!r}\n  here:     {mine!r}')
    return 1


def refused(directory, e):
    os.mkdir(directory)
    write(directory, HEAD + 'smtpd_banner = ' + e + '\n')
    return (compare(e, peer(directory, '-x', '-h', 'smtpd_banner'), None) +
            compare(e, 'error:', ours(directory, 'values', 'smtpd_banner')[:6]))


def expressions(directory):
    names = [f'x{i}' for i in range(len(GOOD))]
    text = HEAD + ''.join(f'{n} = {e}\n' for n, e in zip(names, GOOD))
    # postconf knows a name that another one refers to.
    write(directory, text + 'debugger_command = ' + ' '.join('$' + n for n in names) + '\n')
    theirs = peer(directory, '-x', '-h', *names).splitlines()
    mine = ours(directory, 'values', *names).splitlines()
    bad = compare('answers', len(theirs), len(mine))
    for e, a, b in zip(GOOD, theirs, mine):
        bad += compare(e, words(a), words(b))
    # postconf sleeps a second before it gives up, so all at once.
    with concurrent.futures.ThreadPoolExecutor(len(BAD)) as pool:
        return bad + sum(pool.map(refused, [f'{directory}/{i}' for i in range(len(BAD))],
                                  BAD))


def printed(directory):
    bad = 0
    for text in FILES:
        write(directory, text)
        bad += compare(text, peer(directory, '-n'), ours(directory, 'changed'))
    with open(SHARE + '/master.cf.dist', encoding='utf-8') as f:
        write(directory, '', f.read())
    return bad + compare('master.cf', peer(directory, '-M'),
                         ours(directory, 'services'))


def defaults(directory):
    """Each name of postconf -d is declared, with the same default."""
    with open(SHARE + '/master.cf.dist', encoding='utf-8') as f:
        write(directory, '', f.read())
    mine = dict(x.split(' =', 1)
                for x in ours(directory, 'defaults').splitlines())
    theirs = dict(x.split(' =', 1)
                  for x in peer(directory, '-d').splitlines())
    bad = 0
    for name, value in theirs.items():
        if name not in mine:
            print(f'{name} is not declared')
            bad += 1
        elif name not in OWN:
            bad += compare(name, value, mine[name])
    print(f'{len(theirs)} names of postconf -d')
    return bad


def stock(directory):
    """Debian's files load unchanged."""
    bad = 0
    with open(SHARE + '/main.cf.debian', encoding='utf-8') as f:
        main = f.read()
    with open(SHARE + '/master.cf.dist', encoding='utf-8') as f:
        master = f.read()
    with open(SHARE + '/main.cf.tls', encoding='utf-8') as f:
        tls = f.read()
    rest = ('myhostname = m.example.org\nalias_maps = hash:/etc/aliases\n'
            'alias_database = hash:/etc/aliases\nmyorigin = %s/mailname\n'
            'mydestination = $myhostname, localhost\nrelayhost =\n'
            'mynetworks = 127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128\n'
            'mailbox_size_limit = 0\nrecipient_delimiter = +\n'
            'inet_interfaces = all\ninet_protocols = all\n'
            'smtpd_relay_restrictions = permit_mynetworks '
            'permit_sasl_authenticated defer_unauth_destination\n' % directory)
    with open(directory + '/mailname', 'w', encoding='utf-8') as f:
        f.write('example.org\n')
    for text in (main, main + tls, main + tls + rest):
        write(directory, text, master)
        found = ours(directory, 'check')
        errors = [x for x in found.splitlines() if 'error:' in x]
        if errors or 'warning: service uucp: pipe' not in found:
            print('stock files:\n' + found)
            bad += 1
    bad += compare('myorigin', 'example.org\n',
                   ours(directory, 'values', 'myorigin'))
    return bad


def main():
    if not os.access(POSTCONF, os.X_OK):
        print(f'skipped: no {POSTCONF}')
        return 77
    with tempfile.TemporaryDirectory() as directory:
        bad = (expressions(directory) + printed(directory) +
               defaults(directory) + stock(directory))
    print(f'{bad} differences')
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
