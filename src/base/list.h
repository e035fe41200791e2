#ifndef BASE_LIST_H
#define BASE_LIST_H

/*
 * An intrusive doubly linked list.  A head and a free link both point to
 * themselves; a link is in at most one list.
 */
#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next;
    struct list *prev;
};

static inline void list_init(struct list *l)
{
    l->next = l;
    l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
    return l->next == l;
}

/* Put `e` before `at` (at the end, when `at` is the head). */
static inline void list_insert(struct list *at, struct list *e)
{
    e->prev = at->prev;
    e->next = at;
    at->prev->next = e;
    at->prev = e;
}

static inline void list_push(struct list *head, struct list *e)
{
    list_insert(head, e);
}

static inline void list_push_front(struct list *head, struct list *e)
{
    list_insert(head->next, e);
}

static inline void list_remove(struct list *e)
{
    /* The analyzer takes what list_pop() gave, and was freed, for still linked.
     * NOLINTNEXTLINE(clang-analyzer-unix.Malloc) */
    e->prev->next = e->next;
    e->next->prev = e->prev;
    list_init(e);
}

static inline struct list *list_pop(struct list *head)
{
    struct list *e = head->next;

    if (e == head)
        return NULL;
    list_remove(e); /* NOLINT(clang-analyzer-unix.Malloc): as above */
    return e;
}

/* NOLINTBEGIN(bugprone-macro-parentheses): `it` is a name to declare */
#define list_each(it, head)                                                    \
 for (struct list *it = (head)->next; it != (head); it = it->next)
#define list_each_safe(it, tmp, head)                                          \
 for (struct list *it = (head)->next, *tmp = it->next; it != (head);           \
      it = tmp, tmp = it->next)
/* NOLINTEND(bugprone-macro-parentheses) */

#endif
