#include "base/err.h"

#include "base/base.h"

static const char later[] = "try again later";

/* Cut a UTF-8 sequence that truncation left incomplete at the end. */
static void trim_utf8(char *s, size_t n)
{
    size_t i = n;
    unsigned char lead;
    size_t want;

    while (i > 0 && n - i < 3 && ((unsigned char)s[i - 1] & 0xc0) == 0x80)
        i--;
    if (i == 0)
        return;
    lead = (unsigned char)s[i - 1];
    want = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
    if (want > 1 && n - (i - 1) < want)
        s[i - 1] = '\0';
}

/* Copy text, cut where it does not fit. */
static void text_set(char *dst, size_t size, const char *src)
{
    size_t n = strnlen(src, size);
    bool is_cut = n == size;

    if (is_cut)
        n = size - 1;
    memmove(dst, src, n);
    dst[n] = '\0';
    if (is_cut)
        trim_utf8(dst, n);
}

/* What goes to a peer stays on one line, whatever was quoted in it. */
static void peer_set(struct err *err, const char *text)
{
    text_set(err->peer, sizeof(err->peer), text);
    for (char *p = err->peer; *p != '\0'; p++) {
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    }
}

static PRINTF(2, 0) void log_set(struct err *err, const char *fmt, va_list ap)
{
    /* Formatted aside, because the arguments may point into *err. */
    char text[sizeof(err->log) + 4];

    (void)vsnprintf(text, sizeof(text), fmt, ap);
    text_set(err->log, sizeof(err->log), text);
}

static PRINTF(3, 0) void fill(struct err *err, enum err_class class,
                              const char *fmt, va_list ap)
{
    log_set(err, fmt, ap);
    err->class = class;
    err->sys = 0;
    err->status[0] = '\0';
    if (class == ERR_PERM)
        peer_set(err, err->log);
    else
        peer_set(err, later);
}

int err_sys(struct err *err, const char *fmt, ...)
{
    int saved = errno;
    va_list ap;

    if (err == NULL)
        return -1;
    va_start(ap, fmt);
    fill(err, ERR_TEMP, fmt, ap);
    va_end(ap);
    err->sys = saved;
    if (saved != 0) {
        char cause[96];
        char text[sizeof(err->log) + sizeof(cause) + 3];

        (void)snprintf(text, sizeof(text), "%s: %s", err->log,
                       strerror_r(saved, cause, sizeof(cause)));
        text_set(err->log, sizeof(err->log), text);
    }
    errno = saved;
    return -1;
}

int err_temp(struct err *err, const char *fmt, ...)
{
    va_list ap;

    if (err == NULL)
        return -1;
    va_start(ap, fmt);
    fill(err, ERR_TEMP, fmt, ap);
    va_end(ap);
    return -1;
}

int err_perm(struct err *err, const char *fmt, ...)
{
    va_list ap;

    if (err == NULL)
        return -1;
    va_start(ap, fmt);
    fill(err, ERR_PERM, fmt, ap);
    va_end(ap);
    return -1;
}

int err_peer(struct err *err, const char *fmt, ...)
{
    va_list ap;

    if (err == NULL)
        return -1;
    va_start(ap, fmt);
    fill(err, ERR_PEER, fmt, ap);
    va_end(ap);
    return -1;
}

int err_set(struct err *err, enum err_class class, const char *status,
            const char *fmt, ...)
{
    char code[sizeof(err->status)];
    va_list ap;

    if (err == NULL)
        return -1;
    text_set(code, sizeof(code), status != NULL ? status : "");
    va_start(ap, fmt);
    fill(err, class, fmt, ap);
    va_end(ap);
    memcpy(err->status, code, sizeof(code));
    peer_set(err, err->log);
    return -1;
}

void err_log(struct err *err, const char *fmt, ...)
{
    va_list ap;

    if (err == NULL)
        return;
    va_start(ap, fmt);
    log_set(err, fmt, ap);
    va_end(ap);
}

int err_prefix(struct err *err, const char *fmt, ...)
{
    char text[2 * sizeof(err->log) + 3];
    va_list ap;
    size_t n;

    if (err == NULL)
        return -1;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(err->log), fmt, ap);
    va_end(ap);
    n = strlen(text);
    (void)snprintf(text + n, sizeof(text) - n, ": %s", err->log);
    text_set(err->log, sizeof(err->log), text);
    return -1;
}
