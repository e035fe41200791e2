/* The client of TLS against the server of TLS, with authorities, names,
 * fingerprints and TLSA records of our own making. */
#include "rt/tls.h"

#include "base/digest.h"
#include "rt/test_util_tls.h"

#define DAY 86400L

/* ---- certificates */

struct made {
    X509 *x;
    EVP_PKEY *key;
    struct tls_key *private;
    char *pem;
};

struct wish {
    const char *cn;
    const char *alt;           /* "DNS:a,DNS:b", or NULL */
    const struct made *issuer; /* NULL: signs itself */
    bool is_ca;
    long from_s, until_s;
};

static void add_ext(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *e;

    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
    e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(e);
    assert_int_equal(X509_add_ext(x, e, -1), 1);
    X509_EXTENSION_free(e);
}

static struct made make(const struct wish *w)
{
    struct made m = { .x = X509_new(),
                      .key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256") };
    X509 *x = m.x, *issuer = w->issuer != NULL ? w->issuer->x : m.x;
    X509_NAME *n = X509_get_subject_name(x);
    BIO *b = BIO_new(BIO_s_mem());
    static long serial;
    struct err err;
    char *key;

    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(x), w->from_s);
    X509_gmtime_adj(X509_getm_notAfter(x), w->until_s != 0 ? w->until_s : DAY);
    X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_ASC,
                               (const unsigned char *)w->cn, -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(issuer));
    X509_set_pubkey(x, m.key);
    if (w->is_ca)
        add_ext(x, issuer, NID_basic_constraints, "critical,CA:TRUE");
    if (w->alt != NULL)
        add_ext(x, issuer, NID_subject_alt_name, w->alt);
    assert_true(X509_sign(x, w->issuer != NULL ? w->issuer->key : m.key,
                          EVP_sha256()) > 0);
    assert_int_equal(PEM_write_bio_X509(b, x), 1);
    m.pem = bio_text(b);
    b = BIO_new(BIO_s_mem());
    assert_int_equal(
        PEM_write_bio_PrivateKey(b, m.key, NULL, NULL, 0, NULL, NULL), 1);
    key = bio_text(b);
    assert_int_equal(tls_key_new(slice_str(key), &m.private, &err), 0);
    free(key);
    return m;
}

static void unmake(struct made *m)
{
    X509_free(m->x);
    EVP_PKEY_free(m->key);
    tls_key_free(&m->private);
    free(m->pem);
}

/* root -> good, old (expired), wild; alone signs itself. */
static struct made root, good, old, wild, alone;

static int make_all(void **state UNUSED)
{
    root = make(&(struct wish){ .cn = "The Root", .is_ca = true });
    good = make(&(struct wish){
        .cn = "mx.example.org", .alt = "DNS:mx.example.org", .issuer = &root });
    old = make(&(struct wish){ .cn = "mx.example.org",
                               .alt = "DNS:mx.example.org",
                               .issuer = &root,
                               .from_s = -2 * DAY,
                               .until_s = -DAY });
    wild = make(&(struct wish){
        .cn = "wild", .alt = "DNS:*.example.org", .issuer = &root });
    alone = make(
        &(struct wish){ .cn = "mx.example.org", .alt = "DNS:mx.example.org" });
    return 0;
}

static int unmake_all(void **state UNUSED)
{
    unmake(&root);
    unmake(&good);
    unmake(&old);
    unmake(&wild);
    unmake(&alone);
    return 0;
}

/* ---- one connection */

/* Of the last handshake. */
static struct tls_info info, server_info;

struct talk {
    const struct made *server;
    bool with_root; /* in the server's chain */
    struct tls_settings set, server_set;
    struct tls_connect how;
    /* */
    struct tls_context *sctx, *cctx;
    struct stream *a, *b;
    int accept_rc, connect_rc;
    struct err err, server_err;
    struct tls_server_info out;
    struct tls_session *session;
    unsigned n_sessions;
};

static int sign(void *arg, const uint8_t id[static 32], uint16_t scheme,
                slice tbs, struct buf *out, struct err *err)
{
    const struct made *const all[] = { &good, &old, &wild, &alone };

    (void)arg;
    for (size_t i = 0; i < ARRAY_LEN(all); i++)
        if (memcmp(tls_key_id(all[i]->private), id, 32) == 0)
            return tls_key_sign(all[i]->private, scheme, tbs, out, err);
    return err_perm(err, "no such key");
}

static void server(void *arg)
{
    struct talk *t = arg;
    struct err err;

    stream_deadline(t->a, clock_after(10000));
    t->accept_rc = stream_tls_accept(t->a, t->sctx, &t->server_err);
    if (t->accept_rc == 0) {
        (void)stream_tls_info(t->a, &server_info);
        (void)stream_puts(t->a, "220 hello\r\n", &err);
        (void)stream_flush(t->a, &err);
    }
    stream_free(&t->a);
}

static void keep(void *arg, struct tls_session *s)
{
    struct talk *t = arg;

    t->n_sessions++;
    tls_session_free(&t->session);
    t->session = s;
}

static void client(void *arg)
{
    struct talk *t = arg;
    struct err err;
    slice line;

    stream_deadline(t->b, clock_after(10000));
    t->connect_rc =
        stream_tls_connect(t->b, t->cctx, &t->how, &t->out, &t->err);
    if (t->connect_rc == 0) {
        assert_true(stream_tls_info(t->b, &info));
        assert_int_equal(stream_line(t->b, 100, &line, &err), 0);
        assert_slice(line, SL("220 hello\r\n"));
    }
    stream_free(&t->b);
}

static void contexts(struct talk *t)
{
    struct tls_cert cert;
    struct err err;
    char *chain =
        xasprintf("%s%s", t->server->pem, t->with_root ? root.pem : "");

    cert.chain = slice_str(chain);
    t->server_set.certs = &cert;
    t->server_set.n_certs = 1;
    t->server_set.sign = sign;
    t->server_set.session_sec = 3600;
    if (tls_context_new(&t->server_set, &t->sctx, &err) < 0 ||
        tls_context_new(&t->set, &t->cctx, &err) < 0)
        fail_msg("%s", err.log);
    free(chain);
}

static void run(struct talk *t)
{
    if (t->sctx == NULL)
        contexts(t);
    stream_pair(&t->a, &t->b);
    t->how.on_session = keep;
    t->how.on_session_arg = t;
    (void)task_spawn("server", server, t);
    (void)task_spawn("client", client, t);
    loop_run_until_idle();
}

static void done(struct talk *t)
{
    tls_context_unref(&t->sctx);
    tls_context_unref(&t->cctx);
    tls_session_free(&t->session);
}

/* ---- names */

static void test_names(void **state UNUSED)
{
    static const struct {
        const struct made *server;
        bool knows_root;
        const char *name;
        bool multi;
        bool is_trusted, is_matched;
        const char *type;
    } rows[] = {
        { &good, true, "mx.example.org", false, true, true, "" },
        { &good, true, "MX.Example.ORG", false, true, true, "" },
        { &good, true, "other.example.org", false, true, false,
          "certificate-host-mismatch" },
        { &good, true, ".example.org", false, true, true, "" },
        { &good, true, ".example.net", false, true, false,
          "certificate-host-mismatch" },
        { &good, false, "mx.example.org", false, false, false,
          "certificate-not-trusted" },
        { &alone, true, "mx.example.org", false, false, false,
          "certificate-not-trusted" },
        { &old, true, "mx.example.org", false, false, false,
          "certificate-expired" },
        { &wild, true, "mx.example.org", false, true, true, "" },
        { &wild, true, "a.mx.example.org", false, true, false,
          "certificate-host-mismatch" },
        { &wild, true, "a.mx.example.org", true, true, true, "" },
        { &wild, true, "example.org", true, true, false,
          "certificate-host-mismatch" },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        slice name = slice_str(rows[i].name);
        struct talk t = { .server = rows[i].server,
                          .how = { .check = TLS_CHECK_NAMES,
                                   .sni = SL("mx.example.org"),
                                   .names = &name,
                                   .n_names = 1 },
                          .set = { .wildcard_multi = rows[i].multi } };

        if (rows[i].knows_root)
            t.set.ca = slice_str(root.pem);
        run(&t);
        if (t.connect_rc != 0)
            fail_msg("%zu: %s", i, t.err.log);
        assert_int_equal(t.accept_rc, 0);
        assert_string_equal(server_info.sni, "mx.example.org");
        assert_string_equal(t.out.result_type, rows[i].type);
        assert_int_equal(t.out.is_trusted, rows[i].is_trusted);
        assert_int_equal(t.out.is_matched, rows[i].is_matched);
        assert_int_equal(t.out.why[0] != '\0', !rows[i].is_matched);
        done(&t);
    }
}

/* Several names: one of them is enough; none: nothing matches. */
static void test_several_names(void **state UNUSED)
{
    const slice names[] = { SL("192.0.2.1"), SL("mx.example.org") };

    for (size_t n = 0; n <= 2; n++) {
        struct talk t = {
            .server = &good,
            .how = { .check = TLS_CHECK_NAMES, .names = names, .n_names = n },
            .set = { .ca = slice_str(root.pem) }
        };

        run(&t);
        assert_int_equal(t.connect_rc, 0);
        assert_true(t.out.is_trusted);
        assert_int_equal(t.out.is_matched, n == 2);
        assert_string_equal(server_info.sni, "");
        done(&t);
    }
}

static void test_no_check(void **state UNUSED)
{
    struct talk t = { .server = &alone, .how = { .check = TLS_CHECK_NONE } };

    run(&t);
    assert_int_equal(t.connect_rc, 0);
    assert_false(t.out.is_trusted);
    assert_false(t.out.is_matched);
    assert_string_equal(info.client_name, "mx.example.org");
    assert_string_equal(info.protocol, "TLSv1.3");
    assert_string_equal(info.signature, "server-signature ECDSA (P-256) "
                                        "server-digest SHA256");
    done(&t);
}

static void test_no_check_trusted(void **state UNUSED)
{
    struct talk t = { .server = &good, .set = { .ca = slice_str(root.pem) } };

    run(&t);
    assert_int_equal(t.connect_rc, 0);
    assert_true(t.out.is_trusted);
    assert_false(t.out.is_matched);
    assert_string_equal(info.client_issuer, "The Root");
    done(&t);
}

/* An authority may be an intermediate one, or the certificate itself, where the
 * settings say so. */
static void test_any_anchor(void **state UNUSED)
{
    slice name = SL("mx.example.org");

    for (int any = 0; any <= 1; any++) {
        struct talk t = {
            .server = &good,
            .how = { .check = TLS_CHECK_NAMES, .names = &name, .n_names = 1 },
            .set = { .ca = slice_str(good.pem), .is_ca_any = any == 1 }
        };

        run(&t);
        assert_int_equal(t.connect_rc, 0);
        assert_int_equal(t.out.is_matched, any);
        done(&t);
    }
}

/* Anchors of one connection stand in the place of the context's. */
static void test_own_anchors(void **state UNUSED)
{
    slice name = SL("mx.example.org");

    for (int other = 0; other <= 1; other++) {
        struct tls_anchors *a;
        struct err err;

        assert_int_equal(
            tls_anchors_new(slice_str(other ? alone.pem : good.pem), &a, &err),
            0);
        struct talk t = { .server = &good,
                          .how = { .check = TLS_CHECK_NAMES,
                                   .names = &name,
                                   .n_names = 1,
                                   .anchors = a },
                          .set = { .ca = slice_str(root.pem) } };

        run(&t);
        assert_int_equal(t.connect_rc, 0);
        assert_int_equal(t.out.is_matched, !other);
        done(&t);
        tls_anchors_free(&a);
    }
}

static void test_bad_anchors(void **state UNUSED)
{
    struct tls_anchors *a;
    struct err err;

    assert_int_equal(tls_anchors_new(SL("-----BEGIN CERTIFICATE-----\nx\n"
                                        "-----END CERTIFICATE-----\n"),
                                     &a, &err),
                     -1);
    assert_null(a);
    assert_int_equal(tls_anchors_new(SL("nothing\n"), &a, &err), -1);
}

/* ---- fingerprints */

static void hex(const uint8_t *md, size_t n, char out[static 200])
{
    size_t at = 0;

    for (size_t i = 0; i < n; i++)
        at += (size_t)snprintf(out + at, 200 - at, "%s%02x", i > 0 ? ":" : "",
                               md[i]);
}

static void test_fingerprint(void **state UNUSED)
{
    unsigned char md[EVP_MAX_MD_SIZE];
    unsigned n;
    static char of_cert[200], of_key[200];
    slice prints[2];

    assert_int_equal(X509_digest(alone.x, EVP_sha256(), md, &n), 1);
    hex(md, n, of_cert);
    hex(tls_key_id(alone.private), 32, of_key);
    for (int i = 0; i < 3; i++) {
        struct talk t = { .server = &alone,
                          .how = { .check = TLS_CHECK_FINGERPRINT,
                                   .fingerprints = prints,
                                   .n_fingerprints = 2 } };

        prints[0] = SL("00:11");
        prints[1] = slice_str(i == 0 ? of_cert : i == 1 ? of_key : "22:33");
        run(&t);
        assert_int_equal(t.connect_rc, 0);
        assert_int_equal(t.out.is_matched, i < 2);
        assert_int_equal(t.out.is_trusted, i < 2);
        assert_string_equal(t.out.result_type,
                            i < 2 ? "" : "validation-failure");
        done(&t);
    }
}

/* ---- DANE */

struct record {
    struct tls_tlsa t;
    unsigned char data[2048];
};

static void tlsa_of(const struct made *m, uint8_t usage, uint8_t selector,
                    uint8_t matching, struct record *r)
{
    unsigned char *der = NULL;
    int n = selector == 0 ? i2d_X509(m->x, &der)
                          : i2d_X509_PUBKEY(X509_get_X509_PUBKEY(m->x), &der);
    unsigned got = 0;

    assert_true(n > 0 && n < 2048);
    if (matching == 0)
        memcpy(r->data, der, got = (unsigned)n);
    else
        assert_int_equal(EVP_Digest(der, (size_t)n, r->data, &got,
                                    matching == 1 ? EVP_sha256() : EVP_sha512(),
                                    NULL),
                         1);
    r->t =
        (struct tls_tlsa){ usage, selector, matching, slice_of(r->data, got) };
    OPENSSL_free(der);
}

struct dane_row {
    const struct made *server;
    const char *name;
    const struct made *of;
    uint8_t usage, selector, matching;
    const char *type; /* "" when it matches */
};

static void dane_one(const struct dane_row *row, size_t i)
{
    slice name = slice_str(row->name);
    struct record *r = xcalloc(1, sizeof(*r));
    struct talk t = { .server = row->server,
                      .with_root = true,
                      .how = { .check = TLS_CHECK_DANE,
                               .sni = name,
                               .names = &name,
                               .n_names = 1,
                               .tlsa = &r->t,
                               .n_tlsa = 1 } };

    tlsa_of(row->of, row->usage, row->selector, row->matching, r);
    run(&t);
    if (t.connect_rc != 0)
        fail_msg("%zu: %s", i, t.err.log);
    if (strcmp(t.out.result_type, row->type) != 0)
        fail_msg("%zu: %s, not %s (%s)", i, t.out.result_type, row->type,
                 t.out.why);
    assert_int_equal(t.out.is_matched, row->type[0] == '\0');
    assert_int_equal(tls_tlsa_usable(t.cctx, &r->t, 1), row->usage >= 2);
    done(&t);
    free(r);
}

static void test_dane(void **state UNUSED)
{
    static const char mx[] = "mx.example.org", no[] = "no.example.org";
    static const char none[] = "validation-failure";
    static const struct dane_row rows[] = {
        /* DANE-EE: neither name nor dates count. */
        { &good, mx, &good, 3, 1, 1, "" },
        { &good, no, &good, 3, 1, 1, "" },
        { &alone, no, &alone, 3, 0, 2, "" },
        { &old, mx, &old, 3, 1, 1, "" },
        { &alone, mx, &alone, 3, 0, 0, "" },
        { &alone, mx, &alone, 3, 1, 0, "" },
        { &good, mx, &alone, 3, 1, 1, none },
        { &good, mx, &root, 3, 1, 1, none },
        /* DANE-TA: both count. */
        { &good, mx, &root, 2, 0, 1, "" },
        { &good, mx, &root, 2, 1, 2, "" },
        { &good, mx, &root, 2, 0, 0, "" },
        { &good, no, &root, 2, 0, 1, "certificate-host-mismatch" },
        { &old, mx, &root, 2, 0, 1, "certificate-expired" },
        { &alone, mx, &root, 2, 0, 1, none },
        /* RFC 7672 3.1.3. */
        { &good, mx, &root, 0, 0, 1, "tlsa-invalid" },
        { &good, mx, &good, 1, 0, 1, "tlsa-invalid" },
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        dane_one(&rows[i], i);
}

/* RFC 7671 9: of SHA-256 and SHA-512 the better one alone counts, within a
 * usage and selector. */
static void test_dane_agility(void **state UNUSED)
{
    static struct record r[2];
    slice name = SL("mx.example.org");

    for (int is_weak_good = 0; is_weak_good <= 1; is_weak_good++)
        for (int only_weak = 0; only_weak <= 1; only_weak++) {
            struct tls_tlsa list[2];
            struct talk t = { .server = &good,
                              .how = { .check = TLS_CHECK_DANE,
                                       .names = &name,
                                       .n_names = 1,
                                       .tlsa = list,
                                       .n_tlsa = 2 },
                              .set = { .dane_digests =
                                           only_weak ? "sha256" : NULL } };

            tlsa_of(is_weak_good ? &good : &alone, 3, 1, 1, &r[0]);
            tlsa_of(is_weak_good ? &alone : &good, 3, 1, 2, &r[1]);
            list[0] = r[0].t;
            list[1] = r[1].t;
            run(&t);
            assert_int_equal(t.connect_rc, 0);
            assert_int_equal(t.out.is_matched, is_weak_good == only_weak);
            done(&t);
        }
}

static void test_tlsa_usable(void **state UNUSED)
{
    const struct tls_tlsa bad[] = {
        { 3, 1, 1, SL("too short") },
        { 3, 2, 1, SL("01234567890123456789012345678901") },
        { 3, 1, 3, SL("01234567890123456789012345678901") },
        { 4, 1, 1, SL("01234567890123456789012345678901") },
        { 2, 0, 0, SL("no certificate") },
        { 3, 1, 1, SL("") },
    };
    const struct tls_tlsa one = { 3, 1, 1,
                                  SL("01234567890123456789012345678901") };
    struct tls_settings set = { 0 };
    struct tls_context *c;
    struct err err;

    assert_int_equal(tls_context_new(&set, &c, &err), 0);
    assert_int_equal(tls_tlsa_usable(c, bad, ARRAY_LEN(bad)), 0);
    assert_int_equal(tls_tlsa_usable(c, &one, 1), 1);
    assert_int_equal(tls_tlsa_usable(c, NULL, 0), 0);
    tls_context_unref(&c);
    set.dane_digests = "sha256 md5";
    assert_int_equal(tls_context_new(&set, &c, &err), -1);
    assert_non_null(strstr(err.log, "md5"));
}

/* ---- going on with a session */

static void test_session(void **state UNUSED)
{
    slice name = SL("mx.example.org");

    for (int version = 0; version < 2; version++) {
        struct talk t = { .server = &good,
                          .how = { .check = TLS_CHECK_NAMES,
                                   .names = &name,
                                   .n_names = 1,
                                   .max_version =
                                       version == 0 ? TLS1_2_VERSION : 0 },
                          .set = { .ca = slice_str(root.pem) } };
        struct tls_session *first;

        run(&t);
        assert_int_equal(t.connect_rc, 0);
        assert_string_equal(info.protocol,
                            version == 0 ? "TLSv1.2" : "TLSv1.3");
        assert_true(t.n_sessions > 0);
        assert_false(info.was_resumed);
        first = tls_session_dup(t.session);
        tls_session_free(&t.session);
        t.how.session = first;
        t.out = (struct tls_server_info){ 0 };
        run(&t);
        assert_int_equal(t.connect_rc, 0);
        assert_true(info.was_resumed);
        assert_true(t.out.is_matched);
        assert_string_equal(t.out.result_type, "");
        tls_session_free(&first);
        done(&t);
    }
}

/* What did not match the first time does not in a session that goes on. */
static void test_session_keeps_doubts(void **state UNUSED)
{
    slice name = SL("other.example.org");
    struct talk t = {
        .server = &good,
        .how = { .check = TLS_CHECK_NAMES, .names = &name, .n_names = 1 },
        .set = { .ca = slice_str(root.pem) }
    };
    struct tls_session *first;

    run(&t);
    assert_false(t.out.is_matched);
    first = t.session;
    t.session = NULL;
    assert_non_null(first);
    t.how.session = first;
    t.out = (struct tls_server_info){ .is_matched = true };
    run(&t);
    assert_true(info.was_resumed);
    assert_true(t.out.is_trusted);
    assert_false(t.out.is_matched);
    assert_string_equal(t.out.result_type, "certificate-host-mismatch");
    tls_session_free(&first);
    done(&t);
}

/* ---- a certificate of the client */

static void test_client_cert(void **state UNUSED)
{
    struct tls_cert cert = { slice_str(wild.pem) };

    for (int with = 0; with <= 1; with++) {
        struct talk t = { .server = &good,
                          .server_set = { .ask_client_cert = true,
                                          .verify_depth = 5,
                                          .ca = slice_str(root.pem) } };

        if (with) {
            t.set.is_client = true;
            t.set.sign = sign;
            t.set.certs = &cert;
            t.set.n_certs = 1;
        }
        run(&t);
        assert_int_equal(t.connect_rc, 0);
        assert_int_equal(server_info.has_client_cert, with);
        if (with) {
            assert_true(server_info.client_cert_ok);
            assert_string_equal(server_info.client_name, "wild");
            assert_non_null(strstr(info.signature, "client-signature"));
        }
        done(&t);
    }
}

/* ---- no agreement, and no TLS */

static void test_no_common_version(void **state UNUSED)
{
    struct talk t = { .server = &good,
                      .server_set = { .min_version = TLS1_3_VERSION },
                      .how = { .max_version = TLS1_2_VERSION } };

    run(&t);
    assert_int_equal(t.connect_rc, -1);
    assert_int_equal(t.err.class, ERR_PEER);
    assert_non_null(strstr(t.err.log, "alert"));
    done(&t);
}

static void plain_server(void *arg)
{
    struct talk *t = arg;
    struct err err;

    (void)stream_puts(t->a, "554 no TLS here at all\r\n", &err);
    (void)stream_flush(t->a, &err);
    stream_free(&t->a);
}

static void test_server_without_tls(void **state UNUSED)
{
    struct talk t = { .server = &good };

    contexts(&t);
    stream_pair(&t.a, &t.b);
    (void)task_spawn("plain", plain_server, &t);
    (void)task_spawn("client", client, &t);
    loop_run_until_idle();
    assert_int_equal(t.connect_rc, -1);
    assert_int_equal(t.err.class, ERR_PEER);
    done(&t);
}

static void test_bad_authorities(void **state UNUSED)
{
    struct tls_settings set = { .ca = SL("-----BEGIN CERTIFICATE-----\nAAAA\n"
                                         "-----END CERTIFICATE-----\n") };
    struct tls_context *c;
    struct err err;

    assert_int_equal(tls_context_new(&set, &c, &err), -1);
    assert_non_null(strstr(err.log, "authorities"));
}

static int setup(void **state)
{
    loop_init("test", 1);
    return make_all(state);
}

static int teardown(void **state)
{
    (void)unmake_all(state);
    loop_done();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_several_names),
        cmocka_unit_test(test_no_check),
        cmocka_unit_test(test_no_check_trusted),
        cmocka_unit_test(test_any_anchor),
        cmocka_unit_test(test_own_anchors),
        cmocka_unit_test(test_bad_anchors),
        cmocka_unit_test(test_fingerprint),
        cmocka_unit_test(test_dane),
        cmocka_unit_test(test_dane_agility),
        cmocka_unit_test(test_tlsa_usable),
        cmocka_unit_test(test_session),
        cmocka_unit_test(test_session_keeps_doubts),
        cmocka_unit_test(test_client_cert),
        cmocka_unit_test(test_no_common_version),
        cmocka_unit_test(test_server_without_tls),
        cmocka_unit_test(test_bad_authorities),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
