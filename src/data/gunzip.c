/* data/gunzip.c - decompression in memory, with a limit that the caller knows. */
#include "data/raw.h"

#include <limits.h>
#include <stdlib.h>
#include <zlib.h>

/* zlib counts in unsigned int: larger buffers are given to it in pieces. */
static uInt piece(size_t left)
{
    return left > UINT_MAX ? UINT_MAX : (uInt)left;
}

typedef struct source {
    z_stream z;
    const uint8_t *at;
    size_t left; /* bytes not yet given to zlib */
    size_t size;
    const char *name;
} source;

static lips_status source_open(source *s, const void *bytes, size_t size, const char *name)
{
    *s = (source){.at = bytes, .left = size, .size = size, .name = name};
    if (inflateInit2(&s->z, 15 + 16) != Z_OK) /* 15: largest window; + 16: gzip header and check */
        return lips_fail(LIPS_ERR_MEMORY, "%s: no memory to decompress", name);
    return LIPS_OK;
}

static size_t source_offset(const source *s)
{
    return s->size - s->left - s->z.avail_in;
}

static void source_feed(source *s)
{
    if (s->z.avail_in == 0 && s->left > 0) {
        s->z.next_in = (z_const Bytef *)s->at;
        s->z.avail_in = piece(s->left);
        s->at += s->z.avail_in;
        s->left -= s->z.avail_in;
    }
}

/* Decompresses up to `want` bytes; fewer came only if *end: the last member ended, and the file. */
static lips_status source_read(source *s, uint8_t *out, size_t want, size_t *got, bool *end)
{
    *got = 0;
    *end = false;
    while (*got < want) {
        source_feed(s);
        uInt room = piece(want - *got);
        s->z.next_out = out + *got;
        s->z.avail_out = room;
        int rc = inflate(&s->z, Z_NO_FLUSH);
        *got += room - s->z.avail_out;
        if (rc == Z_STREAM_END) {
            if (s->left == 0 && s->z.avail_in == 0) {
                *end = true;
                return LIPS_OK;
            }
            inflateReset(&s->z); /* a further member, or else a bad header at the next turn */
        } else if (rc == Z_BUF_ERROR) { /* no input left to make progress with */
            return lips_fail(LIPS_ERR_DATA, "%s: offset %zu: the gzip data ends too early", s->name,
                             source_offset(s));
        } else if (rc == Z_MEM_ERROR) {
            return lips_fail(LIPS_ERR_MEMORY, "%s: no memory to decompress", s->name);
        } else if (rc != Z_OK) {
            return lips_fail(LIPS_ERR_DATA, "%s: offset %zu: damaged gzip data (%s)", s->name,
                             source_offset(s), s->z.msg ? s->z.msg : "no further detail");
        }
    }
    return LIPS_OK;
}

lips_status lips_gunzip_head(uint8_t *head, size_t want, size_t *got, const void *bytes,
                             size_t size, const char *name)
{
    source s;
    bool end;
    LIPS_TRY(source_open(&s, bytes, size, name));
    lips_status st = source_read(&s, head, want, got, &end);
    inflateEnd(&s.z);
    return st;
}

lips_status lips_gunzip(uint8_t **out, size_t *out_size, const void *bytes, size_t size, size_t max,
                        const char *name)
{
    enum { FIRST = 1 << 16 };
    uint8_t *buf = NULL;
    size_t used = 0, room = max < FIRST ? max + 1 : FIRST;
    bool end = false;
    source s;
    LIPS_TRY(source_open(&s, bytes, size, name));
    lips_status st = LIPS_OK;
    while (!end && used <= max) {
        uint8_t *grown = realloc(buf, room);
        if (!grown) {
            st = lips_fail(LIPS_ERR_MEMORY, "%s: no memory for %zu decompressed bytes", name, room);
            goto out;
        }
        buf = grown;
        size_t got;
        LIPS_TRY_GOTO(st, source_read(&s, buf + used, room - used, &got, &end), out);
        used += got;
        room = room > max / 2 ? max + 1 : room * 2; /* one byte more than allowed shows an excess */
    }
    if (used > max) {
        st = lips_fail(LIPS_ERR_DATA, "%s: decompresses to more than the %zu bytes it should have",
                       name, max);
        goto out;
    }
    *out = buf;
    *out_size = used;
    buf = NULL;
out:
    free(buf);
    inflateEnd(&s.z);
    return st;
}
