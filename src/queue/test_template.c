/* covers: bounce_template_file */
#include "queue/test_util_queue.h"

static const char file[] =
    "# texts of our own\n"
    "failure_template = <<EOF\n"
    "Charset: utf-8\n"
    "From: Robot (Mail of ours)\n"
    "Subject: Sorry\n"
    "Postmaster-Subject: Look: sorry\n"
    "\n"
    "H\xc3\xb6st $myhostname gave up after $maximal_queue_lifetime_days days\n"
    "($$5, ${bounce_queue_lifetime_hours} hours).\n"
    "\n"
    "EOF\n"
    "\n"
    "success_template = <<THE END\n"
    "Subject: Good\n"
    "\n"
    "All went well.\n"
    "THE END\n";

static void refuse(struct world *w, const struct asked *r, struct told *out)
{
    (void)w;
    if (strncmp(r->addr, "no", 2) == 0)
        *out = (struct told){ .outcome = OUT_BOUNCED,
                              .status = "5.1.1",
                              .diag = "unknown user" };
}

static void used_in(struct world *w)
{
    const char *text;

    w->answer = refuse;
    w->keep_last = true;
    queue_set_templates(w->q, slice_str(file));
    world_mail(w, "", "no@virtual.example");
    world_settle(w);
    text = buf_cstr(&w->last);
    assert_has(text, "\nSubject: Look: sorry\n");
    assert_has_not(text, "gave up");
    w->q->set->classes = 0;
    world_mail(w, "a@virtual.example", "no@virtual.example");
    world_settle(w);
    text = buf_cstr(&w->last);
    assert_has(text, "From: Robot@hato.example.com (Mail of ours)\n");
    assert_has(text, "\nSubject: Sorry\n");
    assert_has(text, "text/plain; charset=utf-8\n");
    assert_has(text, "\nH\xc3\xb6st hato.example.com gave up after 5 days\n"
                     "($5, 120 hours).\n");
    assert_has(text, "\n<no@virtual.example>: unknown user\n");
    assert_has(text, "\nStatus: 5.1.1\n");
}

static void used(void **state)
{
    (void)state;
    world_run("notify_classes = 2bounce\n"
              "2bounce_notice_recipient = pm@virtual.example\n",
              used_in);
}

static void bad(void **state)
{
    static const char *const texts[] = {
        "failure_template\n",
        "failure_template = x\n",
        "other_template = <<E\n\nx\nE\n",
        "failure_template = <<E\nSubject: x\n\ntext\n",
        "failure_template = <<E\nX-Other: x\n\ntext\nE\n",
        "failure_template = <<E\nno field\n\ntext\nE\n",
        "failure_template = <<E\n\n\xc3\xb6\nE\n",
        "success_template = <<E\nPostmaster-Subject: x\n\nx\nE\n",
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct templates *t = NULL;
        struct err err;

        assert_int_equal(templates_parse(slice_str(texts[i]), &t, &err), -1);
        assert_null(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(used),
        cmocka_unit_test(bad),
    };

    world_main();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
