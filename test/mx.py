"""A Hato that is the MX of example.com with virtual users, for the tests."""
import os

from hatotest import Hato
from smtptalk import maildir, wait_mail


class Mx(Hato):
    """Users are in `users`, mail in mail/DOMAIN/NAME; mynetworks is one host."""

    def __init__(self, path, main=None, users=("tomo", "ana"), **kw):
        super().__init__(path, main={
            "mydestination": "mx.example.com",
            "mynetworks": "127.0.0.1/32",
            "smtpd_relay_restrictions": "permit_mynetworks, reject_unauth_destination",
            "virtual_mailbox_domains": "example.com",
            "userdb": f"passwd-file:{path}/users",
            "mail_location": f"maildir:{path}/mail/%d/%n",
            **(main or {}),
        }, **kw)
        self.write_conf()
        self.write("users", "".join(f"{u}@example.com:{{PLAIN}}x::::::\n" for u in users))
        os.makedirs(self.path("mail"), exist_ok=True)
        self.own()

    def box(self, name, domain="example.com"):
        return self.path(f"mail/{domain}/{name}")

    def mails(self, name="tomo", n=1, seconds=10):
        return wait_mail(self.box(name), n, seconds)

    def empty(self, name="tomo"):
        return not maildir(self.box(name))
