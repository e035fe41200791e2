#ifndef FETCH_LIBS_H
#define FETCH_LIBS_H

/* libcurl, jansson and zlib, as the process `fetcher` alone has them loaded:
 * their functions under their own names, without the prefix.  Their macros are
 * of no use here, since they name the functions themselves. */
#define CURL_DISABLE_TYPECHECK 1
#define ZLIB_CONST             1
#include "base/base.h"

#include <curl/curl.h>
#include <jansson.h>
#include <zlib.h>

#define LIB_FN(library, name) __typeof__(&library##_##name) name

struct fetch_curl {
    LIB_FN(curl, global_init);
    LIB_FN(curl, easy_init);
    LIB_FN(curl, easy_cleanup);
    LIB_FN(curl, easy_setopt);
    LIB_FN(curl, easy_getinfo);
    LIB_FN(curl, easy_strerror);
    LIB_FN(curl, multi_init);
    LIB_FN(curl, multi_cleanup);
    LIB_FN(curl, multi_setopt);
    LIB_FN(curl, multi_add_handle);
    LIB_FN(curl, multi_remove_handle);
    LIB_FN(curl, multi_socket_action);
    LIB_FN(curl, multi_info_read);
    LIB_FN(curl, multi_timeout);
    LIB_FN(curl, multi_assign);
    LIB_FN(curl, slist_append);
    LIB_FN(curl, slist_free_all);
};

struct fetch_json {
    LIB_FN(json, object);
    LIB_FN(json, array);
    LIB_FN(json, stringn);
    LIB_FN(json, integer);
    LIB_FN(json, object_get);
    LIB_FN(json, object_set_new);
    LIB_FN(json, array_append_new);
    LIB_FN(json, dump_callback);
    LIB_FN(json, delete);
};

struct fetch_zlib {
    __typeof__(deflateInit2_) *init2;
    __typeof__(deflate) *deflate;
    __typeof__(deflateEnd) *end;
};

extern struct fetch_curl fetch_curl;
extern struct fetch_json fetch_json;
extern struct fetch_zlib fetch_zlib;

/* All three; before the sandbox. */
CHECKED int fetch_libs_load(struct err *err);

#endif
