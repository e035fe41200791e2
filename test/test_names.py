"""Names of clients, and the restrictions that ask DNS, against a test internet; and
each of them beside a real Postfix that asks the same zones.

covers: smtpd_peername_lookup
"""
import os
import re
import shutil
import subprocess

import pytest

import postfixpeer
from hatotest import IS_ROOT, Hato, free_port, wait_for
from internet import NSD, Internet
from smtptalk import Gone, Talk

pytestmark = pytest.mark.skipif(not os.path.exists(NSD), reason="nsd is not installed")

REVERSE = {
    "2.0.0": "PTR good.client.test.",
    "3.0.0": "PTR forged.client.test.",
    "5.0.0": "PTR 127.0.0.5.",
    "6.0.0": "PTR later.broken.test.",
    "7.0.0": "PTR lost.client.test.",
    "8.0.0": "PTR alias.client.test.",
    "9.0.0": "CNAME nine.client.test.",
}
ZONES = {
    "127.in-addr.arpa": REVERSE,
    "client.test": {
        "good": "A 127.0.0.2", "forged": "A 127.0.0.99", "alias": "CNAME eight",
        "eight": ["A 127.0.0.1", "A 127.0.0.8"], "nine": ["PTR nine", "A 127.0.0.9"],
    },
    "good.test": {"@": "MX 10 mx", "mx": "A 192.0.2.20"},
    "host.test": {"@": "A 192.0.2.21"},
    "six.test": {"@": "AAAA 2001:db8::21"},
    "null.test": {"@": "MX 0 ."},
    "spam.test": {"@": ["MX 10 relay.evil.test."], "sub": "A 192.0.2.23"},
    "evil.test": {"relay": "A 198.51.100.8", "ns": "A 198.51.100.7"},
    "bl.test": {"2.0.0.127": ["A 127.0.0.2", 'TXT "listed, see http://bl.test/"'],
                "3.0.0.127": ["A 127.0.0.9", 'TXT "one"', 'TXT "two"'],
                "4.0.0.127": "A 127.0.0.4"},
    "wl.test": {"2.0.0.127": "A 127.0.9.1"},
    "rh.test": {"good.client.test": "A 127.0.1.2", "spam.test": "A 127.0.1.2",
                "forged.client.test": "A 127.0.1.2", "spam.example": "A 127.0.1.3"},
    "backup.test": {"@": ["MX 10 primary", "MX 20 mx.example.com."], "primary": "A 192.0.2.30"},
    "prim.test": {"@": ["MX 10 mx.example.com.", "MX 20 other"], "other": "A 192.0.2.30"},
    "addr.test": {"@": ["MX 10 primary", "MX 20 mine"], "primary": "A 192.0.2.30",
                  "mine": "A 127.0.0.1"},
    "noaddr.test": {"@": ["MX 10 lost", "MX 20 mx.example.com."]},
    "nomx.test": {"@": "A 127.0.0.1"},
}


class Net(Internet):
    """Also on port 53 of an address of its own, where libc asks; one zone does not
    load: SERVFAIL."""

    def __init__(self, path, addr=None):
        super().__init__(path)
        self.addr = addr
        for name, records in ZONES.items():
            self.zone(name, records)

    def write(self):
        super().write()
        path = os.path.join(self.dir, "nsd.conf")
        with open(path, encoding="utf-8") as f:
            text = f.read()
        if self.addr:
            text = text.replace("server:\n", f"server:\n ip-address: {self.addr}@53\n", 1)
        text += f'zone:\n name: "broken.test"\n zonefile: "{self.dir}/none"\n'
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)

    def conf(self):
        return {**super().conf(), "resolver_dnssec": "no", "smtpd_peername_lookup": "yes"}


@pytest.fixture(scope="module", name="net")
def net_fixture(shared_where):
    with Net(shared_where / "dns") as net:
        yield net


def test_client_names(where, net):
    """127.0.0.1 is named by /etc/hosts, the others by DNS."""
    names = {1: "localhost", 2: "good.client.test", 3: "unknown", 4: "unknown", 5: "unknown",
             6: "unknown", 7: "unknown", 8: "alias.client.test", 9: "nine.client.test"}
    with Hato(where, main=net.conf()) as h:
        for n, name in names.items():
            with Talk(h, source=f"127.0.0.{n}", timeout=30) as t:
                t.hello()
                assert t("MAIL FROM:<a@good.test>") == "250 2.1.0 Ok"
                assert t("RCPT TO:<joe@example.com>") == "250 2.1.5 Ok"
                assert t("DATA").startswith("354")
                assert t(f"Subject: {n}\r\n\r\nx\r\n.").startswith("250 ")
                assert t("QUIT").startswith("221")
            h.wait_log(rf"smtpd\[\d+\]: connect from {re.escape(name)}\[127\.0\.0\.{n}\]\n")
            h.wait_log(rf"\]: disconnect from {re.escape(name)}\[127\.0\.0\.{n}\] ")
            h.wait_log(rf": client={re.escape(name)}\[127\.0\.0\.{n}\]")
        h.wait_log(r"warning: hostname forged\.client\.test does not resolve to address 127\.0\.0\.3")
        h.wait_log(r"warning: hostname lost\.client\.test does not resolve to address 127\.0\.0\.7: ")


def test_received_has_the_name(where, net):
    with Hato(where, main={**net.conf(), "home_mailbox": "Maildir/",
                              "virtual_mailbox_domains": "box.test",
                              "virtual_mailbox_base": str(where / "boxes"),
                              "virtual_mailbox_maps": "inline:{joe@box.test=joe/}",
                              "virtual_uid_maps": f"static:{os.geteuid() or 65534}",
                              "virtual_gid_maps": f"static:{os.getegid() or 65534}",
                              "virtual_minimum_uid": "1"}) as h:
        os.makedirs(where / "boxes", exist_ok=True)
        h.own()
        with Talk(h, source="127.0.0.2", timeout=30) as t:
            t.hello("me.test")
            t("MAIL FROM:<a@good.test>")
            t("RCPT TO:<joe@box.test>")
            t("DATA")
            assert t("Subject: 1\r\n\r\nx\r\n.").startswith("250 ")
        new = where / "boxes/joe/new"
        assert wait_for(lambda: new.is_dir() and os.listdir(new), 20), h.log()
        text = (new / os.listdir(new)[0]).read_text()
        assert "Received: from me.test (good.client.test [127.0.0.2])" in text


def test_names_are_kept(where, net):
    """One question for many connections; a session whose name nobody can tell is served
    while others are; without the lookup nobody is asked."""
    with Hato(where, main=net.conf()) as h:
        for _ in range(20):
            with Talk(h, source="127.0.0.2", timeout=30) as t:
                t("QUIT")
        assert wait_for(lambda: h.log().count("]: disconnect from good.client.test[") == 20)
        status = h.command("status", check=True).stdout
        looked_up = [int(n) for n in re.findall(r"names of clients: .*, (\d+) looked up", status)]
        assert 1 <= sum(looked_up) and max(looked_up) <= 2, status
        h.main["smtpd_peername_lookup"] = "no"
        h.write_conf()
        h.command("reload", check=True)
        with Talk(h, source="127.0.0.2", timeout=30) as t:
            t("QUIT")
        h.wait_log(r"]: disconnect from unknown\[127\.0\.0\.2\]")


def test_silent_dns(where):
    """A name server that says nothing delays its own client's greeting alone, and not for
    ever."""
    net = Internet(where / "dns")
    net.hostile("127.in-addr.arpa", {"2.0.0": "silent", "*": "nxdomain"})
    with net, Hato(where, main={**net.conf(), "resolver_query_timeout": "3s",
                                   "resolver_dnssec": "no", "smtpd_peername_lookup": "yes",
                                   "smtpd_client_restrictions":
                                   "reject_unknown_client_hostname",
                                   "unknown_client_reject_code": "550"}) as h:
        with Talk(h, source="127.0.0.2", timeout=60, greet=False) as slow:
            with Talk(h, source="127.0.0.4", timeout=30) as t:
                t.hello()
                t("MAIL FROM:<>")
                assert t("RCPT TO:<joe@example.com>") == (
                    "550 5.7.25 Client host rejected: cannot find your hostname, [127.0.0.4]")
            assert slow.reply().startswith("220 ")
            slow.hello()
            slow("MAIL FROM:<>")
            assert slow("RCPT TO:<joe@example.com>") == (
                "450 4.7.25 Client host rejected: cannot find your hostname, [127.0.0.2]")


# ---- beside Postfix

CLIENT, HELO, SENDER, RCPT = (f"smtpd_{n}_restrictions"
                              for n in ("client", "helo", "sender", "recipient"))
RELAY = "smtpd_relay_restrictions"

# name, settings, what is said: source, helo, sender, recipient
CASES = [
    ("unknown client", {CLIENT: "reject_unknown_client_hostname",
                        "unknown_client_reject_code": "550"},
     [{"source": n} for n in range(1, 10)]),
    ("unknown reverse", {CLIENT: "reject_unknown_reverse_client_hostname"},
     [{"source": n} for n in range(1, 10)]),
    ("client access", {CLIENT: "check_client_access inline:{client.test=REJECT}"},
     [{"source": n} for n in (1, 2, 3, 8)]),
    ("reverse access",
     {CLIENT: "check_reverse_client_hostname_access inline:{client.test=REJECT}"},
     [{"source": n} for n in (1, 2, 3, 4)]),
    ("reverse OK",
     {CLIENT: "check_reverse_client_hostname_access inline:{client.test=OK}, reject"},
     [{"source": n} for n in (2, 4)]),
    ("unknown helo", {HELO: "reject_unknown_helo_hostname", "unknown_hostname_reject_code": "550"},
     [{"helo": x} for x in ("good.test", "host.test", "six.test", "host.test.", "null.test",
                            "no.test", "sub.no.test", "x.broken.test", "[192.0.2.1]",
                            "[192.0.2]", "b..d", "192.0.2.1")]),
    ("helo defer", {HELO: "reject_unknown_helo_hostname",
                    "unknown_helo_hostname_tempfail_action": "defer", RELAY: "reject"},
     [{"helo": x} for x in ("x.broken.test", "good.test")]),
    ("helo defer if permit", {HELO: "reject_unknown_helo_hostname", RELAY: "reject"},
     [{"helo": "x.broken.test"}]),
    ("sender domain", {SENDER: "reject_unknown_sender_domain",
                       "unknown_address_reject_code": "550"},
     [{"sender": x} for x in ("a@good.test", "a@host.test", "a@six.test", "a@null.test",
                              "a@no.test", "a@x.broken.test", "a@example.com", "",
                              "a@[192.0.2.1]", "a@sub.good.test")]),
    ("sender defer", {SENDER: "reject_unknown_sender_domain", RELAY: "reject",
                      "reject_tempfail_action": "defer"},
     [{"sender": "a@x.broken.test"}, {"sender": "a@no.test"}]),
    ("sender warn", {SENDER: "warn_if_reject reject_unknown_sender_domain"},
     [{"sender": "a@x.broken.test"}, {"sender": "a@no.test"}]),
    ("recipient domain", {RCPT: "reject_unknown_recipient_domain",
                          RELAY: "permit_mynetworks, defer_unauth_destination"},
     [{"source": 1, "rcpt": x} for x in ("a@good.test", "a@null.test", "a@no.test",
                                         "a@x.broken.test", "joe@example.com")]),
    ("rbl", {CLIENT: "reject_rbl_client bl.test"}, [{"source": n} for n in (2, 3, 4, 5)]),
    ("rbl filter", {CLIENT: "reject_rbl_client bl.test=127.0.0.[4..9]"},
     [{"source": n} for n in (2, 3, 4)]),
    ("rbl broken", {CLIENT: "reject_rbl_client x.broken.test"}, [{"source": 2}]),
    ("rbl code", {CLIENT: "reject_rbl_client bl.test", "maps_rbl_reject_code": "450"},
     [{"source": 2}]),
    ("rbl reply", {CLIENT: "reject_rbl_client bl.test",
                   "default_rbl_reply": "$rbl_code 5.7.9 $rbl_class $rbl_what $rbl_domain "
                   "$client $client_name $client_address $reverse_client_name $helo_name "
                   "$sender $sender_name $sender_domain $recipient $recipient_name "
                   "$recipient_domain${rbl_reason?; $rbl_reason}${rbl_txt?; $rbl_txt}"},
     [{"source": 2}, {"source": 4, "sender": ""}]),
    ("rbl reply map", {CLIENT: "reject_rbl_client bl.test",
                       "rbl_reply_maps": "inline:{{bl.test = 421 4.7.0 go away $$rbl_what}}"},
     [{"source": 2}]),
    ("rbl bad reply", {CLIENT: "reject_rbl_client bl.test", "default_rbl_reply": "nonsense"},
     [{"source": 2}]),
    ("dnswl", {CLIENT: "permit_dnswl_client wl.test, reject_rbl_client bl.test"},
     [{"source": n} for n in (2, 4)]),
    ("dnswl filter", {CLIENT: "permit_dnswl_client wl.test=127.0.[0..8].1, reject"},
     [{"source": 2}]),
    ("dnswl broken", {CLIENT: "permit_dnswl_client x.broken.test, reject_rbl_client bl.test"},
     [{"source": 2}]),
    ("dnswl broken only", {CLIENT: "permit_dnswl_client x.broken.test"}, [{"source": 2}]),
    ("dnswl relay", {RELAY: "permit_dnswl_client wl.test, reject_unauth_destination"},
     [{"source": 2, "rcpt": "a@else.test"}]),
    ("rhsbl client", {CLIENT: "reject_rhsbl_client rh.test"}, [{"source": n} for n in (2, 3, 4)]),
    ("rhsbl reverse", {CLIENT: "reject_rhsbl_reverse_client rh.test"},
     [{"source": n} for n in (2, 3, 4)]),
    ("rhswl", {CLIENT: "permit_rhswl_client rh.test, reject"}, [{"source": n} for n in (2, 3)]),
    ("rhsbl helo", {HELO: "reject_rhsbl_helo rh.test"},
     [{"helo": x} for x in ("spam.test", "spam.example", "good.test", "[192.0.2.1]", "b..d")]),
    ("rhsbl sender", {SENDER: "reject_rhsbl_sender rh.test=127.0.1.2"},
     [{"sender": x} for x in ("a@spam.test", "a@spam.example", "", "a@[192.0.2.1]")]),
    ("rhsbl recipient", {RCPT: "reject_rhsbl_recipient rh.test",
                         RELAY: "permit_mynetworks, reject"},
     [{"source": 1, "rcpt": "a@spam.test"}]),
    ("maps rbl", {CLIENT: "reject_maps_rbl", "maps_rbl_domains": "no.test bl.test"},
     [{"source": 2}]),
    ("sender mx by addr", {SENDER: "check_sender_mx_access inline:{198.51.100=REJECT}"},
     [{"sender": x} for x in ("a@spam.test", "a@good.test", "")]),
    ("sender mx by name", {SENDER: "check_sender_mx_access inline:{evil.test=REJECT}"},
     [{"sender": "a@spam.test"}]),
    ("sender mx fallback", {SENDER: "check_sender_mx_access inline:{192.0.2.21=REJECT}"},
     [{"sender": x} for x in ("a@host.test", "a@null.test", "a@x.broken.test", "a@no.test")]),
    ("sender mx literal", {SENDER: "check_sender_mx_access inline:{192.0.2.1=REJECT}"},
     [{"sender": "a@[192.0.2.1]"}]),
    ("sender mx OK", {SENDER: "check_sender_mx_access inline:{192.0.2.20=OK}"},
     [{"sender": "a@good.test"}]),
    ("sender mx static", {SENDER: "check_sender_mx_access static:REJECT"},
     [{"sender": x} for x in ("a@null.test", "a@no.test", "a@x.broken.test")]),
    ("sender a", {SENDER: "check_sender_a_access inline:{192.0.2.21=REJECT}"},
     [{"sender": x} for x in ("a@host.test", "a@[192.0.2.21]")]),
    ("sender ns", {SENDER: "check_sender_ns_access inline:{ns.spam.test=REJECT}"},
     [{"sender": x} for x in ("a@spam.test", "a@sub.spam.test", "a@good.test",
                              "a@[192.0.2.1]")]),
    ("helo mx", {HELO: "check_helo_mx_access inline:{mx.good.test=REJECT}"},
     [{"helo": "good.test"}]),
    ("helo ns", {HELO: "check_helo_ns_access inline:{127.0.0.1=REJECT}"}, [{"helo": "good.test"}]),
    ("helo a", {HELO: "check_helo_a_access inline:{192.0.2.21=REJECT}"}, [{"helo": "host.test"}]),
    ("client a", {CLIENT: "check_client_a_access inline:{127.0.0.2=REJECT}"},
     [{"source": n} for n in (2, 3)]),
    ("client ns", {CLIENT: "check_client_ns_access inline:{ns.client.test=REJECT}"},
     [{"source": n} for n in (2, 3)]),
    ("reverse mx", {CLIENT: "check_reverse_client_hostname_mx_access "
                    "inline:{forged.client.test=REJECT}"}, [{"source": n} for n in (2, 3)]),
    ("recipient mx", {RCPT: "check_recipient_mx_access inline:{192.0.2.20=REJECT}",
                      RELAY: "permit_mynetworks, reject"},
     [{"source": 1, "rcpt": "a@good.test"}]),
    ("mx backup", {RELAY: "permit_mx_backup, reject"},
     [{"rcpt": f"a@{x}"} for x in ("backup.test", "prim.test", "addr.test", "noaddr.test",
                                   "good.test", "nomx.test", "null.test", "x.broken.test",
                                   "example.com", "[192.0.2.1]")]),
    ("mx backup networks", {RELAY: "permit_mx_backup, reject",
                            "permit_mx_backup_networks": "192.0.2.30"},
     [{"rcpt": f"a@{x}"} for x in ("backup.test", "prim.test", "addr.test", "noaddr.test")]),
    ("mx backup others", {RELAY: "permit_mx_backup, reject",
                          "permit_mx_backup_networks": "192.0.2.31"},
     [{"rcpt": f"a@{x}"} for x in ("backup.test", "prim.test", "noaddr.test")]),
]


class Peer(postfixpeer.Postfix):
    """Postfix with a service for each case, whose resolver is `addr`."""

    def __init__(self, path, addr, ports, **main):
        super().__init__(path, **main)
        self.resolv = f"{self.dir}/resolv.conf"
        with open(self.resolv, "w", encoding="ascii") as f:
            f.write(f"nameserver {addr}\noptions timeout:2 attempts:1\n")
        add_services(f"{self.dir}/etc", ports)

    def __enter__(self):
        subprocess.run(["unshare", "-m", "sh", "-c",
                        'mount --bind "$0" /etc/resolv.conf && exec "$@"', self.resolv,
                        f"{postfixpeer.LIB}/sbin/master", "-w"], env=self.env, check=True,
                       timeout=30)
        return self


def add_services(etc, ports):
    with open(f"{etc}/master.cf", "a", encoding="ascii") as f:
        for port, (_, settings, _) in zip(ports, CASES):
            f.write(f"127.0.0.1:{port} inet n - n - - smtpd\n")
            for k, v in settings.items():
                f.write(f"  -o {{ {k} = {v} }}\n")


class At:
    def __init__(self, port):
        self.port = port


def answer(port, source=4, helo="client.example.org", sender="a@good.test",
           rcpt="joe@example.com"):
    """The reply to RCPT, or the one that came before it."""
    try:
        with Talk(At(port), source=f"127.0.0.{source}", timeout=60) as t:
            for command in (f"EHLO {helo}", f"MAIL FROM:<{sender}>"):
                got = t(command)
                if not got.startswith("250"):
                    return got
            return t(f"RCPT TO:<{rcpt}>")
    except Gone as e:
        return f"gone {e}"


def distinct_ports(n, taken=set()):  # pylint: disable=dangerous-default-value
    ports = []
    while len(ports) < n:
        port = free_port()
        if port not in taken:
            taken.add(port)
            ports.append(port)
    return ports


def shape(reply):
    """What must be the same: code and enhanced status."""
    return reply.split()[:2]


def test_beside_postfix(where):
    """Every restriction, case by case: same code, same enhanced status."""
    if not IS_ROOT or shutil.which("unshare") is None:
        pytest.skip("Postfix starts as root only")
    postfixpeer.need()
    addr = f"127.{os.getpid() >> 8 & 127}.{os.getpid() & 255}.53"
    common = {"mydestination": "mx.example.com, example.com", "mynetworks": "127.0.0.1",
              "smtpd_delay_reject": "yes", "myhostname": "mx.example.com",
              "smtpd_client_connection_count_limit": "0", "smtpd_error_sleep_time": "0",
              RELAY: "permit_mynetworks, reject_unauth_destination"}
    ours, theirs = distinct_ports(len(CASES)), distinct_ports(len(CASES))
    differ = []
    with Net(where / "dns", addr) as net, \
            Peer(where / "peer", addr, theirs, **common):
        h = Hato(where / "hato", main={**net.conf(), **common})
        add_services(h.path("conf"), ours)
        h.own()
        with h:
            for mine, other, (name, _, asked) in zip(ours, theirs, CASES):
                for what in asked:
                    a, b = answer(mine, **what), answer(other, **what)
                    if shape(a) != shape(b):
                        differ.append(f"{name} {what}:\n  Hato:    {a}\n  Postfix: {b}")
                    elif a != b:
                        print(f"{name} {what}:\n  Hato:    {a}\n  Postfix: {b}")
        assert not differ, "\n".join(differ)
