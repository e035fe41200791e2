/* What is shown. */
#include "command/command.h"
#include "command/trace/trace_priv.h"

static void print_line(const struct trace_text *x)
{
    printf("  ");
    command_print_text(x->time);
    printf("  ");
    command_print_text(x->service);
    printf("[");
    command_print_text(x->pid);
    printf("]  ");
    command_print_text(x->text);
    putchar('\n');
}

static void print_rcpt(const struct trace_rcpt *r)
{
    printf("  => <");
    command_print_text(r->to);
    printf(">");
    if (r->orig_to.n > 0) {
        printf(" (for <");
        command_print_text(r->orig_to);
        printf(">)");
    }
    printf(" ");
    command_print_text(r->status);
    printf(" ");
    command_print_text(r->why);
    if (r->n_tries > 1)
        printf(", after %u attempts", r->n_tries);
    putchar('\n');
}

static void print_head(const struct trace_message *m)
{
    command_print_text(slice_str(m->id));
    if (m->from != NULL) {
        printf(" from <");
        command_print_text(slice_str(m->from));
        printf(">");
    }
    if (m->message_id != NULL) {
        printf(", message-id <");
        command_print_text(slice_str(m->message_id));
        printf(">");
    }
    if (m->size != NULL) {
        printf(", ");
        command_print_text(slice_str(m->size));
        printf(" bytes");
    }
    printf(m->is_removed ? ", done" : ", in the queue");
    if (m->parent != NULL) {
        printf(", %s of ", m->is_of);
        command_print_text(slice_str(m->parent));
    }
    putchar('\n');
}

/* What ends the message was logged by another process than what came before,
 * and may stand in front of it. */
static void print_message(const struct trace_message *m)
{
    print_head(m);
    for (int last = 0; last < 2; last++)
        list_each(it, &m->lines) {
            const struct trace_text *x =
                CONTAINER_OF(it, struct trace_text, link);

            if (x->is_last == (last != 0))
                print_line(x);
        }
    list_each(it, &m->rcpts)
        print_rcpt(CONTAINER_OF(it, struct trace_rcpt, link));
}

void trace_print(const struct trace *t)
{
    bool is_first = true;

    list_each(it, &t->order) {
        const struct trace_message *m =
            CONTAINER_OF(it, struct trace_message, link);

        if (m->n_lines == 0)
            continue; /* an id of another host */
        if (!is_first)
            putchar('\n');
        is_first = false;
        print_message(m);
    }
    if (t->n_loose > 0)
        printf("%swithout a queue id:\n", is_first ? "" : "\n");
    list_each(it, &t->loose)
        print_line(CONTAINER_OF(it, struct trace_text, link));
}

/* ---- JSON: an object a line */

static void put_string(slice s)
{
    putchar('"');
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];

        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < ' ' || c == 0x7f)
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

static void put_pair(const char *key, slice v, bool *is_first)
{
    if (v.p == NULL)
        return;
    printf("%s\"%s\":", *is_first ? "" : ",", key);
    put_string(v);
    *is_first = false;
}

static void json_line(const struct trace_text *x)
{
    bool is_first = true;

    putchar('{');
    put_pair("time", x->time, &is_first);
    put_pair("service", x->service, &is_first);
    put_pair("pid", x->pid, &is_first);
    put_pair("text", x->text, &is_first);
    putchar('}');
}

static void json_rcpt(const struct trace_rcpt *r)
{
    bool is_first = true;

    putchar('{');
    put_pair("to", r->to, &is_first);
    put_pair("orig_to", r->orig_to.n > 0 ? r->orig_to : SLICE_NONE, &is_first);
    put_pair("status", r->status, &is_first);
    put_pair("dsn", r->dsn, &is_first);
    put_pair("relay", r->relay, &is_first);
    put_pair("by", r->service, &is_first);
    put_pair("time", r->time, &is_first);
    put_pair("text", r->why, &is_first);
    printf(",\"attempts\":%u}", r->n_tries);
}

static void json_lines(const struct list *lines)
{
    bool is_first = true;

    printf("\"events\":[");
    list_each(it, lines) {
        printf("%s", is_first ? "" : ",");
        json_line(CONTAINER_OF(it, struct trace_text, link));
        is_first = false;
    }
    putchar(']');
}

static void json_message(const struct trace_message *m)
{
    bool is_first = true;

    putchar('{');
    put_pair("queue_id", slice_str(m->id), &is_first);
    put_pair("message_id", slice_str(m->message_id), &is_first);
    put_pair("from", slice_str(m->from), &is_first);
    put_pair("size", slice_str(m->size), &is_first);
    put_pair("state", m->is_removed ? SL("done") : SL("queued"), &is_first);
    if (m->parent != NULL) {
        put_pair("of", slice_str(m->parent), &is_first);
        put_pair("is", slice_str(m->is_of), &is_first);
    }
    printf(",\"recipients\":[");
    is_first = true;
    list_each(it, &m->rcpts) {
        printf("%s", is_first ? "" : ",");
        json_rcpt(CONTAINER_OF(it, struct trace_rcpt, link));
        is_first = false;
    }
    printf("],");
    json_lines(&m->lines);
    puts("}");
}

void trace_print_json(const struct trace *t)
{
    list_each(it, &t->order) {
        const struct trace_message *m =
            CONTAINER_OF(it, struct trace_message, link);

        if (m->n_lines > 0)
            json_message(m);
    }
    if (t->n_loose > 0) {
        putchar('{');
        json_lines(&t->loose);
        puts("}");
    }
}
