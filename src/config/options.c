#include "config/options.h"

#include "base/nearest.h"

#include <string.h>

static const char *const models[] = {"mlp", "convnet", "resnet18", "vit", NULL};
static const char *const backends[] = {"cpu", "cuda", "ref", "auto", NULL};

/* In the order of the C enums. */
static const char *const sources[] = {"fashion-mnist", "idx", "cifar10", "cifar100", "sine", NULL};
_Static_assert(LIPS_DATA_FASHION_MNIST == 0 && LIPS_DATA_SINE == 4, "sources follows lips_source");
static const char *const inits[] = {"pytorch", "he", "glorot", "fixup", NULL};
_Static_assert(LIPS_INIT_PYTORCH == 0 && LIPS_INIT_FIXUP == 3, "inits follows lips_init");
static const char *const losses[] = {"cross_entropy", "mse", NULL};
_Static_assert(LIPS_LOSS_CROSS_ENTROPY == 0 && LIPS_LOSS_MSE == 1, "losses follows lips_loss_kind");
static const char *const precisions[] = {"f32", "tf32", "bf16", NULL};
_Static_assert(LIPS_PRECISION_F32 == 0 && LIPS_PRECISION_BF16 == 2, "follows lips_precision");
static const char *const libraries[] = {"auto", "own", "nvidia", NULL};
_Static_assert(LIPS_LIBRARY_AUTO == 0 && LIPS_LIBRARY_NVIDIA == 2, "follows lips_library");
static const char *const optimizers[] = {"sgd", "adam", NULL};
_Static_assert(LIPS_OPT_SGD == 0 && LIPS_OPT_ADAM == 1, "optimizers follows lips_optimizer");

#define FIELD(f) offsetof(lips_config, f), sizeof(((lips_config *)0)->f)
#define HASHED LIPS_OPTION_HASHED
#define ABOVE LIPS_OPTION_ABOVE
#define INT LIPS_OPTION_INT
#define UINT LIPS_OPTION_UINT
#define REAL LIPS_OPTION_REAL
#define BOOL LIPS_OPTION_BOOL
#define ENUM LIPS_OPTION_ENUM
#define CHOICE LIPS_OPTION_CHOICE
#define TEXT LIPS_OPTION_TEXT
#define LIST LIPS_OPTION_LIST
#define SCHEDULE LIPS_OPTION_SCHEDULE
#define DEVICES LIPS_OPTION_DEVICES

/* Limits that are not in the nature of the key: a million units, epochs or jobs and a thousand
 * million samples are beyond any machine this runs on, and keep every product of two sizes inside
 * int64. */
#define MANY 1e6
#define SAMPLES 1e9

/* The order is that of canonical text and cells: moving a row changes every hash. */
/* clang-format off */
static const lips_option table[] = {
    /* name, type, field, default, min, max, flags, choices, tag, group, help */
    {"name", TEXT, FIELD(name), "", 0, 0, 0, NULL, NULL, "experiment",
     "title of the experiment; empty: the name of the config file"},
    {"out", TEXT, FIELD(out), "", 0, 0, 0, NULL, NULL, "experiment",
     "output folder; empty: out/<name of the config file>"},

    {"model", CHOICE, FIELD(model), "mlp", 0, 0, HASHED, models, NULL, "network",
     "architecture"},
    {"width", INT, FIELD(width), "64", 1, MANY, HASHED, NULL, "w", "network",
     "units of each hidden layer (mlp), channels of the first convolution (convnet, "
     "resnet18), embedding width (vit)"},
    {"depth", INT, FIELD(depth), "1", 0, 1000, HASHED, NULL, "d", "network",
     "hidden layers (mlp), blocks (vit, where it is 6 if none is given)"},
    {"batch_norm", BOOL, FIELD(batch_norm), "false", 0, 0, HASHED, NULL, "bn", "network",
     "batch norm after each 3x3 convolution (convnet, resnet18)"},
    {"init", ENUM, FIELD(init), "pytorch", 0, 0, HASHED, inits, NULL, "network",
     "distribution of the initial weights; resnet18 without batch norm: fixup if none is given"},

    {"data", ENUM, FIELD(data), "fashion-mnist", 0, 0, HASHED, sources, NULL, "data",
     "data set"},
    {"data_dir", TEXT, FIELD(data_dir), "", 0, 0, 0, NULL, NULL, "data",
     "folder with the data set's files; empty: where Debian's package puts them"},
    {"n_train", INT, FIELD(n_train), "0", 0, SAMPLES, HASHED, NULL, "n", "data",
     "training samples drawn from the training file; 0: all"},
    {"n_test", INT, FIELD(n_test), "0", 0, SAMPLES, HASHED, NULL, "ntest", "data",
     "test samples; 0: all (sine: 200)"},
    {"n_val", INT, FIELD(n_val), "0", 0, SAMPLES, HASHED, NULL, "nval", "data",
     "further samples of the training file kept apart for validation; 0: none"},
    {"label_noise", REAL, FIELD(label_noise), "0", 0, 1, HASHED, NULL, "noise", "data",
     "share of the training labels moved to another class, exactly round(n_train x share)"},
    {"sine_noise", REAL, FIELD(sine_noise), "0.1", 0, 1e3, HASHED, NULL, "sn", "data",
     "standard deviation of the observation noise (sine only)"},
    {"sine_min", REAL, FIELD(sine_min), "-3", -1e6, 1e6, HASHED, NULL, NULL, "data",
     "smallest x (sine only)"},
    {"sine_max", REAL, FIELD(sine_max), "3", -1e6, 1e6, HASHED, NULL, NULL, "data",
     "largest x (sine only)"},
    {"augment", BOOL, FIELD(augment), "false", 0, 0, HASHED, NULL, "aug", "data",
     "random crop from the image padded by 4 pixels, and horizontal flip, in training"},
    {"seed", UINT, FIELD(seed), "0", 0, 0, HASHED, NULL, "s", "data",
     "initial weights, batch order, augmentation"},
    {"data_seed", UINT, FIELD(data_seed), "0", 0, 0, HASHED, NULL, "ds", "data",
     "which samples are drawn (sine: which x)"},
    {"noise_seed", UINT, FIELD(noise_seed), "0", 0, 0, HASHED, NULL, "ns", "data",
     "which labels are corrupted and to what (sine: the observation noise)"},

    {"loss", ENUM, FIELD(loss), "cross_entropy", 0, 0, HASHED, losses, NULL, "training",
     "cross-entropy, or mse: half the squared distance of logits and target (one-hot classes)"},
    {"optimizer", ENUM, FIELD(optimizer), "sgd", 0, 0, HASHED, optimizers, NULL, "training",
     "SGD with momentum, or Adam"},
    {"epochs", INT, FIELD(epochs), "100", 0, MANY, HASHED, NULL, "e", "training",
     "passes over the training set"},
    {"batch", INT, FIELD(batch), "128", 1, MANY, HASHED, NULL, "b", "training",
     "samples per step"},
    {"lr", REAL, FIELD(lr), "0.005", 0, 1e9, HASHED | ABOVE, NULL, NULL, "training",
     "learning rate"},
    {"momentum", REAL, FIELD(momentum), "0.9", 0, 1, HASHED, NULL, "mom", "training",
     "momentum (sgd)"},
    {"beta1", REAL, FIELD(beta1), "0.9", 0, 1, HASHED, NULL, NULL, "training",
     "decay of the mean of gradients (adam)"},
    {"beta2", REAL, FIELD(beta2), "0.999", 0, 1, HASHED, NULL, NULL, "training",
     "decay of the mean of squared gradients (adam)"},
    {"adam_eps", REAL, FIELD(adam_eps), "1e-8", 0, 1, HASHED | ABOVE, NULL, NULL, "training",
     "added to the denominator (adam)"},
    {"weight_decay", REAL, FIELD(weight_decay), "0", 0, 1e3, HASHED, NULL, "wd", "training",
     "L2 penalty: this times the weights is added to the gradient"},
    {"warmup_epochs", INT, FIELD(warmup_epochs), "0", 0, MANY, HASHED, NULL, NULL, "training",
     "epochs of linear warm-up from warmup_lr to lr; 0: none"},
    {"warmup_lr", REAL, FIELD(warmup_lr), "0.001", 0, 1e9, HASHED, NULL, NULL, "training",
     "learning rate at the start of the warm-up"},
    {"lr_step", INT, FIELD(lr_step), "0", 0, MANY, HASHED, NULL, NULL, "training",
     "every so many epochs the learning rate is multiplied by lr_decay; 0: never"},
    {"lr_decay", REAL, FIELD(lr_decay), "0.1", 0, 1, HASHED | ABOVE, NULL, NULL, "training",
     "factor of the step decay"},
    {"stop_error", REAL, FIELD(stop_error), "-1", -1, 1, HASHED, NULL, NULL, "training",
     "stop once the evaluated training error is this or less; below 0: off"},
    {"stop_loss", REAL, FIELD(stop_loss), "-1", -1, 1e9, HASHED, NULL, NULL, "training",
     "stop once the evaluated training loss is this or less; below 0: off"},
    {"interpolation_tol", REAL, FIELD(interpolation_tol), "0", 0, 1, HASHED, NULL, NULL, "training",
     "training error that counts as interpolation"},

    {"eval_epochs", SCHEDULE, FIELD(eval_epochs), "log:40", 0, 0, HASHED, NULL, NULL, "results",
     "when loss and error are evaluated"},
    {"save_epochs", SCHEDULE, FIELD(save_epochs), "end", 0, 0, HASHED, NULL, NULL, "results",
     "when weights are written"},
    {"measure_epochs", SCHEDULE, FIELD(measure_epochs), "end", 0, 0, HASHED, NULL, NULL, "results",
     "when the metrics are measured"},
    {"metrics", LIST, FIELD(metrics), "jacobian,distance", 0, 0, HASHED, NULL, NULL, "results",
     "quantities or sections to measure, or all"},
    {"measure_n", INT, FIELD(measure_n), "1000", 0, SAMPLES, HASHED, NULL, NULL, "results",
     "training samples to measure on, at most; 0: all"},
    {"measure_seed", UINT, FIELD(measure_seed), "1234", 0, 0, HASHED, NULL, NULL, "results",
     "which samples are measured"},
    {"curvature_n", INT, FIELD(curvature_n), "512", 0, SAMPLES, HASHED, NULL, NULL, "results",
     "of the measured samples, for eigenvalues of the Hessian, at most; 0: all"},
    {"probes", LIST, FIELD(probes), "none", 0, 0, HASHED, NULL, NULL, "results",
     "inputs that are not data, measured too: uniform, normal, hypersphere, jitter, path; or none"},
    {"probe_n", INT, FIELD(probe_n), "500", 1, SAMPLES, HASHED, NULL, NULL, "results",
     "inputs of each probe"},
    {"probe_seed", UINT, FIELD(probe_seed), "1234", 0, 0, HASHED, NULL, NULL, "results",
     "random numbers of the probes"},
    {"trace_epochs", SCHEDULE, FIELD(trace_epochs), "none", 0, 0, HASHED, NULL, NULL, "results",
     "when trace_metrics are measured; what metrics has at the same epoch is not repeated"},
    {"trace_metrics", LIST, FIELD(trace_metrics), "C", 0, 0, HASHED, NULL, NULL, "results",
     "quantities or sections to follow over training, as in metrics"},
    {"trace_n", INT, FIELD(trace_n), "200", 0, SAMPLES, HASHED, NULL, NULL, "results",
     "training samples for trace_metrics, at most, among those of measure_n; 0: all"},

    {"backend", CHOICE, FIELD(backend), "cpu", 0, 0, HASHED, backends, NULL, "running",
     "cpu: float32, fast; cuda: float32 on a GPU; ref: float64 loops; auto: cuda if it is there"},
    {"device", DEVICES, FIELD(device), "all", 0, 0, 0, NULL, NULL, "running",
     "GPUs that the cells are spread over: all that are visible, or some, counted from 0 (cuda)"},
    {"cells_per_device", INT, FIELD(cells_per_device), "auto", 1, 4096, LIPS_OPTION_AUTO, NULL, NULL,
     "running",
     "cells at once on each GPU; auto: as its memory, its size and the cores allow (cuda)"},
    {"emulated", BOOL, FIELD(emulated), "false", 0, 0, 0, NULL, NULL, "running",
     "may run on an emulated GPU (make cusim), hundreds of times slower than the cpu backend"},
    {"precision", ENUM, FIELD(precision), "f32", 0, 0, HASHED, precisions, NULL, "running",
     "products in training: f32, or operands of 11 (tf32) or 8 bits (bf16), sums f32 (cuda)"},
    {"measure_precision", ENUM, FIELD(measure_precision), "f32", 0, 0, HASHED, precisions, NULL,
     "running",
     "the same for the backward passes of measuring; its forward passes are f32 (cuda)"},
    {"cuda_conv", ENUM, FIELD(cuda_conv), "auto", 0, 0, HASHED, libraries, NULL, "running",
     "convolutions by own kernels, nvidia's cuDNN, or the faster for the shape, measured once"},
    {"cuda_linear", ENUM, FIELD(cuda_linear), "auto", 0, 0, HASHED, libraries, NULL, "running",
     "linear layers by own kernels, nvidia's cuBLAS, or the faster for the shape, measured once"},
    {"cuda_graph", BOOL, FIELD(cuda_graph), "true", 0, 0, 0, NULL, NULL, "running",
     "a training step runs as one CUDA graph; false: op by op, the same results, slower"},
    {"checkpoint_epochs", INT, FIELD(checkpoint_epochs), "0", 0, MANY, 0, NULL, NULL, "running",
     "epochs between checkpoints; 0: by time only"},
    {"checkpoint_seconds", REAL, FIELD(checkpoint_seconds), "10", 0, 1e6, 0, NULL, NULL, "running",
     "seconds between checkpoints; 0: by epochs only"},
    {"jobs", INT, FIELD(jobs), "0", 0, 65536, 0, NULL, NULL, "running",
     "cells trained at once, on all GPUs together; 0: one per core"},
    {"hang_seconds", REAL, FIELD(hang_seconds), "600", 0, 1e6, 0, NULL, NULL, "running",
     "a GPU that does not answer for so long has hung: the sweep stops; 0: wait for ever (cuda)"},
};
/* clang-format on */

enum { ROWS = sizeof table / sizeof table[0] };

int lips_options(const lips_option **out)
{
    *out = table;
    return ROWS;
}

int lips_option_find(const char *name)
{
    for (int i = 0; i < ROWS; i++) {
        const char *a = name, *b = table[i].name;
        while (*a && (*a == *b || (*a == '-' && *b == '_')))
            a++, b++;
        if (*a == *b)
            return i;
    }
    return -1;
}

const char *lips_option_nearest(const char *name)
{
    const char *names[ROWS];
    for (int i = 0; i < ROWS; i++)
        names[i] = table[i].name;
    return lips_nearest(name, names, ROWS);
}

void lips_config_defaults(lips_config *c)
{
    memset(c, 0, sizeof *c);
    for (int i = 0; i < ROWS; i++)
        lips_option_set(&table[i], c, table[i].fallback);
}
