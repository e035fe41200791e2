#include "table/test_util.h"

#include <spawn.h>

/*
 * The same questions to Postfix's own postmap and to us.  Skipped where the
 * peer is not unpacked (HATO_PEERS, default build/peers).
 */

static const char *peer_root(void)
{
    const char *root = getenv("HATO_PEERS");

    return root != NULL ? root : HATO_PEERS_DIR;
}

/* Answer of `postmap -q key spec`, NULL for none. */
static const char *postmap(struct bench *b, slice spec, const char *key)
{
    char *program =
        arena_printf(b->arena, "%s/postfix/usr/sbin/postmap", peer_root());
    char *library =
        arena_printf(b->arena, "LD_LIBRARY_PATH=%s/postfix/usr/lib/postfix",
                     peer_root());
    char *const argv[] = { program,
                           (char[]){ "-c" },
                           b->dir,
                           (char[]){ "-q" },
                           arena_printf(b->arena, "%s", key),
                           slice_cstr(b->arena, spec),
                           NULL };
    char *const envp[] = { library, NULL };
    posix_spawn_file_actions_t actions;
    static char answer[4096];
    size_t n = 0;
    ssize_t got;
    int fds[2];
    int status;
    pid_t pid;

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(posix_spawn_file_actions_init(&actions), 0);
    (void)posix_spawn_file_actions_adddup2(&actions, fds[1], 1);
    (void)posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY,
                                           0);
    assert_int_equal(posix_spawn(&pid, program, &actions, NULL, argv, envp), 0);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(fds[1]);
    while (n < sizeof(answer) &&
           (got = read(fds[0], answer + n, sizeof(answer) - n)) > 0)
        n += (size_t)got;
    (void)close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
    if (n == 0)
        return NULL;
    return slice_cstr(b->arena, slice_of(answer, n - 1));
}

static const char *const keys[] = {
    "joe@example.org",
    "Joe@Example.ORG",
    "a.b@c.d",
    "a\\b@c.d",
    "aab",
    "aaab",
    "ab",
    "b",
    "foo bar",
    "foo+ext@x",
    "xx",
    "x",
    "",
    "word",
    "a word b",
    "awordb",
    "tab\there",
    "a]b",
    "a-b",
    "special first",
    "special second",
    "192.0.2.1",
    "192.0.2.77",
    "10.1.2.3",
    "10.2.2.3",
    "2001:db8::1",
    "::1",
    "192.168.1.1",
    "abab",
    "abcabc",
    "a{2}",
    "a+",
    "(a)",
    "a|b",
    "$x",
    "end$",
};

static const char *const sources[][2] = {
    { "regexp", "/^(.*)@example\\.org$/ $1@new\n/^a[\\.]b@/ slash-dot\n" },
    { "regexp",
      "/^a{2}b$/ two\n/^a{,3}b/ upto\n/x+*$/ multi\n/[]]/ bracket\n" },
    { "regexp", "/\\<word\\>/ word\n/[[:blank:]]/ blank\n/^(ab)\\1$/ back\n" },
    { "regexp", "if /special/\n/first/ f\nif !/first/\n/./ s\nendif\nendif\n"
                "/^([^@]*)\\+([^@]*)@(.*)$/ ${2}=$(1)@${3}\n" },
    { "regexp", "/a/!/b/ a without b\n!/a/ no a $$\n/(x)/ $2\n" },
    { "regexp", "/^a\\{2\\}$/x basic\n/^\\(ab\\)*$/x group\n/JOE/i Case\n"
                "/a|b/x bar\n/^(a)$/x paren\n/^a+$/x plus\n" },
    { "regexp", "/^foo bar$/ space\n/^$x/ dollar\n/d\\$$/ end\n/\\w+@/ at\n" },
    { "regexp", "/(a|ab)(c|bcd)?$/ alt\n/^*x/ bad\n/a)/ paren\n/(/ bad\n" },
    { "regexp", "/\\d/ letter\n/b**/x twice\n/\\1(a)/ early\n/(b*)|\\1/ other\n"
                "/(b*)\\1@|x/ fine\n/\\X/i x\n" },
    { "cidr", "192.0.2.1 one\n192.0.2.0/24 net\n!10.0.0.0/8 not ten\n"
              "if 10.1.0.0/16\n10.1.2.0/24 inner\nendif\n10.0.0.0/8 ten\n" },
    { "cidr", "2001:db8::/32 doc\n[::1] loop\n::/0 six\n0.0.0.0/0 four\n" },
    { "cidr", "if !192.0.2.0/24\n192.0.0.0/8 other\nendif\n10.0.0.1/8 bad\n"
              "!::1 not loop\n" },
    { "texthash", "joe@example.org one\nAB two\nx  a b  c \n\"foo bar\" q\n"
                  "a]b 3\n$x dollar\nb  first\nb second\n" },
    { "inline", "{joe@example.org=1, { AB = two words }, x=}" },
};

static void test_same(void **state)
{
    struct bench b;
    char *probe;
    int n_answers = 0;

    (void)state;
    bench_init(&b);
    probe = arena_printf(b.arena, "%s/postfix/usr/sbin/postmap", peer_root());
    if (access(probe, X_OK) != 0) {
        bench_done(&b);
        skip();
    }
    (void)bench_file(&b, 0, "x", "");
    {
        char *main_cf = arena_printf(b.arena, "%s/main.cf", b.dir);
        int fd = open(main_cf, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        assert_true(dprintf(fd, "compatibility_level = 3.6\n"
                                "mail_owner = daemon\nsetgid_group = mail\n"
                                "myhostname = a.example.com\n") > 0);
        (void)close(fd);
    }
    for (size_t i = 0; i < ARRAY_LEN(sources); i++) {
        const char *type = sources[i][0];
        slice spec = bench_file(&b, (int)i + 1, type, sources[i][1]);

        if (strcmp(type, "inline") == 0)
            spec = slice_str(arena_printf(b.arena, "inline:%s", sources[i][1]));
        for (size_t k = 0; k < ARRAY_LEN(keys); k++) {
            const char *theirs = postmap(&b, spec, keys[k]);
            const char *ours = bench_ask(&b, spec, keys[k], 0);

            if (keys[k][0] == '\0')
                continue;
            n_answers += theirs != NULL;
            assert_answer(ours, theirs,
                          arena_printf(b.arena, "%s: %s", sources[i][1],
                                       keys[k]));
        }
    }
    assert_true(n_answers > 50);
    (void)unlink(arena_printf(b.arena, "%s/main.cf", b.dir));
    bench_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
