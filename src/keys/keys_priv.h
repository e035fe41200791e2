#ifndef KEYS_PRIV_H
#define KEYS_PRIV_H

/* What the files of this room share. */
#include "keys/keys.h"

#define KEYS_SET_MAX   8    /* certificates of one service or name */
#define KEYS_PEM_MAX   16   /* keys or certificates in one file */
#define KEYS_NAMES_MAX 4096 /* in tls_server_sni_maps */
#define KEYS_IDS_MAX   1024 /* keys that `keys` may have */

/* Where a certificate and its key are. */
struct keys_pair {
    slice cert;
    slice key;
};

struct keys_set {
    struct keys_pair v[KEYS_SET_MAX];
    size_t n;
};

/* files.c */
/* The files of a service, by its own parameters.  None: no TLS. */
void keys_set_of(const struct conf *c, const struct conf_service *service,
                 struct keys_set *out);
bool keys_is_tls_service(const struct conf_service *service);
/* The same of a client, by smtp_* or lmtp_*; `line` NULL: main.cf's. */
void keys_client_set_of(const struct conf *c, const struct conf_service *line,
                        bool is_lmtp, struct keys_set *out);
/* A list of chain files, as in smtpd_tls_chain_files and the values of
 * tls_server_sni_maps. */
void keys_set_add_chains(struct keys_set *set, slice list);
/* The next block of a PEM text with its label ("PRIVATE KEY"); false at the
 * end. */
bool keys_pem_next(slice *rest, slice *label, slice *block);
bool keys_is_key_label(slice label);
/* All of a descriptor, from its start whatever its offset; at most
 * KEYS_FILE_MAX bytes. */
int keys_read_fd(int fd, struct buf *out, struct err *err);

/* map.c: tls_server_sni_maps */
typedef void keys_map_fn(void *arg, slice name, slice files);
/* Each entry of a map's source text. */
void keys_map_each(slice text, keys_map_fn *fn, void *arg);
/* Each entry of an inline:{...} map. */
void keys_inline_each(slice inside, keys_map_fn *fn, void *arg);
/* Each table of tls_server_sni_maps: `path` for those with a file, else
 * `inside` of an inline one.  Other types are refused by keys_check(). */
void keys_each_map(const struct conf *c, const struct conf_service *service,
                   void (*fn)(void *arg, slice path, slice inside), void *arg);
bool keys_map_type_ok(slice type);

/* settings.c */
/* From the parameters of a service; texts are in `a`. */
int keys_settings(const struct conf *c, const struct conf_service *service,
                  struct arena *a, struct tls_settings *out, struct err *err);

#endif
