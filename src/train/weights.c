#include "train/weights.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* The list of what does not fit, as much of it as an error text holds. */
typedef struct misfits {
    char text[800];
    size_t used;
    int count, left_out;
} misfits;

__attribute__((format(printf, 2, 3))) static void misfit(misfits *m, const char *fmt, ...)
{
    char one[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(one, sizeof one, fmt, ap);
    va_end(ap);
    m->count++;
    size_t need = strlen(one) + 2;
    if (m->left_out || m->used + need >= sizeof m->text) {
        m->left_out++;
        return;
    }
    m->used += (size_t)snprintf(m->text + m->used, sizeof m->text - m->used, "%s%s",
                                m->used ? "; " : "", one);
}

static bool is_float(lips_dtype d)
{
    return d == LIPS_F32 || d == LIPS_F64 || d == LIPS_F16 || d == LIPS_BF16;
}

static bool same_shape(const lips_segment *s, const lips_st_tensor *t)
{
    bool same = s->ndim == t->ndim;
    for (int i = 0; same && i < s->ndim; i++)
        same = s->shape[i] == t->shape[i];
    return same;
}

/* What torchvision called the layers of a vision transformer's MLP until its version 0.12. */
static const struct {
    const char *now, *before;
} renamed[] = {{".mlp.0.", ".mlp.linear_1."}, {".mlp.3.", ".mlp.linear_2."}};
enum { RENAMED = sizeof renamed / sizeof renamed[0] };

/* name with `to` in the place of `from`, in buf; NULL if it has no such part. */
static const char *replaced(char buf[LIPS_NAME_MAX], const char *name, const char *from,
                            const char *to)
{
    const char *at = strstr(name, from);
    if (!at)
        return NULL;
    int n = snprintf(buf, LIPS_NAME_MAX, "%.*s%s%s", (int)(at - name), name, to, at + strlen(from));
    return n < LIPS_NAME_MAX ? buf : NULL;
}

/* The tensor of that name, or of its former one. */
static const lips_st_tensor *find_tensor(const lips_st_file *f, const char *name)
{
    char buf[LIPS_NAME_MAX];
    const lips_st_tensor *t = lips_st_find(f, name);
    for (int i = 0; !t && i < RENAMED; i++) {
        const char *before = replaced(buf, name, renamed[i].now, renamed[i].before);
        t = before ? lips_st_find(f, before) : NULL;
    }
    return t;
}

/* Fills the segments of one vector, and notes what is missing or of another shape or dtype. */
static lips_status fill(const lips_segment *s, int n, const lips_st_file *f, double *out,
                        misfits *m)
{
    for (int i = 0; i < n; i++) {
        char want[128], have[128];
        bool counter = s[i].role == LIPS_ROLE_BATCHES_TRACKED;
        lips_st_shape_text(want, sizeof want, s[i].ndim, s[i].shape);
        const lips_st_tensor *t = find_tensor(f, s[i].name);
        if (!t && counter) {
            out[s[i].offset] = 0; /* PyTorch before 0.4.1 had none */
        } else if (!t) {
            misfit(m, "%s is missing (expected F32 %s)", s[i].name, want);
        } else if (!same_shape(&s[i], t) || is_float(t->dtype) == counter) {
            lips_st_shape_text(have, sizeof have, t->ndim, t->shape);
            misfit(m, "%s is %s %s (expected %s %s)", s[i].name, lips_dtype_name(t->dtype), have,
                   counter ? "I64" : "F32", want);
        } else {
            LIPS_TRY(lips_st_to_f64(t, out + s[i].offset));
        }
    }
    return LIPS_OK;
}

static bool has_name(const lips_segment *s, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (strcmp(s[i].name, name) == 0)
            return true;
    return false;
}

/* A former name of one of the segments, whose present one the file has not. */
static bool has_former_name(const lips_segment *s, int n, const lips_st_file *f, const char *name)
{
    char buf[LIPS_NAME_MAX];
    for (int i = 0; i < RENAMED; i++) {
        const char *now = replaced(buf, name, renamed[i].before, renamed[i].now);
        if (now && has_name(s, n, now) && !lips_st_find(f, now))
            return true;
    }
    return false;
}

lips_status lips_weights_fill(const lips_net *net, const lips_st_file *f, double *params,
                              double *buffers)
{
    const lips_segment *p, *b;
    int n_params = lips_net_segments(net, &p), n_buffers = lips_net_buffer_segments(net, &b);
    misfits m = {.count = 0};
    LIPS_TRY(fill(p, n_params, f, params, &m));
    LIPS_TRY(fill(b, n_buffers, f, buffers, &m));
    for (int i = 0; i < lips_st_count(f); i++) {
        const lips_st_tensor *t = lips_st_at(f, i);
        char have[128];
        lips_st_shape_text(have, sizeof have, t->ndim, t->shape);
        if (!has_name(p, n_params, t->name) && !has_name(b, n_buffers, t->name) &&
            !has_former_name(p, n_params, f, t->name))
            misfit(&m, "%.200s %s is not a tensor of this network", t->name, have);
    }
    if (m.count == 0)
        return LIPS_OK;
    const lips_model_spec *spec = lips_net_spec(net);
    char more[32] = "";
    if (m.left_out)
        snprintf(more, sizeof more, "; and %d more", m.left_out);
    return lips_fail(LIPS_ERR_DATA, "%.150s does not fit %s of width %" PRId64 ": %s%s",
                     lips_st_label(f), spec->kind, spec->width, m.text, more);
}
