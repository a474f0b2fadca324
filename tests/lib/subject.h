/*
 * tests/lib/subject.h - one op on ref as a function of its input and its parameters: its
 * derivatives are compared with central differences of its forward, and with each other by the
 * adjoint identity <u, Jv> = <J'u, v>.
 */
#ifndef LIPS_TESTS_SUBJECT_H
#define LIPS_TESTS_SUBJECT_H

#include "opcase.h"

enum { SUBJECT_T = 3, SUBJECT_PARAMS = 2 };

/* One op with its inputs: x and the parameters are what is differentiated. */
typedef struct subject {
    opcase c;
    lips_tensor x, y;                          /* primal */
    lips_tensor xdot, ydot, dy, dx, mask, one; /* one: a cotangent with t = 1 */
    void *param[SUBJECT_PARAMS], *grad[SUBJECT_PARAMS];
    int64_t n_param[SUBJECT_PARAMS];
    double *theta;
    lips_conv_geom geom;
    int64_t k;
    bool training;
    void *mean, *var;
    double *batch_mean, *batch_var;
    void *work;
    void (*forward)(struct subject *);
    void (*jvp)(struct subject *);
    void (*vjp)(struct subject *, const lips_tensor *mask);
    void (*param_grad)(struct subject *);
    void (*gram)(struct subject *);
} subject;

void subject_begin(subject *s, int index, int64_t b);
/* x is (c,h,w), y (o,oh,ow); n_param is set before. */
void subject_tensors(subject *s, int64_t c, int64_t h, int64_t w, int64_t o, int64_t oh,
                     int64_t ow);
void subject_end(subject *s);

/* jvp, vjp, masked vjp. */
void subject_check_inputs(subject *s, const char *what);
/* Parameter gradient and, if there is one, the Gram of SUBJECT_T cotangents. */
void subject_check_params(subject *s, const char *what);

#endif
