#include "store/store_priv.h"

#define NAMES_MAX (1u << 30)

void rows_init(struct store_mailbox *m)
{
    buf_init(&m->names, NAMES_MAX);
    m->uidnext = 1;
}

void rows_done(struct store_mailbox *m)
{
    snapshot_release(m);
    free(m->tail);
    m->tail = NULL;
    m->tail_n = m->tail_size = 0;
    buf_done(&m->names);
    idset_done(&m->ids);
    for (size_t i = 0; i < m->n_keywords; i++)
        free(m->keyword[i]);
    memset(m->keyword, 0, sizeof m->keyword);
    m->n_keywords = 0;
    for (size_t i = 0; i < m->n_doomed; i++)
        free(m->doomed[i].name);
    free(m->doomed);
    m->doomed = NULL;
    m->n_doomed = m->doomed_size = 0;
    free(m->renamed);
    m->renamed = NULL;
    m->n_renamed = m->renamed_size = 0;
    moves_free(m);
    m->messages = m->unseen = m->deleted = m->bytes = m->crlf_bytes = 0;
    m->durable_rows = 0;
    m->highestmodseq = 0;
    m->reserved = 0;
    m->recent = m->shown_safe = 0;
    m->last_instance = 0;
    m->new_stamp = m->cur_stamp = (struct dir_stamp){ 0 };
    m->snapshot_at = 0;
    m->snapshot_rows = 0;
    m->log_bytes_live = 0;
    view_forget(m);
    rows_init(m);
}

/* First row, hole or not, whose UID is not below `uid`. */
static size_t row_lower(const struct store_mailbox *m, uint32_t uid)
{
    size_t lo = 0;
    size_t hi = rows_count(m);

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (ROW_FIELD(m, mid, uid) < uid)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

size_t row_find(const struct store_mailbox *m, uint32_t uid)
{
    size_t n = rows_count(m);
    size_t r = row_lower(m, uid);

    if (r < n && ROW_FIELD(m, r, uid) == uid && !row_is_hole(m, r))
        return r;
    return n;
}

size_t store_row_at(const struct store_mailbox *m, uint32_t uid)
{
    return row_lower(m, uid);
}

slice row_name(const struct store_mailbox *m, size_t r)
{
    size_t off = ROW_FIELD(m, r, name_off);
    size_t len = ROW_FIELD(m, r, name_len);
    slice pool = r < m->base_n ? m->base.names : buf_view(&m->names);

    /* A big snapshot is mapped without having been read (invariant 5). */
    if (off > pool.n || len > pool.n - off || len > FILE_NAME_MAX)
        return SL("damaged");
    return slice_sub(pool, off, len);
}

void row_load(const struct store_mailbox *m, size_t r, struct row *out)
{
    const struct columns *c = &m->base;

    if (r >= m->base_n) {
        *out = m->tail[r - m->base_n];
        return;
    }
    *out = (struct row){
        .keywords = c->keywords[r],
        .modseq = c->modseq[r],
        .created = c->created[r],
        .idate = c->idate[r],
        .sdate = c->sdate[r],
        .size = c->size[r],
        .crlf_size = c->crlf_size[r],
        .cache_off = c->cache_off[r],
        .uid = c->uid[r],
        .flags = c->flags[r],
        .letters = c->letters[r],
        .state = c->state[r],
        .crc = c->crc[r],
        .cache_len = c->cache_len[r],
        .cache_version = c->cache_version[r],
        .name_off = c->name_off[r],
        .name_len = c->name_len[r],
    };
    memcpy(out->emailid, c->emailid[r], ID_BYTES);
    memcpy(out->threadid, c->threadid[r], ID_BYTES);
    memcpy(out->id, c->id[r], ID_BYTES);
}

static void count_flags(struct store_mailbox *m, uint32_t flags, bool more)
{
    uint64_t unseen = flags & STORE_SEEN ? 0 : 1;
    uint64_t deleted = flags & STORE_DELETED ? 1 : 0;

    m->unseen = more ? m->unseen + unseen : m->unseen - unseen;
    m->deleted = more ? m->deleted + deleted : m->deleted - deleted;
}

static void raise_modseq(struct store_mailbox *m, uint64_t modseq)
{
    if (modseq > m->highestmodseq)
        m->highestmodseq = modseq;
}

bool row_add(struct store_mailbox *m, const struct row *r, slice name)
{
    struct row *t;

    if (r->uid < m->uidnext || r->uid == UINT32_MAX ||
        rows_count(m) >= UINT32_MAX - 1)
        return false;
    if (m->tail_n == m->tail_size) {
        m->tail_size = m->tail_size ? m->tail_size * 2 : 16;
        m->tail = xrealloc(m->tail, m->tail_size * sizeof *m->tail);
    }
    t = &m->tail[m->tail_n];
    *t = *r;
    t->name_off = (uint32_t)m->names.n;
    t->name_len = (uint32_t)name.n;
    if (!buf_slice(&m->names, name)) {
        m->names.overflow = false;
        return false;
    }
    m->tail_n++;
    m->uidnext = r->uid + 1;
    m->messages++;
    m->bytes += r->size;
    m->crlf_bytes += r->crlf_size;
    count_flags(m, r->flags, true);
    raise_modseq(m, r->modseq);
    if (!id_is_zero(r->id))
        idset_put(&m->ids, r->id, (uint32_t)rows_count(m));
    return true;
}

void doom_add(struct store_mailbox *m, const struct row *r, slice name)
{
    if (m->n_doomed == m->doomed_size) {
        m->doomed_size = m->doomed_size ? m->doomed_size * 2 : 8;
        m->doomed = xrealloc(m->doomed, m->doomed_size * sizeof *m->doomed);
    }
    m->doomed[m->n_doomed++] = (struct doomed){
        .uid = r->uid,
        .letters = r->letters,
        .state = r->state,
        .name = slice_xstrdup(name),
    };
}

void doom_del(struct store_mailbox *m, uint32_t uid)
{
    for (size_t i = 0; i < m->n_doomed; i++) {
        if (m->doomed[i].uid != uid)
            continue;
        free(m->doomed[i].name);
        m->doomed[i] = m->doomed[--m->n_doomed];
        return;
    }
}

void renamed_add(struct store_mailbox *m, uint32_t uid, uint32_t from)
{
    if (m->n_renamed == m->renamed_size) {
        m->renamed_size = m->renamed_size ? m->renamed_size * 2 : 16;
        m->renamed = xrealloc(m->renamed, m->renamed_size * sizeof *m->renamed);
    }
    m->renamed[m->n_renamed++] = (struct renamed){ uid, from };
}

const struct renamed *renamed_find(const struct store_mailbox *m, uint32_t uid)
{
    for (size_t i = 0; i < m->n_renamed; i++)
        if (m->renamed[i].uid == uid)
            return &m->renamed[i];
    return NULL;
}

/* In order: the oldest are settled first. */
void renamed_del(struct store_mailbox *m, uint32_t uid)
{
    const struct renamed *x = renamed_find(m, uid);
    size_t at;

    if (!x)
        return;
    at = (size_t)(x - m->renamed);
    m->n_renamed--;
    memmove(&m->renamed[at], &m->renamed[at + 1],
            (m->n_renamed - at) * sizeof *m->renamed);
}

void row_remove(struct store_mailbox *m, size_t r, bool doom)
{
    struct row row;

    row_load(m, r, &row);
    if (row.state & ROW_HOLE)
        return;
    if (doom)
        doom_add(m, &row, row_name(m, r));
    count_flags(m, row.flags, false);
    m->messages--;
    m->bytes -= row.size;
    m->crlf_bytes -= row.crlf_size;
    ROW_FIELD(m, r, state) |= ROW_HOLE;
    view_note_hole(m, r);
}

void row_set_flags(struct store_mailbox *m, size_t r, uint32_t flags,
                   uint64_t keywords, uint64_t modseq)
{
    count_flags(m, ROW_FIELD(m, r, flags), false);
    ROW_FIELD(m, r, flags) = flags;
    ROW_FIELD(m, r, keywords) = keywords;
    ROW_FIELD(m, r, modseq) = modseq;
    count_flags(m, flags, true);
    raise_modseq(m, modseq);
    view_note_change(m, r);
}

static size_t base_by_id(const struct store_mailbox *m, const uint8_t *id)
{
    const struct columns *c = &m->base;
    size_t at;

    if (c->n_idhash == 0)
        return m->base_n;
    at = (size_t)get_u64(id) & (c->n_idhash - 1);
    /* A damaged table may be full: never more than once around. */
    for (size_t i = 0; i < c->n_idhash; i++) {
        uint32_t v = c->idhash[at];

        if (v == 0 || v > m->base_n)
            return m->base_n;
        if (memcmp(c->id[v - 1], id, ID_BYTES) == 0)
            return v - 1;
        at = (at + 1) & (c->n_idhash - 1);
    }
    return m->base_n;
}

size_t row_by_id(const struct store_mailbox *m, const uint8_t *id)
{
    size_t n = rows_count(m);
    size_t r = idset_get(&m->ids, id);

    if (r > 0 && r <= n && !row_is_hole(m, r - 1))
        return r - 1;
    r = base_by_id(m, id);
    return r < m->base_n && !row_is_hole(m, r) ? r : n;
}

bool file_path(const struct store_mailbox *m, slice base, uint32_t letters,
               uint32_t state, char *dst, size_t size)
{
    char info[40] = "";
    int n;

    if (state & ROW_HAS_INFO)
        info_put(info, sizeof info, letters);
    n = snprintf(dst, size, "%s%s/%.*s%s", m->dir,
                 state & ROW_IN_NEW ? "new" : "cur", SLF(base), info);
    return n > 0 && (size_t)n < size;
}

bool row_path(const struct store_mailbox *m, size_t r, char *dst, size_t size)
{
    return file_path(m, row_name(m, r), ROW_FIELD(m, r, letters),
                     ROW_FIELD(m, r, state), dst, size);
}

bool keyword_set(struct store_mailbox *m, size_t bit, slice name)
{
    if (bit >= N_KEYWORDS || name.n == 0 || name.n > 255)
        return false;
    while (m->n_keywords <= bit)
        m->keyword[m->n_keywords++] = xstrdup("");
    free(m->keyword[bit]);
    m->keyword[bit] = slice_xstrdup(name);
    return true;
}

size_t mailbox_memory(const struct store_mailbox *m)
{
    size_t n = sizeof *m + m->tail_size * sizeof *m->tail + m->names.size +
               m->ids.n_slots * sizeof *m->ids.slots +
               m->doomed_size * sizeof *m->doomed;

    n += view_memory(m);
    return n + (m->is_mapped ? m->map_bytes / 8 : m->map_bytes);
}
