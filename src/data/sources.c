/* data/sources.c - where each source's files are looked for, and how to get them. */
#include "base/file.h"
#include "data/raw.h"

#include <stdlib.h>

enum { FOLDERS_MAX = 3 };

typedef struct source_row {
    const char *title;
    const char *default_dir;         /* where data_dir is not given; NULL: it must be */
    const char *folder[FOLDERS_MAX]; /* below it, in this order; "." itself */
    const char *first_file;          /* present (or with .gz) where the set is */
    const char *hint;
} source_row;

#define CIFAR_HINT(file)                                                                           \
    "get it with: mkdir -p data && curl -L https://www.cs.toronto.edu/~kriz/" file                 \
    " | tar -xz -C data   (see https://www.cs.toronto.edu/~kriz/cifar.html)"

static const source_row SOURCES[] = {
    [LIPS_DATA_FASHION_MNIST] = {"Fashion-MNIST",
                                 "/usr/share/datasets/fashion-mnist",
                                 {".", "FashionMNIST/raw", NULL},
                                 "train-images-idx3-ubyte",
                                 "get it with: apt-get install dataset-fashion-mnist"},
    [LIPS_DATA_IDX] = {"IDX images",
                       NULL,
                       {".", "raw", "MNIST/raw"},
                       "train-images-idx3-ubyte",
                       "data_dir must hold train-images-idx3-ubyte, train-labels-idx1-ubyte, "
                       "t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte, raw or .gz"},
    [LIPS_DATA_CIFAR10] = {"CIFAR-10",
                           "data",
                           {".", "cifar-10-batches-bin", NULL},
                           "data_batch_1.bin",
                           CIFAR_HINT("cifar-10-binary.tar.gz")},
    [LIPS_DATA_CIFAR100] = {"CIFAR-100",
                            "data",
                            {".", "cifar-100-binary", NULL},
                            "train.bin",
                            CIFAR_HINT("cifar-100-binary.tar.gz")},
    [LIPS_DATA_SINE] = {"sine", "", {NULL, NULL, NULL}, "", "sine samples are made, not read"},
};

const char *lips_source_hint(lips_source s)
{
    return SOURCES[s].hint;
}

const char *lips_source_title(lips_source source)
{
    return SOURCES[source].title;
}

lips_status lips_source_folder(char *buf, size_t size, lips_source source, const char *data_dir)
{
    const source_row *row = &SOURCES[source];
    const char *dir = data_dir && data_dir[0] ? data_dir : row->default_dir;
    if (!dir)
        return lips_fail(LIPS_ERR_USAGE, "data_dir: needed for %s; %s", row->title, row->hint);
    for (int i = 0; i < FOLDERS_MAX && row->folder[i]; i++) {
        static const char *const SUFFIX[] = {"", ".gz"};
        for (int j = 0; j < 2; j++) {
            char path[4096];
            LIPS_TRY(lips_path(path, sizeof path, "%s/%s/%s%s", dir, row->folder[i],
                               row->first_file, SUFFIX[j]));
            if (lips_file_exists(path))
                return i == 0 ? lips_path(buf, size, "%s", dir)
                              : lips_path(buf, size, "%s/%s", dir, row->folder[i]);
        }
    }
    return lips_fail(LIPS_ERR_DATA, "%s is not in %s: no %s there or in its %s; %s", row->title,
                     dir, row->first_file, row->folder[1], row->hint);
}

lips_status lips_source_load(lips_raw *out, lips_source source, const char *data_dir, bool train)
{
    enum { FASHION_SIDE = 28, FASHION_CLASSES = 10 };
    char dir[4096];
    LIPS_TRY(lips_source_folder(dir, sizeof dir, source, data_dir));
    switch (source) {
    case LIPS_DATA_FASHION_MNIST:
        LIPS_TRY(lips_idx_load(out, dir, train, FASHION_CLASSES));
        if (out->h != FASHION_SIDE || out->w != FASHION_SIDE) {
            lips_status st = lips_fail(LIPS_ERR_DATA,
                                       "%s: images of %d x %d, but Fashion-MNIST's are 28 x 28 "
                                       "(data: idx takes any size)",
                                       dir, (int)out->h, (int)out->w);
            lips_raw_free(out);
            return st;
        }
        return LIPS_OK;
    case LIPS_DATA_IDX: return lips_idx_load(out, dir, train, 0);
    case LIPS_DATA_CIFAR10: return lips_cifar10_load(out, dir, train);
    case LIPS_DATA_CIFAR100: return lips_cifar100_load(out, dir, train);
    case LIPS_DATA_SINE: break;
    }
    return lips_fail(LIPS_ERR_USAGE, "data source %d has no files", (int)source);
}

void lips_raw_free(lips_raw *r)
{
    free(r->memory[0]);
    free(r->memory[1]);
    *r = (lips_raw){0};
}
