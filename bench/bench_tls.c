/*
 * What quiet TLS connections cost, and handshakes.
 *
 *     bench_tls [connections [at once [RSA|EC]]]
 *
 * A second process shakes hands, says a line, is answered, and then says
 * nothing more.  Printed: memory that each connection costs the server's
 * process (difference of PSS), and its processor time for each handshake, the
 * signature included.
 */
#include "rt/rt.h"
#include "rt/stream.h"
#include "rt/tls.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <malloc.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

static unsigned want = 10000, at_once = 1, n_quiet;
static struct tls_context *context;
static struct tls_key *key;
static long pss_before;
static double cpu_before;

static long pss_kib(void)
{
    char line[256];
    FILE *f = fopen("/proc/self/smaps_rollup", "re");
    long value = -1;

    if (f == NULL)
        return -1;
    while (fgets(line, sizeof(line), f) != NULL) {
        slice s = slice_str(line);
        slice word;
        uint64_t n;

        if (!slice_starts(s, SL("Pss:")))
            continue;
        s = slice_from(s, 4);
        if (slice_token(&s, " \t\n", &word) && slice_u64(word, &n))
            value = (long)n;
        break;
    }
    (void)fclose(f);
    return value;
}

static double cpu_seconds(void)
{
    struct rusage r;

    (void)getrusage(RUSAGE_SELF, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
           (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

/* ---- the client */

static SSL *open_one(SSL_CTX *ctx, const struct sockaddr_in *to)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    SSL *ssl = SSL_new(ctx);

    if (connect(fd, (const struct sockaddr *)to, sizeof(*to)) < 0 ||
        fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || SSL_set_fd(ssl, fd) != 1)
        exit(1);
    (void)SSL_connect(ssl); /* says hello */
    return ssl;
}

static void wait_for(SSL *ssl)
{
    struct pollfd p = { .fd = SSL_get_fd(ssl), .events = POLLIN };

    (void)poll(&p, 1, 10000);
}

static void finish_one(SSL *ssl)
{
    char text[16];
    int n;

    while ((n = SSL_connect(ssl)) != 1) {
        if (SSL_get_error(ssl, n) != SSL_ERROR_WANT_READ)
            exit(1);
        wait_for(ssl);
    }
    if (SSL_write(ssl, "NOOP\r\n", 6) != 6)
        exit(1);
    while (SSL_read(ssl, text, sizeof(text)) != 6)
        wait_for(ssl);
    SSL_set_quiet_shutdown(ssl, 1);
    SSL_free(ssl); /* the descriptor stays open */
}

static int client(uint16_t port)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    struct sockaddr_in to = { .sin_family = AF_INET,
                              .sin_port = htons(port),
                              .sin_addr = { htonl(INADDR_LOOPBACK) } };
    SSL **all = xcalloc(at_once, sizeof(SSL *));

    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    for (unsigned i = 0; i < want; i += at_once) {
        unsigned n = want - i < at_once ? want - i : at_once;

        for (unsigned k = 0; k < n; k++)
            all[k] = open_one(ctx, &to);
        for (unsigned k = 0; k < n; k++)
            finish_one(all[k]);
    }
    (void)pause();
    return 0;
}

/* ---- the server */

static int sign(UNUSED void *arg, UNUSED const uint8_t id[static 32],
                uint16_t scheme, slice tbs, struct buf *out, struct err *err)
{
    return tls_key_sign(key, scheme, tbs, out, err);
}

static void report(void)
{
    double cpu = cpu_seconds() - cpu_before;
    struct mallinfo2 m = mallinfo2();

    (void)printf("%u connections: %.2f KiB each (PSS), %.2f KiB in use, %.3f "
                 "ms of CPU for each handshake\n",
                 want, (double)(pss_kib() - pss_before) / want,
                 (double)m.uordblks / 1024 / want, cpu * 1000 / want);
    (void)fflush(stdout);
    loop_stop();
}

MAY_WAIT static void input(void *arg, enum stream_why why)
{
    struct stream *s = arg;
    struct err err;
    slice line;

    if (why != STREAM_INPUT || stream_line(s, 1000, &line, &err) < 0 ||
        stream_write(s, line, &err) < 0 || stream_flush(s, &err) < 0) {
        stream_free(&s);
        return;
    }
    stream_park(s, MSEC_NEVER, input, s);
    if (++n_quiet == want)
        report();
}

MAY_WAIT static void greet(void *arg)
{
    struct stream *s = arg;
    struct err err;

    if (stream_tls_accept(s, context, &err) < 0) {
        (void)fprintf(stderr, "%s\n", err.log);
        stream_free(&s);
        return;
    }
    stream_park(s, MSEC_NEVER, input, s);
}

static void accepted(int fd, UNUSED const struct peer_addr *peer,
                     UNUSED void *arg)
{
    (void)task_spawn("greet", greet, stream_from_fd(fd));
}

/* ---- */

static char *text_of(BIO *b)
{
    char *p = NULL;
    long n = BIO_get_mem_data(b, &p);
    char *text = xstrndup(p, (size_t)n);

    (void)BIO_free(b);
    return text;
}

static void make_context(bool is_rsa)
{
    EVP_PKEY *k = is_rsa ? EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048)
                         : EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
    X509 *x = X509_new();
    BIO *b = BIO_new(BIO_s_mem()), *c = BIO_new(BIO_s_mem());
    struct tls_cert cert;
    struct tls_settings set = {
        .certs = &cert, .n_certs = 1, .sign = sign, .session_sec = 3600
    };
    struct err err;

    X509_gmtime_adj(X509_getm_notBefore(x), 0);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, k);
    CHECK(X509_sign(x, k, EVP_sha256()) > 0);
    CHECK(PEM_write_bio_X509(b, x) == 1);
    CHECK(PEM_write_bio_PrivateKey(c, k, NULL, NULL, 0, NULL, NULL) == 1);
    cert.chain = slice_str(text_of(b));
    if (tls_key_new(slice_str(text_of(c)), &key, &err) < 0 ||
        tls_context_new(&set, &context, &err) < 0)
        panic("%s", err.log);
    EVP_PKEY_free(k);
    X509_free(x);
}

int main(int argc, char **argv)
{
    struct sockaddr_in at = { .sin_family = AF_INET,
                              .sin_addr = { htonl(INADDR_LOOPBACK) } };
    socklen_t size = sizeof(at);
    uint64_t n;
    int fd;
    pid_t pid;

    if (argc > 1 && slice_u64(slice_str(argv[1]), &n) && n > 0)
        want = (unsigned)min_size(n, 1000000);
    if (argc > 2 && slice_u64(slice_str(argv[2]), &n) && n > 0)
        at_once = (unsigned)min_size(n, want);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK(bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0);
    CHECK(listen(fd, 100) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&at, &size) == 0);
    pid = fork();
    if (pid == 0) {
        struct rlimit r;

        (void)getrlimit(RLIMIT_NOFILE, &r);
        r.rlim_cur = r.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &r);
        close(fd);
        _exit(client(ntohs(at.sin_port)));
    }
    loop_init("bench", 0);
    make_context(argc > 3 && strcmp(argv[3], "RSA") == 0);
    pss_before = pss_kib();
    cpu_before = cpu_seconds();
    (void)listener_new(fd, accepted, NULL);
    loop_run();
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    return 0;
}
