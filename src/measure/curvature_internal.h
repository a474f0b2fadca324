/*
 * measure/curvature_internal.h - what curvature.c, curvature_block.c and remainder.c share:
 * workers and their blocks.
 */
#ifndef LIPS_MEASURE_CURVATURE_INTERNAL_H
#define LIPS_MEASURE_CURVATURE_INTERNAL_H

#include "measure/curvature.h"

#include "nn/second.h"

#include <pthread.h>

/* The loss of one block of samples at its logits, in f64. */
typedef struct head {
    double *p, *u; /* (block,K): softmax and dL/dz; u NULL without a loss */
    double unit;   /* cotangents are divided by it: near interpolation they are far below what a
                      float's products hold */
    bool ready, finite;
} head;

/* One block of samples with what its products share. */
typedef struct seat {
    lips_exec *exec;
    lips_second *second;
    const head *loss;
    lips_tensor logits; /* of the last forward */
    bool ready;
} seat;

/* One thread's handle on the backend, and its blocks: block i belongs to worker i modulo their
 * number. */
typedef struct worker {
    lips_curvature *c;
    int index;
    lips_backend *be;
    void *params, *buffers, *v, *sum; /* device; v, sum (P) reals */
    double *z, *rest;                 /* (block,K) */
    head batch;                       /* of a gradient's samples */
    double *host;                     /* (P) a part on its way to the host; NULL: not needed yet */
    double *signs, *part;             /* device, (P) doubles; remainder, NULL: not needed yet */
    seat spare, *kept;
    int64_t n_kept; /* 0: every product computes everything anew, in the spare seat */
} worker;

typedef enum task_kind { TASK_HESSIAN, TASK_GAUSS_NEWTON, TASK_GRADIENT, TASK_REMAINDER } task_kind;

/* What all workers do together at one time. */
typedef struct task {
    task_kind kind;
    lips_backend *be; /* whose memory v and out are in: the first worker's, or a host's */
    const double *v;
    double *out;
    int64_t first, count; /* samples */
    int probes;           /* remainder: sign vectors of each block; */
    double *traces;       /* (blocks, probes, L + 1) */
    int64_t turn;         /* the block whose part is added next */
    lips_status st;       /* the first failure, and its text (a thread's text is its own) */
    char text[1024];
} task;

struct lips_curvature {
    const lips_survey *s;
    int64_t samples, block;
    head *heads; /* of each block of the products, filled by the first */
    int n_workers;
    worker *workers;
    pthread_mutex_t lock; /* guards now.turn, now.st, now.text, now.out */
    pthread_cond_t moved;
    bool has_lock, has_cond;
    task now;
};

/* curvature_block.c: the forward pass of samples first..first+b-1, their head h if it is not there
 * yet, and the cotangents that Hessian products need. */
lips_status lips_seat_prepare(worker *w, seat *t, head *h, int64_t first, int64_t b);
/* w->sum = the sum of the samples' products with w->v, or of their gradients; divided by unit. */
lips_status lips_seat_product(worker *w, seat *t, bool gauss_newton);
lips_status lips_seat_gradient(worker *w, seat *t, int64_t first, int64_t b);

/* Runs a task on all workers, the calling thread among them. */
lips_status lips_curvature_run(lips_curvature *c, const task *what);

/* remainder.c: block i of a TASK_REMAINDER, which t was prepared for. */
lips_status lips_remainder_block(worker *w, seat *t, int64_t i);
/* Its bytes for one worker. */
size_t lips_remainder_bytes(const lips_survey *s, int64_t blocks);

#endif
