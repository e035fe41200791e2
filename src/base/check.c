#include "base/check.h"

#include "base/base.h"

void (*check_hook)(const char *text);

/*
 * Tell standard error and the hook, then die.  Nothing here allocates: the
 * heap may be what is broken.
 */
static NO_RETURN void die(const char *text)
{
    static volatile bool is_dying;
    size_t n = strlen(text);
    ssize_t ignored;

    ignored = write(STDERR_FILENO, text, n);
    ignored += write(STDERR_FILENO, "\n", 1);
    (void)ignored;
    /* A check that fails inside the hook must not call the hook again. */
    if (!is_dying && check_hook != NULL) {
        is_dying = true;
        check_hook(text);
    }
    abort();
}

void check_failed(const char *file, int line, const char *what)
{
    char text[512];

    (void)snprintf(text, sizeof(text), "panic: %s:%d: check failed: %s", file,
                   line, what);
    die(text);
}

void panic(const char *fmt, ...)
{
    char text[512] = "panic: ";
    size_t n = strlen(text);
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text + n, sizeof(text) - n, fmt, ap);
    va_end(ap);
    die(text);
}
