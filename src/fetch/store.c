/*
 * What outlives the process: policies and counts, in two files that were opened
 * before the sandbox.  All of it is written to one of them, then to the other,
 * in turns; the one with the higher generation that is whole counts.
 *
 *     "HATOFTC1"  u64 generation  u32 bytes  u32 CRC-32C of what follows
 *     attributes
 */
#include "fetch/fetch_priv.h"

#include "base/digest.h"
#include "rt/file.h"

#include <fcntl.h>

#define HEAD_BYTES 24
#define STORE_MAX  ((size_t)64 << 20)
#define SAVE_MS    500

static const char magic[8] = { 'H', 'A', 'T', 'O', 'F', 'T', 'C', '1' };

/* ---- reading */

static bool is_whole(slice file, uint64_t *generation, slice *body)
{
    if (file.n < HEAD_BYTES || memcmp(file.p, magic, sizeof magic) != 0)
        return false;
    *generation = get_u64(file.p + 8);
    *body = slice_from(file, HEAD_BYTES);
    if (get_u32(file.p + 16) > body->n)
        return false;
    *body = slice_sub(*body, 0, get_u32(file.p + 16));
    return crc32c(0, body->p, body->n) == get_u32(file.p + 20);
}

static void load_policy(struct fetch_server *s, slice in)
{
    slice domain, id, text;
    uint64_t until;
    struct fetched *f;

    if (!attr_find(in, AT_NAME, &domain) || !attr_find(in, AT_ID, &id) ||
        !attr_find(in, AT_CONTENT, &text) ||
        !attr_find_u64(in, AT_TIME, &until) || (msec)until <= clock_wall() ||
        domain.n == 0 || domain.n > 255)
        return;
    f = fetch_policy_of(s, domain);
    free(f->id);
    free(f->text);
    f->id = slice_xstrdup(id);
    f->text = slice_xstrdup(text);
    f->until = (msec)until;
}

static void load(struct fetch_server *s, slice body)
{
    struct attr at;

    while (attr_next(&body, &at) == 1) {
        if (at.tag == AT_RECORD)
            load_policy(s, at.v);
        else if (at.tag == AT_VALUE)
            report_load(s, at.v);
        else if (at.tag == AT_TIME) {
            uint64_t day;

            if (attr_u64(&at, &day))
                s->day = (int64_t)day;
        }
    }
}

/* ---- opening */

static int open_one(struct fetch_server *s, int i, struct err *err)
{
    char *path CLEANUP(free_ptr) =
        xasprintf("%s/fetcher.%d", conf_str(s->p->conf, NULL, "data_directory"),
                  i);

    s->fd[i] = file_openat(AT_FDCWD, path,
                           O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    return s->fd[i] >= 0 ? 0 : err_sys(err, "open %s", path);
}

int store_open(struct fetch_server *s, struct err *err)
{
    struct buf file[2];
    uint64_t generation[2] = { 0, 0 };
    slice body[2];
    int best = -1;

    for (int i = 0; i < 2; i++) {
        if (open_one(s, i, err) < 0)
            return -1;
        buf_init(&file[i], STORE_MAX + HEAD_BYTES);
        if (file_read_fd(s->fd[i], &file[i], err) == 0 &&
            is_whole(buf_view(&file[i]), &generation[i], &body[i]) &&
            (best < 0 || generation[i] > generation[best]))
            best = i;
    }
    if (best >= 0) {
        load(s, body[best]);
        s->generation = generation[best];
        s->turn = best == 0 ? 1 : 0;
    }
    buf_done(&file[0]);
    buf_done(&file[1]);
    return 0;
}

/* ---- writing */

static void put_policies(struct fetch_server *s, struct buf *b)
{
    struct map_node *n = NULL;
    struct buf one;
    size_t pos = 0;

    buf_init(&one, FETCH_MAX_BYTES + 4096);
    while ((n = map_next(&s->policies, &pos, n)) != NULL) {
        const struct fetched *f = CONTAINER_OF(n, struct fetched, node);

        if (f->text == NULL || f->until <= clock_wall())
            continue;
        buf_clear(&one);
        (void)attr_put_str(&one, AT_NAME, f->domain);
        (void)attr_put_str(&one, AT_ID, f->id);
        (void)attr_put_u64(&one, AT_TIME, (uint64_t)f->until);
        (void)attr_put_str(&one, AT_CONTENT, f->text);
        (void)attr_put(b, AT_RECORD, buf_view(&one));
    }
    buf_done(&one);
}

struct saving {
    struct buf b;
    int fd;
};

static int write_out(void *arg)
{
    struct saving *v = arg;

    if (file_write_all(v->fd, buf_view(&v->b), 0) < 0 ||
        file_ftruncate(v->fd, (off_t)v->b.n) < 0)
        return -1;
    return file_fdatasync(v->fd);
}

static struct saving *collect(struct fetch_server *s)
{
    struct saving *v = xcalloc(1, sizeof *v);
    char head[HEAD_BYTES] = { 0 };

    buf_init(&v->b, STORE_MAX + HEAD_BYTES);
    v->fd = s->fd[s->turn];
    (void)buf_put(&v->b, head, sizeof head);
    (void)attr_put_u64(&v->b, AT_TIME, (uint64_t)s->day);
    put_policies(s, &v->b);
    report_put(s, &v->b);
    memcpy(v->b.p, magic, sizeof magic);
    set_u64(v->b.p + 8, s->generation + 1);
    set_u32(v->b.p + 16, (uint32_t)(v->b.n - HEAD_BYTES));
    set_u32(v->b.p + 20, crc32c(0, v->b.p + HEAD_BYTES, v->b.n - HEAD_BYTES));
    return v;
}

static void written(struct fetch_server *s, struct saving *v, int result)
{
    if (result < 0) {
        log_warning("fetcher: what is known of policies cannot be written: %s",
                    strerror(errno));
    } else {
        s->generation++;
        s->turn = 1 - s->turn;
    }
    buf_done(&v->b);
    free(v);
}

MAY_WAIT static void save_task(void *arg)
{
    struct fetch_server *s = arg;

    while (s->is_dirty) {
        struct saving *v = collect(s);

        s->is_dirty = false;
        written(s, v, v->b.overflow ? -1 : offload(write_out, v));
    }
    s->is_saving = false;
}

static void on_save(struct timer *t)
{
    struct fetch_server *s = CONTAINER_OF(t, struct fetch_server, save);

    if (s->is_saving)
        return;
    s->is_saving = true;
    (void)task_spawn("fetch-save", save_task, s);
}

void store_touch(struct fetch_server *s)
{
    s->is_dirty = true;
    if (!timer_is_set(&s->save) && !s->is_saving)
        timer_set(&s->save, clock_after(SAVE_MS), on_save);
}

void store_close(struct fetch_server *s)
{
    struct saving *v;

    timer_cancel(&s->save);
    if (!s->is_dirty || s->is_saving)
        return;
    s->is_dirty = false;
    v = collect(s);
    written(s, v, v->b.overflow ? -1 : write_out(v));
}
