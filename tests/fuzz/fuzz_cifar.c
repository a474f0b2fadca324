/* Any bytes as a CIFAR file. The first byte says whether of 10 or 100 classes. */
#include "data/raw.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size < 1)
        return 0;
    int64_t classes = bytes[0] & 1 ? 100 : 10, n = 0;
    size_t used = size - 1, record = LIPS_CIFAR_PIXELS + (classes == 100 ? 2 : 1);
    uint8_t *copy = malloc(used ? used : 1);
    if (!copy)
        return 0;
    memcpy(copy, bytes + 1, used);
    if (lips_cifar_check(&n, copy, used, classes, "fuzz") == LIPS_OK &&
        (n < 1 || (size_t)n * record != used))
        abort(); /* accepted, but not of a length that it can have */
    free(copy);
    return 0;
}
