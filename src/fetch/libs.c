/* Loading what this process alone needs. */
#include "fetch/libs.h"

#include <dlfcn.h>

struct fetch_curl fetch_curl;
struct fetch_json fetch_json;
struct fetch_zlib fetch_zlib;

struct function {
    const char *name;
    void *at;
};

#define CURL_FN(name)                                                          \
 {                                                                             \
  "curl_" #name, &fetch_curl.name                                              \
 }
#define JSON_FN(name)                                                          \
 {                                                                             \
  "json_" #name, &fetch_json.name                                              \
 }

static const struct function of_curl[] = {
    CURL_FN(global_init),         CURL_FN(easy_init),
    CURL_FN(easy_cleanup),        CURL_FN(easy_setopt),
    CURL_FN(easy_getinfo),        CURL_FN(easy_strerror),
    CURL_FN(multi_init),          CURL_FN(multi_cleanup),
    CURL_FN(multi_setopt),        CURL_FN(multi_add_handle),
    CURL_FN(multi_remove_handle), CURL_FN(multi_socket_action),
    CURL_FN(multi_info_read),     CURL_FN(multi_timeout),
    CURL_FN(multi_assign),        CURL_FN(slist_append),
    CURL_FN(slist_free_all),
};

static const struct function of_json[] = {
    JSON_FN(object),           JSON_FN(array),         JSON_FN(stringn),
    JSON_FN(integer),          JSON_FN(object_get),    JSON_FN(object_set_new),
    JSON_FN(array_append_new), JSON_FN(dump_callback), JSON_FN(delete),
};

static const struct function of_zlib[] = {
    { "deflateInit2_", &fetch_zlib.init2 },
    { "deflate", &fetch_zlib.deflate },
    { "deflateEnd", &fetch_zlib.end },
};

static const struct library {
    const char *so, *package;
    const struct function *functions;
    size_t n;
} libraries[] = {
    { "libcurl.so.4", "libcurl4", of_curl, ARRAY_LEN(of_curl) },
    { "libjansson.so.4", "libjansson4", of_json, ARRAY_LEN(of_json) },
    { "libz.so.1", "zlib1g", of_zlib, ARRAY_LEN(of_zlib) },
};

static int load(const struct library *l, struct err *err)
{
    void *so = dlopen(l->so, RTLD_NOW | RTLD_LOCAL);

    if (so == NULL)
        return err_perm(err, "%s cannot be loaded (Debian: %s): %s", l->so,
                        l->package, dlerror());
    for (size_t i = 0; i < l->n; i++) {
        void *f = dlsym(so, l->functions[i].name);

        if (f == NULL)
            return err_perm(err, "%s has no %s", l->so, l->functions[i].name);
        memcpy(l->functions[i].at, &f, sizeof f);
    }
    return 0;
}

int fetch_libs_load(struct err *err)
{
    static bool is_loaded;

    if (is_loaded)
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(libraries); i++)
        if (load(&libraries[i], err) < 0)
            return -1;
    if (fetch_curl.global_init(CURL_GLOBAL_SSL) != CURLE_OK)
        return err_temp(err, "libcurl cannot be used");
    is_loaded = true;
    return 0;
}
