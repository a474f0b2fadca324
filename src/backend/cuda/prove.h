/*
 * cuda/prove.h - whether ways of a product compute the same, before one is chosen by its time.
 *
 * Each own way runs on memory full of NaN, and its output is compared with that of the tiles
 * (LIPS_CUDA_TILE), in norm and in the worst entry, within what the precision allows. Of large
 * outputs, evenly spaced pieces are compared. Not done for products that do not name their output.
 */
#ifndef LIPS_BACKEND_CUDA_PROVE_H
#define LIPS_BACKEND_CUDA_PROVE_H

#include "backend/cuda/choose.h"

/*
 * Takes the ways that differ out of `offered`, with one warning each. Where the tiles give nothing
 * to compare with, zeros alone or values that are not finite, it takes out LIPS_CUDA_WGMMA alone:
 * that way is not run on anyone's word.
 */
lips_status lips_cuda_prove(lips_cuda *h, const lips_cuda_product *p,
                            bool (*offered)[LIPS_CUDA_WAYS]);

#endif
