/* Any bytes as lines of metrics.jsonl. What is accepted must be written and read again
 * unchanged. */
#include "base/record.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void use_line(const char *text, size_t len)
{
    lips_record_line line, again;
    if (lips_record_parse(&line, text, len) != LIPS_OK)
        return;
    int n = lips_record_json(&line.r, NULL, 0);
    char *one = malloc((size_t)n + 1), *two = malloc((size_t)n + 1);
    if (one && two) {
        lips_record_json(&line.r, one, (size_t)n + 1);
        if (lips_record_parse(&again, one, (size_t)n) != LIPS_OK)
            abort();
        if (lips_record_json(&again.r, two, (size_t)n + 1) != n || strcmp(one, two) != 0)
            abort();
        lips_record_line_free(&again);
    }
    free(one);
    free(two);
    lips_record_line_free(&line);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const char *text = (const char *)bytes;
    while (size > 0) {
        const char *end = memchr(text, '\n', size);
        size_t len = end ? (size_t)(end - text) : size;
        use_line(text, len);
        size_t used = end ? len + 1 : len;
        text += used;
        size -= used;
    }
    return 0;
}
