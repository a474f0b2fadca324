/* backend/precision.h - names of precisions, for backends and for kernels. */
#ifndef LIPS_BACKEND_PRECISION_H
#define LIPS_BACKEND_PRECISION_H

/* Arithmetic of matrix products and convolutions; storage and sums are f32 in each. */
typedef enum lips_precision {
    LIPS_PRECISION_F32,  /* float32-grade products: errors as of f32 multiply-adds */
    LIPS_PRECISION_TF32, /* operands of 11 significant bits */
    LIPS_PRECISION_BF16  /* operands of 8 significant bits */
} lips_precision;

#endif
