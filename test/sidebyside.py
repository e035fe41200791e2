"""The same mail through Debian's Postfix and through Hato into the same test
internet, with real DNS (nsd) on port 53 and hosts on port 25.

Run inside a network namespace of its own by test_sidebyside.py:
    unshare -n -m sidebyside.py DIRECTORY
Prints JSON: for each server what became of every recipient, and its reports.
"""
import asyncio
import email
import email.policy
import json
import os
import re
import smtplib
import ssl
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import hatotest  # noqa: E402
import postfixpeer  # noqa: E402

GOOD = "127.1.0.1"
REPORTS = "127.1.0.2"
DEAD = "127.1.0.9"  # nobody listens there
OURS = "mx.example.com"
SENDER = "sender@origin.test"

# name: what the host at an address of its own does, see Host.talk()
HOSTS = {
    "banner450": {"banner": "450 4.3.2 not now"},
    "banner554": {"banner": "554 5.7.1 go away"},
    "banner521": {"banner": "521 no mail here"},
    "garbage": {"banner": "\x01\x02garbage \xff"},
    "nobanner": {"close": "connect"},
    "stall": {"stall": "connect"},
    "noehlo": {"EHLO": "502 5.5.1 what"},
    "nohello": {"EHLO": "502 5.5.1 what", "HELO": "550 5.7.1 no"},
    "helo450": {"EHLO": "450 4.7.1 later", "HELO": "450 4.7.1 later"},
    "mail451": {"MAIL": "451 4.3.0 try later"},
    "mail550": {"MAIL": "550 5.7.1 sender refused"},
    "mail552": {"MAIL": "552 5.2.3 too much"},
    "rcpts": {"RCPT": "by name"},
    "data451": {"DATA": "451 4.3.0 no data"},
    "data554": {"DATA": "554 5.5.1 no valid recipients"},
    "dot451": {"DOT": "451 4.3.0 disk"},
    "dot550": {"DOT": "550 5.7.1 spam"},
    "dot552": {"DOT": "552 5.2.2 full"},
    "plain550": {"RCPT": "550 no such user"},
    "odd": {"RCPT": "550 4.2.1 which is it"},
    "multi": {"RCPT": "550-5.1.1 one\r\n550-5.1.1 two\r\n550 5.1.1 three"},
    "closemail": {"close": "MAIL"},
    "closercpt": {"close": "RCPT"},
    "closedata": {"close": "DATA"},
    "closedot": {"close": "DOT"},
    "stalldot": {"stall": "DOT"},
    "say421": {"RCPT": "421 4.3.2 closing", "close": "after RCPT"},
    "flood": {"EHLO": "flood"},
    "small": {"size": 1000},
    "no8bit": {"without": ["8BITMIME", "SMTPUTF8"]},
    "noutf8": {"without": ["SMTPUTF8"]},
    "nodsn": {"without": ["DSN"]},
    "nopipe": {"without": ["PIPELINING"]},
    "tls454": {"STARTTLS": "454 4.7.0 not available"},
    "tls500": {"STARTTLS": "500 5.5.1 what"},
    "tlsbroken": {"STARTTLS": "220 ready", "broken": True},
    "noesmtp": {"banner": "220 host.test"},
    "pix": {"banner": "220 ************"},
    "rcpt450": {"RCPT": "450 4.2.0 full"},
    "rcpt550": {"RCPT": "550 5.1.1 nobody"},
    "mixed": {"EHLO": "550 5.7.1 no", "HELO": "550 5.7.1 no"},
}
# name: (settings of a transport of its own, where its mail goes); %D is the directory
TRANSPORTS = {
    "skip5xx": ("smtp_skip_5xx_greeting=no", "banner554.test"),
    "neverehlo": ("smtp_never_send_ehlo=yes", "good.test"),
    "noalways": ("smtp_always_send_ehlo=no", "noesmtp.test"),
    "noalways2": ("smtp_always_send_ehlo=no", "good.test"),
    "fallbackdead": ("smtp_fallback_relay=[dead.test]", "alldead.test"),
    "fallbackgood": ("smtp_fallback_relay=[good.test]", "alldead.test"),
    "fallback554": ("smtp_fallback_relay=[good.test]", "[mx-banner554.test]"),
    "fallbacknx": ("smtp_fallback_relay=[nx.test]", "alldead.test"),
    "fallback550": ("smtp_fallback_relay=[good.test]", "[mx-rcpt550.test]"),
    "fallback450": ("smtp_fallback_relay=[good.test]", "[mx-rcpt450.test]"),
    "fallbackloop": ("smtp_fallback_relay=[good.test]", "loop.test"),
    "fallbackfails": ("smtp_fallback_relay=[mx-mail550.test]", "dead.test"),
    "listgood": ("smtp_bind_address=", "dead.test, good.test"),
    "listnx": ("smtp_bind_address=", "dead.test, nx.test"),
    "listnx2": ("smtp_bind_address=", "nx.test, dead.test"),
    "addrlimit": ("smtp_mx_address_limit=1", "pref.test"),
    "sesslimit": ("smtp_mx_session_limit=1", "fullfirst.test"),
    "native": ("smtp_host_lookup=native", "good.test"),
    "nativedns": ("smtp_host_lookup=native,dns", "good.test"),
    "nodns": ("smtp_dns_support_level=disabled", "good.test"),
    "defernoaddr": ("smtp_defer_if_no_mx_address_found=yes", "noaddr.test"),
    "ignoremx": ("ignore_mx_lookup_error=yes", "x.lame.test"),
    "noquote": ("smtp_quote_rfc821_envelope=no", "good.test"),
    "quote": ("smtp_quote_rfc821_envelope=yes", "good.test"),
    "discard": ("smtp_discard_ehlo_keywords=8bitmime,dsn,pipelining", "noutf8.test"),
    "discard8": ("smtp_discard_ehlo_keywords=8BITMIME", "noutf8.test"),
    "discardsilent": ("smtp_discard_ehlo_keywords=silent-discard,8BITMIME,SMTPUTF8", "good.test"),
    "replyfilter": ("smtp_reply_filter=regexp:%D/reply", "plain550.test"),
    "replyfilter2": ("smtp_reply_filter=regexp:%D/reply", "rcpt450.test"),
    "statusfilter": ("smtp_delivery_status_filter=regexp:%D/status", "plain550.test"),
    "statusfilter2": ("smtp_delivery_status_filter=regexp:%D/status", "rcpt450.test"),
    "dnsfilter": ("smtp_dns_reply_filter=regexp:%D/dns", "pref.test"),
    "dnsfilterall": ("smtp_dns_reply_filter=regexp:%D/dns", "alldead.test"),
    "headers": ("smtp_header_checks=regexp:%D/header", "good.test"),
    "pix": ("smtp_pix_workaround_threshold_time=1s -o smtp_pix_workaround_delay_time=1s",
            "pix.test"),
    "linelimit": ("smtp_line_length_limit=40", "good.test"),
    "softbounce": ("soft_bounce=yes", "plain550.test"),
    "softnext": ("soft_bounce=yes", "refuses.test"),
    "bestmx": ("best_mx_transport=s-quote:[good.test]", "loop.test"),
    "generic": ("smtp_generic_maps=regexp:%D/generic", "good.test"),
    "heloname": ("smtp_helo_name=other.example.com", "good.test"),
    "dummyauth": ("smtp_send_dummy_mail_auth=yes", "good.test"),
    "chunks": ("smtp_data_init_timeout=5s", "dot451.test"),
    "relaynull": ("smtp_bind_address=", "[null.test]"),
    "tlsmust": ("smtp_tls_security_level=encrypt", "good.test"),
    "tls454": ("smtp_tls_security_level=encrypt", "tls454.test"),
}
FILES = {
    "reply": "/^550 (.*)/ 450 $1\n/^450 .*/ 550 5.7.7 by filter\n",
    "status": "/^5(\\..*)/ 4$1\n/^4\\.2\\.0 .*/ 5.2.0 by filter\n",
    "dns": "/ 127\\.1\\.0\\.9$/ IGNORE\n",
    "header": "/^Subject: .*/ REPLACE Subject: changed\n/^From:/ PREPEND X-Before: yes\n",
    "generic": "/^sender@origin\\.test$/ generic@origin.test\n/^(.*)@generic\\.cfg\\.test$/ $1@public.test\n",
}
# MX and other records of the other names
ZONE = f"""
$ORIGIN test.
$TTL 60
@ SOA ns.test. root.test. 1 3600 600 86400 60
@ NS ns
ns A 127.0.0.1
good A {GOOD}
dead A {DEAD}
us A 127.0.0.1
origin MX 10 reports
reports A {REPORTS}
pref MX 20 good
pref MX 10 dead
alldead MX 10 dead
equal MX 10 dead
equal MX 10 good
null MX 0 .
onlya A {GOOD}
noaddr MX 10 nowhere
cname CNAME good
mxcname MX 10 aliasmx
aliasmx CNAME good
loop MX 10 us
loop MX 20 good
behind MX 5 dead
behind MX 10 us
behind MX 20 good
txtonly TXT "nothing else"
lame NS ns.lame
ns.lame A 127.0.0.66
fullfirst MX 10 mx-banner450
fullfirst MX 20 good
refuses MX 10 mx-rcpt550
refuses MX 20 good
later MX 10 mx-rcpt450
later MX 20 good
mailno MX 10 mx-mail550
mailno MX 20 good
maillater MX 10 mx-mail451
maillater MX 20 good
dotno MX 10 mx-dot550
dotno MX 20 good
dotlater MX 10 mx-dot451
dotlater MX 20 good
dotgone MX 10 mx-closedot
dotgone MX 20 good
datano MX 10 mx-data554
datano MX 20 good
bye MX 10 mx-say421
bye MX 20 good
hellono MX 10 mx-nohello
hellono MX 20 good
greetno MX 10 mx-banner554
greetno MX 20 good
tiny MX 10 mx-small
tiny MX 20 good
ascii MX 10 mx-noutf8
ascii MX 20 good
nodead MX 10 nowhere
nodead MX 20 dead
deadno MX 10 dead
deadno MX 20 nowhere
lamemx MX 10 mail.lame
lamemx MX 20 good
lameonly MX 10 mail.lame
lameonly MX 20 nowhere
ipmx MX 10 127.1.0.1.
cnamenx CNAME nx
multi-a A 127.1.0.9
multi-a A 127.1.0.1
under_score MX 10 good
nulltwo MX 0 .
nulltwo MX 10 good
nullnull MX 0 .
nullnull MX 10 .
"""


class Host:
    """One peer's internet: SMTP servers that behave by the address they are
    reached at."""

    def __init__(self):
        self.by_addr = {GOOD: {}, REPORTS: {}}
        self.addr = {}
        for i, name in enumerate(HOSTS):
            self.addr[name] = f"127.1.1.{i + 1}"
            self.by_addr[self.addr[name]] = HOSTS[name]
        self.got = []  # (address, sender, recipients, message)
        self.said = {}  # recipient: EHLO and the commands of its message

    async def start(self):
        self.server = []
        for addr in self.by_addr:
            self.server.append(await asyncio.start_server(self.session, addr, 25, limit=1 << 20))

    async def stop(self):
        for s in self.server:
            s.close()

    async def session(self, r, w):
        addr = w.get_extra_info("sockname")[0]
        try:
            await self.talk(addr, self.by_addr[addr], r, w)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        w.close()

    async def say(self, w, text):
        if os.environ.get("SAY"):
            print(w.get_extra_info("sockname")[0], text, file=sys.stderr)
        w.write(text.encode("latin-1") + b"\r\n")
        await w.drain()

    async def talk(self, addr, how, r, w):
        async def hook(step):
            if how.get("stall") == step:
                await asyncio.sleep(60)
            return how.get("close") == step

        if await hook("connect"):
            return
        await self.say(w, how.get("banner", "220 host.test ESMTP"))
        sender, rcpts, said = None, [], []
        while True:
            line = await r.readline()
            if not line:
                return
            text = line.decode("utf-8", "replace").strip()
            if os.environ.get("SAY"):
                print(addr, ">", text, file=sys.stderr)
            verb = text.split()[0].upper() if text else ""
            said.append(re.sub(r" SIZE=\d+", "", text))
            if await hook(verb):
                return
            if verb == "EHLO" and how.get("EHLO") == "flood":
                for _ in range(200):
                    w.write((b"250-" + b"x" * 60 + b"\r\n") * 100)
                    await w.drain()
                    await asyncio.sleep(0)
                await self.say(w, "250 end")
            elif verb in how and verb != "RCPT":
                await self.say(w, how[verb])
                if verb == "STARTTLS" and how.get("broken"):
                    w.write(b"this is no handshake\r\n" * 10)
                    await w.drain()
                    return
            elif verb == "EHLO":
                words = ["PIPELINING", f"SIZE {how.get('size', 10000000)}", "8BITMIME",
                         "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES"]
                words = [x for x in words if x not in how.get("without", [])]
                if "STARTTLS" in how:
                    words.append("STARTTLS")
                await self.say(w, "\r\n".join(["250-host.test"] + [f"250-{x}" for x in words[:-1]]
                                              + [f"250 {words[-1]}"]))
            elif verb == "MAIL":
                sender = re.search(r"<(.*?)>", text)[1]
                rcpts = []
                await self.say(w, "250 2.1.0 ok")
            elif verb == "RCPT":
                name = re.search(r"<(.*?)>", text)[1]
                answer = how.get("RCPT", "250 2.1.5 ok")
                if answer == "by name":
                    code = name[:3]
                    answer = f"{code} {code[0]}.1.{1 if code != '250' else 5} {name}"
                if answer[0] == "2":
                    rcpts.append(name)
                await self.say(w, answer)
                if how.get("close") == "after RCPT":
                    return
            elif verb == "DATA":
                if not rcpts:
                    await self.say(w, "554 5.5.1 no valid recipients")
                    continue
                await self.say(w, "354 go on")
                data = await r.readuntil(b"\r\n.\r\n")
                if await hook("DOT"):
                    return
                answer = how.get("DOT", "250 2.0.0 stored")
                if answer[0] == "2":
                    self.got.append((addr, sender, rcpts, data[:-3]))
                    hello = [x for x in said if x[:5].upper() in ("EHLO ", "HELO ")][-1]
                    # RFC 6533 has "utf-8" for what Postfix calls rfc822.
                    said = [re.sub(r"ORCPT=[^;]*;j\S+@", "ORCPT=@", x) for x in said]
                    mail = max(i for i, x in enumerate(said) if x[:4].upper() == "MAIL")
                    for one in rcpts:
                        self.said[one.replace('"', "")] = [hello, *said[mail:]]
                await self.say(w, answer)
            elif verb == "QUIT":
                await self.say(w, "221 2.0.0 bye")
                return
            elif verb in ("HELO", "RSET", "NOOP"):
                await self.say(w, "250 ok")
            else:
                await self.say(w, "500 5.5.2 what")


# id: (recipient, kind of message, options of RCPT)
def cases():
    out = {}
    for name in HOSTS:
        if name != "rcpts":
            out[name] = (f"user@{name}.test", "plain", "")
    for code in ("250", "450", "452", "550", "552", "554"):
        out[f"rcpt{code}"] = (f"{code}@rcpts.test", "plain", "")
    for name in ("good", "pref", "alldead", "equal", "null", "onlya", "noaddr", "cname", "mxcname",
                 "loop", "behind", "txtonly", "nx", "x.lame", "fullfirst", "refuses", "later",
                 "mailno", "maillater", "dotno", "dotlater", "dotgone", "datano", "bye", "hellono",
                 "greetno", "nodead", "deadno", "lamemx", "lameonly", "ipmx", "cnamenx",
                 "multi-a", "under_score", "nulltwo", "nullnull"):
        out[name] = (f"user@{name}.test", "plain", "")
    for name in TRANSPORTS:
        out[f"s-{name}"] = (f"user@{name}.cfg.test", "plain", "")
    for name in ("noquote", "quote"):
        out[f"s-{name} blank"] = (f'"a b"@{name}.cfg.test', "plain", "")
    out["s-discard success"] = ("notify@discard.cfg.test", "8bit", "NOTIFY=SUCCESS")
    out["s-discard8 8bit"] = ("eight@discard8.cfg.test", "8bit", "")
    out["s-discardsilent 8bit"] = ("eight@discardsilent.cfg.test", "8bit", "")
    out["s-linelimit 8bit"] = ("eight@linelimit.cfg.test", "8bit", "")
    out["s-linelimit large"] = ("large@linelimit.cfg.test", "large", "")
    out["tiny large"] = ("large@tiny.test", "large", "")
    out["ascii utf8"] = ("jörg@ascii.test", "utf8", "")
    out["literal6"] = ("user@[IPv6:::1]", "plain", "")
    out["literal"] = (f"user@[{GOOD}]", "plain", "")
    out["8bit"] = ("eight@no8bit.test", "8bit", "")
    out["8bit ok"] = ("eight@good.test", "8bit", "")
    out["utf8"] = ("jörg@noutf8.test", "utf8", "")
    out["utf8 ok"] = ("jörg@good.test", "utf8", "")
    out["large"] = ("large@small.test", "large", "")
    out["success"] = ("notify@good.test", "plain", "NOTIFY=SUCCESS ORCPT=rfc822;first@x.test")
    out["success relayed"] = ("notify@nodsn.test", "plain", "NOTIFY=SUCCESS,FAILURE")
    out["never"] = ("never@plain550.test", "plain", "NOTIFY=NEVER")
    out["orcpt"] = ("orcpt@multi.test", "plain", "NOTIFY=FAILURE ORCPT=rfc822;was@y.test")
    return out


def message(kind, case):
    head = f"From: {SENDER}\r\nSubject: {case}\r\nMessage-ID: <{case.replace(' ', '')}@origin.test>\r\n"
    if kind in ("8bit", "utf8"):
        head += "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n" \
                "Content-Transfer-Encoding: 8bit\r\n"
    body = {"plain": "one\r\n..two\r\n.\r\nthree\r\n", "8bit": "grün\r\n", "utf8": "grün\r\n",
            "large": "x" * 70 + "\r\n"}[kind]
    if kind == "large":
        body *= 100
    return (head + "\r\n" + body.replace("\r\n.", "\r\n..")).encode()


def send_all(port):
    for case, (rcpt, kind, options) in cases().items():
        with smtplib.SMTP("127.0.0.1", port, local_hostname="client.test", timeout=60) as s:
            s.ehlo()
            utf8 = kind == "utf8"
            if utf8:
                s.command_encoding = "utf-8"
            extra = " BODY=8BITMIME" if kind in ("8bit", "utf8") else ""
            extra += " SMTPUTF8" if utf8 else ""
            extra += " ENVID=env-" + case.replace(" ", "") if "NOTIFY" in options else ""
            answers = [s.docmd(f"MAIL FROM:<{SENDER}>{extra}"),
                       s.docmd(f"RCPT TO:<{rcpt}>" + (" " + options if options else "")),
                       s.docmd("DATA")]
            assert [a[0] for a in answers] == [250, 250, 354], (case, answers)
            s.send(message(kind, case) + b".\r\n")
            assert s.getreply()[0] == 250, case


LINE = re.compile(r"to=<([^>]*)>.*? dsn=([0-9.]+), status=(\w+)")


def outcomes(log):
    out = {}
    for m in LINE.finditer(log):
        # Postfix logs quotes, Hato does not.
        seen = out.setdefault(m[1].replace('"', ""), [])
        if [m[2], m[3]] not in seen:
            seen.append([m[2], m[3]])
    return out


def reports(got):
    """{original recipient: fields} of all delivery reports."""
    out = {}
    for addr, sender, _, data in got:
        if addr != REPORTS or sender != "":
            continue
        m = email.message_from_bytes(data, policy=email.policy.default)
        parts = list(m.walk())
        report = next((p for p in parts if p.get_content_type() in
                       ("message/delivery-status", "message/global-delivery-status")), None)
        if report is None:
            out["not a report: " + str(m["Subject"])] = {}
            continue
        groups = report.get_payload()
        for g in groups[1:]:
            final = g["Final-Recipient"].split(";")[1].strip()
            out[final] = {
                "action": g["Action"], "status": g["Status"],
                "original": (g["Original-Recipient"] or "").replace("; ", ";"),
                "remote": g["Remote-MTA"],
                "type": (g["Diagnostic-Code"] or "").split(";")[0],
                "envid": groups[0]["Original-Envelope-Id"],
                "arrival": groups[0]["Arrival-Date"] is not None,
                "reporting": groups[0]["Reporting-MTA"],
                "kinds": [p.get_content_type() for p in parts[1:4]],
                "report": m["Content-Type"].params.get("report-type"),
            }
    return out


async def run(server_port, log, is_done):
    host = Host()
    await host.start()
    await asyncio.to_thread(send_all, server_port)
    wanted = {rcpt.replace('"', "") for rcpt, _, _ in cases().values()}
    missing = wanted
    until = time.monotonic() + 100
    while time.monotonic() < until:
        await asyncio.sleep(0.3)
        seen = outcomes(log())
        missing = {r for r in wanted if r not in seen}
        if not missing and is_done():
            break
    await asyncio.sleep(1)
    result = {"outcomes": outcomes(log()), "reports": reports(host.got), "missing": sorted(missing),
              "at": {}, "bodies": {}, "said": {**host.said}}
    for addr, _, rcpts, data in host.got:
        for r in (x.replace('"', "") for x in rcpts):
            result["at"].setdefault(r, []).append(addr)
            m = email.message_from_bytes(data)
            result["bodies"][r] = [str(m["Content-Transfer-Encoding"]), str(m["Subject"]),
                                   str(m["X-Before"]), str(m["From"]),
                                   data.partition(b"\r\n\r\n")[2].decode("latin-1")[:200]]
    await host.stop()
    return result


def write_dns(where):
    host = Host()
    zone = ZONE
    for name, addr in host.addr.items():
        zone += f"{name} MX 10 mx-{name}\nmx-{name} A {addr}\n"
    with open(f"{where}/test.zone", "w", encoding="ascii") as f:
        f.write(zone)
    reverse = "$ORIGIN 127.in-addr.arpa.\n$TTL 60\n@ SOA ns.test. root.test. 1 1 1 1 60\n@ NS ns.test.\n"
    with open(f"{where}/reverse.zone", "w", encoding="ascii") as f:
        f.write(reverse)
    with open(f"{where}/nsd.conf", "w", encoding="ascii") as f:
        f.write(f"""server:
  ip-address: 127.0.0.1
  username: ""
  pidfile: "{where}/nsd.pid"
  database: ""
  zonesdir: "{where}"
  zonelistfile: "{where}/zone.list"
  xfrdfile: "{where}/xfrd.state"
  xfrdir: "{where}"
  server-count: 1
remote-control:
  control-enable: no
zone:
  name: test
  zonefile: test.zone
zone:
  name: 127.in-addr.arpa
  zonefile: reverse.zone
""")
    with open(f"{where}/resolv.conf", "w", encoding="ascii") as f:
        f.write("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    subprocess.run(["mount", "--bind", f"{where}/resolv.conf", "/etc/resolv.conf"], check=True)
    p = subprocess.Popen(["/usr/sbin/nsd", "-d", "-c", f"{where}/nsd.conf"],
                         stdout=subprocess.DEVNULL, stderr=open(f"{where}/nsd.log", "wb"))
    return p


SHARED = {
    "relayhost": "", "myhostname": OURS, "mydestination": "", "mynetworks": "127.0.0.0/8",
    "inet_interfaces": "127.0.0.1", "inet_protocols": "ipv4",
    # what comes back from the test internet at 127.0.0.1 would be us
    "smtp_connect_timeout": "2s", "smtp_helo_timeout": "2s", "smtp_mail_timeout": "2s",
    "smtp_rcpt_timeout": "2s", "smtp_data_init_timeout": "2s", "smtp_data_done_timeout": "2s",
    "smtp_quit_timeout": "2s", "smtp_starttls_timeout": "2s",
    "smtp_tls_security_level": "may", "smtpd_discard_ehlo_keywords": "",
    "smtputf8_enable": "yes", "notify_classes": "", "bounce_size_limit": "50000",
    "smtpd_relay_restrictions": "permit_mynetworks, reject",
    "default_destination_concurrency_limit": "20",
    "append_dot_mydomain": "no", "resolve_numeric_domain": "no",
}


def transports(where):
    """Lines of master.cf, and the table that leads there."""
    for name, text in FILES.items():
        with open(f"{where}/{name}", "w", encoding="utf-8") as f:
            f.write(text)
    with open(f"{where}/transport", "w", encoding="utf-8") as f:
        f.writelines(f"{name}.cfg.test s-{name}:{to}\n" for name, (_, to) in TRANSPORTS.items())
    return "".join(f"s-{name} unix - - n - - smtp -o {options.replace('%D', where)}\n"
                   for name, (options, _) in TRANSPORTS.items())


def postfix(where):
    p = postfixpeer.Postfix(f"{where}/postfix", **SHARED,
                            transport_maps=f"texthash:{where}/transport")
    with open(f"{p.dir}/etc/master.cf", "a", encoding="utf-8") as f:
        f.write(transports(where))
    with p:
        return asyncio.run(run(p.port, p.log, lambda: not os.listdir(f"{p.dir}/spool/active")))


def hato(where):
    h = hatotest.Hato(f"{where}/hato", main={**SHARED, "resolver_forwarders": "127.0.0.1",
                                              "resolver_dnssec": "no",
                                              "transport_maps": f"texthash:{where}/transport"},
                      master=hatotest.MASTER_CF + transports(where))
    with h:
        return asyncio.run(run(h.port, h.log, lambda: True))


def main():
    where = sys.argv[1]
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    dns = write_dns(where)
    try:
        time.sleep(0.5)
        result = {"postfix": postfix(where), "hato": hato(where)}
    finally:
        dns.terminate()
    with open(f"{where}/result.json", "w", encoding="utf-8") as f:
        json.dump(result, f, indent=1)


if __name__ == "__main__":
    main()
