#ifndef USER_USER_PRIV_H
#define USER_USER_PRIV_H

/* What the files of user share. */
#include "user/user.h"

#define USER_NAME_MAX 512

struct users {
    const struct conf *conf;
    struct tables *tables;
    bool is_root_mode;
    struct table_list *virtual_maps;
    struct table_list *virtual_uids;
    struct table_list *virtual_gids;
    struct table_list *userdb;
    struct table_match *mydestination;
};

/* ---- location.c */
/* mail_location's variables %u %n %d %h, ~/ and %%; ERR_TEMP for a name that
 * could leave its place. */
int user_expand_location(struct arena *a, slice text, slice user, slice home,
                         slice *out, struct err *err);
/* A name in a path can not leave its place. */
bool user_is_safe(slice name);

#endif
