/* config/checks.c - what each value allows alone and two together do not. */
#include "config/load.h"

#include <stdlib.h>
#include <string.h>

/* Samples of the sets that have a known size; 0: unknown, as for the files in a folder of the
 * user's. */
static int64_t train_size(const lips_config *c)
{
    if (c->data_dir[0] != '\0')
        return 0;
    return c->data == LIPS_DATA_FASHION_MNIST                              ? 60000
           : c->data == LIPS_DATA_CIFAR10 || c->data == LIPS_DATA_CIFAR100 ? 50000
                                                                           : 0;
}

static int64_t test_size(const lips_config *c)
{
    return train_size(c) > 0 ? 10000 : 0;
}

/* Training samples of a cell; 0: not known before the data are read. */
static int64_t used_for_training(const lips_config *c)
{
    int64_t size = train_size(c);
    if (c->n_train > 0)
        return c->n_train;
    return size > c->n_val ? size - c->n_val : 0;
}

static bool is_model(const lips_config *c, const char *name)
{
    return strcmp(c->model, name) == 0;
}

/* Order of magnitude of the parameters, from the largest layers; inputs of images as in the largest
 * known set. */
static double rough_params(const lips_config *c)
{
    double w = (double)c->width;
    if (is_model(c, "convnet"))
        return 9 * 42 * w * w;
    if (is_model(c, "resnet18"))
        return 2724 * w * w;
    if (is_model(c, "vit"))
        return 12 * (double)c->depth * w * w;
    double inputs = c->data == LIPS_DATA_SINE ? 1 : 784;
    return c->depth == 0 ? inputs : inputs * w + (double)(c->depth - 1) * w * w;
}

typedef struct rule {
    const char *keys[4]; /* involved; the first is the one to blame */
    /* Is the rule broken? Then msg says why, without the key. */
    bool (*broken)(const lips_config *c, char *msg, size_t size);
} rule;

static bool broken_samples(const lips_config *c, char *msg, size_t size)
{
    int64_t all = train_size(c);
    if (!(all > 0 && c->n_train + c->n_val > all))
        return false;
    snprintf(msg, size, "%lld and n_val %lld are more than the %lld samples of the training file",
             (long long)c->n_train, (long long)c->n_val, (long long)all);
    return true;
}

static bool broken_no_samples(const lips_config *c, char *msg, size_t size)
{
    int64_t all = train_size(c);
    if (!(all > 0 && c->n_train == 0 && c->n_val >= all))
        return false;
    snprintf(msg, size, "%lld leaves no sample to train on", (long long)c->n_val);
    return true;
}

static bool broken_test(const lips_config *c, char *msg, size_t size)
{
    int64_t all = test_size(c);
    if (!(all > 0 && c->n_test > all))
        return false;
    snprintf(msg, size, "%lld is more than the %lld samples of the test file", (long long)c->n_test,
             (long long)all);
    return true;
}

static bool broken_batch(const lips_config *c, char *msg, size_t size)
{
    int64_t n = used_for_training(c);
    if (!(n > 0 && c->batch > n))
        return false;
    snprintf(msg, size, "%lld is more than the %lld training samples", (long long)c->batch,
             (long long)n);
    return true;
}

static bool broken_warmup(const lips_config *c, char *msg, size_t size)
{
    if (!(c->warmup_epochs > c->epochs))
        return false;
    snprintf(msg, size, "%lld is more than epochs %lld", (long long)c->warmup_epochs,
             (long long)c->epochs);
    return true;
}

static bool broken_sine_loss(const lips_config *c, char *msg, size_t size)
{
    if (!(c->data == LIPS_DATA_SINE && c->loss == LIPS_LOSS_CROSS_ENTROPY))
        return false;
    snprintf(msg, size, "cross_entropy needs classes, data sine has none: use mse");
    return true;
}

static bool broken_sine_labels(const lips_config *c, char *msg, size_t size)
{
    if (!(c->data == LIPS_DATA_SINE && c->label_noise > 0))
        return false;
    snprintf(msg, size, "data sine has no labels to corrupt: use sine_noise");
    return true;
}

static bool broken_sine_augment(const lips_config *c, char *msg, size_t size)
{
    if (!(c->data == LIPS_DATA_SINE && c->augment))
        return false;
    snprintf(msg, size, "data sine has no images to crop and flip");
    return true;
}

static bool broken_sine_model(const lips_config *c, char *msg, size_t size)
{
    if (!(c->data == LIPS_DATA_SINE && !is_model(c, "mlp")))
        return false;
    snprintf(msg, size, "%s needs images, data sine has none: use mlp", c->model);
    return true;
}

static bool broken_sine_range(const lips_config *c, char *msg, size_t size)
{
    if (!(c->data == LIPS_DATA_SINE && c->sine_min >= c->sine_max))
        return false;
    snprintf(msg, size, "must be less than sine_max");
    return true;
}

static bool broken_sine_count(const lips_config *c, char *msg, size_t size)
{
    if (!(c->data == LIPS_DATA_SINE && c->n_train == 0))
        return false;
    snprintf(msg, size, "data sine has no \"all\": give the number of samples");
    return true;
}

static bool broken_idx_dir(const lips_config *c, char *msg, size_t size)
{
    if (!(c->data == LIPS_DATA_IDX && c->data_dir[0] == '\0'))
        return false;
    snprintf(msg, size, "data idx needs the folder with the files");
    return true;
}

static bool broken_batch_norm(const lips_config *c, char *msg, size_t size)
{
    if (!(c->batch_norm && (is_model(c, "mlp") || is_model(c, "vit"))))
        return false;
    snprintf(msg, size, "%s has none: it is for convnet and resnet18", c->model);
    return true;
}

static bool broken_blocks(const lips_config *c, char *msg, size_t size)
{
    if (!(is_model(c, "vit") && c->depth < 1))
        return false;
    snprintf(msg, size, "%lld, but a vit has at least 1 block", (long long)c->depth);
    return true;
}

static bool broken_size(const lips_config *c, char *msg, size_t size)
{
    /* 2^36 float32 parameters with gradient and momentum are 824 GB. */
    static const double params_max = 68719476736.0;
    double params = rough_params(c);
    if (params <= params_max)
        return false;
    snprintf(msg, size, "%lld gives about %.1e parameters; at most %.1e", (long long)c->width,
             params, params_max);
    return true;
}

/* auto is judged when it is known what it stands for. */
static bool broken_precision_of(const lips_config *c, lips_precision p, char *msg, size_t size)
{
    if (p == LIPS_PRECISION_F32 || strcmp(c->backend, "cuda") == 0 ||
        strcmp(c->backend, "auto") == 0)
        return false;
    snprintf(msg, size, "%s needs backend: cuda, not %s",
             p == LIPS_PRECISION_TF32 ? "tf32" : "bf16", c->backend);
    return true;
}

static bool broken_precision(const lips_config *c, char *msg, size_t size)
{
    return broken_precision_of(c, c->precision, msg, size);
}

static bool broken_measure_precision(const lips_config *c, char *msg, size_t size)
{
    return broken_precision_of(c, c->measure_precision, msg, size);
}

/* What tells on GPUs alone; auto is judged later, as above. */
static bool on_devices(const lips_config *c)
{
    return strcmp(c->backend, "cuda") == 0 || strcmp(c->backend, "auto") == 0;
}

static bool broken_cells_per_device(const lips_config *c, char *msg, size_t size)
{
    if (c->cells_per_device == 0 || on_devices(c))
        return false;
    snprintf(msg, size, "%lld needs backend: cuda, not %s; on the processor it is jobs",
             (long long)c->cells_per_device, c->backend);
    return true;
}

static bool broken_jobs(const lips_config *c, char *msg, size_t size)
{
    if (c->jobs == 0 || c->jobs >= c->cells_per_device || !on_devices(c))
        return false;
    snprintf(msg, size, "%lld is less than cells_per_device %lld: give one of the two",
             (long long)c->jobs, (long long)c->cells_per_device);
    return true;
}

static bool broken_jobs_devices(const lips_config *c, char *msg, size_t size)
{
    lips_device_list list;
    if (c->jobs == 0 || !on_devices(c) || lips_devices_read(&list, c->device) != LIPS_OK ||
        c->jobs >= list.n)
        return false;
    snprintf(msg, size, "%lld leaves some of the devices %.80s without a cell", (long long)c->jobs,
             c->device);
    return true;
}

static const rule rules[] = {
    {{"n_train", "n_val", "data"}, broken_samples},
    {{"n_val", "n_train", "data"}, broken_no_samples},
    {{"n_test", "data"}, broken_test},
    {{"batch", "n_train", "n_val", "data"}, broken_batch},
    {{"warmup_epochs", "epochs"}, broken_warmup},
    {{"loss", "data"}, broken_sine_loss},
    {{"label_noise", "data"}, broken_sine_labels},
    {{"augment", "data"}, broken_sine_augment},
    {{"model", "data"}, broken_sine_model},
    {{"sine_min", "sine_max", "data"}, broken_sine_range},
    {{"n_train", "data"}, broken_sine_count},
    {{"data_dir", "data"}, broken_idx_dir},
    {{"batch_norm", "model"}, broken_batch_norm},
    {{"precision", "backend"}, broken_precision},
    {{"measure_precision", "backend"}, broken_measure_precision},
    {{"cells_per_device", "backend"}, broken_cells_per_device},
    {{"jobs", "cells_per_device", "backend"}, broken_jobs},
    {{"jobs", "device", "backend"}, broken_jobs_devices},
    {{"depth", "model"}, broken_blocks},
    {{"width", "depth", "model", "data"}, broken_size},
};
enum { RULES = sizeof rules / sizeof rules[0] };

/* Where to point: at the first involved key that somebody set. */
static lips_origin blame(const lips_loader *l, const rule *r)
{
    for (int i = 0; i < 4 && r->keys[i]; i++) {
        lips_origin at = l->keys[lips_option_find(r->keys[i])].origin;
        if (at.kind != LIPS_FROM_DEFAULT)
            return at;
    }
    return (lips_origin){0};
}

static void apply_rules(lips_loader *l, const lips_config *c, bool *done)
{
    char msg[256];
    for (int i = 0; i < RULES; i++) {
        if (done[i] || !rules[i].broken(c, msg, sizeof msg))
            continue;
        done[i] = true;
        lips_loader_issue(l, blame(l, &rules[i]), rules[i].keys[0], "%s", msg);
    }
}

static lips_init default_init(const char *model, bool batch_norm)
{
    return strcmp(model, "resnet18") == 0 && !batch_norm ? LIPS_INIT_FIXUP : LIPS_INIT_PYTORCH;
}

/* How many values a key takes; number i of them into c. One that is not swept has the base's. */
static int64_t values_of(const lips_loader *l, const char *name, lips_config *c, int64_t i)
{
    for (int k = 0; k < l->e->n_axes; k++) {
        const lips_axis *a = &l->e->axes[k];
        if (a->key != lips_option_find(name))
            continue;
        if (i < a->count)
            lips_option_set(&l->options[a->key], c, a->values[i]);
        return a->count;
    }
    return 1;
}

void lips_loader_default_init(lips_loader *l)
{
    const int row = lips_option_find("init");
    const char *const *names = l->options[row].choices;
    lips_config c = l->e->base;
    if (l->keys[row].origin.kind != LIPS_FROM_DEFAULT)
        return;
    bool any = false;
    for (int64_t m = 0; m < values_of(l, "model", &c, m); m++)
        for (int64_t b = 0; b < values_of(l, "batch_norm", &c, b); b++) {
            lips_init init = default_init(c.model, c.batch_norm);
            if (any && init != l->e->base.init) {
                lips_loader_issue(l, (lips_origin){0}, "init",
                                  "must be given: some cells of this sweep would start with %s, "
                                  "others with %s",
                                  names[l->e->base.init], names[init]);
                return;
            }
            any = true;
            l->e->base.init = init;
        }
}

/* Of models that have no depth, whatever the others want. */
enum { DEPTH_MLP = 1, DEPTH_VIT = 6, DEPTH_ANY = -1 };

static int64_t default_depth(const char *model)
{
    return strcmp(model, "vit") == 0   ? DEPTH_VIT
           : strcmp(model, "mlp") == 0 ? DEPTH_MLP
                                       : DEPTH_ANY;
}

void lips_loader_default_depth(lips_loader *l)
{
    lips_config c = l->e->base;
    int64_t depth = DEPTH_ANY;
    if (l->keys[lips_option_find("depth")].origin.kind != LIPS_FROM_DEFAULT)
        return;
    for (int64_t m = 0; m < values_of(l, "model", &c, m); m++) {
        int64_t own = default_depth(c.model);
        if (own != DEPTH_ANY && depth != DEPTH_ANY && own != depth) {
            lips_loader_issue(l, (lips_origin){0}, "depth",
                              "must be given: an mlp of this sweep would have %d, a vit %d",
                              DEPTH_MLP, DEPTH_VIT);
            return;
        }
        depth = own != DEPTH_ANY ? own : depth;
    }
    l->e->base.depth = depth != DEPTH_ANY ? depth : l->e->base.depth;
}

/* Does any rule look at this key? Axes that no rule looks at (seeds) are not walked. */
static bool in_rules(const lips_option *o)
{
    for (int i = 0; i < RULES; i++)
        for (int j = 0; j < 4 && rules[i].keys[j]; j++)
            if (strcmp(rules[i].keys[j], o->name) == 0)
                return true;
    return false;
}

void lips_loader_check(lips_loader *l)
{
    bool done[RULES] = {false};
    for (int i = 0; i < RULES; i++)
        for (int j = 0; j < 4 && rules[i].keys[j]; j++)
            done[i] = done[i] || l->keys[lips_option_find(rules[i].keys[j])].bad;

    const lips_axis *axes[LIPS_AXES_MAX];
    int64_t at[LIPS_AXES_MAX] = {0};
    int n = 0;
    lips_config c = l->e->base;
    for (int i = 0; i < l->e->n_axes; i++) {
        const lips_axis *a = &l->e->axes[i];
        if (a->count == 0)
            return; /* no cells */
        lips_option_set(&l->options[a->key], &c, a->values[0]);
        if (in_rules(&l->options[a->key]))
            axes[n++] = a;
    }
    /* An odometer: each step sets the digits that change. */
    for (;;) {
        apply_rules(l, &c, done);
        int digit = n - 1;
        while (digit >= 0 && ++at[digit] == axes[digit]->count)
            at[digit--] = 0;
        if (digit < 0)
            return;
        for (int i = digit; i < n; i++)
            lips_option_set(&l->options[axes[i]->key], &c, axes[i]->values[at[i]]);
    }
}
