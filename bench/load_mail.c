/*
 * A load of mail clients for bench/reading: threads that block, each on one
 * connection.  What is measured is the server, so nothing here is clever.
 *
 *     load_mail MODE PORT CLIENTS COUNT [-t] [-u N] [-f FORMAT] [-a ADDRESS]
 * ...
 *
 *     handshake  TLS and nothing more          imap-login  sign in, LOGOUT
 *     pop3-poll  sign in, STAT, UIDL, QUIT     lmtp        4 KiB messages
 *     idle       COUNT connections in IDLE; then a line on standard input has
 *                each user given one message by LMTP (-l PORT), and the time
 *                from its 250 to EXISTS is told
 *     imap       commands from standard input on one session, each timed
 *
 * Prints what it measured as "name value" lines.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct options {
    const char *mode;
    int port;
    int clients;
    long count;
    bool tls;
    int users;          /* signed in by turns */
    const char *format; /* of a user's name: one %ld */
    const char *password;
    int lmtp_port;
    long first; /* number of the first user */
};

static struct options opt;
static SSL_CTX *ctx;
static long next_job;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

struct conn {
    int fd;
    SSL *ssl;
    char in[65536];
    size_t n, at;
};

static double now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

__attribute__((noreturn, format(printf, 1, 2))) static void die(const char *fmt,
                                                                ...)
{
    va_list ap;

    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(1);
}

/* Another loopback address for every 20,000, so that ports do not run out. */
static int dial(int port, long number)
{
    struct sockaddr_in from = { .sin_family = AF_INET };
    struct sockaddr_in to = { .sin_family = AF_INET };
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        die("socket: %s", strerror(errno));
    from.sin_addr.s_addr = htonl(0x7f000002u + (uint32_t)(number / 20000) +
                                 ((uint32_t)opt.first << 8));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons((uint16_t)port);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&from, sizeof from) < 0 ||
        connect(fd, (struct sockaddr *)&to, sizeof to) < 0)
        die("connect to %d: %s", port, strerror(errno));
    return fd;
}

static void conn_open(struct conn *c, int port, long number, bool tls)
{
    c->n = c->at = 0;
    c->fd = dial(port, number);
    c->ssl = NULL;
    if (!tls)
        return;
    c->ssl = SSL_new(ctx);
    SSL_set_fd(c->ssl, c->fd);
    if (SSL_connect(c->ssl) != 1) {
        ERR_print_errors_fp(stderr);
        die("TLS handshake failed: %s", strerror(errno));
    }
}

static void conn_close(struct conn *c)
{
    SSL_free(c->ssl);
    close(c->fd);
}

static void put(struct conn *c, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t done =
            c->ssl != NULL ? SSL_write(c->ssl, p, (int)n) : write(c->fd, p, n);

        if (done <= 0)
            die("write: %s", strerror(errno));
        p += done;
        n -= (size_t)done;
    }
}

__attribute__((format(printf, 2, 3))) static void say(struct conn *c,
                                                      const char *fmt, ...)
{
    char line[1024];
    va_list ap;

    va_start(ap, fmt);
    put(c, line, (size_t)vsnprintf(line, sizeof line, fmt, ap));
    va_end(ap);
}

static size_t fill(struct conn *c)
{
    ssize_t n = c->ssl != NULL ? SSL_read(c->ssl, c->in, sizeof c->in)
                               : read(c->fd, c->in, sizeof c->in);

    if (n <= 0)
        die("the server closed the line (%s)", opt.mode);
    c->at = 0;
    c->n = (size_t)n;
    return c->n;
}

/* The next line without its end; longer ones are cut. */
static const char *line(struct conn *c, char *out, size_t size)
{
    size_t n = 0;

    for (;;) {
        char ch;

        if (c->at == c->n)
            fill(c);
        ch = c->in[c->at++];
        if (ch == '\n')
            break;
        if (n + 1 < size && ch != '\r')
            out[n++] = ch;
    }
    out[n] = '\0';
    return out;
}

static void expect(struct conn *c, const char *start)
{
    char text[4096];

    if (strncmp(line(c, text, sizeof text), start, strlen(start)) != 0)
        die("%s: \"%s\" instead of \"%s\"", opt.mode, text, start);
}

/* IMAP: up to the answer of tag "x". */
static void expect_tagged(struct conn *c)
{
    char text[4096];

    do
        line(c, text, sizeof text);
    while (strncmp(text, "x ", 2) != 0);
    if (strncmp(text, "x OK", 4) != 0)
        die("%s", text);
}

static const char *user_of(long job, char out[static 200])
{
    snprintf(out, 200, opt.format, opt.first + job % opt.users);
    return out;
}

/* --------------------------------------------------------------------- jobs */

static void imap_login(struct conn *c, long job)
{
    char user[200];

    expect(c, "* OK");
    say(c, "x LOGIN %s %s\r\n", user_of(job, user), opt.password);
    expect_tagged(c);
}

static void one_imap(struct conn *c, long job)
{
    imap_login(c, job);
    say(c, "x LOGOUT\r\n");
    expect_tagged(c);
}

static void until_dot(struct conn *c)
{
    char text[512];

    do
        line(c, text, sizeof text);
    while (strcmp(text, ".") != 0);
}

static void one_pop3(struct conn *c, long job)
{
    char user[200];

    expect(c, "+OK");
    say(c, "USER %s\r\n", user_of(job, user));
    expect(c, "+OK");
    say(c, "PASS %s\r\n", opt.password);
    expect(c, "+OK");
    say(c, "STAT\r\n");
    expect(c, "+OK");
    say(c, "UIDL\r\n");
    expect(c, "+OK");
    until_dot(c);
    say(c, "QUIT\r\n");
    expect(c, "+OK");
}

static char message[8192];
static size_t message_n;

static void make_message(void)
{
    size_t n = (size_t)snprintf(message, sizeof message,
                                "From: <from@source.test>\r\nTo: <x@bench.test>"
                                "\r\nSubject: a load\r\n\r\n");

    while (n < 4096) {
        memset(message + n, 'x', 76);
        memcpy(message + n + 76, "\r\n", 2);
        n += 78;
    }
    memcpy(message + n, ".\r\n", 3);
    message_n = n + 3;
}

static void lmtp_hello(struct conn *c)
{
    char text[512];

    expect(c, "220");
    say(c, "LHLO load.test\r\n");
    do
        line(c, text, sizeof text);
    while (text[3] == '-');
}

/* One round trip for the envelope, one for the message. */
static void lmtp_one(struct conn *c, long job)
{
    char user[200];

    say(c, "MAIL FROM:<from@source.test>\r\nRCPT TO:<%s>\r\nDATA\r\n",
        user_of(job, user));
    expect(c, "250");
    expect(c, "250");
    expect(c, "354");
    put(c, message, message_n);
    expect(c, "250");
}

static long take_job(void)
{
    long job;

    pthread_mutex_lock(&lock);
    job = next_job < opt.count ? next_job++ : -1;
    pthread_mutex_unlock(&lock);
    return job;
}

static void *client(void *arg)
{
    struct conn *c = malloc(sizeof *c);
    bool is_lmtp = strcmp(opt.mode, "lmtp") == 0;
    long job;

    (void)arg;
    if (is_lmtp) {
        conn_open(c, opt.port, 0, false);
        lmtp_hello(c);
    }
    while ((job = take_job()) >= 0) {
        if (is_lmtp) {
            lmtp_one(c, job);
            continue;
        }
        conn_open(c, opt.port, 20000L * (job % 4), opt.tls);
        if (strcmp(opt.mode, "imap-login") == 0)
            one_imap(c, job);
        else if (strcmp(opt.mode, "pop3-poll") == 0)
            one_pop3(c, job);
        conn_close(c);
    }
    if (is_lmtp)
        conn_close(c);
    free(c);
    return NULL;
}

static void run_clients(void *(*fn)(void *), int n)
{
    pthread_t *threads = calloc((size_t)n, sizeof *threads);

    for (int i = 0; i < n; i++)
        if (pthread_create(&threads[i], NULL, fn, NULL) != 0)
            die("no more threads");
    for (int i = 0; i < n; i++)
        pthread_join(threads[i], NULL);
    free(threads);
}

/* --------------------------------------------------------------------- idle */

struct idler {
    int fd;
    SSL *ssl;
    double given, told;
};

static struct idler *idlers;

static void *begin_idle(void *arg)
{
    struct conn *c = malloc(sizeof *c);
    long job;

    (void)arg;
    while ((job = take_job()) >= 0) {
        conn_open(c, opt.port, job, opt.tls);
        imap_login(c, job);
        say(c, "x SELECT INBOX\r\n");
        expect_tagged(c);
        say(c, "x IDLE\r\n");
        expect(c, "+");
        fcntl(c->fd, F_SETFL, O_NONBLOCK);
        idlers[job].fd = c->fd;
        idlers[job].ssl = c->ssl;
    }
    free(c);
    return NULL;
}

static void *give_mail(void *arg)
{
    struct conn *c = malloc(sizeof *c);
    long job;

    (void)arg;
    conn_open(c, opt.lmtp_port, 0, false);
    lmtp_hello(c);
    while ((job = take_job()) >= 0) {
        lmtp_one(c, job);
        __atomic_store(&idlers[job].given, &(double){ now() },
                       __ATOMIC_RELEASE);
    }
    conn_close(c);
    free(c);
    return NULL;
}

static void *give_all(void *arg)
{
    next_job = 0;
    run_clients(give_mail, 20);
    return arg;
}

static bool has_exists(struct idler *i)
{
    char text[8192];
    ssize_t n;

    for (;;) {
        n = i->ssl != NULL ? SSL_read(i->ssl, text, sizeof text - 1)
                           : read(i->fd, text, sizeof text - 1);
        if (n <= 0)
            return false;
        text[n] = '\0';
        if (strstr(text, " EXISTS") != NULL)
            return true;
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void idle(void)
{
    int ep = epoll_create1(0);
    struct epoll_event ev[512];
    double *late = calloc((size_t)opt.count, sizeof *late);
    pthread_t giver;
    long told = 0;
    char text[16];
    double start;

    idlers = calloc((size_t)opt.count, sizeof *idlers);
    run_clients(begin_idle, opt.clients);
    printf("ready %ld\n", opt.count);
    fflush(stdout);
    if (fgets(text, sizeof text, stdin) == NULL || text[0] != 'g')
        return;
    for (long i = 0; i < opt.count; i++) {
        struct epoll_event e = { .events = EPOLLIN, .data.u64 = (uint64_t)i };

        (void)has_exists(&idlers[i]); /* "Still here" */
        epoll_ctl(ep, EPOLL_CTL_ADD, idlers[i].fd, &e);
    }
    start = now();
    pthread_create(&giver, NULL, give_all, NULL);
    while (told < opt.count && now() - start < 120) {
        int n = epoll_wait(ep, ev, 512, 1000);

        for (int k = 0; k < n; k++) {
            struct idler *i = &idlers[ev[k].data.u64];

            if (has_exists(i) && i->told == 0) {
                i->told = now();
                told++;
            }
        }
    }
    pthread_join(giver, NULL);
    printf("seconds %.3f\n", now() - start);
    printf("told %ld\n", told);
    for (long i = 0; i < opt.count; i++)
        late[i] = idlers[i].told == 0 ? 999 : idlers[i].told - idlers[i].given;
    qsort(late, (size_t)opt.count, sizeof *late, by_value);
    printf("median_s %.4f\n", late[opt.count / 2]);
    printf("p99_s %.4f\n", late[opt.count * 99 / 100]);
    printf("max_s %.4f\n", late[opt.count - 1]);
    free(late);
}

/* --------------------------------------------------------------------- imap */

/* Each line of standard input is a command; "#" alone opens a new session. */
static void imap_commands(void)
{
    struct conn *c = malloc(sizeof *c);
    char text[1024];

    conn_open(c, opt.port, 0, opt.tls);
    imap_login(c, 0);
    while (fgets(text, sizeof text, stdin) != NULL) {
        double start;

        text[strcspn(text, "\n")] = '\0';
        start = now();
        say(c, "x %s\r\n", text);
        expect_tagged(c);
        printf("%.6f %s\n", now() - start, text);
        fflush(stdout);
    }
    conn_close(c);
    free(c);
}

static void options(int argc, char **argv)
{
    int o;

    opt = (struct options){ .users = 1,
                            .format = "user%ld@bench.test",
                            .password = "secret" };
    while ((o = getopt(argc, argv, "tu:f:p:l:s:")) != -1) {
        switch (o) {
        case 't':
            opt.tls = true;
            break;
        case 'u':
            opt.users = (int)strtol(optarg, NULL, 10);
            break;
        case 'f':
            opt.format = optarg;
            break;
        case 'p':
            opt.password = optarg;
            break;
        case 'l':
            opt.lmtp_port = (int)strtol(optarg, NULL, 10);
            break;
        case 's':
            opt.first = strtol(optarg, NULL, 10);
            break;
        default:
            exit(64);
        }
    }
    if (argc - optind != 4)
        die("usage: load_mail [options] MODE PORT CLIENTS COUNT");
    opt.mode = argv[optind];
    opt.port = (int)strtol(argv[optind + 1], NULL, 10);
    opt.clients = (int)strtol(argv[optind + 2], NULL, 10);
    opt.count = strtol(argv[optind + 3], NULL, 10);
}

int main(int argc, char **argv)
{
    double start;

    options(argc, argv);
    ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
    make_message();
    if (strcmp(opt.mode, "idle") == 0) {
        idle();
        return 0;
    }
    if (strcmp(opt.mode, "imap") == 0) {
        imap_commands();
        return 0;
    }
    start = now();
    run_clients(client, opt.clients);
    printf("seconds %.4f\n", now() - start);
    return 0;
}
