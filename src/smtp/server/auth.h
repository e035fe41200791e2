#ifndef SMTP_SERVER_AUTH_H
#define SMTP_SERVER_AUTH_H

/* Sign-in of SMTP clients, for the other files of the server. */
#include "smtp/server/server_priv.h"

/* Settings of a service into service->auth; NULL where AUTH is off. */
int smtp_auth_new(struct smtp_service *v, struct err *err);
void smtp_auth_free(struct smtp_service *v);
/* Nobody has signed in any more: STARTTLS (RFC 3207 4.2). */
void smtp_auth_reset(struct smtp *s);
/* The AUTH line of EHLO, where it is offered. */
MAY_WAIT void smtp_auth_ehlo(struct smtp *s, struct buf *out);
MAY_WAIT int smtp_cmd_auth(struct smtp *s, slice args);
/* AUTH= of MAIL: NULL, or why it is refused (503). */
const char *smtp_auth_param(struct smtp *s, slice value);
/* smtpd_sasl_authenticated_header, and somebody has. */
bool smtp_auth_shows_sender(const struct smtp *s);

#endif
